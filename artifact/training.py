"""The training of a run: base models (notebook 02) and the variants that start from one (notebook 03).

A base model from scratch first learns from captions alone what the words for order mean; then both towers
learn CLAP's own loss on sounds whose captions tell no order. Existing models of the same inputs are reused;
a training that was cut off goes on from its last checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from artifact import made, provenance
from artifact.clips import content_of
from artifact.config import PostPretraining
from artifact.experiment import DATA_SEED, Experiment
from artifact.provenance import TRAINING_CODE
from tclap import files
from tclap.data.batches import BASE_MIX
from tclap.data.captions import ORDERED, SIMULTANEOUS
from tclap.data.clips import STAGES, for_stage
from tclap.data.composites import PROMPT
from tclap.models.base import AudioTextModel
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
    "clap-single-sounds": BaseTraining({"single": 1.0}),
    "clap-attention": BaseTraining(options={"context": "attention"}),
}
OTHER_BASES = [name for name in BASES if name not in (BASE, NO_TEXT)]  # that the ablation of slots needs


class ModelFolder(made.Stamp):
    """A trained model's ``weights.safetensors``, its ``history.parquet`` and their stamp.

    Made once for the same inputs, data and code; a training that was cut off goes on from its checkpoint.

    Args:
        experiment: the run, whose processes train it; the main one writes.
        seed, name: the folder is ``<run>/seed<k>/<name>``.
        inputs: what else the model is a function of, as plain values.
    """

    def __init__(self, experiment: Experiment, seed: int, name: str, **inputs: Any) -> None:
        used = [for_stage(experiment.clips, stage) for stage in STAGES if stage != "test"]
        pairs = files.sha256_file(experiment.path("data/pairs-validation.parquet"))
        data = files.hash_json([experiment.labels, pairs, *map(content_of, used)])
        made_from = {"seed": seed, **inputs, "data": data, "code": provenance.hash_code(*TRAINING_CODE)}
        super().__init__(
            experiment.folder / f"seed{seed}" / name / "made.json", f"{name}, seed {seed}", made_from
        )
        self._processes = experiment.processes

    def is_current(self) -> bool:
        """As the main process sees it, which then removes checkpoints that a killed one has left."""
        current = self._processes.on_main(super().is_current)
        if current and self._processes.is_main:
            self._remove_checkpoints()
        return current

    def checkpoint(self, phase: str) -> Path:
        """Where a phase of the training keeps its state until the model is complete."""
        return self.folder / f"checkpoint-{phase}-{self.fingerprint[:8]}.pt"

    def save(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove the training's checkpoints."""

        def write() -> None:
            weights = self.folder / "weights.safetensors"
            model.save(weights)
            self.write({"history": history.assign(seed=self.inputs["seed"])}, weights)
            self._remove_checkpoints()

        self._processes.on_main(write)

    def _remove_checkpoints(self) -> None:
        for checkpoint in self.folder.glob("checkpoint-*.pt"):
            # A second run of the same training may be removing them too.
            checkpoint.unlink(missing_ok=True)


def train_base_models(experiment: Experiment, seed: int, names: Sequence[str] | None = None) -> None:
    """Train a seed's base models, those of :data:`BASES` that its variants start from or others.

    A published base model is not trained: its heads are saved as the others' are. Raises ValueError where the
    profile does not say how another one is trained.
    """
    experiment = experiment.at(seed)
    if experiment.reference.is_published:
        folder = ModelFolder(experiment, seed, BASE, origin=experiment.reference.origin)
        if not folder.is_current():
            nothing = pd.DataFrame(columns=["model", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
            folder.save(experiment.reference, nothing)
        return
    config, words = experiment.config, None
    if config.warm_up is None or config.base_training is None:
        missing = f"configs/{config.profile}.yaml has no warm_up or base_training, expected both:"
        raise ValueError(f"{missing} {experiment.base} is trained in a run.")
    for name in config.starts if names is None else names:
        how = BASES[name]
        folder = ModelFolder(
            experiment,
            seed,
            name,
            warm_up=config.warm_up.model_dump() if how.warm_up else None,
            base_training=config.base_training.model_dump(),
            crop_energy=config.crop_energy,
            options=config.model_options(experiment.base) | how.options,
            mix=how.mix,
        )
        if folder.is_current():
            continue
        model, parts = _fresh(experiment, seed, how.options), []
        if how.warm_up:
            words = words or _learn_words(experiment, seed, folder)
            model.text_head.load_state_dict(words[0])
            parts.append(words[1].assign(model="warm-up"))
        history = _train(experiment, seed, model, how.mix, folder)
        folder.save(model, pd.concat([*parts, history.assign(model=name)], ignore_index=True))


def _fresh(experiment: Experiment, seed: int, options: dict[str, str]) -> AudioTextModel:
    torch.manual_seed(seed)
    return experiment.untrained(**options)


def _learn_words(
    experiment: Experiment, seed: int, folder: ModelFolder
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """The text head's weights after the warm-up, and its history."""
    phase, model = experiment.config.warm_up, _fresh(experiment, seed, {})
    history = warm_up_text(
        TextOnlyLoss(model, experiment.text, experiment.labels, seed),
        phase.schedule(),
        batch=phase.batch,
        checkpoint=folder.checkpoint("warm-up"),
        processes=experiment.processes,
    )
    return model.text_head.state_dict(), history


def _train(
    experiment: Experiment, seed: int, model: AudioTextModel, mix: dict[str, float], folder: ModelFolder
) -> pd.DataFrame:
    """Train a model with CLAP's own loss on base-type items: all of it, or its heads on a frozen trunk."""
    phase, text = experiment.config.base_training, experiment.text
    options = {"seed": seed, "checkpoint": folder.checkpoint("base")}
    options["embedding"] = BatchEmbedder(experiment.processes)
    if model.has_pretrained_trunk:
        pools, loss = make_pools(experiment, model, seed), Variant(loss="clip")
        options |= {"batch": 0, "replay_batch": phase.batch, "what": "base training"}
        return post_pretrain(model, loss, text, *pools, phase.schedule(), **options)
    banks = experiment.bank("base"), experiment.bank("validation")
    pairs = experiment.table("data/pairs-validation.parquet")
    options |= {"batch": phase.batch, "mix": mix}
    return train_base(model, text, *banks, pairs, phase.schedule(), **options)


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
        base, post = experiment.load(seed, settings.base), experiment.config.post_pretraining
        folder = ModelFolder(
            experiment,
            seed,
            name,
            post_pretraining=post.model_dump(),
            crop_energy=experiment.config.crop_energy,
            features=experiment.config.features if base.has_pretrained_trunk else None,
            base_weights=files.hash_state(base.own_state()),
            variant=asdict(settings),
            templates=files.hash_json(reader_templates(settings)),
        )
        if folder.is_current():
            continue
        kind = (settings.base, settings.distinct)
        if kind not in pools:
            others = next((pool for (start, _), pool in pools.items() if start == settings.base), None)
            pools = {kind: make_pools(experiment, base, seed, distinct=settings.distinct, others=others)}
        # One start for all variants: a fresh audio head is drawn from the seed alone.
        torch.manual_seed(seed)
        model, state = base, folder.checkpoint("post")
        if settings.readout is not None:
            model = base.with_readout(settings.readout)
        history = train_variant(experiment, seed, model, settings, pools[kind], post, name, checkpoint=state)
        folder.save(model, history.assign(model=name))


def train_variant(
    experiment: Experiment,
    seed: int,
    model: AudioTextModel,
    settings: Variant,
    pools: tuple[Pool, Pool],
    post: PostPretraining,
    what: str,
    checkpoint: Path | None = None,
) -> pd.DataFrame:
    """Post-pretrain a model as ``post`` says; its history. ``what`` is shown beside the progress."""
    templates, text = reader_templates(settings), experiment.text
    # Thousands of captions, drawn alike in all seeds: they go through the text trunk once.
    drawn = DATA_SEED if templates else seed
    text_loss = TextOnlyLoss(model, text, experiment.labels, drawn, **templates)
    if templates:
        text.add(text_loss.vocabulary(post.steps, post.text_loss_batch))
    return post_pretrain(
        model,
        settings,
        text,
        *pools,
        post.schedule(epoch=pools[0].steps_per_epoch(post.batch)),
        batch=post.batch,
        replay_batch=post.replay_batch,
        seed=seed,
        text_loss=text_loss,
        text_loss_batch=post.text_loss_batch,
        embedding=BatchEmbedder(experiment.processes),
        checkpoint=checkpoint,
        what=what,
    )


def reader_templates(settings: Variant) -> dict[str, list[str]]:
    """Wordings of two events for the text-only loss: its own, and those that the caption reader learned from.

    The latter bare and in the prompt, without what is held out of the experiment's reader and without
    choices; for a variant with the text-only loss's own wordings alone there are none.
    """
    if not settings.more_wordings:
        return {}
    templates = {"ordered": [*ORDERED], "simultaneous": [*SIMULTANEOUS]}
    for wording in wordings():
        roles = "".join(re.findall(r"\{(\w)\}", wording.text))
        if roles in ("FL", "LF", "TT") and "[" not in wording.text and not is_held_out(wording.text):
            text = wording.text.replace("{T}", "{F}", 1).replace("{T}", "{L}")
            text = text.replace("{F}", "{a}").replace("{L}", "{b}")
            templates["simultaneous" if roles == "TT" else "ordered"] += [text, PROMPT.format(text)]
    return {name: list(dict.fromkeys(texts)) for name, texts in templates.items()}


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
    post, pretrained = post or experiment.config.post_pretraining, model.has_pretrained_trunk
    sizes = {
        "post": (post.pool_pairs, post.pool_items, DATA_SEED if pretrained else seed),
        "validation": (experiment.config.validation_pairs, 3 * post.batch + post.replay_batch, DATA_SEED),
    }
    composites, pools = {"distinct": distinct, "largest": post.batch, "labels": labels}, []
    for stage, (pairs, base_items, drawn) in sizes.items():
        if pretrained:
            source = WaveformSource(experiment.audio_features(model), experiment.clips)
        else:
            source = MelSource(model, experiment.bank(stage), augment=stage == "post")
        known = {"base": others[len(pools)].base if others else None, "stage": stage, "seed": drawn}
        pools.append(make_pool(source, pairs=pairs, base_items=base_items, **known, **composites))
    experiment.text.add(set.union(*(pool.vocabulary for pool in pools)))
    return tuple(pools)
