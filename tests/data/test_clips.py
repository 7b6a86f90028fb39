import sys
import types

import numpy as np
import pandas as pd
import pytest
import soundfile

from tclap.data import clips as module
from tclap.data.clips import COLUMNS, for_stage, load_clips, validate


def make(tmp_path, n=4):
    rows = []
    for i in range(n):
        path = tmp_path / f"clip{i}.wav"
        soundfile.write(path, np.full(800 + i, 0.1), 8000)
        label = "dog" if i % 2 else "sea waves"
        split = ("train", "train", "validation", "test")[i % 4]
        rows.append((f"clip{i}", str(path), label, [label], split, i, f"source{i}", (800 + i) / 8000))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture
def loaded(monkeypatch):
    """Loads a table as that of a data set."""

    def load(clips):
        fake = types.ModuleType("fake_dataset")
        fake.load = lambda root, **options: clips.assign(**options)
        monkeypatch.setitem(sys.modules, "tclap.data.datasets.fake", fake)
        monkeypatch.setattr(module, "DATASETS", ("fake",))
        return load_clips("fake", split=clips["split"])

    return load


def test_a_valid_table_is_not_changed(tmp_path, loaded):
    clips = make(tmp_path)
    pd.testing.assert_frame_equal(loaded(clips), clips)


def test_what_a_data_set_leaves_out_is_completed(tmp_path, loaded):
    clips = make(tmp_path)
    found = loaded(clips.drop(columns=["label", "source", "fold", "duration"]))
    expected = clips.assign(label=clips["clip_id"], source=clips["clip_id"], fold=0)
    pd.testing.assert_frame_equal(found, expected)


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the column\(s\) split, source"):
        validate(make(tmp_path).drop(columns=["split", "source"]))


def test_all_problems_come_in_one_error(tmp_path):
    clips = make(tmp_path, 8).assign(label="dog")
    clips.loc[[0, 1], "source"] = "shared"  # both in train
    validate(clips.assign(label=clips["clip_id"]))
    clips.loc[[0, 3], "source"] = "leaking"
    clips.at[4, "split"], clips.at[5, "captions"], clips.at[6, "clip_id"] = "dev", [], "clip7"
    with pytest.raises(ValueError) as caught:
        validate(clips)
    assert str(caught.value).removeprefix("clips table is invalid: ").split("; ") == [
        "clip_id occurs more than once: clip7",
        "split is none of train, base, post, validation, test for: clip4",
        "no list of captions for: clip5",
        "source occurs in more than one split: leaking (train and test)",
        "at least two labels are needed, found dog",
    ]
    with pytest.raises(ValueError, match="found none"):
        validate(clips.iloc[:0])


def test_missing_and_unreadable_files_are_named_and_counted(tmp_path, loaded):
    clips = make(tmp_path, n=16)
    (tmp_path / "clip0.wav").write_text("this is no audio")
    for i in range(1, 13):
        (tmp_path / f"clip{i}.wav").unlink()
    with pytest.raises(
        ValueError, match=r"13 audio file\(s\) cannot be read: .*clip0.wav is not .*clip9.wav. and 3 more$"
    ):
        loaded(clips)


def test_unknown_data_set():
    with pytest.raises(ValueError, match="data must be one of synthetic, .*, got 'esc-50'"):
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
    with pytest.raises(ValueError, match="no clips for stage 'test'; the splits present are train"):
        for_stage(clips[clips["split"] == "train"], "test")
    with pytest.raises(ValueError, match="stage must be one of base, .*, got 'train'"):
        for_stage(clips, "train")
