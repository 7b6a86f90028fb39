from __future__ import annotations

import sys
import types

import numpy as np
import pandas as pd
import pytest
import soundfile

from tclap.data import clips as module
from tclap.data.clips import COLUMNS, for_stage, listing, load_clips, validate


def make(tmp_path, n=4, write=True):
    rows = []
    for i in range(n):
        path = tmp_path / f"clip{i}.wav"
        if write:
            soundfile.write(path, np.full(800, 0.1), 8000)
        label = "dog" if i % 2 else "sea waves"
        split = ("train", "train", "validation", "test")[i % 4]
        rows.append((f"clip{i}", str(path), label, [label], split, i, f"source{i}", 0.1))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_a_sound_table_passes_and_is_not_changed(tmp_path):
    clips = make(tmp_path)
    before = clips.copy(deep=True)
    validate(clips)
    pd.testing.assert_frame_equal(clips, before)


def test_captions_may_be_the_arrays_that_parquet_gives_back(tmp_path):
    clips = make(tmp_path)
    validate(clips.assign(captions=clips["captions"].map(lambda captions: np.array(captions, dtype=object))))


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the column\(s\) split, source"):
        validate(make(tmp_path).drop(columns=["split", "source"]))


def test_no_rows(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        validate(make(tmp_path).iloc[:0])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("clip_id", "clip1", "clip_id occurs more than once: clip1"),
        ("label", "", "label missing or empty for: clip0"),
        ("label", None, "label missing or empty for: clip0"),
        ("captions", [], "captions missing or empty for: clip0"),
        ("captions", "waves", "captions missing or empty for: clip0"),
        ("captions", ["sea", " "], "captions missing or empty for: clip0"),
        ("captions", None, "captions missing or empty for: clip0"),
        ("source", np.nan, "source missing or empty for: clip0"),
        ("split", "training", "split is none of train, base, post, validation, test for: clip0"),
        ("duration", 0.0, "duration is no positive number for: clip0"),
        ("duration", np.nan, "duration is no positive number for: clip0"),
        ("path", None, "missing files: None"),
    ],
)
def test_one_bad_value_is_named(tmp_path, column, value, message):
    clips = make(tmp_path)
    clips.at[0, column] = value
    with pytest.raises(ValueError) as caught:
        validate(clips)
    assert str(caught.value) == "clips table is invalid: " + message


def test_two_labels_are_needed(tmp_path):
    with pytest.raises(ValueError, match="at least two labels are needed, found 1: dog"):
        validate(make(tmp_path).assign(label="dog"))


def test_a_source_in_two_splits_is_a_leak_but_in_one_is_not(tmp_path):
    clips = make(tmp_path)
    clips.loc[[0, 1], "source"] = "shared"
    validate(clips)
    clips.loc[[0, 3], "source"] = "leaking"
    with pytest.raises(ValueError, match=r"more than one split: leaking \(test and train\)$"):
        validate(clips)


def test_all_problems_come_in_one_error_and_long_lists_are_counted(tmp_path):
    clips = make(tmp_path, n=16)
    (tmp_path / "clip0.wav").write_text("this is no audio")
    (tmp_path / "clip1.wav").write_bytes(b"")
    for i in range(2, 15):
        (tmp_path / f"clip{i}.wav").unlink()
    clips.at[15, "label"] = ""
    with pytest.raises(ValueError) as caught:
        validate(clips)
    message = str(caught.value)
    assert "label missing or empty for: clip15" in message
    assert "clip0.wav" in message.split("unreadable files: ")[1]
    assert "clip1.wav" in message.split("unreadable files: ")[1]
    missing = message.split("missing files: ")[1].split(";")[0]
    assert missing.endswith("clip11.wav and 3 more")
    assert missing.count(".wav") == 10


def test_files_are_left_alone_when_asked(tmp_path):
    validate(make(tmp_path, write=False), check_files=False)


def test_listing():
    assert listing(["a", "b"]) == "a, b"
    assert listing(range(4), limit=3) == "0, 1, 2 and 1 more"
    assert listing(range(3), limit=3) == "0, 1, 2"


def test_load_clips_passes_on_its_arguments_and_validates(tmp_path, monkeypatch):
    clips = make(tmp_path)
    fake = types.ModuleType("fake_dataset")
    fake.load = lambda root, *, good: clips if good and root == tmp_path else clips.iloc[:1]
    monkeypatch.setitem(sys.modules, "fake_dataset", fake)
    monkeypatch.setitem(module.DATASETS, "fake", "fake_dataset")
    assert load_clips("fake", tmp_path, good=True) is clips
    with pytest.raises(ValueError, match="at least two labels"):
        load_clips("fake", tmp_path, good=False)


def test_unknown_data_set():
    with pytest.raises(ValueError, match="unknown data set 'esc-50'; expected one of synthetic, esc50"):
        load_clips("esc-50")


def test_train_serves_base_and_post_and_nothing_else(tmp_path):
    clips = make(tmp_path, n=6).assign(split=["train", "base", "post", "validation", "test", "train"])
    seen = {stage: for_stage(clips, stage)["clip_id"].tolist() for stage in module.STAGES}
    assert seen == {
        "base": ["clip0", "clip1", "clip5"],
        "post": ["clip0", "clip2", "clip5"],
        "validation": ["clip3"],
        "test": ["clip4"],
    }
    assert for_stage(clips, "test").index.tolist() == [0]


def test_a_stage_without_clips_and_an_unknown_stage(tmp_path):
    clips = make(tmp_path)
    with pytest.raises(ValueError, match="no clips for stage 'test'; the splits present are train"):
        for_stage(clips[clips["split"] == "train"], "test")
    with pytest.raises(ValueError, match="unknown stage 'train'"):
        for_stage(clips, "train")
