import csv
import logging

import numpy as np
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips
from tclap.data.datasets import audiocaps, tables

# Ids that a spreadsheet or pandas would take for numbers, formulas or missing values.
ROWS = {
    "train": [("1", "12345678901", "30", "Rain falls"), ("2", "1234567e890", "0", "A dog, barking")],
    "val": [(str(10 + n), "-AheI8Epim4", "20", f"A bell rings {n}") for n in range(5)],
    "test": [(str(20 + n), "=dQw4w9WgXc", "130", f"A crow calls {n}") for n in range(5)]
    + [("30", "NA", "0", "Someone talks")],
}


def write_csv(root, parts=ROWS):
    for part in parts:
        with open(root / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([audiocaps.COLUMNS, *ROWS[part]])


def write_audio(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(800, 0.1), 8000)
    return [str(root / name) for name in names]


def test_tiny_layout_value_by_value(tmp_path, caplog):
    write_csv(tmp_path)
    paths = write_audio(
        tmp_path,
        "audio/train/12345678901_30.wav",
        "train/1234567e890.flac",
        "audio/Y-AheI8Epim4.ogg",
        "audio/test/=dQw4w9WgXc.mp3",
    )
    with caplog.at_level(logging.WARNING):
        clips = load_clips("audiocaps", tmp_path)
    ids = ["12345678901_30", "1234567e890_0", "-AheI8Epim4_20", "=dQw4w9WgXc_130"]
    assert clips.columns.tolist() == list(COLUMNS) and clips["path"].tolist() == paths
    assert clips["clip_id"].tolist() == clips["label"].tolist() == ids
    assert clips["source"].tolist() == ["12345678901", "1234567e890", "-AheI8Epim4", "=dQw4w9WgXc"]
    assert clips["split"].tolist() == ["train", "train", "validation", "test"]
    assert clips["captions"].map(len).tolist() == [1, 1, 5, 5]
    assert clips["captions"][3] == [f"A crow calls {n}" for n in range(5)]
    assert clips["duration"].tolist()[:3] == [0.1, 0.1, 0.1]
    assert "1 of 5 clips have no audio file and are left out: NA_0" in caplog.text


def test_the_most_exact_name_wins(tmp_path):
    write_csv(tmp_path, ["test"])
    names = ["audio/test/YNA.wav", "audio/NA.wav", "audio/test/=dQw4w9WgXc.wav", "test/=dQw4w9WgXc_130.wav"]
    paths = write_audio(tmp_path, *names)
    assert audiocaps.load(tmp_path)["path"].tolist() == [paths[3], paths[1]]


def test_captions_need_no_audio(tmp_path):
    write_csv(tmp_path, ["train", "test"])
    captions = audiocaps.read_captions(tmp_path)
    assert captions.columns.tolist() == ["clip_id", "source", "part", "split", "number", "caption"]
    second = ["1234567e890_0", "1234567e890", "train", "train", "2", "A dog, barking"]
    assert captions.iloc[1].tolist() == second
    assert captions["number"].tolist() == ["1", "2", "20", "21", "22", "23", "24", "30"]


def test_without_any_csv_it_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} .*AUDIOCAPS_ROOT"):
        audiocaps.load(tmp_path)


def test_official_captions(audiocaps_root):
    captions = audiocaps.read_captions(audiocaps_root)
    assert captions["caption"].str.strip().str.len().min() > 0
    assert captions["split"].value_counts().to_dict() == {"train": 49838, "test": 4875, "validation": 2475}
    clips = captions.groupby("split")["clip_id"].nunique()
    assert clips.to_dict() == {"train": 49838, "test": 975, "validation": 495}


def test_files_as_a_download_names_them(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("root/a.m4a", "root/a.wav", "elsewhere/b.WEBM", "elsewhere/c.opus", "root/d.txt"):
        (tmp_path / name).touch()
    expected = {"a": "a.m4a", "b": "linked/b.WEBM", "c": "linked/c.opus"}
    found = tables.audio_files(tmp_path / "root")
    assert found == {stem: tmp_path / "root" / name for stem, name in expected.items()}
