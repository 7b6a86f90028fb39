"""A run's test sounds, which go through the frozen trunk once, and its models' embeddings of them.

Test audio is composed as waveforms. Models that start from one base model have its trunk, so that only
their heads embed it one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial

import pandas as pd
import torch
from torch import Tensor

from artifact.experiment import DATA_SEED, Experiment
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS, ClipAudio
from tclap.data.conditions import Sound
from tclap.evaluation import controls
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.retrieval import caption_rows
from tclap.models.base import AudioTextModel
from tclap.slots.model import SlotModel
from tclap.training.features import AudioFeatures, Part, Whole

BLOCK = 256
Parts = dict[tuple, Tensor]  # trunk outputs of parts in time, by the sounds' names and the span


class TestAudio:
    """The trunk outputs of the test clips, by their ids, and composites, by ``<pair_id>/<view>``."""

    __test__ = False  # not a test class

    def __init__(self, experiment: Experiment, model: AudioTextModel) -> None:
        self.experiment, self.model = experiment, model
        self._parts: Parts = {}
        self.clips = for_stage(experiment.clips, "test")
        self.pairs = experiment.table("data/pairs-test.parquet")
        self.control_pairs = self.pairs.head(experiment.config.control_pairs)
        self.sounds = {clip: clip for clip in self.clips["clip_id"]} | views_of(self.pairs, VIEWS)
        self.features = experiment.outputs(model, self.sounds, "test audio through the trunk")

    @cached_property
    def controls(self) -> tuple[dict[str, Sound], Tensor]:
        """All the controls' sounds by name, and their trunk outputs."""
        return self.arranged(set(self.experiment.table("data/controls.parquet")["task"]))

    def embeddings(self, model: AudioTextModel) -> RunEmbeddings:
        """A model's embeddings of this audio and the run's captions."""
        return RunEmbeddings(self.experiment, model, self.sounds, self.features, self._parts)

    def arranged(self, tasks: set[str]) -> tuple[dict[str, Sound], Tensor]:
        """Some controls' sounds by name, and their trunk outputs."""
        items = self.experiment.table("data/controls.parquet")
        wanted = set(items.loc[items["task"].isin(tasks), "audio"])
        audio, window = self.experiment.audio, self.model.window
        sounds = controls.arrangements(self.clips, self.control_pairs, audio, window, seed=DATA_SEED)
        sounds = {name: sound for name, sound in sounds.items() if name in wanted}
        return sounds, self.experiment.outputs(self.model, sounds, "controls' audio through the trunk")


class RunEmbeddings(Embeddings):
    """One model's embeddings of the run's captions and of sounds, from their trunk outputs.

    Args:
        experiment: the run.
        model: with or without slots.
        sounds: by name.
        features: their trunk outputs ``[n, T, D]``.
        parts: outputs of parts in time that are there already; others are added.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: AudioTextModel | SlotModel,
        sounds: Mapping[str, Sound | Whole],
        features: Tensor,
        parts: Parts | None = None,
    ) -> None:
        self.experiment, self.model, self._parts = experiment, model, {} if parts is None else parts
        self.base = model.base if isinstance(model, SlotModel) else model
        super().__init__(sounds, self.embed_sounds(sounds, features))

    def embed_sounds(self, sounds: Mapping[str, Sound | Whole], features: Tensor) -> Tensor:
        """Embeddings ``[n, d]`` of sounds on the CPU, from trunk outputs; for slots their parts' too."""
        model = self.model
        if not isinstance(model, SlotModel):
            return self.embed_features(features)
        if model.source == "trunk":
            return self._by_block(features, model.from_frames)
        parts = [features, *self._cut(sounds, model.spans[1:])]
        return model.join(torch.stack([self.embed_features(part) for part in parts], dim=1))

    def _cut(self, sounds: Mapping[str, Sound | Whole], spans: Sequence[tuple[float, float]]) -> list[Tensor]:
        """Trunk outputs of each span of the sounds; a sound is rendered once for all its parts."""
        names = tuple(sounds)
        new = [span for span in dict.fromkeys(spans) if (names, span) not in self._parts]
        if new:
            items = [Part(sound, *span) for sound in sounds.values() for span in new]
            outputs = self.experiment.audio_features(self.base).outputs(items, "parts through the trunk")
            by_span = outputs.unflatten(0, (-1, len(new))).unbind(1)
            self._parts |= {(names, span): part for span, part in zip(new, by_span, strict=True)}
        return [self._parts[names, span] for span in spans]

    def embed_features(self, features: Tensor) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU by the model, or the one beneath its slots."""
        return self._by_block(features, self.base.embed_features)

    def _by_block(self, features: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        device = device_of(self.base)
        with torch.inference_mode():
            return torch.cat([embed(block.to(device)).cpu() for block in features.split(BLOCK)])

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU, from the run's text features."""
        model, text = self.model, self.experiment.text
        if isinstance(model, SlotModel):
            model.read(captions)  # all at once: captions of like length share a batch
            text = partial(self.base.embed_captions, text=text)
        blocks = [captions[n : n + BLOCK] for n in range(0, len(captions), BLOCK)]
        with torch.inference_mode():
            return torch.cat([model.embed_captions(block, text).cpu() for block in blocks])


class CaptionedSet:
    """The test clips of a captioned data set (Clotho, AudioCaps), whose trunk outputs a run's models share.

    Every clip is an audio item and each of its captions a text item; a text query hits when its clip is among
    the first k, an audio query when any of its captions is.
    """

    def __init__(self, experiment: Experiment, name: str, clips: pd.DataFrame) -> None:
        self.experiment, self.name, self.clips = experiment, name, for_stage(clips, "test")
        model = experiment.reference
        audio = ClipAudio(self.clips, model.sample_rate, keep=1)
        features = AudioFeatures(model, audio, experiment.store)
        self.sounds = {clip: Whole(clip) for clip in self.clips["clip_id"]}
        self.features = features.outputs([*self.sounds.values()], f"{name} through the trunk")

    def query_rows(self, model: AudioTextModel) -> pd.DataFrame:
        """Rows of :func:`tclap.evaluation.retrieval.caption_rows` for one model of the run."""
        self.experiment.text.add(self.clips["captions"].explode())
        embeddings = RunEmbeddings(self.experiment, model, self.sounds, self.features)
        return caption_rows(embeddings, self.clips, self.name)


def device_of(model: AudioTextModel) -> torch.device:
    """Where a model is."""
    return model.log_scale.device
