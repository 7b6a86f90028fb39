from __future__ import annotations

import csv
import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips, validate
from tclap.data.datasets import esc50

# (category, target, esc10): "sea_waves" and "dog" are in ESC-10, "hen" is not.
CATEGORIES = (("dog", 0, True), ("sea_waves", 11, True), ("hen", 6, False))


def rows_of(folds, categories=CATEGORIES):
    for fold in folds:
        for category, target, esc10 in categories:
            source = f"00{fold}{target}"
            yield {
                "filename": f"{fold}-{source}-A-{target}.wav",
                "fold": fold,
                "target": target,
                "category": category,
                "esc10": esc10,
                "src_file": source,
                "take": "A",
            }


def write_layout(root, rows, suffix=".wav", columns=esc50.CSV_COLUMNS):
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = list(rows)
    for i, row in enumerate(rows):
        # Odd lengths, and every other file in stereo.
        shape = (801 + i,) if i % 2 else (801 + i, 2)
        stem = str(row["filename"]).rsplit(".", 1)[0]
        soundfile.write(root / "audio" / f"{stem}{suffix}", np.full(shape, 0.1), 8000)
    with open(root / "meta" / "esc50.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return root


def edit_csv(root, edit):
    path = root / "meta" / "esc50.csv"
    path.write_text(edit(path.read_text()))


def splits(clips):
    return dict(zip(clips["fold"], clips["split"], strict=True))


def test_tiny_layout_value_by_value(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    clips = esc50.load(root)
    validate(clips)
    assert clips.columns.tolist() == list(COLUMNS)
    assert len(clips) == 9
    row = clips.iloc[1].to_dict()
    assert row == {
        "clip_id": "1-00111-A-11",
        "path": str(root / "audio" / "1-00111-A-11.wav"),
        "label": "sea waves",
        "captions": ["sea waves"],
        "split": "train",
        "fold": 1,
        "source": "00111",
        "duration": 802 / 8000,
    }
    assert splits(clips) == {1: "train", 2: "validation", 3: "test"}


@pytest.mark.parametrize("suffix", [".ogg", ".flac"])
def test_a_file_may_have_another_suffix_than_its_row(tmp_path, suffix):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]), suffix=suffix)
    clips = load_clips("esc50", root)
    assert clips["path"].str.endswith(suffix).all()
    assert clips["clip_id"][0] == "1-0010-A-0"


def test_other_folds_on_request(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3, 4, 5]))
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
    assert labels(classes=["sea_waves", "dog"]) == labels(classes=["sea waves", "dog"])
    assert labels(classes=["sea_waves", "dog"]) == ["dog", "sea waves"]


def test_the_first_clips_of_each_class_in_each_fold(tmp_path):
    rows = [
        row | {"filename": f"{n}-{row['filename']}", "src_file": f"{n}{row['src_file']}"}
        for n in (2, 0, 1)
        for row in rows_of([1, 2, 3])
        if (n, row["fold"], row["category"]) not in {(0, 2, "hen"), (1, 2, "hen")}
    ]
    root = write_layout(tmp_path / "esc", rows)
    everything = esc50.load(root)
    assert len(everything) == 25
    for count in (1, 2, 3, 99):
        found = esc50.load(root, per_class=count)
        sizes = found.groupby(["fold", "label"]).size().to_dict()
        full = {(fold, label): min(count, 3) for fold in (1, 2, 3) for label in ("dog", "hen", "sea waves")}
        assert sizes == full | {(2, "hen"): 1}
        # In the order of the csv, which is not that of the names: those numbered 2 come first.
        first = found["clip_id"].str[0].unique().tolist()
        assert first == ["2", "0", "1"][: min(count, 3)]
        kept = everything[everything["clip_id"].isin(found["clip_id"])].reset_index(drop=True)
        assert found.reset_index(drop=True).equals(kept)
    for fold_choice in ({"folds": [1, 3, 2]}, {"test_fold": 1}):
        found = esc50.load(root, per_class=1, **fold_choice)
        assert (found.groupby(["fold", "label"]).size() == 1).all() and len(found) == 9
    # Files of other clips need not be there.
    (root / "audio" / "1-1-0010-A-0.wav").unlink()
    assert len(esc50.load(root, per_class=1)) == 9
    with pytest.raises(FileNotFoundError, match="1-1-0010-A-0.wav"):
        esc50.load(root)


@pytest.mark.parametrize("count", [0, -1])
def test_no_clips_a_class_are_refused(tmp_path, count):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    with pytest.raises(ValueError, match=f"per_class is {count}, expected at least 1"):
        esc50.load(root, per_class=count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fold": 7}, "has no fold 7; the folds present are 1, 2, 3"),
        ({"folds": [1, 2, 9]}, "has no fold 9"),
        ({"folds": [1, 2], "test_fold": 3}, r"fold 3 is not among folds=\[1, 2\]"),
        ({"test_fold": 2, "validation_fold": 2}, "test_fold and validation_fold are both 2"),
        ({"folds": [1, 2]}, "leaves no fold to train on"),
        ({"folds": [2]}, "leaves no fold to train on"),
        ({"folds": []}, "leaves no fold to train on"),
        ({"classes": ["dog"]}, r"has 1 class\(es\) in folds 1, 2, 3"),
        ({"classes": []}, r"has 0 class\(es\)"),
        ({"classes": ["dog", "wolf"]}, "has no class wolf"),
        ({"classes": "dog"}, "classes='dog'; expected 'all', 'esc10', 'auto' or a list of labels"),
    ],
)
def test_choices_that_cannot_be_met(tmp_path, options, message):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    with pytest.raises(ValueError, match=message):
        esc50.load(root, **options)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: "", "esc50.csv is empty; expected the columns filename"),
        (lambda text: text.splitlines()[0] + "\n", "esc50.csv has no rows"),
        (lambda text: text.replace("src_file", "src"), r"esc50.csv lacks the column\(s\) src_file"),
        (lambda text: text.replace(",hen,", ",,", 1), r"in column category '' \(line 4\)"),
        (lambda text: text.replace(",hen,", ", ,"), r"category '' \(line 4\), '' \(line 7\), '' \(line 10\)"),
        (lambda text: text.replace("1-0010-A-0.wav", ""), r"in column filename '' \(line 2\)"),
        (
            lambda text: text.replace(".wav,1,", ".wav,one,", 1),
            r"in column fold 'one' \(line 2\); expected a",
        ),
        (
            lambda text: text.replace("True", "yes", 1),
            r"in column esc10 'yes' \(line 2\); expected True or F",
        ),
        (lambda text: text.replace(",0010,A", ",,A"), r"in column src_file '' \(line 2\)"),
        (lambda text: text + "a,b,c,d,e,f,g,h,i\n", "esc50.csv is no readable csv"),
        (lambda text: text + "9-short-A-0.wav,1\n", r"in column category '' \(line 11\)"),
    ],
)
def test_a_broken_csv_is_told_by_file_column_and_line(tmp_path, edit, message):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    edit_csv(root, edit)
    with pytest.raises(ValueError, match=message):
        esc50.load(root)


def test_a_csv_saved_by_a_spreadsheet_loads(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    edit_csv(root, lambda text: "\ufeff" + text.replace("True", "TRUE").replace("False", "FALSE"))
    assert esc50.load(root, classes="esc10")["label"].nunique() == 2


def test_rows_without_a_file_are_all_named(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of(range(1, 6)))
    for path in (root / "audio").glob("[1-4]-*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"for 12 row\(s\) of .*: 1-0010-A-0.wav, .* and 2 more$"):
        esc50.load(root)


def test_files_that_are_no_audio_are_all_named(tmp_path):
    root = write_layout(tmp_path / "esc", rows_of([1, 2, 3]))
    for stem in ("1-0010-A-0", "2-0026-A-6"):
        (root / "audio" / f"{stem}.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"2 file\(s\) of ESC-50.*1-0010-A-0.wav.*2-0026-A-6.wav"):
        esc50.load(root)


def test_a_missing_root_says_what_was_expected_and_where_to_get_it(tmp_path, monkeypatch, project_root):
    monkeypatch.delenv("ESC50_ROOT", raising=False)
    message = "ESC50_ROOT is not set and no root is given.*karolpiczak.*or with download=True"
    with pytest.raises(FileNotFoundError, match=message):
        esc50.load()
    monkeypatch.setenv("ESC50_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"ESC50_ROOT={tmp_path} has no meta/esc50.csv.*karolpiczak"):
        esc50.load()
    with pytest.raises(FileNotFoundError, match=f"ESC-50 root {tmp_path}/no has no meta/esc50.csv"):
        esc50.load(tmp_path / "no")


def test_the_environment_variable_names_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("ESC50_ROOT", str(write_layout(tmp_path / "esc", rows_of([1, 2, 3]))))
    assert len(esc50.load()) == 9


def test_without_a_root_the_downloaded_data_are_found(monkeypatch, project_root):
    monkeypatch.delenv("ESC50_ROOT", raising=False)
    write_layout(project_root / "data" / "esc50", rows_of([1, 2, 3]))
    assert len(esc50.load()) == 9


def test_a_recording_in_two_folds_is_refused_as_a_leak(tmp_path):
    rows = list(rows_of([1, 2, 3]))
    rows[-1]["src_file"] = rows[0]["src_file"]
    with pytest.raises(ValueError, match=r"source occurs in more than one split: 0010 \(test and train\)"):
        load_clips("esc50", write_layout(tmp_path / "esc", rows))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server that has the archive of a tiny ESC-50; yields what was asked of it."""
    write_layout(tmp_path / "made" / "ESC-50-master", rows_of([1, 2, 3]))
    (tmp_path / "site").mkdir()
    archive = shutil.make_archive(str(tmp_path / "site" / "master"), "zip", tmp_path / "made")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "site"))

        def log_request(self, *arguments):
            asked.append(self.path)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ESC50_ROOT", raising=False)
    monkeypatch.setattr(esc50, "ARCHIVE_MD5", hashlib.md5(Path(archive).read_bytes()).hexdigest())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("ESC50_URL", f"http://127.0.0.1:{server.server_port}/master.zip")
        # Polled often, because closing the server waits for the next poll.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_download_once_then_never_again(tmp_path, monkeypatch, project_root, mirror):
    clips = load_clips("esc50", download=True)
    root = project_root / "data" / "esc50"
    assert clips["path"][0] == str(root / "audio" / "1-0010-A-0.wav")
    assert sorted(path.name for path in root.iterdir()) == ["audio", "meta"]
    assert [path.name for path in root.parent.iterdir()] == ["esc50"]
    assert len(esc50.load()) == len(esc50.load(download=True)) == 9
    assert mirror == ["/master.zip"]
    assert len(esc50.load(tmp_path / "elsewhere", download=True)) == 9
    assert mirror == ["/master.zip"] * 2


def test_a_mirror_with_another_archive_is_refused(monkeypatch, project_root, mirror):
    monkeypatch.setattr(esc50, "ARCHIVE_MD5", "0" * 32)
    with pytest.raises(
        ValueError, match=r"master.zip is not the file that was expected: its md5 is .*, expected 0"
    ):
        esc50.load(download=True)
    assert list((project_root / "data").iterdir()) == []


def test_a_download_never_mixes_with_other_files(tmp_path, mirror):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="used is not empty"):
        esc50.load(tmp_path / "used", download=True)
    assert mirror == []


def test_real_clips(esc50_root):
    clips = load_clips("esc50", esc50_root, classes="esc10")
    assert clips["label"].nunique() == 10
    assert {"chainsaw", "sea waves", "crying baby"} <= set(clips["label"])
    # ESC-10 has eight clips a class and fold.
    assert (clips.groupby(["fold", "label"]).size() == 8).all()
    assert clips["duration"].between(3, 8).all()
    assert clips.groupby("source")["fold"].nunique().max() == 1
    everything = esc50.load(esc50_root, classes="all")
    assert everything["label"].nunique() == 50
    assert not everything["label"].str.contains("_").any()
    assert set(clips["clip_id"]) < set(everything["clip_id"])
