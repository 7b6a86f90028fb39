"""Retrieval on captioned data sets: several captions an audio, and data sets that are not there."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from artifact.captioned import CaptionedSet, captioned_sets
from tclap.data.clips import load_clips

RATE = 8000
# A clip's pitch and length, and what its five captions say it is.
CLIPS = {
    "low": (500, 0.3, ["low", "low", "low", "low", "low"]),
    "middle": (1000, 0.5, ["middle", "middle", "high", "middle", "middle"]),
    "high": (2000, 1.2, ["high", "low", "high", "high", "high"]),
}
PITCHES = [pitch for pitch, *_ in CLIPS.values()]


def write_clotho(root: Path) -> Path:
    """The evaluation part of a tiny Clotho, whose captions are numbered so that no two are equal."""
    (root / "evaluation").mkdir(parents=True)
    with open(root / "clotho_captions_evaluation.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *(f"caption_{n}" for n in range(1, 6))])
        for name, (pitch, seconds, words) in CLIPS.items():
            writer.writerow([f"{name}.wav", *(f"{word} {name} {n}" for n, word in enumerate(words))])
            time = np.arange(int(seconds * RATE)) / RATE
            soundfile.write(root / "evaluation" / f"{name}.wav", 0.3 * np.sin(2 * np.pi * pitch * time), RATE)
    return root


class Spectrum(torch.nn.Module):
    """Magnitude of each of the three pitches, in ten stretches of time."""

    fingerprint = "spectrum"

    def __init__(self) -> None:
        super().__init__()
        self.lengths = []

    def forward(self, waveforms):
        self.lengths.append(waveforms.shape[1])
        time = torch.arange(400) / RATE
        waves = torch.stack([torch.exp(2j * torch.pi * pitch * time) for pitch in PITCHES], dim=1)
        return (waveforms.unflatten(1, (10, 400)).to(torch.complex64) @ waves).abs()


class Oracle:
    """Knows pitches, and takes a caption by its first word."""

    name, sample_rate, window, batch_size, padding = "oracle", RATE, 0.5, 2, "repeat"

    def __init__(self) -> None:
        self.audio_trunk, self.log_scale, self.asked = Spectrum(), torch.zeros(()), []

    def eval(self):
        return self

    def embed_audio(self, features):
        return torch.nn.functional.normalize(features.mean(1), dim=-1)

    def embed_captions(self, captions, text):
        return self.embed_text(text(captions))

    def embed_text(self, captions):
        self.asked.append(list(captions))
        return torch.eye(3)[[list(CLIPS).index(caption.split()[0]) for caption in captions]]


class Captions:
    """In place of text features: the captions themselves."""

    def add(self, captions):
        pass

    def __call__(self, captions):
        return captions


def experiment_of(model, sets=("clotho",)) -> SimpleNamespace:
    config = SimpleNamespace(retrieval_sets=list(sets))
    return SimpleNamespace(reference=model, store=None, text=Captions(), config=config)


@pytest.fixture
def clotho(tmp_path, monkeypatch) -> Path:
    root = write_clotho(tmp_path / "clotho")
    monkeypatch.setenv("CLOTHO_ROOT", str(root))
    return root


def test_ranks_by_hand(clotho):
    model, clips = Oracle(), load_clips("clotho")
    others = clips.assign(clip_id="x" + clips["clip_id"], source="x" + clips["source"], split="train")
    found = CaptionedSet(experiment_of(model), "clotho", pd.concat([others, clips], ignore_index=True))
    assert list(found.clips["clip_id"]) == list(clips["clip_id"]), "no training clip in the gallery"
    assert set(model.audio_trunk.lengths) == {4000}, "one window of 0.3, 0.5 and 1.2 s"
    rows = found.query_rows(model)
    assert set(rows["gallery"]) == {"clotho"}
    text, audio = (rows[rows["direction"] == d] for d in ("text_to_audio", "audio_to_text"))
    captions = list(found.clips["captions"].explode())
    by_caption = dict(zip(captions, text["rank"], strict=True))
    assert len(by_caption) == 15
    # A caption of another clip's word finds that clip first; the third has no claim before its own.
    wrong = {"high middle 2", "low high 1"}
    assert {caption for caption, rank in by_caption.items() if rank == 1} == set(by_caption) - wrong
    assert all(by_caption[caption] in (2, 3) for caption in wrong)
    assert (text["relevant"] == 1).all() and (text["gallery_size"] == 3).all()
    # An audio query hits by any of its five; the nearest of the low and the high one have another clip's.
    assert dict(zip(clips["clip_id"], audio["rank"], strict=True)) == {"low": 2, "middle": 1, "high": 2}
    assert (audio["relevant"] == 5).all() and (audio["gallery_size"] == 15).all()
    # Items of one recording are resampled together.
    assert text["source_a"].tolist() == [caption.split()[1] for caption in captions]
    assert audio["source_a"].tolist() == list(found.clips["clip_id"]) and rows["source_b"].isna().all()


def test_a_data_set_that_is_missing_is_logged_and_left_out(clotho, monkeypatch, project_root, caplog):
    monkeypatch.delenv("AUDIOCAPS_ROOT", raising=False)
    with caplog.at_level(logging.WARNING):
        found = captioned_sets(experiment_of(Oracle(), sets=("audiocaps", "clotho")))
    assert [one.name for one in found] == ["clotho"]
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("no retrieval on audiocaps: ") and "AUDIOCAPS_ROOT" in message
    monkeypatch.setenv("CLOTHO_ROOT", str(project_root))
    assert captioned_sets(experiment_of(Oracle(), sets=("audiocaps", "clotho"))) == []


def test_a_broken_data_set_is_no_missing_one(clotho):
    path = clotho / "clotho_captions_evaluation.csv"
    path.write_text(path.read_text().replace("caption_3", "caption_X"))
    with pytest.raises(ValueError, match="caption_3"):
        captioned_sets(experiment_of(Oracle()))
