"""The published layouts, on items made here, and the scores of models that know everything or nothing."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from tclap.evaluation.formats import FORMATS, unordered
from tclap.evaluation.items import evaluate_items
from tclap.slots.reader import Reading


@pytest.fixture(autouse=True)
def nothing_is_read(monkeypatch):
    class Plain:
        def read(self, captions):
            return [Reading("plain")] * len(captions)

    monkeypatch.setattr("tclap.evaluation.items.load_reader", Plain)


def compa_order(folder, count):
    head = "pair_file,pair_caption,reversed_pair_file,reversed_pair_caption,triplet_file,triplet_caption"
    rows = [f"{n}ab.wav,{n} a then b,{n}ba.wav,{n} b then a,-,-" for n in range(count)]
    rows.append("cd.wav,c then d,dc.wav,d then c,both.wav,c amidst d")
    (folder / "file.csv").write_text("\n".join([head, *rows]) + "\n")
    return "compa", [name for row in rows for name in row.split(",")[::2]]


def compa_attribute(folder, count):
    head = "pair_file,pair_caption,reversed_pair_file,reversed_pair_caption,pair_file.1,reversed_pair_file.1"
    rows = [f"Yab,{n} old,Yba,{n} young,{n}x.wav,{n}y.wav" for n in range(count)]
    (folder / "file.csv").write_text("\n".join([head, *rows]) + "\n")
    return "compa", [name for row in rows for name in row.split(",")[4:]]


def dissecting(folder, count):
    changes = {"": "{} a and then b", "_reverse": "{} b then a and", "_replace": "{} a after b"}
    for ending, text in changes.items():
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
    content = {}
    for n in range(count):
        events = {f"Cat {n}, meow": [[0.9, 1.8], [2.8, 3.9]], f"Busy signal {n}": [[5.7, 10.0]]}
        content[f"syn_{n}"] = {"event": events, "caption": "A cat meows twice."}
    (folder / "file.json").write_text(json.dumps(content, indent=4))
    return "audiotime", [f"{name}.wav" for name in content]


def tacos(folder, count):
    rows = [f"{n}.mp3,Cat {n}.,0.5,2\n{n}.mp3,TV {n},2,3.25" for n in range(count)]
    (folder / "file.csv").write_text("\n".join(["filename,text,onset,offset", *rows]) + "\n")
    return "tacos", [f"{n}.mp3" for n in range(count)]


def moments(folder, count):
    spans = {"bell": [[60, 70]], "cow": [[3, 9], [20, 21]]}
    rows = [
        {"qid": f"{n}", "query": f"A {word} {n}", "duration": 99, "vid": f"-{n}", "relevant_windows": windows}
        for n in range(count)
        for word, windows in spans.items()
    ]
    (folder / "file.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return "moments", [f"-{n}.m4a" for n in range(count)]


def trea(folder, count):
    head = "id,question,audio_path,optionA,optionB,optionC,optionD,correct"
    rows = [f'{n},What is after {n}?,audios/{n}.wav,"Door, wood",Cow,water_drops,Pig,C' for n in range(count)]
    (folder / "file.csv").write_text("\n".join([head, *rows]) + "\n")
    return "trea", [f"audios/{n}.wav" for n in range(count)]


LAYOUTS = [compa_order, compa_attribute, dissecting, syncaps, audiotime, tacos, moments, trea]


def made(folder, layout, count=2):
    """The items of a layout; their sounds are empty files, which the models below know by name."""
    name, sounds = layout(folder, count)
    for sound in sounds:
        (folder / "audio" / sound).parent.mkdir(parents=True, exist_ok=True)
        (folder / "audio" / sound).touch()
    return FORMATS[name](file_in(folder), folder / "audio")


def file_in(folder):
    (file,) = {*folder.glob("file.json"), *folder.glob("file.csv")}
    return file


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


class Random:
    """Random directions, by the name."""

    def encode_text(self, names):
        seeds = [int.from_bytes(name.encode()) % 2**63 for name in names]
        return np.stack([np.random.default_rng(seed).standard_normal(32) for seed in seeds])

    encode_audio = encode_text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_models_that_know_everything_or_nothing(tmp_path, layout):
    items = made(tmp_path, layout, 100)
    assert not items[["task", "item"]].duplicated().any()
    for takes, correct, tied in ((perfect, 1, False), (worst, 0, False), (tie, 0, True)):
        rows = evaluate_items(Knows(items, takes), items).query("model == 'model'")
        assert (rows["correct"] == correct).all() and (rows["tied"] == tied).all(), takes
    rows = evaluate_items(Random(), items).query("model == 'model' and item != '100'")
    for task, group in rows.groupby("task"):
        options = len(items.loc[items["task"] == task.split(":")[0], "captions"].iloc[0])
        chance = {"text": 1 / 4, "audio": 1 / 4, "group": 1 / 6}.get(task.split(": ")[-1], 1 / options)
        assert group["chance"].unique() == pytest.approx([chance])
        assert binomtest(int(group["correct"].sum()), len(group), chance).pvalue > 0.001, task


def before_and_after(task, first, second):
    return {
        "task": [f"{task} before", f"{task} after"],
        "captions": [
            [f"{first} before {second}", f"{second} before {first}"],
            [f"{second} after {first}", f"{first} after {second}"],
        ],
        "belongs": [[0, -1]] * 2,
        "events": [[(first, second), (second, first)]] * 2,
    }


BY_HAND = {
    compa_order: {
        "task": ["compa order"] * 2,
        "captions": [["0 a then b", "0 b then a"], ["c then d", "d then c", "c amidst d"]],
        "sounds": [["0ab.wav", "0ba.wav"], ["cd.wav", "dc.wav", "both.wav"]],
        "belongs": [[0, 1], [0, 1, 2]],
    },
    compa_attribute: {"task": ["compa attribute"], "sounds": [["0x.wav", "0y.wav"]]},
    dissecting: {
        "task": ["dissecting reversed"] * 2 + ["dissecting replaced"] * 2,
        "captions": [
            [f"0.{k} a and then b", f"0.{k} {changed}"]
            for changed in ("b then a and", "a after b")
            for k in (1, 2)
        ],
        "belongs": [[0, -1]] * 4,
    },
    audiotime: before_and_after("audiotime", "cat 0", "busy signal 0"),
    tacos: before_and_after("tacos", "cat 0", "TV 0"),
    moments: before_and_after("moments", "a cow 0", "a bell 0"),
    trea: {
        "task": ["trea file"],
        "captions": [[f"What is after 0? {o}" for o in ("Door, wood", "Cow", "water_drops", "Pig")]],
        "belongs": [[-1, -1, 0, -1]],
        "events": [[("door, wood",), ("cow",), ("water drops",), ("pig",)]],
    },
}


@pytest.mark.parametrize("layout", BY_HAND)
def test_items_by_hand(tmp_path, caplog, layout):
    items = made(tmp_path, layout, 1)
    items["sounds"] = [[path.rsplit("/", 1)[1] for path in paths] for paths in items["sounds"]]
    for column, expected in BY_HAND[layout].items():
        assert items[column].tolist() == expected
    logged = {dissecting: "2 of 5 captions differ", trea: "correct option alone is in lower case in 1"}
    assert logged.get(layout, "") in caplog.text


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
    rows = ["x.wav,Rain,0,9", "x.wav,dog,1,2", "x.wav,Dog.,3,4", "x.wav,cow,2,3", "x.wav,hen,9,10"]
    (file := tmp_path / "file.csv").write_text("\n".join(["filename,text,onset,offset", *rows]) + "\n")
    (tmp_path / "x.wav").touch()
    items = FORMATS["tacos"](file, tmp_path)
    firsts = items.loc[items["task"] == "tacos before", "captions"].str[0]
    assert firsts.tolist() == ["rain before hen", "dog before hen", "cow before hen"]
    assert "3 pairs of events have an order, left out: 1 for a repeat, 2 for an overlap" in caplog.text


def test_items_without_their_sounds_are_left_out(tmp_path, caplog):
    made(tmp_path, tacos)
    file, audio = file_in(tmp_path), tmp_path / "audio"
    (audio / "0.mp3").rename(audio / "0.flac")
    (audio / "1.mp3").unlink()
    items = FORMATS["tacos"](file, audio)
    assert items["sounds"].explode().unique().tolist() == [str(audio / "0.flac")]
    assert "2 of 4 items are left out, whose sounds are not there: 1.mp3" in caplog.text
    (audio / "0.flac").unlink()
    with pytest.raises(FileNotFoundError, match="none of the 4 items of .*file.csv: 0.mp3, 1.mp3"):
        FORMATS["tacos"](file, audio)


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
    file = file_in(tmp_path)
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ValueError, match=word):
        FORMATS[layout(tmp_path / "audio", 1)[0]](file, tmp_path / "audio")


def test_a_file_without_changed_captions_is_named(tmp_path):
    made(tmp_path, syncaps)
    with pytest.raises(FileNotFoundError, match="expected file_replaced_reverse.json"):
        FORMATS["dissecting"](tmp_path / "file_replaced.json", tmp_path / "audio")
