"""The published layouts, on items made here, and the scores of models that know everything or nothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from tclap.evaluation.formats import FORMATS, unordered
from tclap.evaluation.items import evaluate_items
from tclap.slots.reader import Reading

COMPA = ["pair_file", "pair_caption", "reversed_pair_file", "reversed_pair_caption"]
TRIPLET = ["triplet_file", "triplet_caption"]


def compa_order(folder, count):
    rows = [(f"{n}ab.wav", f"{n} a then b", f"{n}ba.wav", f"{n} b then a", "-", "-") for n in range(count)]
    rows += [("cd.wav", "c then d", "dc.wav", "d then c", "both.wav", "c amidst d")]
    pd.DataFrame(rows, columns=[*COMPA, *TRIPLET]).to_csv(folder / "file.csv")
    return "compa", [name for row in rows for name in row[::2]]


def compa_attribute(folder, count):
    rows = [("Yab", f"{n} old", "Yba", f"{n} young", f"{n}x.wav", f"{n}y.wav") for n in range(count)]
    columns = [*COMPA, "pair_file.1", "reversed_pair_file.1"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "file.csv", index=False)
    return "compa", [name for row in rows for name in row[4:]]


def dissecting(folder, count):
    for ending, text in (
        ("", "{} a and then b"),
        ("_reverse", "{} b then a and"),
        ("_replace", "{} a after b"),
    ):
        data = [
            {"id": f"{n}.flac", "audio": f"/scratch/AudioSet/{n}.flac", "duration": 8.0}
            | {f"caption_{k}": text.format(f"{n}.{k}") if k < 3 else f"{n}.{k} a hum" for k in range(1, 6)}
            for n in range(count)
        ]
        content = {"num_captions_per_audio": 5, "data": data}
        (folder / f"file{ending}.json").write_text(json.dumps(content))
    return "dissecting", [f"{n}.flac" for n in range(count)]


def syncaps(folder, count):
    for ending, text in (("", "{} a before b"), ("_reverse", "{} b before a"), ("_replaced", "{} a after b")):
        data = [{"id": f"{n}.wav", "audio": f"/x/{n}.wav", "caption": text.format(n)} for n in range(count)]
        (folder / f"file{ending}.json").write_text(json.dumps({"num_captions_per_audio": 1, "data": data}))
    return "dissecting", [f"{n}.wav" for n in range(count)]


def audiotime(folder, count):
    spans = [[[0.9, 1.8], [2.8, 3.9]], [[5.7, 10.0]]]
    content = {
        f"syn_{n}": {
            "event": {f"Cat {n}, meow": spans[0], f"Busy signal {n}": spans[1]},
            "caption": "A cat meows twice.",
        }
        for n in range(count)
    }
    (folder / "file.json").write_text(json.dumps(content, indent=4))
    return "audiotime", [f"{name}.wav" for name in content]


def tacos(folder, count):
    rows = [
        row
        for n in range(count)
        for row in ((f"{n}.mp3", f"Cat {n}.", 0.5, 2), (f"{n}.mp3", f"TV {n}", 2, 3.25))
    ]
    pd.DataFrame(rows, columns=["filename", "text", "onset", "offset"]).to_csv(
        folder / "file.csv", index=False
    )
    return "tacos", [f"{n}.mp3" for n in range(count)]


def moments(folder, count):
    lines = [
        {
            "qid": f"-{n}_{k}",
            "query": f"A {word} {n}",
            "duration": 99,
            "vid": f"-{n}",
            "relevant_windows": spans,
        }
        for n in range(count)
        for k, (word, spans) in enumerate((("bell", [[60, 70]]), ("cow", [[3, 9], [20, 21]])))
    ]
    (folder / "file.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return "moments", [f"-{n}.m4a" for n in range(count)]


def trea(folder, count):
    rows = [
        (
            n,
            f"Which sound event occurs after {n}?",
            f"audios/{n}.wav",
            "Door, wood creaks",
            "Cow",
            "water_drops",
            "Pig",
            "C",
        )
        for n in range(count)
    ]
    columns = ["id", "question", "audio_path", "optionA", "optionB", "optionC", "optionD", "correct"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "file.csv", index=False)
    return "trea", [row[2] for row in rows]


LAYOUTS = [compa_order, compa_attribute, dissecting, syncaps, audiotime, tacos, moments, trea]


def made(folder, layout, count=2):
    """The items of a layout; their sounds are empty files, which the models below know by name."""
    name, sounds = layout(folder, count)
    for sound in sounds:
        (folder / "audio" / sound).parent.mkdir(parents=True, exist_ok=True)
        (folder / "audio" / sound).touch()
    (file,) = {*folder.glob("file.json"), *folder.glob("file.csv")}
    return FORMATS[name](file, folder / "audio")


def plain(captions):
    return [Reading("plain")] * len(captions)


class Knows:
    """Embeds a sound on its own axis, and a caption on that of a sound of its item, or on none's."""

    def __init__(self, items, takes):
        paths = list(items["sounds"].explode().unique())
        *axes, self.none = np.eye(len(paths) + 1)
        self.vectors = dict(zip(paths, axes, strict=True))
        for item in items.itertuples():
            for caption, sound in zip(item.captions, takes(item.belongs, len(item.sounds)), strict=True):
                self.vectors[caption] = self.vectors[item.sounds[sound]] if sound >= 0 else self.none

    def encode_text(self, names):
        return np.stack([self.vectors.get(name, self.none) for name in names])

    encode_audio = encode_text


def perfect(belongs, _):
    return belongs


def worst(belongs, sounds):
    """Another sound of several, else the item's sound for its wrong captions alone."""
    return [(j + 1) % sounds for j in belongs] if sounds > 1 else [0 if j < 0 else -1 for j in belongs]


def tie(belongs, _):
    return [-1] * len(belongs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_models_that_know_everything_or_nothing(tmp_path, layout):
    items = made(tmp_path, layout)
    assert not items[["task", "item"]].duplicated().any()
    for takes, correct, tied in ((perfect, 1, False), (worst, 0, False), (tie, 0, True)):
        rows = evaluate_items(Knows(items, takes), items, read=plain)
        own = rows[rows["model"] == "model"]
        assert (own["correct"] == correct).all() and (own["tied"] == tied).all(), takes


class Random:
    """Random directions, by the name."""

    def encode_text(self, names):
        seeds = [int.from_bytes(name.encode()) % 2**63 for name in names]
        return np.stack([np.random.default_rng(seed).standard_normal(32) for seed in seeds])

    encode_audio = encode_text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_embeddings_are_at_chance(tmp_path, layout):
    items = made(tmp_path, layout, 150)
    rows = evaluate_items(Random(), items, read=plain)
    for task, group in rows[(rows["model"] == "model") & (rows["item"] != "150")].groupby("task"):
        options = len(items.loc[items["task"] == task.split(":")[0], "captions"].iloc[0])
        chance = {"text": 1 / 4, "audio": 1 / 4, "group": 1 / 6}.get(task.split(": ")[-1], 1 / options)
        assert group["chance"].unique() == pytest.approx([chance])
        assert binomtest(int(group["correct"].sum()), len(group), chance).pvalue > 0.001, task


def test_compa_by_hand(tmp_path):
    items = made(tmp_path, compa_order, 1)
    assert items["captions"].tolist() == [
        ["0 a then b", "0 b then a"],
        ["c then d", "d then c", "c amidst d"],
    ]
    audio = tmp_path / "audio"
    assert items["sounds"][1] == [str(audio / name) for name in ("cd.wav", "dc.wav", "both.wav")]
    assert items["belongs"].tolist() == [[0, 1], [0, 1, 2]] and set(items["task"]) == {"compa order"}
    (folder := tmp_path / "attribute").mkdir()
    items = made(folder, compa_attribute, 1)
    assert items["sounds"].tolist() == [[str(folder / "audio" / name) for name in ("0x.wav", "0y.wav")]]
    assert items["task"].tolist() == ["compa attribute"]


def test_dissecting_by_hand(tmp_path, caplog):
    items = made(tmp_path, dissecting, 1)
    asked = [["0.1 a and then b", "0.1 b then a and"], ["0.2 a and then b", "0.2 b then a and"]]
    assert items.loc[items["task"] == "dissecting reversed", "captions"].tolist() == asked
    assert items.loc[items["task"] == "dissecting replaced", "captions"].iloc[0][1] == "0.1 a after b"
    assert items["belongs"].tolist() == [[0, -1]] * 4 and "2 of 5 captions differ" in caplog.text


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [(audiotime, "cat 0", "busy signal 0"), (tacos, "cat 0", "TV 0"), (moments, "a cow 0", "a bell 0")],
)
def test_timed_events_by_hand(tmp_path, layout, first, second):
    items = made(tmp_path, layout, 1)
    assert items["captions"].tolist() == [
        [f"{first} before {second}", f"{second} before {first}"],
        [f"{second} after {first}", f"{first} after {second}"],
    ]
    assert items["events"].tolist() == [[(first, second), (second, first)]] * 2
    assert items["task"].str.split().str[-1].tolist() == ["before", "after"]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ([(0, 1)], [(1, 2)], None),
        ([(0, 1), (2, 3)], [(3.5, 4), (5, 6)], None),
        ([(0, 1)], [(0, 2)], "a tie in onset"),
        ([(0, 2)], [(1, 3)], "an overlap"),
        ([(0, 1), (4, 5)], [(2, 3)], "a repeat"),
        ([(0, 1), (2, 3)], [(1, 2.5)], "an overlap"),
    ],
)
def test_which_events_have_an_order(first, second, why):
    assert unordered(first, second) == why


def test_pairs_without_an_order_are_counted(tmp_path, caplog):
    rows = [("x.wav", "Rain", 0, 9), ("x.wav", "dog", 1, 2), ("x.wav", "Dog.", 3, 4), ("x.wav", "cow", 2, 3)]
    table = pd.DataFrame([*rows, ("x.wav", "hen", 9, 10)], columns=["filename", "text", "onset", "offset"])
    table.to_csv(tmp_path / "annotations_strong.csv", index=False)
    (tmp_path / "x.wav").touch()
    items = FORMATS["tacos"](tmp_path / "annotations_strong.csv", tmp_path)
    firsts = items.loc[items["task"] == "tacos before", "captions"].str[0]
    assert firsts.tolist() == ["rain before hen", "dog before hen", "cow before hen"]
    assert "3 pairs of events have an order, left out: 1 for a repeat, 2 for an overlap" in caplog.text


def test_trea_by_hand_and_its_leak(tmp_path, caplog):
    items = made(tmp_path, trea)
    question = "Which sound event occurs after 1? "
    options = ["Door, wood creaks", "Cow", "water_drops", "Pig"]
    assert items["captions"][1] == [question + option for option in options]
    assert items["belongs"][1] == [-1, -1, 0, -1] and items["task"][1] == "trea file"
    assert items["events"][1] == [("door, wood creaks",), ("cow",), ("water drops",), ("pig",)]
    assert "of 2 items the correct option alone is in lower case in 2" in caplog.text


def test_items_without_their_sounds_are_left_out(tmp_path, caplog):
    made(tmp_path, tacos)
    (tmp_path / "audio" / "0.mp3").rename(tmp_path / "audio" / "0.flac")
    (tmp_path / "audio" / "1.mp3").unlink()
    items = FORMATS["tacos"](tmp_path / "file.csv", tmp_path / "audio")
    assert items["sounds"].explode().unique().tolist() == [str(tmp_path / "audio" / "0.flac")]
    assert "2 of 4 items are left out, whose sounds are not there: 1.mp3" in caplog.text
    (tmp_path / "audio" / "0.flac").unlink()
    with pytest.raises(FileNotFoundError, match="none of the 4 items of .*file.csv: 0.mp3, 1.mp3"):
        FORMATS["tacos"](tmp_path / "file.csv", tmp_path / "audio")


@pytest.mark.parametrize(
    ("layout", "change", "word"),
    [
        (compa_order, ("pair_caption", "caption"), "file.csv lacks the column.* pair_caption"),
        (compa_order, ("0 a then b", ""), "pair_caption '' .line 2.; expected a value"),
        (compa_order, ("c amidst d", "-"), "triplet_caption '-' .line 4.; expected a caption iff a file"),
        (dissecting, ("num_captions_per_audio", "captions"), "no num_captions_per_audio"),
        (dissecting, ("/0.flac", "/9.flac"), "file_reverse.json has other sounds than .*file.json"),
        (dissecting, ("caption_2", "caption_9"), "records without caption_2, expected audio, caption_1"),
        (audiotime, ('"event"', '"events"'), "records without event"),
        (audiotime, ("}", ""), "file.json is no JSON"),
        (tacos, ("3.25", "late"), "offset 'late' .line 3., .*expected seconds"),
        (moments, ("vid", "video"), "records without vid"),
        (trea, (",C", ",E"), "correct 'E' .line 2., .*expected a letter from A to D"),
    ],
)
def test_broken_files_are_refused(tmp_path, layout, change, word):
    made(tmp_path, layout)
    (file,) = {*tmp_path.glob("file.json"), *tmp_path.glob("file.csv")}
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ValueError, match=word):
        FORMATS[layout(tmp_path / "audio", 1)[0]](file, tmp_path / "audio")


def test_a_file_without_changed_captions_is_named(tmp_path):
    made(tmp_path, syncaps)
    with pytest.raises(FileNotFoundError, match="expected file_replaced_reverse.json"):
        FORMATS["dissecting"](tmp_path / "file_replaced.json", tmp_path / "audio")
