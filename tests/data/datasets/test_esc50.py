import csv
import functools
import hashlib
import http.server
import shutil
import stat
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips
from tclap.data.datasets import esc50

# (category, target, esc10): "sea_waves" and "dog" are in ESC-10, "hen" is not.
CATEGORIES = (("dog", 0, True), ("sea_waves", 11, True), ("hen", 6, False))
OFFICIAL_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def rows_of(folds, categories=CATEGORIES):
    for fold in folds:
        for category, target, esc10 in categories:
            source = f"00{fold}{target}"
            row = (f"{fold}-{source}-A-{target}.wav", fold, target, category, esc10, source, "A")
            yield dict(zip(OFFICIAL_COLUMNS, row, strict=True))


def write_layout(root, rows):
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = list(rows)
    for i, row in enumerate(rows):
        # Odd lengths, and every other file in stereo.
        shape = (801 + i,) if i % 2 else (801 + i, 2)
        soundfile.write(root / "audio" / row["filename"], np.full(shape, 0.1), 8000)
    with open(root / "meta" / "esc50.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, OFFICIAL_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture
def layout(tmp_path):
    return write_layout(tmp_path / "esc", rows_of([1, 2, 3]))


def splits(clips):
    return dict(zip(clips["fold"], clips["split"], strict=True))


def test_tiny_layout_value_by_value(layout):
    clips = load_clips("esc50", layout)
    assert clips.columns.tolist() == list(COLUMNS) and len(clips) == 9
    assert clips.iloc[1].to_dict() == {
        "clip_id": "1-00111-A-11",
        "path": str(layout / "audio" / "1-00111-A-11.wav"),
        "label": "sea waves",
        "captions": ["sea waves"],
        "split": "train",
        "fold": 1,
        "source": "00111",
        "duration": 802 / 8000,
    }
    assert splits(clips) == {1: "train", 2: "validation", 3: "test"}


def test_other_folds_on_request(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3, 4, 5], CATEGORIES[:1]))
    assert splits(esc50.load(root)) == {1: "train", 2: "train", 3: "train", 4: "validation", 5: "test"}
    assert splits(esc50.load(root, test_fold=3))[2] == "validation"
    assert splits(esc50.load(root, test_fold=1))[5] == "validation"
    assert splits(esc50.load(root, validation_fold=5))[4] == "test"
    assert splits(esc50.load(root, folds=[4, 1, 2])) == {1: "train", 2: "validation", 4: "test"}
    chosen = esc50.load(root, folds=[1, 3, 5], test_fold=1, validation_fold=5)
    assert splits(chosen) == {1: "test", 3: "train", 5: "validation"}


def test_classes(tmp_path):
    rows = [row for row in rows_of([1, 2, 3, 4]) if (row["category"], row["fold"]) != ("dog", 4)]
    root = write_layout(tmp_path / "esc", rows)

    def labels(**options):
        return sorted(esc50.load(root, **options)["label"].unique())

    assert labels(classes="all") == ["dog", "hen", "sea waves"]
    assert labels(classes="esc10") == ["dog", "sea waves"]
    assert labels() == ["hen", "sea waves"]
    assert labels(folds=[1, 2, 3]) == ["dog", "hen", "sea waves"]
    assert (
        labels(classes=["sea_waves", "dog"]) == labels(classes=["sea waves", "dog"]) == ["dog", "sea waves"]
    )


def test_the_first_clips_of_each_class_in_each_fold(tmp_path):
    rows = [row | {"filename": f"{n}-{row['filename']}"} for n in (2, 0, 1) for row in rows_of([1, 2, 3])]
    root = write_layout(tmp_path / "esc", [row for row in rows if row["filename"] != "1-2-0026-A-6.wav"])
    for count, total in ((1, 9), (2, 18), (99, 26)):
        found = esc50.load(root, per_class=count)
        assert len(found) == total and found.groupby(["fold", "label"]).size().max() == min(count, 3)
        # In the order of the csv, which is not that of the names: those numbered 2 come first.
        assert found["clip_id"].str[0].unique().tolist() == ["2", "0", "1"][: min(count, 3)]


def test_splits_by_source_of_few_clips_keep_recordings_together(tmp_path, caplog):
    # Of eight dogs 2 are tested and 1 validated, of six hens 2 and none; all sea waves are one recording.
    takes = {"dog": "aaabbcde", "hen": "ffffgg", "sea_waves": "hhhhhh"}
    rows = [
        row | {"filename": f"{n}-{row['filename']}", "src_file": source}
        for row in rows_of([4])
        for n, source in enumerate(takes[row["category"]])
    ]
    found = esc50.load(write_layout(tmp_path / "esc", rows), classes="all", split_by="source")
    assert dict(zip(found["source"], found["split"], strict=True)) == {
        "c": "test", "d": "test", "e": "validation", "a": "train", "b": "train",
        "g": "test", "f": "train",
    }  # fmt: skip
    assert len(found) == 14 and "sea waves: all clips are of one recording" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split_by": "clip"}, "split_by='clip'; expected 'fold' or 'source'"),
        ({"split_by": "source", "test_fold": 1}, "test_fold=1.* with split_by='source'; expected neither"),
        ({"test_fold": 7}, "no fold 7; expected some of 1, 2, 3"),
        ({"folds": [1, 2], "test_fold": 3}, "no fold 3; expected some of 1, 2$"),
        ({"test_fold": 2, "validation_fold": 2}, "validation_fold=2; expected at least one fold"),
        ({"folds": []}, "folds is empty; expected at least one fold of 1, 2, 3"),
        ({"classes": ["dog"]}, "at least two labels"),
        ({"classes": ["dog", "wolf"]}, "no class wolf"),
        ({"classes": "dog"}, "classes='dog'; expected 'all'"),
        ({"per_class": 0}, "per_class is 0, expected at least 1"),
    ],
)
def test_choices_that_cannot_be_met(layout, options, words):
    with pytest.raises(ValueError, match=words):
        load_clips("esc50", layout, **options)


def test_a_csv_saved_by_a_spreadsheet_loads(layout):
    path = layout / "meta" / "esc50.csv"
    path.write_text("\ufeff" + path.read_text().replace("True", "TRUE").replace("False", "FALSE"))
    assert esc50.load(layout, classes="esc10")["label"].nunique() == 2


def test_where_the_data_are_looked_for(tmp_path, monkeypatch, project_root):
    monkeypatch.delenv("ESC50_ROOT", raising=False)
    default = project_root / "data" / "esc50"
    with pytest.raises(FileNotFoundError, match=f"{default} .*ESC50_ROOT"):
        esc50.load()
    write_layout(default, rows_of([1, 2, 3]))
    assert len(esc50.load()) == 9
    monkeypatch.setenv("ESC50_ROOT", str(tmp_path / "named"))
    write_layout(tmp_path / "named", rows_of([1, 2, 3, 4]))
    assert len(esc50.load()) == 12 and len(esc50.load(default)) == 9


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive like the official one, on a server of its own."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    write_layout(tmp_path / "made" / "ESC-50-master", rows_of([1, 2, 3]))
    made = shutil.make_archive(str(tmp_path / "made" / "archive"), "zip", tmp_path / "made", "ESC-50-master")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "made")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # Polled often, because closing the server waits for the next poll.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(esc50, "URL", f"http://127.0.0.1:{server.server_port}/archive.zip")
        monkeypatch.setattr(esc50, "MD5", f"md5:{hashlib.md5(Path(made).read_bytes()).hexdigest()}")
        yield
        server.shutdown()
        thread.join()


def test_download_once_then_never_again(tmp_path, monkeypatch, archive):
    root = tmp_path / "data" / "esc50"
    clips = load_clips("esc50", root, download=True)
    assert clips["path"][0] == str(root / "audio" / "1-0010-A-0.wav")
    assert sorted(path.name for path in root.iterdir()) == ["audio", "meta"]
    assert [path.name for path in root.parent.iterdir()] == ["esc50"]
    monkeypatch.setattr(esc50, "URL", "http://nowhere.invalid/")
    assert len(esc50.load(root)) == len(esc50.load(root, download=True)) == 9
    # Never into a folder with other files.
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="used is not empty"):
        esc50.load(tmp_path / "used", download=True)


@pytest.mark.parametrize(
    ("name", "value", "error"), [("MD5", f"md5:{'0' * 32}", ValueError), ("URL", "{}x", OSError)]
)
def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch, archive, name, value, error):
    monkeypatch.setattr(esc50, name, value.format(esc50.URL))
    with pytest.raises(error, match="expected md5:0000|404.*archive.zipx"):
        esc50.load(tmp_path / "data" / "esc50", download=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_archive_writes_nothing_outside_and_no_more_than_it_may(tmp_path, monkeypatch, archive):
    packed = tmp_path / "made" / "archive.zip"
    link = zipfile.ZipInfo("ESC-50-master/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "a") as file:
        for name in ("../outside", "ESC-50-master/../../outside", str(tmp_path / "outside")):
            file.writestr(name, "x")
        file.writestr(link, str(tmp_path))
    monkeypatch.setattr(esc50, "MD5", f"md5:{hashlib.md5(packed.read_bytes()).hexdigest()}")
    data = tmp_path / "data"
    assert len(esc50.load(data / "esc50", download=True)) == 9
    assert [path.name for path in data.iterdir()] == ["esc50"] and not (tmp_path / "outside").exists()
    assert not any(path.is_symlink() for path in data.rglob("*"))
    monkeypatch.setattr(esc50, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to more than 1,000 bytes"):
        esc50.load(data / "again", download=True)
    assert [path.name for path in data.iterdir()] == ["esc50"]


def test_real_clips(esc50_root):
    clips = load_clips("esc50", esc50_root, classes="esc10")
    assert clips["label"].nunique() == 10
    # ESC-10 has eight clips per class and fold.
    assert (clips.groupby(["fold", "label"]).size() == 8).all()
    assert clips["duration"].between(3, 8).all()
    assert clips.groupby("source")["fold"].nunique().max() == 1
    everything = esc50.load(esc50_root, classes="all")
    assert everything["label"].nunique() == 50 and set(clips["clip_id"]) < set(everything["clip_id"])
