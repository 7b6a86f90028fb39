"""Retrieval on captioned data sets (Clotho, AudioCaps): what post-pretraining does to plain search.

Every test clip is an audio item and each of its captions a text item; a text query hits when its
clip is among the first k, an audio query when any of its captions is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from artifact.embeddings import RunEmbeddings
from artifact.experiment import Experiment
from tclap.data.clips import for_stage, load_clips
from tclap.data.composites import ClipAudio
from tclap.evaluation.retrieval import caption_rows
from tclap.models.base import AudioTextModel
from tclap.training.features import AudioFeatures, Whole

log = logging.getLogger(__name__)


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


def load_captioned(names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The clips tables of those captioned data sets that are there; the log says which are not.

    Raises:
        ValueError: when one is there and broken.
    """
    found = {}
    for name in names:
        try:
            found[name] = load_clips(name)
        except FileNotFoundError as error:
            log.warning("no retrieval on %s: %s", name, error)
    return found


def captioned_sets(experiment: Experiment) -> list[CaptionedSet]:
    """The profile's captioned data sets that are there."""
    tables = load_captioned(experiment.config.retrieval_sets)
    return [CaptionedSet(experiment, name, clips) for name, clips in tables.items()]
