"""Post-pretraining of any model on any clips, in one call."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tclap import files
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio
from tclap.evaluation.benchmark import possible_pairs
from tclap.models.base import AudioTextModel
from tclap.training.audio_features import AudioFeatures
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.checkpoints import Checkpoints
from tclap.training.distributed import current
from tclap.training.pool import make_waveform_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.store import FeatureStore
from tclap.training.text_features import StoredText, TextFeatures
from tclap.training.variants import variant as variant_of

PAIRS_A_CLIP, MOST_PAIRS = 10, 3200
VALIDATION_PAIRS = 128


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
    """Post-pretrain a model's heads on composites of clips.

    The trunks stay as they are, so each composite and caption goes through them once. The model ends
    with the heads of the lowest validation loss. Processes started by ``accelerate launch`` share each
    batch, and then the folder of the checkpoints and the store as well.

    Args:
        model: is changed.
        clips: the clips table; its training clips (split ``train`` or ``post``) are composed, and its
            validation clips decide which epoch is kept.
        variant: what is trained: ``t-clap``, or a name of :data:`tclap.training.variants.VARIANTS`.
        preset: ``published`` (T-CLAP's authors': Adam, the learning rate times 0.95 an epoch) or ``cosine``
            (AdamW, see :data:`tclap.training.schedule.PRESETS`).
        epochs: passes over the composites.
        lr: largest learning rate.
        batch: composites a step (in three views each), and replayed items.
        pairs: number of composites; None: ten a clip, at most 3200 and as many as there are.
        seed: of composites, batches and dropout.
        store: keeps trunk outputs between calls; None: they are held in memory.
        micro_batch: composites that go through the heads at a time, for a batch larger than memory
            allows; None: all. The loss is that of the whole batch.
        chunk_size: see :func:`tclap.losses.temporal_nce`.
        precision: of the heads, ``fp32`` or ``bf16``.
        checkpoints: a folder in which the state is kept after every epoch; called again with the same
            arguments and model, the training goes on from there. None: nothing is kept.

    Returns:
        The history, a row a step.

    Raises:
        ValueError: on an unknown variant, preset or precision, clips that make no pair of different
            label, or checkpoints of another training.
        FloatingPointError: on a loss that is not finite.
    """
    settings = variant_of(variant)
    Schedule.of(preset, 1, lr)  # an unknown preset shall be told before any work
    processes = current()
    embedding = BatchEmbedder(processes, micro_batch, precision)
    counts = {}
    for stage, wanted in (("post", pairs), ("validation", VALIDATION_PAIRS)):
        chosen = for_stage(clips, stage)
        most = possible_pairs(chosen)
        counts[stage] = min(wanted or min(PAIRS_A_CLIP * len(chosen), MOST_PAIRS), most)
        if most == 0:
            raise ValueError(f"the {stage} clips have one label only, and pairs need two.")
    batch = min(batch, counts["post"])
    audio = ClipAudio(clips, model.sample_rate, keep=200)
    features = AudioFeatures(model, clips, audio, store)
    arguments = (variant, preset, epochs, lr, batch, counts, seed, precision)
    identity = files.hash_json([*arguments, files.hash_state(model.own_state()), clips["clip_id"].tolist()])
    kept = None if checkpoints is None else Checkpoints(Path(checkpoints), identity)
    device = model.log_scale.device
    with processes.main_first():  # what it has put into the store, the others find there
        pools = {
            stage: make_waveform_pool(
                features,
                clips,
                pairs=count,
                base_items=count if stage == "post" else 4 * batch,
                seed=seed,
                distinct=settings.distinct,
                largest=batch,
                stage=stage,
            )
            for stage, count in counts.items()
        }
        captions = {c for pool in pools.values() for c in [*sum(pool.captions, []), *pool.base_captions]}
        if store is None:
            text = TextFeatures(model.text_trunk, sorted(captions), device=device)
        else:
            text = StoredText(model.text_trunk, store, captions, device=device)
    epoch = max(len(pools["post"].composites) // (pools["post"].group or batch), 1)
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
        checkpoints=kept,
        what=variant,
    )
