"""Post-pretraining of any model on any clips, in one call."""

from __future__ import annotations

import pandas as pd

from tclap.audio_features import AudioFeatures
from tclap.config import RECIPES
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio
from tclap.evaluation.api import possible_pairs
from tclap.features import StoredText, TextFeatures
from tclap.models.base import AudioTextModel
from tclap.pool import make_waveform_pool
from tclap.store import FeatureStore
from tclap.training import Schedule, post_pretrain
from tclap.variants import variant as variant_of

PAIRS_A_CLIP, MOST_PAIRS = 10, 3200
VALIDATION_PAIRS = 128


def fine_tune(
    model: AudioTextModel,
    clips: pd.DataFrame,
    *,
    variant: str = "t-clap",
    recipe: str = "published",
    epochs: int = 10,
    lr: float = 1e-3,
    batch: int = 32,
    pairs: int | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
) -> pd.DataFrame:
    """Post-pretrain a model's heads on composites of clips.

    The trunks stay as they are, so each composite and caption goes through them once. The model ends
    with the heads of the lowest validation loss.

    Args:
        model: is changed.
        clips: the clips table; its training clips (split ``train`` or ``post``) are composed, and its
            validation clips decide which epoch is kept.
        variant: what is trained: ``t-clap``, or a name of :data:`tclap.variants.VARIANTS`.
        recipe: ``published`` (T-CLAP's authors': Adam, the learning rate times 0.95 an epoch) or ``cosine``
            (AdamW, see :class:`tclap.training.Schedule`).
        epochs: passes over the composites.
        lr: largest learning rate.
        batch: composites a step (in three views each), and replayed items.
        pairs: number of composites; None: ten a clip, at most 3200 and as many as there are.
        seed: of composites, batches and dropout.
        store: keeps trunk outputs between calls; None: they are held in memory.

    Returns:
        The history, a row a step.

    Raises:
        ValueError: on an unknown variant or recipe, or clips that make no pair of different label.
    """
    settings = variant_of(variant)
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}.")
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
    pools = {
        stage: make_waveform_pool(
            features,
            clips,
            pairs=count,
            base_items=count if stage == "post" else 4 * batch,
            seed=seed,
            distinct=settings.distinct,
            stage=stage,
        )
        for stage, count in counts.items()
    }
    epoch = max(len(pools["post"].composites) // batch, 1)
    schedule = Schedule.published(epochs, epoch, lr)
    if recipe == "cosine":
        schedule = Schedule(epochs * epoch, lr, validate_every=epoch)
    device = model.log_scale.device
    captions = {c for pool in pools.values() for c in [*sum(pool.captions, []), *pool.base_captions]}
    if store is None:
        text = TextFeatures(model.text_trunk, sorted(captions), device=device)
    else:
        text = StoredText(model.text_trunk, store, captions, device=device)
    return post_pretrain(
        model,
        settings,
        text,
        pools["post"],
        pools["validation"],
        schedule,
        batch=batch,
        replay_batch=batch,
        seed=seed,
        what=variant,
    )
