"""Training: one loop, and the three phases that use it.

1. **Warm-up** of the text head on captions alone. "A before B" and "B after A" mean the same; a
   text tower that has to learn this from audio stays on an order-blind plateau (loss log 2 an
   inversion pair, 2-way accuracy 50 %).
2. **Base training** with CLAP's own loss on single sounds and "X and Y": nothing in it tells order.
3. **Post-pretraining** of the heads on composites with :func:`tclap.losses.temporal_nce`, mixed
   with replay of base-type items so that prior capability is kept.

Every draw comes from (seed, phase, step); no layer mixes the items of a batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tclap.data.batches import Batch, SegmentBank, base_batch, composite_batch
from tclap.data.captions import event_ids
from tclap.features import TextFeatures
from tclap.language import OrderLesson
from tclap.losses import clip_loss, temporal_nce
from tclap.models.base import AudioTextModel
from tclap.pool import Pool, batch_rows
from tclap.progress import progress
from tclap.variants import Variant

log = logging.getLogger(__name__)

BASE_ITEMS, BASE_CHECK, DROPOUT = 0, 1, 2  # parts of a draw's seed


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    ``cosine`` (ours): AdamW, the learning rate falls along a cosine after a linear warm-up.
    ``published`` (T-CLAP's authors): Adam, the learning rate times 0.95 an epoch, the loss times
    0.8, the gradient norm at most 0.5.

    Attributes:
        steps: number of updates.
        lr: largest learning rate.
        recipe: ``cosine`` or ``published``.
        epoch: steps an epoch, which only ``published`` knows.
    """

    steps: int
    lr: float
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validate_every: int = 25
    recipe: str = "cosine"
    epoch: int = 1

    @classmethod
    def published(cls, epochs: int, epoch: int, lr: float = 1e-3) -> Schedule:
        """The authors' recipe for ``epochs`` of ``epoch`` steps, validated after each."""
        return cls(
            epochs * epoch,
            lr,
            weight_decay=0.0,
            clip_norm=0.5,
            validate_every=epoch,
            recipe="published",
            epoch=epoch,
        )

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by; with Adam it acts through the bound on the gradient only."""
        return 0.8 if self.recipe == "published" else 1.0

    def optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The recipe's optimiser."""
        kind = torch.optim.Adam if self.recipe == "published" else torch.optim.AdamW
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def rate(self, step: int) -> float:
        """Learning rate of a step, as a share of ``lr``."""
        if self.recipe == "published":
            return 0.95 ** (step // self.epoch)
        ramp = max(round(self.warmup * self.steps), 1)
        if step < ramp:
            return (step + 1) / ramp
        return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(self.steps - ramp, 1)))


def optimise(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[int], dict[str, Tensor]],
    schedule: Schedule,
    what: str,
    *,
    validate: Callable[[], dict[str, float]] | None = None,
    best: nn.Module | None = None,
    after_step: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Minimise ``losses(step)["loss"]`` and return a row a step.

    Args:
        parameters: what is trained.
        losses: the loss and its terms at a step.
        schedule: how.
        what: shown beside the progress.
        validate: facts on validation data, every ``validate_every`` steps and after the last.
        best: a module that ends with the weights of its lowest ``validation_loss``.
        after_step: called after every update.

    Raises:
        FloatingPointError: on a loss or gradient that is not finite, naming the step.
    """
    parameters = list(parameters)
    optimiser = schedule.optimiser(parameters)
    rows, lowest, kept = [], math.inf, None
    for step in progress(range(schedule.steps), what):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        terms = losses(step)
        optimiser.zero_grad(set_to_none=True)
        (schedule.loss_scale * terms["loss"]).backward()
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
        if not (torch.isfinite(terms["loss"]) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"{what}: loss {terms['loss'].item()} and gradient norm {norm.item()} at step {step}, "
                "expected finite numbers."
            )
        optimiser.step()
        if after_step is not None:
            after_step()
        row = {"step": step, "lr": optimiser.param_groups[0]["lr"], "grad_norm": float(norm)}
        row |= {name: float(value.detach()) for name, value in terms.items()}
        last = step == schedule.steps - 1
        if validate is not None and (last or (step + 1) % schedule.validate_every == 0):
            with torch.no_grad():
                row |= validate()
            if best is not None and row["validation_loss"] < lowest:
                lowest = row["validation_loss"]
                kept = {name: tensor.clone() for name, tensor in best.state_dict().items()}
            facts = ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k not in ("step", "lr"))
            log.info("%s, step %d: %s", what, step + 1, facts)
        rows.append(row)
    if kept is not None:
        best.load_state_dict(kept)
    return pd.DataFrame(rows)


def warm_up_text(lesson: OrderLesson, schedule: Schedule, *, batch: int) -> pd.DataFrame:
    """Teach the text head what the words for order mean, from captions alone."""

    def losses(step: int) -> dict[str, Tensor]:
        terms = lesson.losses(step, batch)
        return {"loss": sum(terms.values())} | terms

    def validate() -> dict[str, float]:
        return {"validation_accuracy": lesson.accuracy()}

    return optimise(lesson.model.text_head.parameters(), losses, schedule, "text warm-up", validate=validate)


def order_facts(audio: Tensor, text: Tensor) -> dict[str, float]:
    """2-way accuracy and cosine(forward, reversed) of embeddings ``[≥ 2 views, N, d]``.

    2-way: each forward and reversed composite must be nearer to its own caption than to its
    inversion's; ties count against the model.
    """
    own = (audio[:2] * text[:2]).sum(-1)
    inverse = (audio[:2] * text[[1, 0]]).sum(-1)
    return {
        "validation_two_way": 100 * float((own > inverse).float().mean()),
        "cosine_audio": float((audio[0] * audio[1]).sum(-1).mean()),
        "cosine_text": float((text[0] * text[1]).sum(-1).mean()),
    }


def train_base(
    model: AudioTextModel,
    text: TextFeatures,
    bank: SegmentBank,
    validation: SegmentBank,
    validation_pairs: pd.DataFrame,
    schedule: Schedule,
    *,
    batch: int,
    seed: int,
) -> pd.DataFrame:
    """Train the audio tower and the text head with CLAP's own loss on base-type items."""
    to_log = model.audio_trunk.mel.log
    rng = np.random.default_rng([seed, BASE_CHECK])
    check = base_batch(validation, 256, to_log, rng, augment=False)
    order = composite_batch(validation, validation_pairs, to_log, None)

    def loss_of(items: Batch) -> Tensor:
        audio = model.embed_audio(model.audio_trunk.from_log_mel(items.log_mel))
        ids = torch.from_numpy(event_ids(items.events))
        return clip_loss(audio, model.embed_text(text(items.captions)), model.logit_scale, ids)

    def losses(step: int) -> dict[str, Tensor]:
        items = base_batch(bank, batch, to_log, np.random.default_rng([seed, BASE_ITEMS, step]))
        return {"loss": loss_of(items), "logit_scale": model.logit_scale}

    def validate() -> dict[str, float]:
        audio = model.embed_audio(model.audio_trunk.from_log_mel(order.log_mel))
        words = model.embed_text(text(order.captions))
        facts = order_facts(audio.unflatten(0, (3, -1)), words.unflatten(0, (3, -1)))
        return {"validation_loss": float(loss_of(check))} | facts

    return optimise(
        [*model.audio_trunk.parameters(), *model.head_parameters()],
        losses,
        schedule,
        "base training",
        validate=validate,
        best=model,
        after_step=model.clamp_scale,
    )


def post_pretrain(
    model: AudioTextModel,
    variant: Variant,
    text: TextFeatures,
    pool: Pool,
    validation: Pool,
    schedule: Schedule,
    *,
    batch: int,
    replay_batch: int,
    seed: int,
    lesson: OrderLesson | None = None,
    lesson_batch: int = 0,
    what: str = "post-pretraining",
) -> pd.DataFrame:
    """Post-pretrain both heads and τ on trunk outputs; the trunks stay as they are.

    A step takes ``batch`` pairs in three views, ``replay_batch`` base-type items and
    ``lesson_batch`` pairs of captions. The control (``loss="clip"``) takes as many items a step,
    all of them base-type, with CLAP's own loss, and the same captions. The weights of the lowest
    validation loss are kept. Trunk outputs and embeddings of captions go to the model's device.
    """
    control = variant.loss == "clip"
    base_items = 3 * batch + replay_batch if control else replay_batch

    device = model.log_scale.device

    def ids_of(events: list[str]) -> Tensor:
        return torch.from_numpy(event_ids(events)).to(device)

    def views(pool: Pool, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        audio = model.embed_audio(pool.composites[rows].transpose(0, 1).flatten(0, 1).to(device))
        words = model.embed_text(text([pool.captions[r][v] for v in range(3) for r in rows]))
        return audio.unflatten(0, (3, -1)), words.unflatten(0, (3, -1))

    def temporal(audio: Tensor, words: Tensor, events: list[list[str]]) -> Tensor:
        ids = ids_of([pair[v] for v in range(3) for pair in events])
        return temporal_nce(
            audio,
            words,
            model.logit_scale,
            alpha_same=variant.alpha_same,
            alpha_cross=variant.alpha_cross,
            alpha_same_overlap=variant.alpha_same_overlap,
            alpha_cross_overlap=variant.alpha_cross_overlap,
            view_weights=variant.view_weights,
            events=ids.reshape(3, -1),
        )

    def base(pool: Pool, rows: np.ndarray) -> Tensor:
        words = model.embed_text(text([pool.base_captions[r] for r in rows]))
        ids = ids_of([pool.base_events[r] for r in rows])
        return clip_loss(model.embed_audio(pool.base[rows].to(device)), words, model.logit_scale, ids)

    def total(composites: Callable[[], Tensor], items: Callable[[], Tensor]) -> dict[str, Tensor]:
        if control:
            return {"loss": items()}
        terms = {"loss_temporal": composites()}
        terms["loss"] = terms["loss_temporal"]
        if variant.replay:
            terms["loss_replay"] = items()
            terms["loss"] = terms["loss"] + variant.replay * terms["loss_replay"]
        return terms

    def losses(step: int) -> dict[str, Tensor]:
        # Dropout in the heads: a step's draw is the step's own.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.default_rng([seed, DROPOUT, step]).integers(2**62)))
            model.train()
            return terms_of(step)

    def terms_of(step: int) -> dict[str, Tensor]:
        size, whole = pool.group or batch, pool.group is not None
        rows = batch_rows(len(pool.composites), size, step, seed, whole)
        terms = total(
            lambda: temporal(*views(pool, rows), [pool.events[r] for r in rows]),
            lambda: base(pool, batch_rows(len(pool.base), base_items, step, seed)),
        )
        if lesson_batch:
            terms["loss_lesson"] = sum(lesson.losses(step, lesson_batch).values())
            terms["loss"] = terms["loss"] + terms["loss_lesson"]
        return terms | {"logit_scale": model.logit_scale}

    def validate() -> dict[str, float]:
        model.eval()
        audio, words = views(validation, np.arange(len(validation.composites)))
        size = min(pool.group or batch, len(validation.composites))
        blocks = [slice(n, n + size) for n in range(0, len(validation.composites) - size + 1, size)]
        terms = total(
            lambda: torch.stack(
                [temporal(audio[:, b], words[:, b], validation.events[b]) for b in blocks]
            ).mean(),
            lambda: base(validation, np.arange(min(base_items, len(validation.base)))),
        )
        return {"validation_loss": float(terms["loss"])} | order_facts(audio, words)

    heads = nn.ModuleList([model.audio_head, model.text_head])
    heads.register_parameter("log_scale", model.log_scale)
    history = optimise(
        model.head_parameters(),
        losses,
        schedule,
        what,
        validate=validate,
        best=heads,
        after_step=model.clamp_scale,
    )
    model.eval()
    return history
