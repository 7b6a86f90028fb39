"""A run's test sounds, which go through the frozen trunk once, and its models' embeddings of them.

Test audio is composed as waveforms. All models of a seed have the base model's trunk, so that only their
heads embed it one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from artifact.experiment import Experiment
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS
from tclap.evaluation import controls
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.embeddings import Embeddings
from tclap.models.base import AudioTextModel

BLOCK = 256


class TestAudio:
    """The trunk outputs of the test clips, by their ids, and composites, by ``<pair_id>/<view>``."""

    __test__ = False  # not a test class

    def __init__(self, experiment: Experiment, model: AudioTextModel) -> None:
        self.experiment, self.model = experiment, model
        self.clips = for_stage(experiment.clips, "test")
        self.pairs = experiment.table("data/pairs-test.parquet")
        sounds = {clip: clip for clip in self.clips["clip_id"]} | views_of(self.pairs, VIEWS)
        outputs = experiment.audio_features(model).outputs
        self.names, self.features = list(sounds), outputs([*sounds.values()], "test audio through the trunk")

    @cached_property
    def control_pairs(self) -> pd.DataFrame:
        """The pairs that the controls use."""
        return self.pairs.head(self.experiment.config.control_pairs)

    @cached_property
    def controls(self) -> tuple[list[str], Tensor]:
        """Names and trunk outputs of all the controls' audio."""
        return self.arranged(set(self.experiment.table("data/controls.parquet")["task"]))

    def embeddings(self, model: AudioTextModel) -> RunEmbeddings:
        """A model's embeddings of this audio and the run's captions."""
        return RunEmbeddings(self.experiment, model, self.names, self.features)

    def arranged(self, tasks: set[str]) -> tuple[list[str], Tensor]:
        """Names and trunk outputs of the audio of some controls."""
        experiment, model = self.experiment, self.model
        seed, audio = experiment.config.data_seed, experiment.audio
        items = experiment.table("data/controls.parquet")
        wanted = set(items.loc[items["task"].isin(tasks), "audio"])
        sounds = controls.arrangements(self.clips, self.control_pairs, audio, model.window, seed=seed)
        sounds = {name: sound for name, sound in sounds.items() if name in wanted}
        outputs = experiment.audio_features(model).outputs
        return list(sounds), outputs([*sounds.values()], "controls' audio through the trunk")


class RunEmbeddings(Embeddings):
    """One model's embeddings of the run's captions and of sounds, from their trunk outputs."""

    def __init__(
        self, experiment: Experiment, model: AudioTextModel, names: Sequence[str], features: Tensor
    ) -> None:
        self.experiment, self.model = experiment, model
        super().__init__(names, self.embed_audio(features))

    def embed_audio(self, features: Tensor) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU, from trunk outputs."""
        starts, device = range(0, len(features), BLOCK), device_of(self.model)
        with torch.inference_mode():
            blocks = [self.model.embed_audio(features[n : n + BLOCK].to(device)).cpu() for n in starts]
        return torch.cat(blocks)

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` on the CPU, from the run's text features."""
        starts, text = range(0, len(captions), BLOCK), self.experiment.text
        with torch.inference_mode():
            return torch.cat([self.model.embed_captions(captions[n : n + BLOCK], text).cpu() for n in starts])


def device_of(model: AudioTextModel) -> torch.device:
    """Where a model is."""
    return model.log_scale.device
