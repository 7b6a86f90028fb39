import logging

import numpy as np
import pytest
import soundfile

from tclap.data.clips import COLUMNS, load_clips
from tclap.data.datasets import folder


def write(root, text, audio=None, csv="clips.csv"):
    """Writes the csv and, unless they are named, every file of its first column."""
    (root / csv).write_text(text)
    for name in {line.split(",")[0] for line in text.splitlines()[1:]} if audio is None else audio:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(800, 0.1), 8000)
    return root


def test_labels_and_captions_value_by_value(tmp_path):
    text = (
        "note,split,label,file,source,caption\n"
        "x,train,dog,sub/b.flac,tape 1,A dog barks\n"
        ",test,hen,a.mp3,tape 2,A hen\n"
        ',train,dog,./sub/b.flac,tape 1,"Barking, twice"\n'
    )
    write(tmp_path, text, ["sub/b.flac", "a.mp3"])
    clips = load_clips("folder", tmp_path)
    assert clips.columns.tolist() == list(COLUMNS)
    assert clips.iloc[0].to_dict() == {
        "clip_id": "sub/b.flac",
        "path": str(tmp_path / "sub" / "b.flac"),
        "label": "dog",
        "captions": ["A dog barks", "Barking, twice"],
        "split": "train",
        "fold": 0,
        "source": "tape 1",
        "duration": 0.1,
    }
    assert clips.iloc[1][["clip_id", "label", "split"]].tolist() == ["a.mp3", "hen", "test"]


def test_with_labels_only_they_are_the_captions(tmp_path):
    write(tmp_path, "file,label,split\na.wav,sea waves,train\nb.wav,dog,test\n", csv="mine.csv")
    clips = load_clips("folder", tmp_path, csv="mine.csv")
    assert clips["captions"].tolist() == [["sea waves"], ["dog"]]
    assert clips["source"].tolist() == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("label", "count", "expected"),
    [
        ("dog", 20, {"train": 16, "validation": 2, "test": 2}),
        ("hen", 5, {"train": 3, "validation": 1, "test": 1}),
        ("crow", 3, {"train": 1, "validation": 1, "test": 1}),
        ("rain", 2, {"train": 2}),
    ],
)
def test_a_tenth_is_held_out_label_by_label(tmp_path, caplog, label, count, expected):
    rows = [f"{n}.wav,{label if n < count else 'wind'}" for n in range(count + 4)]
    write(tmp_path, "\n".join(["file,label", *rows]))
    with caplog.at_level(logging.WARNING):
        clips = load_clips("folder", tmp_path)
    assert clips.loc[clips["label"] == label, "split"].value_counts().to_dict() == expected
    scarce = "too few sources to hold any out, in training only: rain"
    assert (scarce in caplog.text) == (label == "rain")


def test_the_seed_and_nothing_else_decides(tmp_path):
    names = [f"{label}{n}" for label in ("dog", "hen") for n in range(20)]
    rows = [f"{name}.wav,{name[:3]},{name}" for name in names]
    # Sources that have both labels.
    rows += [f"{name}-too.wav,hen,{name}" for name in names[:10]]
    text = "\n".join(["file,label,source", *rows])
    write(tmp_path, text)
    first = folder.load(tmp_path).set_index("clip_id")["split"]
    lines = text.splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    turned = folder.load(tmp_path, csv="turned.csv").set_index("clip_id")["split"]
    assert turned.to_dict() == first.to_dict()
    assert folder.load(tmp_path, seed=1).set_index("clip_id")["split"].to_dict() != first.to_dict()


def test_clips_of_one_source_stay_together(tmp_path):
    rows = [f"{n}.wav,clip {n},tape {n // 4}" for n in range(40)]
    write(tmp_path, "\n".join(["file,caption,source", *rows]))
    clips = load_clips("folder", tmp_path)
    assert clips.groupby("source")["split"].nunique().max() == 1
    # Ten tapes; clips without labels are two sources a split at least, or they would make no pair.
    assert clips["split"].value_counts().to_dict() == {"train": 24, "validation": 8, "test": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.wav,dog\nb.wav,hen\n", r"too few clips to split: 2 source\(s\) of 2 label\(s\)"),
        ("file,caption\na.wav,dog\nb.wav,hen\n", r"too few clips to split: 2 source\(s\) of 1 label\(s\)"),
        ("file,label\n", "clips.csv has no rows; expected the columns file"),
        ("file,title\na.wav,dog\n", "clips.csv has neither a column caption nor a column label"),
        ("path,label\na.wav,dog\n", r"clips.csv lacks the column\(s\) file"),
        ("file,label\na.wav,dog\nb.wav,\n", r"in column label '' \(line 3\); expected a value"),
        ('file,label\n"a.wav","do\ng"\n\nb.wav,\n', r"in column label '' \(line 5\); expected a value"),
        (
            "file,caption\na.wav,a dog, barking\n",
            r"clips.csv has more or fewer values .* line 2; a value with",
        ),
        ('file,caption\na.wav,"a\ndog"\nb.wav\n', "more or fewer values than columns in line 4;"),
        ('file,label\na.wav,"dog\n', r"clips.csv is not a readable csv: unexpected end of data"),
        ("file,label\na.wav,dog\na.wav,hen\n", r"more than one label for a.wav \(dog and hen\)"),
        ("file,label,split\na.wav,dog,train\na.wav,dog,test\n", r"one split for a.wav \(train and test\)"),
        ("file,label,source\na.wav,dog,1\na.wav,dog,2\n", r"more than one source for a.wav \(1 and 2\)"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, text, message):
    write(tmp_path, text, ["a.wav", "b.wav"])
    with pytest.raises(ValueError, match=message):
        folder.load(tmp_path)


def test_a_missing_csv_or_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/other.csv does not exist"):
        load_clips("folder", tmp_path, csv="other.csv")
    with pytest.raises(ValueError, match="the data set 'folder' has no default root"):
        load_clips("folder")


def test_with_captions_only_a_clip_is_its_own_label_and_those_captioned_alike_are_one_event(tmp_path):
    captions = ["A dog barks.", "a dog barks", "Rain.", "A dog barks.", "Wind", "Surf", "Bells"]
    rows = [f"{n}.wav,{caption}" for n, caption in enumerate(captions)]
    write(tmp_path, "\n".join(["file,caption", *rows]))
    clips = load_clips("folder", tmp_path).set_index("clip_id")
    same = clips.loc[["0.wav", "1.wav", "3.wav"], "label"]
    assert same.tolist() == ["0.wav"] * 3 and clips["label"].nunique() == 5
    assert clips["split"].value_counts().to_dict() == {"train": 3, "validation": 2, "test": 2}
