"""Retrieval on captioned data sets (Clotho, AudioCaps): what post-pretraining does to plain search.

Every test clip is an audio item and each of its captions a text item; a text query hits when its
clip is among the first k, an audio query when any of its captions is.
"""

from __future__ import annotations

import pandas as pd

from artifact.clips import load_captioned
from artifact.embeddings import RunEmbeddings
from artifact.experiment import Experiment
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio
from tclap.evaluation.retrieval import caption_rows
from tclap.models.base import AudioTextModel
from tclap.training.features import AudioFeatures, Whole


class CaptionedSet:
    """The test clips of a captioned data set and their trunk outputs, shared by a run's models."""

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


def captioned_sets(experiment: Experiment) -> list[CaptionedSet]:
    """The profile's captioned data sets that are there."""
    found = load_captioned(experiment.config.retrieval_sets)
    return [CaptionedSet(experiment, name, clips) for name, clips in found.items()]
