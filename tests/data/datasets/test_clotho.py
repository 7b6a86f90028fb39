from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips
from tclap.data.datasets import clotho

FILES = {
    "development": ["Rain (2.wav", "20100402.Brugge.street.04.wav"],
    "validation": ["Santa Motor.wav"],
    "evaluation": ["007.wav", "Uh, Hi, Mom.wav"],
}


def write_csv(root, parts=FILES):
    for part in parts:
        with open(root / f"clotho_captions_{part}.csv", "w", newline="", encoding="utf-8") as file:
            rows = ([name, *(f" {name[:3]} is heard, {n}" for n in range(5))] for name in FILES[part])
            csv.writer(file).writerows([["file_name", *clotho.CAPTIONS], *rows])


def write_audio(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(800, 0.1), 8000)


def write_all(root, pattern="{part}", suffix=".wav"):
    write_csv(root)
    for part, names in FILES.items():
        for name in names:
            write_audio(root / pattern.format(part=part) / name.replace(".wav", suffix))


def test_tiny_layout_value_by_value(tmp_path):
    write_all(tmp_path)
    clips = load_clips("clotho", tmp_path)
    assert clips.columns.tolist() == list(COLUMNS)
    assert clips["split"].tolist() == ["train", "train", "validation", "test", "test"]
    assert clips["clip_id"].tolist()[:3] == ["Rain (2", "20100402.Brugge.street.04", "Santa Motor"]
    assert clips.iloc[3].to_dict() == {
        "clip_id": "007",
        "path": str(tmp_path / "evaluation" / "007.wav"),
        "label": "007",
        "captions": [f"007 is heard, {n}" for n in range(5)],
        "split": "test",
        "fold": 0,
        "source": "007",
        "duration": 0.1,
    }


@pytest.mark.parametrize(("pattern", "suffix"), [("clotho_audio_files/{part}", ".WAV"), ("", ".mp3")])
def test_other_folders_and_suffixes(tmp_path, pattern, suffix):
    write_all(tmp_path, pattern, suffix)
    folder = tmp_path / pattern.format(part="development")
    assert clotho.load(tmp_path)["path"][1] == str(folder / f"20100402.Brugge.street.04{suffix}")


def test_parts_without_csv_and_files_without_row_are_left_out(tmp_path):
    write_all(tmp_path)
    write_audio(tmp_path / "evaluation" / "unknown.wav")
    (tmp_path / "clotho_captions_development.csv").unlink()
    assert clotho.load(tmp_path)["clip_id"].tolist() == ["Santa Motor", "007", "Uh, Hi, Mom"]


def test_clips_without_audio_are_left_out_and_named(tmp_path, caplog):
    write_all(tmp_path)
    (tmp_path / "evaluation" / "007.wav").unlink()
    (tmp_path / "development" / "Rain (2.wav").unlink()
    clips = load_clips("clotho", tmp_path)
    assert clips["clip_id"].tolist() == ["20100402.Brugge.street.04", "Santa Motor", "Uh, Hi, Mom"]
    assert "2 of 5 clips have no audio file and are left out: Rain (2, 007" in caplog.text


def test_captions_need_no_audio(tmp_path, monkeypatch):
    write_csv(tmp_path)
    monkeypatch.setenv("CLOTHO_ROOT", str(tmp_path))
    captions = clotho.read_captions()
    assert captions.columns.tolist() == ["clip_id", "source", "part", "split", "number", "caption"]
    assert len(captions) == 25
    name = "20100402.Brugge.street.04"
    assert captions.iloc[7].tolist() == [name, name, "development", "train", "3", "201 is heard, 2"]
    assert clotho.read_captions(part="evaluation")["caption"].tolist() == captions["caption"].tolist()[15:]


def test_official_captions(clotho_root):
    captions = clotho.read_captions(clotho_root)
    for part in captions["part"].unique():
        with open(clotho_root / f"clotho_captions_{part}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        found = captions[captions["part"] == part]
        assert found["clip_id"].unique().tolist() == [row[0].removesuffix(".wav") for row in rows]
        assert found["caption"].tolist() == [caption.strip() for row in rows for caption in row[1:]]
    # Both releases have this many clips to evaluate on.
    assert (captions["split"] == "test").sum() == 5 * 1045
