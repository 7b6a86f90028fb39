"""The training of a run: base models (notebook 02) and the variants that start from one (notebook 03).

A base model from scratch first learns from captions alone what the words for order mean; then both towers
learn CLAP's own loss on sounds whose captions tell no order. Existing models of the same inputs are reused;
a training that was cut off goes on from its last checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pandas as pd
import torch

from artifact.config import PostPretraining
from artifact.experiment import DATA_SEED, Experiment
from artifact.model_folder import ModelFolder
from tclap import files
from tclap.data.batches import BASE_MIX
from tclap.data.captions import ORDERED, SIMULTANEOUS
from tclap.data.composites import PROMPT
from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model
from tclap.slots.captions import is_held_out, wordings
from tclap.training.base import train_base, warm_up_text
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.pool import MelSource, Pool, WaveformSource, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import BASE, NO_TEXT, Variant, variant

HISTORY = (
    "step", "loss", "loss_contrast", "loss_slots", "validation_accuracy", "validation_loss",
    "validation_two_way", "cosine_audio", "cosine_text",
)  # fmt: skip


class BaseTraining(NamedTuple):
    """How a base model from scratch is trained: on which mix of items, and whether after a warm-up."""

    mix: dict[str, float] = BASE_MIX
    options: dict[str, str] = {}  # of the model
    warm_up: bool = True


BASES = {
    BASE: BaseTraining(),
    NO_TEXT: BaseTraining(warm_up=False),
    "clap-no-sequences": BaseTraining({"single": 0.5, "overlap": 0.5}),
    "clap-single-sounds": BaseTraining({"single": 1.0}),
    "clap-attention": BaseTraining(options={"context": "attention"}),
}
OTHER_BASES = [name for name in BASES if name not in (BASE, NO_TEXT)]  # that the ablation of slots needs


def train_base_models(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Train a seed's base models, those of :data:`BASES` that its variants start from or others.

    A published base model is not trained: its heads are saved as the others' are.
    """
    experiment = experiment.at(seed)
    if experiment.reference.is_published:
        folder = experiment.model_dir(seed, BASE, {"origin": experiment.reference.origin})
        if not folder.is_up_to_date():
            nothing = pd.DataFrame(columns=["model", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
            folder.save(experiment.reference, nothing)
        return
    config, words = experiment.config, None
    phase = config.base_training
    for name in config.starts if names is None else names:
        how = BASES[name]
        inputs = {
            "warm_up": config.warm_up.model_dump() if how.warm_up else None,
            "base_training": phase.model_dump(),
            "crop_energy": config.crop_energy,
            "options": config.model_options(experiment.base) | how.options,
            "mix": how.mix,
        }
        folder = experiment.model_dir(seed, name, inputs)
        if folder.is_up_to_date():
            continue
        model, parts = _fresh(experiment, seed, inputs["options"]), []
        if how.warm_up:
            words = words or _learn_words(experiment, seed, folder)
            model.text_head.load_state_dict(words[0])
            parts.append(words[1].assign(model="warm-up"))
        history = _train(experiment, seed, model, how, folder)
        folder.save(model, pd.concat([*parts, history.assign(model=name)], ignore_index=True))


def _train(
    experiment: Experiment, seed: int, model: AudioTextModel, how: BaseTraining, folder: ModelFolder
) -> pd.DataFrame:
    """Train a model with CLAP's own loss on base-type items: all of it, or its heads on a frozen trunk."""
    phase = experiment.config.base_training
    shared = {
        "seed": seed,
        "embedding": BatchEmbedder(experiment.processes),
        "checkpoint": folder.checkpoint("base"),
    }
    if model.has_pretrained_trunk:
        pools = make_pools(experiment, model, seed)
        return post_pretrain(
            model,
            Variant(loss="clip"),
            experiment.text,
            *pools,
            phase.schedule(),
            batch=0,
            replay_batch=phase.batch,
            what="base training",
            **shared,
        )
    return train_base(
        model,
        experiment.text,
        experiment.bank("base"),
        experiment.bank("validation"),
        experiment.table("data/pairs-validation.parquet"),
        phase.schedule(),
        batch=phase.batch,
        mix=how.mix,
        **shared,
    )


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
        checkpoint=folder.checkpoint("warm-up"),
        processes=experiment.processes,
    )
    return model.text_head.state_dict(), history


def train_variants(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Post-pretrain variants of a seed's base models; None: all of the profile.

    Raises:
        ValueError: on an unknown variant.
        FileNotFoundError: when a base model has not been trained.
    """
    experiment = experiment.at(seed)
    names = experiment.config.variant_names(seed) if names is None else names
    chosen = {name: variant(name) for name in names}
    pools: dict[tuple[str, bool], tuple[Pool, Pool]] = {}
    # Those that share a pool one after the other, since one is in memory at a time.
    for name in sorted(chosen, key=lambda name: (chosen[name].base, chosen[name].distinct)):
        settings = chosen[name]
        templates = reader_templates() if settings.more_wordings else {}
        base, post = experiment.load(seed, settings.base), experiment.config.post_pretraining
        inputs = {
            "post_pretraining": post.model_dump(),
            "crop_energy": experiment.config.crop_energy,
            "features": experiment.config.features if base.has_pretrained_trunk else None,
            "base_weights": files.hash_state(base.own_state()),
            "variant": asdict(settings),
            "templates": files.hash_json(templates),
        }
        folder = experiment.model_dir(seed, name, inputs)
        if folder.is_up_to_date():
            continue
        kind = (settings.base, settings.distinct)
        if kind not in pools:
            others = next((pool for (start, _), pool in pools.items() if start == settings.base), None)
            pools = {kind: make_pools(experiment, base, seed, distinct=settings.distinct, others=others)}
        # One start for all variants: a fresh audio head is drawn from the seed alone.
        torch.manual_seed(seed)
        model = base if settings.readout is None else base.with_readout(settings.readout)
        # Thousands of captions, drawn alike in all seeds: they go through the text trunk once.
        drawn = DATA_SEED if templates else seed
        text_loss = TextOnlyLoss(model, experiment.text, experiment.labels, drawn, **templates)
        if templates:
            experiment.text.add(text_loss.vocabulary(post.steps, post.text_loss_batch))
        history = train_variant(
            experiment,
            model,
            settings,
            pools[kind],
            post,
            text_loss,
            seed=seed,
            checkpoint=folder.checkpoint("post"),
            what=name,
        )
        folder.save(model, history.assign(model=name))


def reader_templates() -> dict[str, list[str]]:
    """Wordings of two events for the text-only loss: its own, and those that the caption reader learned from.

    The latter bare and in the prompt, without what is held out of the experiment's reader.
    """
    templates = {"ordered": [*ORDERED], "simultaneous": [*SIMULTANEOUS]}
    for wording in wordings():
        roles = "".join(re.findall(r"\{(\w)\}", wording.text))
        if roles in ("FL", "LF", "TT") and not is_held_out(wording.text):
            text = wording.text.replace("{T}", "{F}", 1).replace("{T}", "{L}")
            text = text.replace("{F}", "{a}").replace("{L}", "{b}")
            templates["simultaneous" if roles == "TT" else "ordered"] += [text, PROMPT.format(text)]
    return {name: list(dict.fromkeys(texts)) for name, texts in templates.items()}


def train_variant(
    experiment: Experiment,
    model: AudioTextModel,
    settings: Variant,
    pools: tuple[Pool, Pool],
    post: PostPretraining,
    text_loss: TextOnlyLoss,
    **options: Any,
) -> pd.DataFrame:
    """Post-pretrain a model as ``post`` says, with the ``options`` of :func:`post_pretrain`; its history."""
    pool, validation = pools
    return post_pretrain(
        model,
        settings,
        experiment.text,
        pool,
        validation,
        post.schedule(epoch=pool.steps_per_epoch(post.batch)),
        batch=post.batch,
        replay_batch=post.replay_batch,
        text_loss=text_loss,
        text_loss_batch=post.text_loss_batch,
        embedding=BatchEmbedder(experiment.processes),
        **options,
    )


def make_pools(
    experiment: Experiment,
    model: AudioTextModel,
    seed: int,
    *,
    post: PostPretraining | None = None,
    distinct: bool = False,
    labels: Sequence[str] | None = None,
    others: tuple[Pool, Pool] | None = None,
) -> tuple[Pool, Pool]:
    """Trunk outputs of what variants are trained and validated on.

    What went through a pretrained trunk is kept and the same for all seeds.

    Args:
        experiment, model, seed: the run, and the start of the variants.
        post: sizes; None: the run's.
        distinct, labels: of the composites, see :func:`tclap.training.pool.make_pool`.
        others: pools with other composites, of which the base-type items are taken.
    """
    config = experiment.config
    post = post or config.post_pretraining
    drawn = DATA_SEED if model.has_pretrained_trunk else seed
    sizes = {
        "post": {"pairs": post.pool_pairs, "base_items": post.pool_items, "seed": drawn},
        "validation": {
            "pairs": config.validation_pairs,
            "base_items": 3 * post.batch + post.replay_batch,
            "seed": DATA_SEED,
        },
    }
    composites = {"distinct": distinct, "largest": post.batch, "labels": labels}

    def source(stage: str) -> MelSource | WaveformSource:
        if model.has_pretrained_trunk:
            return WaveformSource(experiment.audio_features(model), experiment.clips)
        return MelSource(model, experiment.bank(stage), augment=stage == "post")

    with experiment.processes.main_first():  # the others find in the store what it has made
        known = [None, None] if others is None else [pool.base for pool in others]
        pools = [
            make_pool(source(stage), stage=stage, base=base, **composites, **size)
            for (stage, size), base in zip(sizes.items(), known, strict=True)
        ]
        experiment.text.add(set.union(*(pool.vocabulary for pool in pools)))
    return tuple(pools)
