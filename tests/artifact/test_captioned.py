"""Retrieval on captioned data sets: several captions an audio, and data sets that are not there."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from artifact import clips as module
from artifact.embeddings import CaptionedSet
from tclap import audio

RATE = 8000
# A clip's level and length, and what its five captions say it is.
CLIPS = {
    "low": (0.1, 0.3, ["low", "low", "low", "low", "low"]),
    "middle": (0.2, 0.5, ["middle", "middle", "high", "middle", "middle"]),
    "high": (0.4, 1.2, ["high", "low", "high", "high", "high"]),
}
LEVELS = torch.tensor([level for level, *_ in CLIPS.values()])


class Oracle:
    """Knows levels, and takes a caption by its first word."""

    sample_rate, window, batch_size, padding, log_scale = RATE, 0.5, 2, "repeat", torch.zeros(())

    def eval(self):
        return self

    def audio_trunk(self, waveforms):
        assert waveforms.shape[1] == 4000, "one window of 0.3, 0.5 and 1.2 s"
        return (waveforms[..., None] - LEVELS).abs().lt(0.01).float()

    def embed_features(self, features):
        return normalize(features.mean(1), dim=-1)

    def embed_captions(self, captions, text):
        return torch.eye(3)[[list(CLIPS).index(caption.split()[0]) for caption in captions]]


@pytest.fixture
def clips(tmp_path) -> pd.DataFrame:
    rows = []
    for name, (level, seconds, words) in CLIPS.items():
        path = tmp_path / f"{name}.wav"
        audio.write_wav(path, np.full(round(seconds * RATE), level), RATE)
        # Numbered, so that no two are equal.
        captions = [f"{word} {name} {n}" for n, word in enumerate(words)]
        rows.append({"clip_id": name, "path": str(path), "captions": captions, "source": name})
    return pd.DataFrame(rows).assign(split="test")


def test_ranks_by_hand(clips):
    others = clips.assign(clip_id="x" + clips["clip_id"], source="x" + clips["source"], split="train")
    text = SimpleNamespace(add=lambda captions: None)
    run = SimpleNamespace(reference=Oracle(), store=None, text=text)
    found = CaptionedSet(run, "clotho", pd.concat([others, clips], ignore_index=True))
    rows = found.query_rows(Oracle())
    assert set(rows["gallery"]) == {"clotho"}
    text, sound = (rows[rows["direction"] == d] for d in ("text_to_audio", "audio_to_text"))
    captions = list(clips["captions"].explode())
    by_caption = dict(zip(captions, text["rank"], strict=True))
    # A caption of another clip's word finds that clip first; the third has no claim before its own.
    wrong = {"high middle 2", "low high 1"}
    assert {caption for caption, rank in by_caption.items() if rank == 1} == set(by_caption) - wrong
    assert all(by_caption[caption] in (2, 3) for caption in wrong)
    assert (text["relevant"] == 1).all() and (text["gallery_size"] == 3).all(), "no training clip"
    # An audio query hits by any of its five; the nearest of the low and the high one have another clip's.
    assert dict(zip(clips["clip_id"], sound["rank"], strict=True)) == {"low": 2, "middle": 1, "high": 2}
    assert (sound["relevant"] == 5).all() and (sound["gallery_size"] == 15).all()
    # Items of one recording are resampled together.
    assert text["source_a"].tolist() == [caption.split()[1] for caption in captions]
    assert sound["source_a"].tolist() == list(CLIPS) and rows["source_b"].isna().all()


def test_a_data_set_that_is_missing_is_logged_and_left_out_but_a_broken_one_is_refused(monkeypatch, caplog):
    there = {"clotho": pd.DataFrame(), "audiocaps": FileNotFoundError("set AUDIOCAPS_ROOT")}

    def load_clips(name):
        if isinstance(there[name], Exception):
            raise there[name]
        return there[name]

    monkeypatch.setattr(module, "load_clips", load_clips)
    with caplog.at_level(logging.WARNING):
        assert list(module.load_captioned(["audiocaps", "clotho"])) == ["clotho"]
    assert [record.getMessage() for record in caplog.records] == [
        "no retrieval on audiocaps: set AUDIOCAPS_ROOT"
    ]
    there["clotho"] = ValueError("no column caption_3")
    with pytest.raises(ValueError, match="caption_3"):
        module.load_captioned(["clotho"])
