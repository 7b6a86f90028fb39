"""The training of a run: base models (notebook 02) and the variants that start from one (notebook 03).

A base model from scratch first learns from captions alone what the words for order mean; then both towers
learn CLAP's own loss on sounds whose captions tell no order. Existing models of the same inputs are reused;
a training that was cut off goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import torch

from artifact.config import Config
from artifact.experiment import Experiment
from artifact.model_folder import ModelFolder
from tclap import files
from tclap.data.batches import BASE_MIX
from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model
from tclap.training.base import train_base, warm_up_text
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.pool import MelSource, Pool, WaveformSource, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import BASE, READOUT_PREFIX, Variant, variant

HISTORY = (
    "step", "loss", "loss_contrast", "loss_slots", "validation_accuracy", "validation_loss",
    "validation_two_way", "cosine_audio", "cosine_text",
)  # fmt: skip


# Base models that are trained from scratch: the mix of what they are trained on, and options of the model.
BASE_VARIANTS: dict[str, tuple[dict[str, float], dict[str, str]]] = {
    BASE: (BASE_MIX, {}),
    "clap-no-sequences": ({"single": 0.5, "overlap": 0.5}, {}),
    "clap-single-sounds": ({"single": 1.0}, {}),
    "clap-attention": (BASE_MIX, {"context": "attention"}),
}


def train_base_models(experiment: Experiment, seed: int, names: Sequence[str] = (BASE,)) -> None:
    """Train a seed's base model, or others of :data:`BASE_VARIANTS`, from the same words.

    A published base model is not trained: its heads are saved as the others' are.
    """
    if experiment.reference.is_published:
        folder = experiment.model_dir(seed, BASE, {"origin": experiment.reference.origin})
        if not folder.is_up_to_date():
            nothing = pd.DataFrame(columns=["model", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
            folder.save(experiment.reference, nothing)
        return
    config, words = experiment.config, None
    phase = config.base_training
    for name in names:
        mix, options = BASE_VARIANTS[name]
        inputs = {
            "warm_up": config.warm_up.model_dump(),
            "base_training": phase.model_dump(),
            "crop_energy": config.crop_energy,
            "options": config.model_options(experiment.base) | options,
            "mix": mix,
        }
        folder = experiment.model_dir(seed, name, inputs)
        if folder.is_up_to_date():
            continue
        if words is None:
            words, warm_up = _learn_words(experiment, seed, folder)
        model = _fresh(experiment, seed, inputs["options"])
        model.text_head.load_state_dict(words)
        history = train_base(
            model,
            experiment.text,
            experiment.bank("base"),
            experiment.bank("validation"),
            experiment.table("data/pairs-validation.parquet"),
            phase.schedule(),
            batch=phase.batch,
            seed=seed,
            mix=mix,
            embedding=BatchEmbedder(experiment.processes, precision=phase.precision),
            checkpoints=folder.checkpoints("base"),
        )
        parts = [warm_up.assign(model="warm-up"), history.assign(model=name)]
        folder.save(model, pd.concat(parts, ignore_index=True))


def _fresh(experiment: Experiment, seed: int, options: dict) -> AudioTextModel:
    torch.manual_seed(seed)
    return load_model(experiment.base, **options)


def _learn_words(
    experiment: Experiment, seed: int, folder: ModelFolder
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """The text head's weights after the warm-up, and its history."""
    phase = experiment.config.warm_up
    model = _fresh(experiment, seed, experiment.config.model_options(experiment.base))
    history = warm_up_text(
        TextOnlyLoss(model, experiment.text, experiment.labels, seed),
        phase.schedule(),
        batch=phase.batch,
        checkpoints=folder.checkpoints("warm-up"),
        processes=experiment.processes,
    )
    return model.text_head.state_dict(), history


def variant_names(config: Config, seed: int) -> list[str]:
    """The variants of a profile; in its first seed also the readouts."""
    readouts = config.readouts if seed == config.seeds[0] else []
    return [*config.variants, *(READOUT_PREFIX + name for name in readouts)]


def train_variants(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Post-pretrain variants of a seed's base model; None: all of the profile.

    Raises:
        ValueError: on an unknown variant.
        FileNotFoundError: when the base model has not been trained.
    """
    names = variant_names(experiment.config, seed) if names is None else names
    base, post = experiment.load(seed), experiment.config.post_pretraining
    inputs = {
        "post_pretraining": post.model_dump(),
        "crop_energy": experiment.config.crop_energy,
        "features": experiment.config.features if base.has_pretrained_trunk else None,
        "base_weights": files.hash_state(base.own_state()),
    }
    chosen = {name: variant(name) for name in names}
    pools: dict[tuple[bool, bool], tuple[Pool, Pool]] = {}
    for name, settings in chosen.items():
        folder = experiment.model_dir(seed, name, inputs | {"variant": asdict(settings)})
        if folder.is_up_to_date():
            continue
        kind = (settings.distinct, settings.half)
        if kind not in pools:
            others = next(iter(pools.values()), None)
            pools = {kind: _pools(experiment, base, seed, settings, others)}  # one kind in memory at a time
        pool, validation = pools[kind]
        # One start for all variants: a fresh audio head is drawn from the seed alone.
        torch.manual_seed(seed)
        model = experiment.load(seed) if settings.readout is None else base.with_readout(settings.readout)
        text_loss = TextOnlyLoss(model, experiment.text, experiment.labels, seed)
        history = post_pretrain(
            model,
            settings,
            experiment.text,
            pool,
            validation,
            post.schedule(epoch=pool.steps_per_epoch(post.batch)),
            batch=post.batch,
            replay_batch=post.replay_batch,
            text_loss=text_loss if post.text_loss_batch else None,
            text_loss_batch=post.text_loss_batch,
            seed=seed,
            chunk_size=post.chunk_size,
            embedding=BatchEmbedder(experiment.processes, post.micro_batch, post.precision),
            checkpoints=folder.checkpoints("post"),
            what=name,
        )
        folder.save(model, history.assign(model=name))


def _pools(
    experiment: Experiment,
    model: AudioTextModel,
    seed: int,
    settings: Variant,
    others: tuple[Pool, Pool] | None,
) -> tuple[Pool, Pool]:
    """Trunk outputs of the items that a variant is trained and validated on; ``others``: another kind's."""
    config, post = experiment.config, experiment.config.post_pretraining
    shared = {
        "distinct": settings.distinct,
        "largest": post.batch,
        "labels": experiment.seen_labels if settings.half else None,
    }
    sizes = {
        "post": {"pairs": post.pool_pairs, "base_items": post.pool_items, "seed": seed},
        "validation": {
            "pairs": config.validation_pairs,
            "base_items": 3 * post.batch + post.replay_batch,
            "seed": config.data_seed,
        },
    }

    def source(stage: str) -> MelSource | WaveformSource:
        if model.has_pretrained_trunk:
            return WaveformSource(experiment.audio_features(model), experiment.clips)
        return MelSource(model, experiment.bank(stage), augment=stage == "post")

    with experiment.processes.main_first():  # the others find in the store what it has made
        known = [None, None] if others is None else [pool.base for pool in others]
        pools = [
            make_pool(source(stage), stage=stage, base=base, **size, **shared)
            for (stage, size), base in zip(sizes.items(), known, strict=True)
        ]
        experiment.text.add(set.union(*(pool.vocabulary for pool in pools)))
    return tuple(pools)
