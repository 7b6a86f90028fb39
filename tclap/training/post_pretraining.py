"""Post-pretraining of a model's heads on composites, with time-inverted negatives.

A step takes composites in three views with :func:`tclap.losses.temporal_nce`, mixed with replay of
base-type items and a few captions so that prior capability is kept. The trunks are frozen: what they
make of a sound or a caption is computed once (:mod:`tclap.training.pool`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tclap.data.captions import event_ids
from tclap.losses import clip_loss, temporal_nce
from tclap.models.base import AudioTextModel
from tclap.training.batch_embedding import BatchEmbedder, drawing_from
from tclap.training.checkpoints import Checkpoints
from tclap.training.loop import optimise, order_metrics
from tclap.training.pool import Pool, batch_rows
from tclap.training.schedule import Schedule
from tclap.training.text_features import StoredText, TextFeatures
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import Variant

# Parts of a draw's seed, after those of training.
DROPOUT, REPLAY_DROPOUT, TEXT_LOSS_DROPOUT = 2, 3, 4
NAMED = 3  # items that a message names at most


def post_pretrain(
    model: AudioTextModel,
    variant: Variant,
    text: TextFeatures | StoredText,
    pool: Pool,
    validation: Pool,
    schedule: Schedule,
    *,
    batch: int,
    replay_batch: int,
    seed: int,
    text_loss: TextOnlyLoss | None = None,
    text_loss_batch: int = 0,
    chunk_size: int | None = None,
    embedding: BatchEmbedder | None = None,
    checkpoints: Checkpoints | None = None,
    what: str = "post-pretraining",
) -> pd.DataFrame:
    """Post-pretrain both heads and τ on trunk outputs; the trunks stay as they are.

    A step takes ``batch`` pairs in three views, ``replay_batch`` base-type items and
    ``text_loss_batch`` pairs of captions. The control (``loss="clip"``) takes as many items a step,
    all of them base-type, with CLAP's own loss, and the same captions. The weights of the lowest
    validation loss are kept. Trunk outputs and embeddings of captions go to the model's device.

    Args:
        model: is changed.
        variant: the loss.
        text: the text trunk's outputs.
        pool, validation: what is trained and validated on.
        schedule: how long and how fast.
        batch, replay_batch, text_loss_batch: see above; of all processes together.
        seed: of the batches and the dropout.
        text_loss: of the words for order.
        chunk_size: of the losses; None: all logits are held.
        embedding: processes, micro-batches and precision; None: this process, all at once, fp32.
        checkpoints: where the state is kept.
        what: shown beside the progress.

    Returns:
        The history, see :func:`tclap.training.loop.optimise`; ``cosine_batch_audio`` and
        ``cosine_batch_text`` are cosine(forward, reversed) in the batch (of the main process's share).

    Raises:
        FloatingPointError: on a loss or gradient that is not finite.
    """
    control = variant.loss == "clip"
    base_items = 3 * batch + replay_batch if control else replay_batch
    base_name = "loss_clip" if control else "loss_replay"
    size, whole = pool.group or batch, pool.group is not None
    embedding = embedding or BatchEmbedder()
    processes, device = embedding.processes, model.log_scale.device

    def composites_of(pool: Pool):
        def embed(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            audio = model.embed_audio(pool.composites[rows].transpose(0, 1).flatten(0, 1).to(device))
            words = model.embed_text(text([pool.captions[r][v] for v in range(3) for r in rows]))
            return audio.unflatten(0, (3, -1)), words.unflatten(0, (3, -1))

        return embed

    def base_of(pool: Pool):
        def embed(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            words = model.embed_text(text([pool.base_captions[r] for r in rows]))
            return model.embed_audio(pool.base[rows].to(device)), words

        return embed

    def composite_ids(pool: Pool, rows: Sequence[int]) -> Tensor:
        ids = event_ids([pool.events[r][v] for v in range(3) for r in rows])
        return torch.from_numpy(ids).to(device).reshape(3, -1)

    def base_ids(pool: Pool, rows: Sequence[int]) -> Tensor:
        return torch.from_numpy(event_ids([pool.base_events[r] for r in rows])).to(device)

    def temporal(audio: Tensor, words: Tensor, ids: Tensor, **options) -> Tensor:
        return temporal_nce(
            audio,
            words,
            model.logit_scale,
            alpha_same=variant.alpha_same,
            alpha_cross=variant.alpha_cross,
            alpha_same_overlap=variant.alpha_same_overlap,
            alpha_cross_overlap=variant.alpha_cross_overlap,
            view_weights=variant.view_weights,
            events=ids,
            chunk_size=chunk_size,
            **options,
        )

    def base(audio: Tensor, words: Tensor, ids: Tensor, **options) -> Tensor:
        return clip_loss(audio, words, model.logit_scale, ids, chunk_size=chunk_size, **options)

    def drawn(step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the composites and of the base items."""
        return (
            batch_rows(len(pool.composites), size, step, seed, whole),
            batch_rows(len(pool.base), base_items, step, seed),
        )

    def losses(step: int) -> dict[str, Tensor]:
        model.train()
        composites, items = drawn(step)
        terms, facts = {}, {}
        if not control:
            nothing = model.log_scale.new_zeros(3, 0, model.dim)
            seeds = (seed, DROPOUT, step)
            audio, words = embedding.embed_local(composites_of(pool), composites, nothing, seeds)
            ids = composite_ids(pool, composites)[:, processes.local_slice(len(composites))]
            terms["loss_temporal"] = temporal(audio, words, ids, processes=processes)
            facts = {
                "cosine_batch_audio": (audio[0] * audio[1]).sum(-1).mean(),
                "cosine_batch_text": (words[0] * words[1]).sum(-1).mean(),
            }
        if control or variant.replay:
            nothing = model.log_scale.new_zeros(0, model.dim)
            seeds = (seed, REPLAY_DROPOUT, step)
            audio, words = embedding.embed_local(base_of(pool), items, nothing, seeds)
            ids = base_ids(pool, items)[processes.local_slice(len(items))]
            terms[base_name] = base(audio, words, ids, processes=processes)
        if text_loss_batch and processes.is_main:
            with drawing_from((seed, TEXT_LOSS_DROPOUT, step), device):
                terms["loss_text"] = sum(text_loss.losses(step, text_loss_batch).values())
        return {"loss": total(terms)} | terms | {"logit_scale": model.logit_scale} | facts

    def total(terms: dict[str, Tensor]) -> Tensor:
        weights = {"loss_replay": variant.replay}
        return sum(weights.get(name, 1.0) * term for name, term in terms.items())

    def validate() -> dict[str, float]:
        model.eval()
        rows = np.arange(len(validation.composites))
        audio, words = embedding.embed_all(composites_of(validation), rows, device)
        facts = order_metrics(audio, words)
        terms = {}
        if not control:
            ids = composite_ids(validation, rows)
            step = min(size, len(rows))
            blocks = [slice(n, n + step) for n in range(0, len(rows) - step + 1, step)]
            terms["loss_temporal"] = torch.stack(
                [temporal(audio[:, b], words[:, b], ids[:, b]) for b in blocks]
            ).mean()
        if control or variant.replay:
            rows = np.arange(min(base_items, len(validation.base)))
            embedded = embedding.embed_all(base_of(validation), rows, device)
            terms[base_name] = base(*embedded, base_ids(validation, rows))
        return {"validation_loss": float(total(terms))} | facts

    def items_of(step: int) -> str:
        """The captions whose embeddings are not finite, else those of the batch."""
        model.eval()
        composites, items = drawn(step)
        suspects = []
        if not control:
            found = embedding.embed_all(composites_of(pool), composites, device)
            captions = [[pool.captions[r][v] for r in composites] for v in range(3)]
            suspects += [
                (captions[v][n], broken(found, (v, n))) for v in range(3) for n in range(len(composites))
            ]
        if control or variant.replay:
            found = embedding.embed_all(base_of(pool), items, device)
            suspects += [(pool.base_captions[r], broken(found, n)) for n, r in enumerate(items)]
        bad = [f"{caption!r} ({side})" for caption, side in suspects if side]
        if bad:
            return f"{len(bad)} item(s) without a finite embedding: {_some(bad)}"
        return f"all embeddings are finite; items {_some([repr(caption) for caption, _ in suspects])}"

    heads = nn.ModuleList([model.audio_head, model.text_head])
    heads.register_parameter("log_scale", model.log_scale)
    history = optimise(
        model.head_parameters(),
        losses,
        schedule,
        what,
        module=heads,
        validate=validate,
        keep_best=True,
        after_step=model.clamp_scale,
        items=base_items if control else 3 * size + (base_items if variant.replay else 0),
        items_of=items_of,
        checkpoints=checkpoints,
        processes=processes,
    )
    model.eval()
    return history


def broken(embedded: Sequence[Tensor], index: int | tuple[int, int]) -> str:
    """Which of an item's audio and text embeddings are not finite."""
    sides = [
        side
        for side, found in zip(("audio", "text"), embedded, strict=True)
        if not torch.isfinite(found[index]).all()
    ]
    return " and ".join(sides)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
