from __future__ import annotations

import csv
import logging

import numpy as np
import pandas as pd
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips
from tclap.data.datasets import audiocaps

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
            csv.writer(file).writerows([["audiocap_id", "youtube_id", "start_time", "caption"], *ROWS[part]])


def write_audio(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(800, 0.1), 8000)


def test_tiny_layout_value_by_value(tmp_path, caplog):
    write_csv(tmp_path)
    write_audio(
        tmp_path,
        "audio/train/12345678901_30.wav",
        "train/1234567e890.flac",
        "audio/Y-AheI8Epim4.ogg",
        "audio/test/=dQw4w9WgXc.mp3",
    )
    with caplog.at_level(logging.WARNING):
        clips = load_clips("audiocaps", tmp_path)
    assert clips.columns.tolist() == list(COLUMNS)
    assert clips["clip_id"].tolist() == [
        "12345678901_30",
        "1234567e890_0",
        "-AheI8Epim4_20",
        "=dQw4w9WgXc_130",
    ]
    assert clips["label"].tolist() == clips["clip_id"].tolist()
    assert clips["source"].tolist() == ["12345678901", "1234567e890", "-AheI8Epim4", "=dQw4w9WgXc"]
    assert clips["split"].tolist() == ["train", "train", "validation", "test"]
    assert clips["captions"].tolist() == [
        ["Rain falls"],
        ["A dog, barking"],
        [f"A bell rings {n}" for n in range(5)],
        [f"A crow calls {n}" for n in range(5)],
    ]
    assert clips["path"][2] == str(tmp_path / "audio" / "Y-AheI8Epim4.ogg")
    assert clips["duration"].tolist()[:3] == [0.1, 0.1, 0.1]
    assert clips.attrs["missing"] == ("NA_0",)
    assert "AudioCaps: 1 of 5 clips have no audio file and are left out: NA_0" in caplog.text


def test_the_most_exact_name_wins(tmp_path):
    write_csv(tmp_path, ["test"])
    names = ["audio/test/YNA.wav", "audio/NA.wav", "audio/test/=dQw4w9WgXc.wav", "test/=dQw4w9WgXc_130.wav"]
    write_audio(tmp_path, *names)
    clips = audiocaps.load(tmp_path)
    assert clips["path"].tolist() == [str(tmp_path / name) for name in (names[3], names[1])]


def test_no_audio_at_all_names_the_folders(tmp_path):
    write_csv(tmp_path, ["val"])
    folders = ", ".join(str(tmp_path / name) for name in ("audio/val", "val", "audio"))
    with pytest.raises(FileNotFoundError, match=f"none of the 1 clips of AudioCaps .* in {folders}$"):
        audiocaps.load(tmp_path)


def test_unreadable_audio_is_named(tmp_path):
    write_csv(tmp_path, ["test"])
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "NA.wav").write_text("blocked")
    with pytest.raises(ValueError, match=r"1 file\(s\) of AudioCaps cannot be read: .*NA.wav"):
        audiocaps.load(tmp_path)


def test_captions_need_no_audio(tmp_path, monkeypatch):
    write_csv(tmp_path, ["train", "test"])
    monkeypatch.setenv("AUDIOCAPS_ROOT", str(tmp_path))
    captions = audiocaps.read_captions()
    assert captions.to_dict("split")["data"] == [
        ["12345678901_30", "train", "Rain falls"],
        ["1234567e890_0", "train", "A dog, barking"],
        *(["=dQw4w9WgXc_130", "test", f"A crow calls {n}"] for n in range(5)),
        ["NA_0", "test", "Someone talks"],
    ]


def test_a_missing_or_broken_csv_is_told(tmp_path):
    message = (
        r"AudioCaps root .* has none of train.csv, val.csv, test.csv; .*cdjkim.*which download=True fetches"
    )
    with pytest.raises(FileNotFoundError, match=message):
        audiocaps.load(tmp_path)
    (tmp_path / "val.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,abc,0,\n")
    with pytest.raises(ValueError, match=r"val.csv has in column caption '' \(line 2\); expected a value"):
        audiocaps.read_captions(tmp_path)
    (tmp_path / "val.csv").write_text("audiocap_id,youtube_id,caption\n1,abc,rain\n")
    with pytest.raises(ValueError, match=r"val.csv lacks the column\(s\) start_time"):
        audiocaps.read_captions(tmp_path)


def test_only_absent_csv_files_are_downloaded(tmp_path, monkeypatch):
    write_csv(tmp_path, ["val"])
    asked = []

    def fetch(url, path, *, what):
        asked.append((url, path))
        write_csv(path.parent, [path.stem])

    monkeypatch.setattr(audiocaps, "fetch", fetch)
    assert len(audiocaps.read_captions(tmp_path, download=True)) == 13
    address = "https://raw.githubusercontent.com/cdjkim/audiocaps/master/dataset/"
    assert asked == [(f"{address}{part}.csv", tmp_path / f"{part}.csv") for part in ("train", "test")]


def test_official_captions(audiocaps_root, tmp_path):
    captions = audiocaps.read_captions(audiocaps_root)
    for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        with open(audiocaps_root / f"{part}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = captions[captions["split"] == split]
        assert found["clip_id"].tolist() == [f"{row['youtube_id']}_{row['start_time']}" for row in rows]
        assert found["caption"].tolist() == [row["caption"].strip() for row in rows]
    counts = captions.groupby("split")["clip_id"].agg(["size", "nunique"])
    expected = pd.DataFrame(
        {"size": [4875, 49838, 2475], "nunique": [975, 49838, 495]}, index=["test", "train", "validation"]
    )
    pd.testing.assert_frame_equal(counts, expected, check_names=False)
