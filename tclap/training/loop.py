"""Training: one loop, and the phases that make a base model.

1. **Warm-up** of the text head on captions alone. "A before B" and "B after A" mean the same; a
   text tower that has to learn this from audio stays on an order-blind plateau (loss log 2 an
   inversion pair, 2-way accuracy 50 %).
2. **Base training** with CLAP's own loss on single sounds and "X and Y": nothing in it tells order.

:mod:`tclap.training.post_pretraining` is the third phase, the one this project is about.

Every draw comes from (seed, phase, step), and no layer mixes the items of a batch. So a training that
was killed goes on from its last checkpoint to the same bits, and several processes that share a batch
compute what one would.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tclap.data.batches import BASE_MIX, Batch, SegmentBank, base_batch, composite_batch
from tclap.data.captions import event_ids
from tclap.losses import clip_loss
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.training.batch_embedding import BatchEmbedder, Embed
from tclap.training.checkpoints import Checkpoints, State
from tclap.training.distributed import Processes
from tclap.training.schedule import Schedule
from tclap.training.text_features import TextFeatures
from tclap.training.text_loss import TextOnlyLoss

log = logging.getLogger(__name__)

BASE_ITEMS, BASE_CHECK = 0, 1  # parts of a draw's seed
BASE_DROPOUT = 5  # likewise; 2 to 4 are those of post-pretraining
SHOWN = ("loss", "validation_loss", "validation_two_way", "validation_accuracy")  # beside a progress bar


def optimise(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[int], dict[str, Tensor]],
    schedule: Schedule,
    what: str,
    *,
    module: nn.Module | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    keep_best: bool = False,
    after_step: Callable[[], None] | None = None,
    items: int | None = None,
    items_of: Callable[[int], str] | None = None,
    checkpoints: Checkpoints | None = None,
    processes: Processes | None = None,
) -> pd.DataFrame:
    """Minimise ``losses(step)["loss"]`` and return a row a step.

    Args:
        parameters: what is trained.
        losses: the loss and its terms at a step. Of several processes each takes the gradient of its
            share; what is summed over them is the gradient of the whole.
        schedule: how.
        what: shown beside the progress.
        module: holds all that is trained; needed for ``keep_best`` and ``checkpoints``.
        validate: facts on validation data, every ``validate_every`` steps and after the last.
        keep_best: the module ends with the weights of the lowest ``validation_loss``.
        after_step: called after every update.
        items: number of items a step, of which the rate is written to the history.
        items_of: names the items of a step, for the message when its loss is not finite.
        checkpoints: keeps the state after every validation, and gives back the last good one: a training
            that is started again goes on from there.
        processes: that train together, in lockstep; None: this one alone.

    Returns:
        The history: ``step, lr, grad_norm``, the terms, and where there was a validation its facts; also
        ``items_per_second``, validation and checkpoint not counted.

    Raises:
        FloatingPointError: on a loss or gradient that is not finite, naming the step, the items and the
            last good checkpoint. The weights are then those before the step.
    """
    parameters = list(parameters)
    processes = processes or Processes()
    optimiser = schedule.make_optimiser(parameters)
    rows, lowest, kept, start = [], math.inf, None, 0
    if checkpoints is not None:
        with processes.main_first():
            state = checkpoints.load()
        if state is not None:
            start, lowest, kept = state.step, state.lowest, state.best
            rows = _rows_of(state.history)
            _restore(state, module, optimiser)
            log.info("%s: goes on after step %d", what, start)
    processes.broadcast([*parameters])
    bar = progress(range(start, schedule.steps), what)
    for row in rows:
        bar.on_step(row)
    for step in bar:
        began = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        terms = losses(step)
        optimiser.zero_grad(set_to_none=True)
        if terms["loss"].requires_grad:  # a process may have no part in a loss
            (schedule.loss_scale * terms["loss"]).backward()
        processes.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
        if not (torch.isfinite(terms["loss"]) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"{what}: loss {terms['loss'].item()} and gradient norm {norm.item()} at step {step}"
                + (f" ({items_of(step)})" if items_of else "")
                + ", expected finite numbers"
                + (f"; the last good state is {checkpoints.newest}." if _kept(checkpoints) else ".")
            )
        optimiser.step()
        if after_step is not None:
            after_step()
        row = {"step": step, "lr": optimiser.param_groups[0]["lr"], "grad_norm": float(norm)}
        row |= {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}
        if items is not None:
            row["items_per_second"] = items / (time.perf_counter() - began)
        rows.append(row)
        last = step == schedule.steps - 1
        if not (last or (step + 1) % schedule.validate_every == 0):
            bar.on_step(row)
            continue
        if validate is not None:
            with torch.no_grad():
                row |= validate()
        bar.on_step(row)
        if validate is not None:
            if keep_best and row["validation_loss"] < lowest:
                lowest = row["validation_loss"]
                kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            facts = ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k not in ("step", "lr"))
            log.info("%s, step %d: %s", what, step + 1, facts)
            bar.set_status(", ".join(f"{k} {row[k]:.3g}" for k in SHOWN if k in row))
        if checkpoints is not None and processes.is_main:
            history, generators = pd.DataFrame(rows), _generators()
            checkpoints.save(
                State(
                    step + 1, module.state_dict(), optimiser.state_dict(), kept, lowest, history, generators
                )
            )
    if kept is not None:
        module.load_state_dict(kept)
    return pd.DataFrame(rows)


def _kept(checkpoints: Checkpoints | None) -> bool:
    return checkpoints is not None and checkpoints.newest is not None


def _rows_of(history: pd.DataFrame) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if not pd.isna(value)}
        for row in history.to_dict("records")
    ]


def _generators() -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _restore(state: State, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    module.load_state_dict(state.module)
    optimiser.load_state_dict(state.optimiser)
    torch.set_rng_state(state.generators["torch"])
    if "cuda" in state.generators and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.generators["cuda"])


def warm_up_text(
    text_loss: TextOnlyLoss,
    schedule: Schedule,
    *,
    batch: int,
    checkpoints: Checkpoints | None = None,
    processes: Processes | None = None,
) -> pd.DataFrame:
    """Teach the text head what the words for order mean, from captions alone.

    It is little work, which the main one of several ``processes`` does for all.
    """

    def losses(step: int) -> dict[str, Tensor]:
        if processes is not None and not processes.is_main:
            return {"loss": torch.zeros(())}
        terms = text_loss.losses(step, batch)
        return {"loss": sum(terms.values())} | terms

    def validate() -> dict[str, float]:
        return {"validation_accuracy": text_loss.accuracy()}

    head = text_loss.model.text_head
    return optimise(
        head.parameters(),
        losses,
        schedule,
        "text warm-up",
        module=head,
        validate=validate,
        checkpoints=checkpoints,
        processes=processes,
    )


def order_metrics(audio: Tensor, text: Tensor) -> dict[str, float]:
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
    mix: Mapping[str, float] = BASE_MIX,
    embedding: BatchEmbedder | None = None,
    checkpoints: Checkpoints | None = None,
) -> pd.DataFrame:
    """Train the audio tower and the text head with CLAP's own loss on base-type items, in shares ``mix``."""
    embedding = embedding or BatchEmbedder()
    processes, device = embedding.processes, model.log_scale.device
    nothing = model.log_scale.new_zeros(0, model.dim)
    to_log = model.audio_trunk.mel.log
    rng = np.random.default_rng([seed, BASE_CHECK])
    check = base_batch(validation, 256, to_log, rng, augment=False, mix=mix)
    order = composite_batch(validation, validation_pairs, to_log, None)

    def embed(items: Batch) -> Embed:
        def of(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            audio = model.embed_audio(model.audio_trunk.from_log_mel(items.log_mel[rows].to(device)))
            return audio, model.embed_text(text([items.captions[r] for r in rows]))

        return of

    def ids_of(items: Batch) -> Tensor:
        return torch.from_numpy(event_ids(items.events)).to(device)

    def losses(step: int) -> dict[str, Tensor]:
        model.train()
        items = base_batch(bank, batch, to_log, np.random.default_rng([seed, BASE_ITEMS, step]), mix=mix)
        dropout = (seed, BASE_DROPOUT, step)
        audio, words = embedding.embed_local(embed(items), np.arange(batch), nothing, dropout)
        ids = ids_of(items)[processes.local_slice(batch)]
        loss = clip_loss(audio, words, model.logit_scale, ids, processes=processes)
        return {"loss": loss, "logit_scale": model.logit_scale}

    def validate() -> dict[str, float]:
        model.eval()
        sounds, words = embedding.embed_all(embed(check), np.arange(len(check.captions)), device)
        loss = clip_loss(sounds, words, model.logit_scale, ids_of(check))
        both = embedding.embed_all(embed(order), np.arange(len(order.captions)), device)
        facts = order_metrics(*(side.unflatten(0, (3, -1)) for side in both))
        return {"validation_loss": float(loss)} | facts

    history = optimise(
        [*model.audio_trunk.parameters(), *model.head_parameters()],
        losses,
        schedule,
        "base training",
        module=model,
        validate=validate,
        keep_best=True,
        after_step=model.clamp_scale,
        items=batch,
        checkpoints=checkpoints,
        processes=processes,
    )
    model.eval()
    return history
