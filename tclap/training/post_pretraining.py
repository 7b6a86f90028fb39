"""Post-pretraining of a model's heads on composites, with time-inverted negatives.

A step takes composites in three views with :func:`tclap.losses.temporal_nce`, mixed with replay of
base-type items and a few captions so that prior capability is kept. The trunks are frozen: what they
make of a sound or a caption is computed once (:mod:`tclap.training.features`).
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tclap import files
from tclap.arguments import at_least
from tclap.data.captions import event_ids
from tclap.data.clips import content_hash, for_stage, require
from tclap.data.composites import ClipAudio, possible_pairs
from tclap.losses import clip_loss, temporal_nce
from tclap.models.base import AudioTextModel
from tclap.training.batch_embedding import BatchEmbedder, Embed
from tclap.training.distributed import current
from tclap.training.dropout import ItemDropout
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.loop import optimise, order_metrics
from tclap.training.pool import Items, Pool, WaveformSource, batch_rows, make_pool
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import Variant
from tclap.training.variants import variant as variant_of

log = logging.getLogger(__name__)
DROPOUT, REPLAY_DROPOUT, TEXT_LOSS_DROPOUT = 2, 3, 4  # RNG streams, after those of base training
PAIRS_PER_CLIP, MOST_PAIRS, VALIDATION_PAIRS = 10, 3200, 128


class _Term(NamedTuple):
    """A loss of the sum that is minimised."""

    items: str  # "composites" or "base"
    size: int  # items per step
    dropout: int  # its RNG stream
    weight: float = 1.0


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
    text_loss: TextOnlyLoss | None = None,
    text_loss_batch: int = 0,
    chunk_size: int | None = None,
    embedding: BatchEmbedder | None = None,
    checkpoint: Path | None = None,
    what: str = "post-pretraining",
) -> pd.DataFrame:
    """Post-pretrain both heads and τ on trunk outputs; the trunks stay as they are.

    A step takes ``batch`` pairs in three views, ``replay_batch`` base-type items and ``text_loss_batch``
    pairs of captions, of all processes together. The control (``loss="clip"``) takes as many items per
    step, all of them base-type, with CLAP's own loss, and the same captions. The model ends with the
    weights of the lowest validation loss.

    Args:
        variant: the loss.
        text: the text trunk's outputs, on the model's device.
        pool, validation: what is trained and validated on.
        seed: of the batches and the dropout.
        chunk_size: of the losses; None: all logits are held.
        embedding: processes, micro-batches and precision; None: this process, all at once, fp32.
        checkpoint: the file in which the state is kept.
        what: shown beside the progress.

    Returns:
        The history, see :func:`tclap.training.loop.optimise`.

    Raises:
        FloatingPointError: on a loss or gradient that is not finite.
    """
    embedding = embedding or BatchEmbedder()
    processes, device = embedding.processes, model.log_scale.device
    options = {name: value for name, value in asdict(variant).items() if name.startswith("alpha_")}
    options["view_weights"] = variant.view_weights

    terms: dict[str, _Term] = {}
    if variant.loss == "clip":
        terms["loss_clip"] = _Term("base", 3 * batch + replay_batch, REPLAY_DROPOUT)
    else:
        terms["loss_temporal"] = _Term("composites", variant.pairs * pool.batch_size(batch), DROPOUT)
        if variant.replay:
            terms["loss_replay"] = _Term("base", replay_batch, REPLAY_DROPOUT, variant.replay)

    def loss(audio: Tensor, words: Tensor, scale: Tensor, events: Tensor) -> Tensor:
        if len(audio) == 1:
            return clip_loss(audio[0], words[0], scale, events[0], chunk_size=chunk_size)
        return temporal_nce(audio, words, scale, events=events, chunk_size=chunk_size, **options)

    def embed(items: Items, views: int = 3) -> Embed:
        def of(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            tokens = text(by_view(items.captions, rows, views))
            features = items.features[rows, :views].transpose(0, 1).flatten(0, 1)
            audio, words = model.embed_features(features), model.embed_tokens(tokens)
            return audio.unflatten(0, (-1, len(rows))), words.unflatten(0, (-1, len(rows)))

        return of

    def ids_of(items: Items, rows: np.ndarray, views: int = 3) -> Tensor:
        events = by_view(items.events, rows, views)
        return torch.from_numpy(event_ids(events)).to(device).reshape(-1, len(rows))

    def total(found: dict[str, Tensor]) -> Tensor:
        weighted = ((terms[name].weight if name in terms else 1.0) * term for name, term in found.items())
        return sum(weighted, torch.zeros(()))

    def losses(step: int) -> dict[str, Tensor]:
        model.train()
        found = {}
        for name, term in terms.items():
            items = getattr(pool, term.items)
            whole = term.items == "composites" and pool.group is not None
            rows = batch_rows(len(items), term.size, step, seed, whole)
            seeds = (seed, term.dropout, step)
            audio, words = embedding.embed_local(embed(items, variant.views), rows, device, seeds)
            ids = ids_of(items, rows, variant.views)[:, processes.local_slice(term.size)]
            found[name] = loss(*processes.global_batch(audio, words, model.logit_scale, ids, term.size))
        if text_loss is not None and text_loss_batch and variant.text_loss and processes.is_main:
            with ItemDropout((seed, TEXT_LOSS_DROPOUT, step)):
                found["loss_text"] = sum(text_loss.losses(step, text_loss_batch).values(), torch.zeros(()))
        return {"loss": total(found)} | found | {"logit_scale": model.logit_scale}

    def validate() -> dict[str, float]:
        model.eval()
        whole = np.arange(len(validation.composites))
        composites = embedding.embed_all(embed(validation.composites), whole, device)
        metrics, found = order_metrics(*composites), {}
        for name, term in terms.items():
            items = getattr(validation, term.items)
            size = min(term.size, len(items))
            if term.items == "composites":
                rows, (audio, words) = whole, composites
            else:
                rows = np.arange(size)
                audio, words = embedding.embed_all(embed(items), rows, device)
            ids = ids_of(items, rows, variant.views)
            sides = (audio[: variant.views], words[: variant.views], ids)
            blocks = [[side[:, n : n + size] for side in sides] for n in range(0, len(rows) - size + 1, size)]
            values = [loss(audio, words, model.logit_scale, ids) for audio, words, ids in blocks]
            found[name] = torch.stack(values).mean()
        return {"validation_loss": float(total(found))} | metrics

    heads = nn.ModuleList([model.audio_head, model.text_head])
    heads.register_parameter("log_scale", model.log_scale)
    history = optimise(
        model.head_parameters(),
        losses,
        schedule,
        what,
        module=heads,
        validate=validate,
        after_step=model.clamp_scale,
        checkpoint=checkpoint,
        processes=processes,
    )
    model.eval()
    return history


def by_view(texts: Sequence[Sequence[str]], rows: np.ndarray, views: int) -> list[str]:
    """Texts of items in their first ``views``, all of the first view, then all of the second and so on."""
    return [text for view in zip(*(texts[row][:views] for row in rows), strict=True) for text in view]


def fine_tune(
    model: AudioTextModel,
    clips: pd.DataFrame,
    *,
    variant: str = "t-clap",
    preset: str = "published",
    epochs: int = 10,
    lr: float = 1e-3,
    batch: int = 32,
    pairs: int | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    micro_batch: int | None = None,
    chunk_size: int | None = None,
    precision: str = "fp32",
    checkpoints: str | Path | None = None,
) -> pd.DataFrame:
    """Post-pretrain a model's heads on composites of clips; the trunks stay as they are.

    The model ends with the heads of the lowest validation loss. Processes started by ``accelerate launch``
    share each batch, the folder of the checkpoints and the store.

    Args:
        model: is changed.
        clips: the clips table; its training clips (split ``train`` or ``post``) are composed, and its
            validation clips decide which epoch is kept.
        variant: ``t-clap``, or another name of :data:`tclap.training.variants.VARIANTS`. For another readout
            pass ``model.with_readout(...)``.
        preset: ``published`` (T-CLAP's authors': Adam, the learning rate times 0.95 per epoch) or
            ``cosine`` (AdamW, see :data:`tclap.training.schedule.PRESETS`).
        epochs: passes over the composites.
        lr: largest learning rate.
        batch: composites per step (in three views each), and replayed items.
        pairs: number of composites; None: ten per clip, at most 3200 and as many as there are.
        seed: of composites, batches and dropout.
        store: keeps trunk outputs between calls; None: they are held in memory.
        micro_batch: composites that go through the heads at a time, where memory is short; None: all.
        chunk_size: see :func:`tclap.losses.temporal_nce`.
        precision: of the heads, ``fp32`` or ``bf16``.
        checkpoints: a folder in which the state is kept after every epoch. Called again with the same
            settings, weights and content of clips (captions, labels, splits and audio), the training
            continues from there; another one starts anew, in a file of its own. None: nothing is kept.

    Returns:
        The history, one row per step.

    Raises:
        TypeError: on a model that is not cut into trunks and heads, such as one with slots.
        ValueError: on an unknown variant, preset or precision, a variant that is another readout or has
            another text-only loss, numbers out of range, or clips that make no pair of different label.
        FloatingPointError: on a loss that is not finite.
    """
    if not isinstance(model, AudioTextModel):
        raise TypeError(
            f"{type(model).__name__} cannot be fine-tuned, expected a model of load_model with trunks and "
            "heads; of one with slots fine-tune its base, then add slots."
        )
    settings = variant_of(variant)
    if settings.readout is not None or settings.more_wordings or not settings.text_loss:
        raise ValueError(
            f"variant is {variant!r}: fine_tune takes a readout as model.with_readout(...), and has no "
            "text-only loss in which variants could differ."
        )
    require(clips)
    at_least(0, seed=seed)
    at_least(1, epochs=epochs, batch=batch, pairs=pairs, chunk_size=chunk_size)
    Schedule.of(preset, 1, lr)  # an unknown preset is refused before any work
    processes = current()
    embedding = BatchEmbedder(processes, micro_batch, precision)
    stages = {stage: for_stage(clips, stage) for stage in ("post", "validation")}
    counts = {}
    for stage, wanted in (("post", pairs), ("validation", VALIDATION_PAIRS)):
        most = possible_pairs(stages[stage])
        counts[stage] = min(wanted or min(PAIRS_PER_CLIP * len(stages[stage]), MOST_PAIRS), most)
        if most == 0:
            raise ValueError(f"the {stage} clips have one label only, and pairs need two.")
    batch = min(batch, counts["post"])
    checkpoint = None
    if checkpoints is not None:
        made_of = [variant, preset, epochs, lr, batch, counts, seed, precision, store and str(store.dtype)]
        made_of += [model.fingerprint, *map(content_hash, stages.values())]
        checkpoint = Path(checkpoints, f"{files.hash_json(made_of)[:16]}.pt")
        files.check_writable(checkpoints)
        folder = checkpoint.parent
        if any(folder.iterdir()) and not any(folder.glob(f"{checkpoint.stem}*")):
            log.warning("%s: no training of these settings, weights and clips yet, starts anew", checkpoints)
    audio = ClipAudio(clips, model.sample_rate)
    source = WaveformSource(AudioFeatures(model, audio, store, processes), clips)
    pools = {
        stage: make_pool(
            source,
            pairs=count,
            base_items=count if stage == "post" else 4 * batch,
            seed=seed,
            distinct=settings.distinct,
            largest=batch,
            stage=stage,
        )
        for stage, count in counts.items()
    }
    captions = pools["post"].vocabulary | pools["validation"].vocabulary
    device = model.log_scale.device
    text = TextFeatures(model.text_trunk, captions, store, device=device, processes=processes)
    epoch = pools["post"].steps_per_epoch(batch)
    return post_pretrain(
        model,
        settings,
        text,
        pools["post"],
        pools["validation"],
        Schedule.of(preset, epochs * epoch, lr, epoch=epoch, validate_every=epoch),
        batch=batch,
        replay_batch=batch,
        seed=seed,
        chunk_size=chunk_size,
        embedding=embedding,
        checkpoint=checkpoint,
        what=variant,
    )
