"""The experiment's steps, one a notebook: each reads the artefacts of the one before it.

Artefacts of a run lie in ``runs/<profile>/<base>/``::

    data/           config.json, clips.parquet, pairs-<stage>.parquet, items.parquet, text-*.safetensors
    seed<k>/clap/   weights.safetensors, weights.json, history.parquet      (the base model)
    seed<k>/<variant>/                                                      (likewise)
    seed<k>/        results.parquet, retrieval.parquet, similarity.parquet, example.npz, example.json

A model that is there already, made in the same way, is not trained again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tclap import paths, provenance
from tclap.config import Config, Phase, from_plain_values, load_config, plain_values
from tclap.data.batches import SegmentBank
from tclap.data.captions import vocabulary
from tclap.data.clips import for_stage, load_clips
from tclap.data.composites import ClipAudio, draw_pairs, place
from tclap.evaluation import prompts, zste
from tclap.features import TextFeatures
from tclap.language import OrderLesson
from tclap.models.base import AudioTextModel, load_model
from tclap.pool import Pool, make_pool
from tclap.training import Schedule, post_pretrain, train_base, warm_up_text
from tclap.variants import BASE, READOUT_PREFIX, variant

log = logging.getLogger(__name__)

# A trained model is a function of these, beside its recipe.
TRAINING_CODE = (
    "audio.py",
    "data/batches.py",
    "data/captions.py",
    "data/composites.py",
    "features.py",
    "language.py",
    "losses.py",
    "models",
    "pool.py",
    "training.py",
)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, all of it or nothing."""
    with paths.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def prepare(
    profile: str, base: str, root: str | Path | None = None, dataset_options: Mapping[str, Any] | None = None
) -> Experiment:
    """Construct the data of a run (notebook 01): clips, composites, evaluation items, text features.

    Args:
        profile: a profile's name.
        base: a base model of the profile.
        root: the data set's folder; None: its own default.
        dataset_options: what replaces the profile's own options, where not None.

    Raises:
        ValueError, FileNotFoundError: on an unknown name or unusable data.
    """
    config = load_config(profile, dataset_options)
    options = config.model_options(base)
    clips = load_clips(config.dataset, root, **config.dataset_options)
    model = load_model(base, **options)
    audio = ClipAudio(clips, model.sample_rate)
    folder = paths.run(profile, base) / "data"
    labels = sorted(clips["label"].unique())
    tables = {"clips": clips}
    for stage, count in (("validation", config.validation_pairs), ("test", config.test_pairs)):
        pairs = draw_pairs(clips, stage, count, seed=config.data_seed)
        gap = (config.gap_ms[0], config.gap_ms[1])
        tables[f"pairs-{stage}"] = place(pairs, audio, model.window, gap_ms=gap, seed=config.data_seed)
    test = for_stage(clips, "test")
    tables["items"] = pd.concat(
        [
            zste.build_items(test, tables["pairs-test"], labels, seed=config.data_seed),
            prompts.build_items(test, labels),
        ],
        ignore_index=True,
    )
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table)
    TextFeatures(model.text_trunk, vocabulary(labels), folder)
    provenance.write_json(folder / "config.json", plain_values(config))
    return Experiment(profile, base)


class Experiment:
    """A run whose data are there.

    Args:
        profile, base: name the run.

    Raises:
        FileNotFoundError: when :func:`prepare` has not been run.
    """

    def __init__(self, profile: str, base: str) -> None:
        self.profile, self.base = profile, base
        self.folder = paths.run(profile, base)
        self.config: Config = from_plain_values(
            self._json("data/config.json"), self.folder / "data/config.json"
        )
        self.options = self.config.model_options(base)
        self.clips = self.table("data/clips.parquet")
        self.labels = sorted(self.clips["label"].unique())

    def _json(self, name: str) -> dict:
        return json.loads(self._existing(name).read_text())

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: run the notebooks before this one, or `make reproduce`."
            )
        return path

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables."""
        return pd.read_parquet(self._existing(name))

    @cached_property
    def audio(self) -> ClipAudio:
        """The clips' waveforms at the base model's sample rate."""
        return ClipAudio(self.clips, load_model(self.base, **self.options).sample_rate)

    @cached_property
    def text(self) -> TextFeatures:
        """The text trunk's outputs for every caption of the run."""
        trunk = load_model(self.base, **self.options).text_trunk
        return TextFeatures(trunk, vocabulary(self.labels), self.folder / "data")

    def model_folder(self, seed: int, name: str) -> Path:
        """Folder of a trained model."""
        return self.folder / f"seed{seed}" / name

    def load(self, seed: int, name: str = BASE) -> AudioTextModel:
        """A trained model."""
        weights = self._existing(f"seed{seed}/{name}/weights.safetensors")
        return load_model(self.base, weights)

    def history(self, seed: int, name: str = BASE) -> pd.DataFrame:
        """The training history of a model, a row a step."""
        return self.table(f"seed{seed}/{name}/history.parquet")

    def bank(self, model: AudioTextModel, stage: str) -> SegmentBank:
        """Mel power of a stage's clips, for composing batches."""
        clips, mel = for_stage(self.clips, stage), model.audio_trunk.mel
        return SegmentBank(clips, self.audio, mel, model.window, self.config.crop_energy)

    def train_base(self, seed: int) -> AudioTextModel:
        """The base model of a seed (notebook 02), trained unless it is there."""
        config = self.config
        recipe = {
            "seed": config.check_seed(seed),
            "warm_up": asdict(config.warm_up),
            "base_training": asdict(config.base_training),
            "crop_energy": config.crop_energy,
            "options": self.options,
            "data": self._data_hash,
            "code": provenance.hash_code(*TRAINING_CODE),
        }
        if self._is_made(seed, BASE, recipe):
            return self.load(seed)
        torch.manual_seed(seed)
        model = load_model(self.base, **self.options)
        lesson = OrderLesson(model, self.text, self.labels, seed)
        warm_up = warm_up_text(lesson, _schedule(config.warm_up), batch=config.warm_up.batch)
        base = train_base(
            model,
            self.text,
            self.bank(model, "base"),
            self.bank(model, "validation"),
            self.table("data/pairs-validation.parquet"),
            _schedule(config.base_training),
            batch=config.base_training.batch,
            seed=seed,
        )
        history = pd.concat([warm_up.assign(model="warm-up"), base.assign(model=BASE)], ignore_index=True)
        self._keep(model, seed, BASE, history, recipe)
        return model

    def train_variants(self, seed: int, names: list[str] | None = None) -> None:
        """Post-pretrain the variants of a seed (notebook 03), those that are not there yet."""
        if names is None:
            names = [*self.config.variants, *(READOUT_PREFIX + r for r in self.config.readouts)]
        base = self.load(seed)
        post = self.config.post_pretraining
        recipes = {
            name: {
                "seed": self.config.check_seed(seed),
                "post_pretraining": asdict(post),
                "crop_energy": self.config.crop_energy,
                "variant": asdict(variant(name)),
                "base_weights": provenance.hash_state(base.own_state()),
                "data": self._data_hash,
                "code": provenance.hash_code(*TRAINING_CODE),
            }
            for name in names
        }
        wanted = [name for name in names if not self._is_made(seed, name, recipes[name])]
        pools: dict[bool, tuple[Pool, Pool]] = {}
        banks = {stage: self.bank(base, stage) for stage in ("post", "validation")} if wanted else {}
        for name in wanted:
            settings = variant(name)
            if settings.distinct not in pools:
                pools.clear()
                pools[settings.distinct] = self._pools(base, banks, seed, settings.distinct)
            pool, validation = pools[settings.distinct]
            # One start for all variants: a fresh audio head is drawn from the seed alone.
            torch.manual_seed(seed)
            model = self.load(seed) if settings.readout is None else base.with_readout(settings.readout)
            history = post_pretrain(
                model,
                settings,
                self.text,
                pool,
                validation,
                _schedule(post),
                batch=post.batch,
                replay_batch=post.replay_batch,
                lesson=OrderLesson(model, self.text, self.labels, seed),
                lesson_batch=post.lesson_batch,
                seed=seed,
                what=name,
            )
            self._keep(model, seed, name, history.assign(model=name), recipes[name])

    def _pools(self, model, banks: Mapping[str, SegmentBank], seed: int, distinct: bool) -> tuple[Pool, Pool]:
        post = self.config.post_pretraining
        pool = make_pool(
            model,
            banks["post"],
            pairs=post.pool_pairs,
            base_items=post.pool_items,
            seed=seed,
            distinct=distinct,
        )
        validation = make_pool(
            model,
            banks["validation"],
            pairs=self.config.validation_pairs,
            base_items=3 * post.batch + post.replay_batch,
            seed=self.config.data_seed,
            distinct=distinct,
            augment=False,
            stage="validation",
        )
        return pool, validation

    @cached_property
    def _data_hash(self) -> str:
        names = ("clips.parquet", "pairs-validation.parquet")
        return provenance.hash_json([provenance.sha256_file(self._existing(f"data/{n}")) for n in names])

    def _is_made(self, seed: int, name: str, recipe: Mapping[str, Any]) -> bool:
        folder = self.model_folder(seed, name)
        sidecar = folder / "weights.json"
        if not all(
            p.is_file() for p in (sidecar, folder / "weights.safetensors", folder / "history.parquet")
        ):
            return False
        made = json.loads(sidecar.read_text()).get("recipe_hash") == provenance.hash_json(recipe)
        if made:
            log.info("%s, seed %d: made already", name, seed)
        return made

    def _keep(self, model, seed: int, name: str, history: pd.DataFrame, recipe: Mapping[str, Any]) -> None:
        folder = self.model_folder(seed, name)
        write_table(folder / "history.parquet", history.assign(seed=seed))
        # The sidecar says that the model is made, so it is written last.
        facts = {"recipe": recipe, "recipe_hash": provenance.hash_json(recipe)}
        model.save(folder / "weights.safetensors", provenance=provenance.collect(dict(recipe)), **facts)


def _schedule(phase: Phase) -> Schedule:
    return Schedule(
        steps=phase.steps, lr=phase.lr, validate_every=phase.validate_every, weight_decay=phase.weight_decay
    )
