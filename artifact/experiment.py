"""The experiment's steps, one a notebook: each reads the artefacts of the one before it.

Artefacts of a run lie in ``runs/<profile>/<base>/``::

    data/           config.json, clips.parquet, pairs-<stage>.parquet, items.parquet, text-*.safetensors
    seed<k>/clap/   weights.safetensors, weights.json, history.parquet      (the base model)
    seed<k>/<variant>/                                                      (likewise)
    seed<k>/<model>/checkpoints-<phase>-*/                                  (while it is trained)
    seed<k>/        results.parquet, retrieval.parquet, similarity.parquet, example.npz, example.json

A model that is there already, made in the same way, is not trained again, and one whose training was
cut off goes on from its last checkpoint. A published base model is
not trained at all: its trunks stay where they were published, its heads are kept as the others' are,
and what its trunks make of the run's sounds and captions is kept in the feature store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from artifact import paths, provenance
from artifact.base_models import BaseTraining
from artifact.config import Config, from_plain_values
from artifact.model_folder import HISTORY, ModelFolder
from tclap import files
from tclap.data.batches import SegmentBank
from tclap.data.captions import vocabulary
from tclap.data.clips import for_stage, half_of_labels
from tclap.data.composites import ClipAudio
from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model, read_checkpoint
from tclap.progress import without_traceback
from tclap.slots.model import SlotModel
from tclap.training.audio_features import AudioFeatures
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.distributed import current
from tclap.training.pool import Pool, make_pool, make_waveform_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.store import FeatureStore
from tclap.training.text_features import StoredText, TextFeatures
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import BASE, READOUT_PREFIX, Variant, variant

# A trained model is a function of these, beside its inputs.
TRAINING_CODE = (
    "artifact/base_models.py",
    "tclap/audio.py",
    "tclap/data",
    "tclap/losses.py",
    "tclap/losses_chunked.py",
    "tclap/models",
    "tclap/training",
)


def load_reference(config: Config, base: str) -> AudioTextModel:
    """The base model of a run before anything is trained: published weights, or fresh ones.

    Raises:
        ValueError: when weights are given for a model that has no published ones.
    """
    options = config.model_options(base)
    if config.weights is None:
        model = load_model(base, **options)
    elif base == "compact":
        raise ValueError(f"weights={config.weights}: compact is trained from scratch, expected no weights.")
    else:
        model = load_model(base, config.weights, **options)
    if model.is_published:
        model = model.to(current().device)
    return model


class Experiment:
    """A run whose data are there.

    Args:
        profile, base: name the run.
        reference: the base model before anything is trained, where it is loaded already.

    Raises:
        FileNotFoundError: when :func:`artifact.preparation.prepare` has not been run.
    """

    def __init__(self, profile: str, base: str, reference: AudioTextModel | None = None) -> None:
        self.profile, self.base = profile, base
        self.processes = current()
        if reference is not None:
            self.reference = reference
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
            raise without_traceback(FileNotFoundError(f"{path} is missing: {self._how_to_make(name)}"))
        return path

    def _how_to_make(self, name: str) -> str:
        """Which notebook, with which parameters, makes a file of the run."""
        settings = f"profile = {self.profile!r}, base = {self.base!r}"
        if name.startswith("data/"):
            notebook = "01_data_construction"
        else:
            seed, model, *rest = name.removeprefix("seed").split("/")
            settings += f", seed = {seed}"
            if not rest:
                notebook = "06_order_from_text" if model.startswith("slots-") else "04_evaluation"
            elif model == BASE:
                notebook = "02_base_model"
            else:
                notebook = "06_order_from_text" if model.endswith("-slots") else "03_post_pretraining"
        return f"run notebook {notebook} first, with {settings} (`make reproduce` runs all)."

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables."""
        return pd.read_parquet(self._existing(name))

    @cached_property
    def reference(self) -> AudioTextModel:
        """The base model before anything is trained; of a published one all models share the trunks."""
        return load_reference(self.config, self.base)

    @cached_property
    def audio(self) -> ClipAudio:
        """The clips' waveforms at the base model's sample rate."""
        return ClipAudio(self.clips, self.reference.sample_rate)

    @cached_property
    def store(self) -> FeatureStore | None:
        """Where a published model's trunk outputs are kept; a compact model's are quickly made."""
        if not self.reference.is_published:
            return None
        return FeatureStore(paths.features(), getattr(torch, self.config.features))

    @cached_property
    def text(self) -> TextFeatures | StoredText:
        """The text trunk's outputs for the captions of the run."""
        trunk = self.reference.text_trunk
        if self.store is None:
            return TextFeatures(trunk, vocabulary(self.labels), self.folder / "data")
        asked = {c for candidates in self.table("data/items.parquet")["candidates"] for c in candidates}
        return StoredText(trunk, self.store, sorted(asked))

    def audio_features(self, model: AudioTextModel) -> AudioFeatures:
        """The outputs of a model's audio trunk for the run's sounds."""
        return AudioFeatures(model, self.clips, self.audio, self.store)

    @property
    def description(self) -> str:
        """What the run is, in a line; says so where the base model's weights are stand-ins."""
        text = f"profile {self.profile}, base {self.base}"
        origin = self.reference.origin
        if origin is None:
            return f"{text}, trained from scratch"
        source = origin["path"] or f"the hub, revision {origin['revision']}"
        text += f", weights sha256 {origin['sha256'][:12]} from {source}"
        return text + ("; RANDOM WEIGHTS: the numbers mean nothing" if origin.get("random_weights") else "")

    def model_folder(self, seed: int, name: str) -> Path:
        """Folder of a trained model."""
        return self.folder / f"seed{seed}" / name

    def load(self, seed: int, name: str = BASE) -> AudioTextModel:
        """A trained model."""
        weights = self._existing(f"seed{seed}/{name}/weights.safetensors")
        if not self.reference.is_published:
            return load_model(self.base, weights)
        config, state = read_checkpoint(weights, self.base)
        if config["origin"]["sha256"] != self.reference.origin["sha256"]:
            raise ValueError(f"{weights} was made on other published weights; train it again.")
        model = self.reference.with_readout(config["readout"])
        if "slots" in config:
            model = SlotModel(model, **config["slots"])
        model.load_own_state(state, str(weights))
        return model

    def facts(self, seed: int, name: str) -> dict[str, Any]:
        """What is written beside a model's weights: its config, the inputs that made it, their hashes."""
        return self._json(f"seed{seed}/{name}/weights.json")

    def history(self, seed: int, name: str = BASE) -> pd.DataFrame:
        """The training history of a model, a row a step."""
        return self.table(f"seed{seed}/{name}/history.parquet")

    def bank(self, model: AudioTextModel, stage: str) -> SegmentBank:
        """Mel power of a stage's clips, for composing batches."""
        clips, mel = for_stage(self.clips, stage), model.audio_trunk.mel
        return SegmentBank(clips, self.audio, mel, model.window, self.config.crop_energy)

    def train_base(self, seed: int) -> AudioTextModel:
        """The base model of a seed (notebook 02), trained unless it is there."""
        return self._keep_published(seed) if self.reference.is_published else BaseTraining(self, seed).train()

    def _keep_published(self, seed: int) -> AudioTextModel:
        inputs = {"seed": self.config.check_seed(seed), "origin": self.reference.origin}
        folder = ModelFolder(self.folder, seed, BASE, inputs, self.processes)
        if not folder.is_made():
            nothing = pd.DataFrame(columns=["model", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
            folder.keep(self.reference, nothing)
        return self.load(seed)

    def model_dir(self, seed: int, name: str, inputs: Mapping[str, Any]) -> ModelFolder:
        """The folder of a model that is trained by a inputs, on the run's data, by the code as it is."""
        made_of = {"data": self._data_hash, "code": provenance.hash_code(*TRAINING_CODE)}
        return ModelFolder(self.folder, seed, name, dict(inputs) | made_of, self.processes)

    def train_variants(self, seed: int, names: list[str] | None = None) -> None:
        """Post-pretrain the variants of a seed (notebook 03), those that are not there yet."""
        if names is None:
            names = [*self.config.variants, *(READOUT_PREFIX + r for r in self.config.readouts)]
        base = self.load(seed)
        post = self.config.post_pretraining
        inputs = {
            "seed": self.config.check_seed(seed),
            "post_pretraining": asdict(post),
            "crop_energy": self.config.crop_energy,
            "features": self.config.features if base.is_published else None,
            "base_weights": files.hash_state(base.own_state()),
        }
        folders = {
            name: self.model_dir(seed, name, inputs | {"variant": asdict(variant(name))}) for name in names
        }
        wanted = [name for name in names if not folders[name].is_made()]
        pools: dict[tuple[bool, bool], tuple[Pool, Pool]] = {}
        banks = {}
        if wanted and not base.is_published:
            banks = {stage: self.bank(base, stage) for stage in ("post", "validation")}
        for name in wanted:
            settings = variant(name)
            kind = (settings.distinct, settings.half)
            if kind not in pools:
                pools.clear()
                pools[kind] = self._pools(base, banks, seed, settings)
            pool, validation = pools[kind]
            # One start for all variants: a fresh audio head is drawn from the seed alone.
            torch.manual_seed(seed)
            model = self.load(seed) if settings.readout is None else base.with_readout(settings.readout)
            history = post_pretrain(
                model,
                settings,
                self.text,
                pool,
                validation,
                post.schedule(epoch=max(len(pool.composites) // post.batch, 1)),
                batch=post.batch,
                replay_batch=post.replay_batch,
                text_loss=TextOnlyLoss(model, self.text, self.labels, seed) if post.text_loss_batch else None,
                text_loss_batch=post.text_loss_batch,
                seed=seed,
                chunk_size=post.chunk_size,
                embedding=BatchEmbedder(self.processes, post.micro_batch, post.precision),
                checkpoints=folders[name].checkpoints("post"),
                what=name,
            )
            folders[name].keep(model, history.assign(model=name))

    def _pools(
        self, model: AudioTextModel, banks: Mapping[str, SegmentBank], seed: int, settings: Variant
    ) -> tuple[Pool, Pool]:
        post = self.config.post_pretraining
        sizes = {
            "post": {"pairs": post.pool_pairs, "base_items": post.pool_items, "seed": seed},
            "validation": {
                "pairs": self.config.validation_pairs,
                "base_items": 3 * post.batch + post.replay_batch,
                "seed": self.config.data_seed,
            },
        }
        for size in sizes.values():
            size["distinct"], size["largest"] = settings.distinct, post.batch
            size["labels"] = self.seen_labels if settings.half else None
        if model.is_published:
            features = self.audio_features(model)
            with self.processes.main_first():  # the others find in the store what it has made
                return tuple(
                    make_waveform_pool(features, self.clips, stage=stage, **size)
                    for stage, size in sizes.items()
                )
        return tuple(
            make_pool(model, banks[stage], stage=stage, augment=stage == "post", **size)
            for stage, size in sizes.items()
        )

    @property
    def seen_labels(self) -> list[str]:
        """The classes whose composites the variant ``t-clap-half`` is trained on, in every seed."""
        return half_of_labels(self.labels, self.config.data_seed)

    @cached_property
    def _data_hash(self) -> str:
        names = ("clips.parquet", "pairs-validation.parquet")
        return files.hash_json([files.sha256_file(self._existing(f"data/{n}")) for n in names])
