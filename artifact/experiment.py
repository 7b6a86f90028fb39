"""A prepared run: its config, its tables, its trained models.

Artefacts of a run lie in ``runs/<profile>/<base>/``::

    data/           config.json, clips.parquet, pairs-<stage>.parquet, items.parquet, controls.parquet,
                    features-*.safetensors and readings-*.json: captions through the text trunk and the reader
    seed<k>/clap/   weights.safetensors, history.parquet, made.json         (the base model)
    seed<k>/<variant>/                                                      (likewise)
    seed<k>/        results.parquet, retrieval.parquet, similarity.parquet
    example.npz, example.json: the composite that is shown in full, by the first seed's models

The steps that write them are modules: ``preparation``, ``training``, ``evaluation``, ``hold_out``,
``slot_ablation``.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from artifact import paths, provenance
from artifact.config import Config, validate, without_traceback
from figures import read
from tclap import files
from tclap.data.batches import SegmentBank
from tclap.data.captions import vocabulary
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio
from tclap.models.base import AudioTextModel
from tclap.models.compact import Compact
from tclap.models.registry import load_model
from tclap.models.weights import read_checkpoint
from tclap.slots.model import SlotModel
from tclap.slots.reader import Reader, Reading, load_reader
from tclap.training.distributed import current
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.variants import BASE, NO_TEXT

DATA_SEED = 0  # of everything that is drawn once for all seeds: pairs, items, controls, validation
READER = Path(__file__).with_name("reader.safetensors")
# Models with slots: on which model, and how much of a timed caption's weight its own embedding keeps.
SLOTS = {f"{BASE}-slots": (BASE, 0.0), "t-clap-slots": ("t-clap", 1 / 3)}
# What writes a file of a run: the first pattern that matches.
WRITERS = {
    "data/*": "notebook 01_data_construction",
    "*/slots-ablation.parquet": "`python -m artifact ablate`",
    "*/hold-out.parquet": "`python -m artifact hold-out`",
    "*/order_from_text.json": "notebook 05_order_from_text",
    "*/slots-*": "notebook 05_order_from_text",
    f"*/{BASE}/*": "notebook 02_base_model",
    f"*/{NO_TEXT}/*": "notebook 02_base_model",
    "*/*/*": "notebook 03_post_pretraining",
    "*": "notebook 04_evaluation",
}


class RememberingReader:
    """A caption reader that reads each caption once, also for other steps of a run.

    A list of captions that are read at once is a file in ``folder``, named by the hash of the list and of
    ``made_of`` (plain values): all that the readings are a function of.
    """

    def __init__(self, reader: Reader, folder: Path, made_of: Sequence[str]) -> None:
        self._reader, self._folder, self._made_of, self._found = reader, folder, made_of, {}

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """As :meth:`tclap.slots.Reader.read`."""
        if new := sorted(set(captions) - self._found.keys()):
            path = self._folder / f"readings-{files.hash_json([*self._made_of, *new])[:32]}.json"
            try:
                kept = files.read_hashed(path)
            except (FileNotFoundError, ValueError):
                files.write_hashed(path, {"readings": self._reader.read(new)})
                kept = files.read_hashed(path)
            rows = kept["readings"]
            readings = (Reading(*(tuple(x) if isinstance(x, list) else x for x in row)) for row in rows)
            self._found |= zip(new, readings, strict=True)
        return [self._found[caption] for caption in captions]


class Experiment:
    """A run, named by profile and base; without a ``config`` that of the run's folder.

    Raises FileNotFoundError when :func:`artifact.preparation.prepare` has not been run.
    """

    def __init__(self, profile: str, base: str, config: Config | None = None) -> None:
        self.profile, self.base, self.processes = profile, base, current()
        self.folder = paths.run(profile, base)
        if config is None:
            with read.whole(self.path("data/config.json")) as path:
                config = validate(Config, json.loads(path.read_text(encoding="utf-8")), "it")
        self.config = config
        self.fold = self.config.test_fold(0)
        self._banks: dict[str, SegmentBank] = {}

    def at(self, seed: int) -> Self:
        """The run as a seed sees it: its clips, pairs and items are those of the seed's test fold."""
        if not self.config.rotate:
            return self
        other = copy.copy(self)
        other.fold, other._banks = self.config.test_fold(seed), {}
        other.__dict__.pop("clips", None)
        return other

    def path(self, name: str) -> Path:
        """A file of the run; FileNotFoundError says what writes it."""
        path = self.folder / name
        if path.is_file():
            return path
        writer = next(step for pattern, step in WRITERS.items() if fnmatch(name, pattern))
        settings = f"profile = {self.profile!r}, base = {self.base!r}"
        if name.startswith("seed"):
            settings += f", seed = {name.removeprefix('seed').partition('/')[0]}"
        sentence = f"{path} is missing: run {writer} first, with {settings} (`make reproduce` runs all)."
        raise without_traceback(FileNotFoundError(sentence))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables; where test folds rotate, the rows of one fold."""
        with read.whole(self.path(name)) as path:
            table = pd.read_parquet(path)
        if "test_fold" not in table:
            return table
        return table[table["test_fold"] == self.fold].drop(columns="test_fold").reset_index(drop=True)

    def made(self, seed: int, name: str) -> dict[str, Any]:
        """The stamp of a trained model: the ``inputs`` that made it, and its ``products``."""
        with read.whole(self.path(f"seed{seed}/{name}/made.json")) as path:
            return json.loads(path.read_text(encoding="utf-8"))

    def history(self, seed: int, name: str = BASE) -> pd.DataFrame:
        """The training history of a model, one row per step."""
        return self.table(f"seed{seed}/{name}/history.parquet")

    @cached_property
    def clips(self) -> pd.DataFrame:
        """The clips table, with the splits of the test fold where that rotates."""
        clips = self.table("data/clips.parquet")
        if self.fold is None:
            return clips
        return clips.assign(split=clips["fold"].map(self.config.splits(self.fold)).fillna("train"))

    @cached_property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted(self.clips["label"].unique())

    @cached_property
    def reference(self) -> AudioTextModel:
        """The base model before anything is trained; all models share its trunks if these are pretrained."""
        model = self.untrained()
        return model.to(self.processes.device) if model.has_pretrained_trunk else model

    def untrained(self, **changes: str) -> AudioTextModel:
        """A base model on its published weights, if any, and else on random ones; ``changes`` of options."""
        weights, options = self.config.weights, self.config.model_options(self.base) | changes
        if self.base != "compact":
            return load_model(self.base, weights, **options)
        if weights is not None:
            raise ValueError(f"weights={weights}: compact is trained from scratch, expected no weights.")
        return Compact(**options).eval()

    @cached_property
    def audio(self) -> ClipAudio:
        """The clips' waveforms at the base model's sample rate."""
        return ClipAudio(self.clips, self.reference.sample_rate)

    @cached_property
    def store(self) -> FeatureStore | None:
        """Where a pretrained trunk's outputs are kept; a compact model's are quickly made."""
        if not self.reference.has_pretrained_trunk:
            return None
        return FeatureStore(paths.root() / "data" / "features", getattr(torch, self.config.features))

    @cached_property
    def text(self) -> TextFeatures:
        """The text trunk's outputs for the captions of the run."""
        trunk = self.reference.text_trunk
        where = {"device": self.reference.log_scale.device, "processes": self.processes}
        if self.store is None:
            store = FeatureStore(self.folder / "data", torch.float32)
            return TextFeatures(trunk, vocabulary(self.labels), store, **where)
        asked = {c for candidates in self.table("data/items.parquet")["candidates"] for c in candidates}
        if self.config.warm_up is not None:
            asked |= set(vocabulary(self.labels))
        return TextFeatures(trunk, asked, self.store, **where)

    def learn_control_captions(self) -> None:
        """Have the text trunk's outputs for all captions of the controls, from the store once it has them."""
        asked = self.table("data/controls.parquet")["candidates"]
        self.text.add(caption for candidates in asked for caption in candidates)

    def audio_features(self, model: AudioTextModel) -> AudioFeatures:
        """The outputs of a model's audio trunk for the run's sounds."""
        return AudioFeatures(model, self.audio, self.store, self.processes)

    def outputs(self, model: AudioTextModel, sounds: Mapping[str, Any], what: str) -> Tensor:
        """Their values for named sounds, see :meth:`tclap.training.features.AudioFeatures.outputs`."""
        return self.audio_features(model).outputs([*sounds.values()], what)

    def bank(self, stage: str) -> SegmentBank:
        """Mel power of a stage's clips, for composing batches; computed once."""
        if stage not in self._banks:
            model, clips = self.reference, for_stage(self.clips, stage)
            mel, energy = model.audio_trunk.mel, self.config.crop_energy
            self._banks[stage] = SegmentBank(clips, self.audio, mel, model.window, energy)
        return self._banks[stage]

    @property
    def description(self) -> str:
        """What the run is, in a line; says so where the base model's weights are stand-ins."""
        text, origin = f"profile {self.profile}, base {self.base}", self.reference.origin
        if origin is None:
            return f"{text}, trained from scratch"
        part = "weights" if self.reference.is_published else "heads trained from scratch, audio trunk"
        source = origin["path"] or origin.get("package") or f"the hub, revision {origin['revision']}"
        warning = "; RANDOM WEIGHTS: the numbers mean nothing" if origin.get("random_weights") else ""
        return f"{text}, {part} sha256 {origin['sha256'][:12]} from {source}{warning}"

    @cached_property
    def reader(self) -> RememberingReader:
        """The caption reader that learned neither a class's name nor a wording that is asked as unseen."""
        return self.remembering(READER)

    def remembering(self, path: Path) -> RememberingReader:
        """The caption reader of a file, whose readings are kept with the run's data."""
        made_of = [files.sha256_file(path), provenance.hash_code("tclap/models", "tclap/slots")]
        reader = load_reader(path).to(self.processes.device)
        return RememberingReader(reader, self.folder / "data", made_of)

    def load_slots(self, seed: int, name: str) -> SlotModel:
        """One of :data:`SLOTS`; ValueError for a profile without slots."""
        config = self.config.slots
        if config is None:
            raise ValueError(f"configs/{self.profile}.yaml has no slots, expected the key 'slots'.")
        start, whole = SLOTS[name]
        options = {"parts": config.parts, "source": config.source, "whole": whole}
        return SlotModel(self.load(seed, start), self.reader, **options)

    def load(self, seed: int, name: str = BASE) -> AudioTextModel:
        """A trained model; ValueError when it was trained on other published weights."""
        weights = self.path(f"seed{seed}/{name}/weights.safetensors")
        if not self.reference.has_pretrained_trunk:
            return load_model(self.base, weights)
        config, state = read_checkpoint(weights, self.base)
        if config["origin"]["sha256"] != self.reference.origin["sha256"]:
            raise ValueError(f"{weights} was made on other published weights; train it again.")
        model = self.reference.with_readout(config["readout"])
        model.load_own_state(state, str(weights))
        return model
