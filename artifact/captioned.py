"""Retrieval on captioned data sets (Clotho, AudioCaps): what post-pretraining does to plain search.

Every test clip is an audio item and each of its captions a text item; a text query hits when its
clip is among the first k, an audio query when any of its captions is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd
import torch

from artifact.experiment import Experiment
from tclap.data.clips import for_stage, load_clips
from tclap.data.composites import ClipAudio
from tclap.evaluation import retrieval
from tclap.models.base import AudioTextModel
from tclap.training.audio_features import AudioFeatures, Whole

log = logging.getLogger(__name__)
BLOCK = 256


class CaptionedSet:
    """The test clips of a captioned data set and their trunk outputs, shared by a run's models.

    Args:
        experiment: the run.
        name: ``clotho`` or ``audiocaps``.
        clips: its clips table (the test split is used).
    """

    def __init__(self, experiment: Experiment, name: str, clips: pd.DataFrame) -> None:
        self.experiment, self.name, self.clips = experiment, name, for_stage(clips, "test")
        model = experiment.reference
        audio = ClipAudio(self.clips, model.sample_rate, keep=1)
        features = AudioFeatures(model, self.clips, audio, experiment.store)
        self.features = features.outputs(
            [Whole(c) for c in self.clips["clip_id"]], f"{name} through the trunk"
        )

    def query_rows(self, model: AudioTextModel) -> pd.DataFrame:
        """Rows of :func:`tclap.evaluation.retrieval.query_rows` for one model of the run."""
        texts = self.clips[["clip_id", "captions"]].explode("captions")
        captions, device = list(texts["captions"]), model.log_scale.device
        with torch.inference_mode():
            words = [
                model.embed_captions(captions[n : n + BLOCK], self.experiment.text).cpu()
                for n in range(0, len(captions), BLOCK)
            ]
            sounds = [
                model.embed_audio(self.features[n : n + BLOCK].to(device)).cpu()
                for n in range(0, len(self.features), BLOCK)
            ]
        sources = self.clips.set_index("clip_id")["source"]
        return retrieval.query_rows(
            torch.cat(words),
            torch.cat(sounds),
            texts["clip_id"].to_numpy(dtype=object),
            self.clips["clip_id"].to_numpy(dtype=object),
            gallery=self.name,
            text_sources=sources.loc[texts["clip_id"]].to_numpy(dtype=object),
            audio_sources=self.clips["source"].to_numpy(dtype=object),
        )


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
