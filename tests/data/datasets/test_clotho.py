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


def write_csv(root):
    for part, names in FILES.items():
        with open(root / f"clotho_captions_{part}.csv", "w", newline="", encoding="utf-8") as file:
            rows = ([name, *(f" {name[:3]} is heard, {n}" for n in range(5))] for name in names)
            csv.writer(file).writerows([["file_name", *clotho.CAPTIONS], *rows])


def test_tiny_layout_value_by_value(tmp_path):
    write_csv(tmp_path)
    for part, names in FILES.items():
        (tmp_path / "audio" / part).mkdir(parents=True)
        for name in [*names, "unknown.wav"]:
            soundfile.write(tmp_path / "audio" / part / name, np.full(800, 0.1), 8000)
    clips = load_clips("clotho", tmp_path)
    assert clips.columns.tolist() == list(COLUMNS)
    assert clips["split"].tolist() == ["train", "train", "validation", "test", "test"]
    assert clips["clip_id"].tolist()[:3] == ["Rain (2", "20100402.Brugge.street.04", "Santa Motor"]
    assert clips.iloc[3].to_dict() == {
        "clip_id": "007",
        "path": str(tmp_path / "audio" / "evaluation" / "007.wav"),
        "label": "007",
        "captions": [f"007 is heard, {n}" for n in range(5)],
        "split": "test",
        "fold": 0,
        "source": "007",
        "duration": 0.1,
    }


def test_captions_need_no_audio(tmp_path, monkeypatch):
    write_csv(tmp_path)
    monkeypatch.setenv("CLOTHO_ROOT", str(tmp_path))
    captions = clotho.read_captions()
    name = "20100402.Brugge.street.04"
    assert captions.iloc[7].tolist() == [name, name, "development", "train", "3", "201 is heard, 2"]
    assert clotho.read_captions(part="evaluation")["caption"].tolist() == captions["caption"].tolist()[15:]
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} has no audio"):
        clotho.load()


def test_official_captions(clotho_root):
    captions = clotho.read_captions(clotho_root, "evaluation")
    # Both releases have this many clips to evaluate on.
    assert captions["clip_id"].nunique() == 1045 and len(captions) == 5 * 1045
    assert captions["caption"].str.strip().str.len().min() > 0
