"""Hundreds of bad inputs: each is refused at once, in one sentence that names it, and nothing is written.

What an object of somebody else raises is let through.
"""

import copy
import json
import math
import os
import re
import struct
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import write_clips
from tones import write_esc50, write_recordings

import tclap
from artifact import config, paths
from artifact.experiment import Experiment
from figures import read
from tclap import audio, cli, files
from tclap.evaluation.formats import FORMATS
from tclap.models.compact import TextTrunk
from tclap.models.registry import load_model
from tclap.models.weights import make_header
from tclap.slots import Reading
from tclap.slots.model import SlotModel, load

# What Python and its libraries say from deep inside.
INTERNAL = re.compile(
    r"not supported between|has no attribute|object is not|indices must be|unhashable type|ambiguous|"
    r"unsupported operand|invalid literal|cannot be interpreted|top argument|broadcast|infer dtype|^'\w+'$"
)
nan, inf = math.nan, math.inf


def refused(call, *named: object) -> None:
    """``call`` raises one sentence that has all that is ``named``, and leaves no file behind."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1000 and not INTERNAL.search(said), said
    assert all(str(name) in said for name in named), said
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.fixture(autouse=True)
def folder(project_root, monkeypatch) -> Path:
    """Where everything of a test is."""
    monkeypatch.chdir(project_root)
    return project_root


# Audio files


def wav(rate=16000, channels=1, bits=16, kind=1, size=None, data=bytes(range(200)), header=16) -> bytes:
    frame = max(channels * bits // 8, 1) & 0xFFFF
    chunks = b"WAVEfmt " + struct.pack("<IHHIIHH", header, kind, channels, rate, rate, frame, bits)
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


RF64 = (
    wav().replace(b"RIFF", b"RF64").replace(b"WAVE", b"WAVEds64" + struct.pack("<IQQQI", 28, 0, 2**40, 0, 0))
)
FILES = {
    "empty": b"", "zeros": bytes(1000), "text": b"This is no audio. " * 20, "html": b"<html>404</html>" * 20,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(200), "a playlist": b"#EXTM3U\nfile:///etc/passwd\n",
    "an archive": b"PK\3\4" + bytes(200), "no channels": wav(channels=0), "no samples": wav(data=b""),
    "too many channels": wav(channels=65535), "rate 0": wav(0), "rate 1": wav(1), "rate 2^31": wav(2**31),
    "no bits": wav(bits=0), "unknown coding": wav(kind=9999), "promises more": wav(size=10**6),
    "a huge header": wav(header=0xFFFFFFF0), "cut in the header": wav()[:30], "no data": wav()[:36],
    "RF64 that promises more": RF64, "FLAC without blocks": b"fLaC" + bytes(60), "Ogg": b"OggS" + bytes(60),
    "MP3 without frames": b"ID3\4" + bytes(60), "MP4 without tracks": b"\0\0\0\x18ftypisom" + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("function", [audio.read, audio.duration])
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_audio_files(folder, function, content):
    (folder / "a.wav").write_bytes(content)
    refused(lambda: function("a.wav"), "a.wav")


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff", "wav"])
def test_audio_files_that_are_cut_or_promise_any_length(folder, suffix):
    soundfile.write(folder / "whole", np.linspace(-0.5, 0.5, 24000), 16000, format=suffix.upper())
    whole, path = (folder / "whole").read_bytes(), folder / f"a.{suffix}"
    damaged = [whole[:size] for size in np.linspace(0, len(whole) - 1, 12, dtype=int)]
    if suffix == "flac":  # 36 bits of total samples (RFC 9639, section 8.2)
        damaged.append(whole[:21] + bytes([whole[21] | 0x0F]) + b"\xff" * 4 + whole[26:])
    if suffix == "mp3":  # the number of frames in LAME's header
        at = max(whole.find(b"Info"), whole.find(b"Xing")) + 8
        damaged.append(whole[:at] + b"\x7f\xff\xff\xff" + whole[at + 4 :])
    for content in damaged:
        path.write_bytes(content)
        refused(lambda: audio.read(path), path)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"FORM", b"\xff\xfb"]), st.binary(max_size=400))
def test_bytes_that_are_no_audio(start, rest):
    Path("a.wav").write_bytes(start + rest)
    try:
        assert len(audio.read("a.wav"))
    except ValueError as error:
        assert "a.wav" in str(error) and "\n" not in str(error)


def test_what_is_no_file_and_what_is_no_rate(folder):
    (folder / "folder.wav").mkdir()
    (folder / "dangling.wav").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.wav")  # of which an end never comes
    for name in ("folder.wav", "dangling.wav", "pipe.wav", "gone.wav", "a" * 300, "/dev/zero"):
        refused(lambda name=name: audio.read(name), name)
    for rate in (0, -1, nan, inf, "16000", True):
        refused(lambda rate=rate: audio.resample(np.ones(9), 8000, rate), f"rate is {rate!r}")


# Sounds, captions and models of others


class Plain:
    sample_rate, window = 8000, 0.5

    def encode_audio(self, waveforms):
        return np.ones((len(waveforms), 3))

    encode_text = encode_audio


SOUND = np.full(4000, 0.1, np.float32)
SOUNDS = [
    None, 3, "a.wav", {1}, {"a": SOUND}, pd.DataFrame({"a": SOUND}), SOUND, [None], ["a.wav"], [SOUND > 0],
    [SOUND + 0j], [SOUND.astype(np.uint8)], [SOUND.astype(int)], [SOUND.astype(object)],
    [SOUND.astype("M8[s]")], [np.array(["a"] * 9)], [SOUND[:0]], [np.r_[SOUND, nan]], [np.r_[SOUND, inf]],
    [np.stack([SOUND] * 2)], np.stack([SOUND] * 2, axis=1),
]  # fmt: skip
CAPTIONS = [
    None, 3, "a dog", {"a"}, {"a": 1}, [3], [b"a"], ["a", None], [nan], [["a", "b"]], np.array([["a"]]),
    [True], np.array("a"), pd.Series(["a", pd.NA]), pd.DataFrame({"a": ["b"]}), [Path("a")], ["\udcff"],
    torch.ones(2),
]  # fmt: skip
ANSWERS = [  # of two sounds or captions
    None, "abc", {}, 1.0, iter([1]), np.ones(3), np.ones((2, 1, 3)), np.ones((3, 3)), np.ones((2, 0)),
    np.full((2, 3), nan), np.full((2, 3), 1e300), np.ones((2, 3), complex), np.full((2, 3), None),
    np.full((2, 3), "a"), [[1.0], [1.0, 2.0]], torch.ones(2, 3).to_sparse(), (torch.ones(2, 3), None),
    np.ones((2, 4)), pd.DataFrame(np.ones((5, 3))),
]  # fmt: skip


def test_sounds_and_captions():
    model = tclap.wrap(Plain())
    for sounds in SOUNDS:
        refused(lambda sounds=sounds: model.encode_audio(sounds))
    for captions in CAPTIONS:
        refused(lambda captions=captions: model.encode_text(captions), "captions")


def test_captions_that_say_nothing_or_too_much_are_embedded(tiny_model):
    """They are what people have, and each model says itself what it makes of them."""
    tiny_model.text_trunk = TextTrunk()
    odd = ["", " ", "?!\u2026", "dog " * 10_000, "a\0b\x1b[31m\n", "\u202edog", "\u72ac"]
    found = tclap.add_slots(tiny_model).encode_text(odd)
    assert found.isfinite().all() and found.norm(dim=1).allclose(torch.ones(len(odd)), atol=1e-5)


@pytest.mark.parametrize(("method", "items"), [("encode_audio", [SOUND] * 2), ("encode_text", ["a", "b"])])
def test_answers_of_own_models(method, items):
    own = Plain()
    model = tclap.wrap(own)
    for answer in ANSWERS:
        setattr(model, {"encode_audio": "_audio", "encode_text": "_text"}[method], lambda _, a=answer: a)
        refused(lambda: getattr(model, method)(items), "embeddings")


def test_what_cannot_be_wrapped_and_what_an_own_model_raises():
    for other in (None, "laion/clap", Plain, math, len, [], {"encode_audio": 1}):
        refused(lambda other=other: tclap.wrap(other, 8000, 0.5), "no methods that are known")
    for number in (0, -1, nan, inf, "2", True, [1]):
        for name in ("sample_rate", "window"):
            refused(lambda name=name, n=number: tclap.wrap(Plain(), **{name: n}), name, number)
    own = Plain()
    own.encode_audio = lambda waveforms: waveforms["inside"]
    with pytest.raises(TypeError, match="list indices must be"):
        tclap.wrap(own).encode_audio([SOUND])


# Numbers, names and tables as arguments


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> pd.DataFrame:
    return write_clips(tmp_path_factory.mktemp("clips"))


class Reads:
    def read(self, captions):
        return [Reading("plain")] * len(captions)


COMPACT = {"window": 0.5, "sample_rate": 8000, "n_fft": 256, "hop": 80, "mels": 16, "width": 8, "hidden": 8}
TWO = torch.eye(2)
WHOLE = (0, -1, 1.5, nan, inf, "2", True, [1])  # none is a whole number of at least 1
SEED = (-1, 1.5, "0", nan)
CALLS = {  # by what they take: of a model and clips, and bad values by argument
    "compact": (
        lambda m, c, **bad: load_model("compact", **COMPACT | bad),
        dict.fromkeys((*list(COMPACT)[1:], "dim"), WHOLE)
        | {"window": (0, -1, nan, inf, "4"), "readout": ("x", None), "context": ("x", None)}
        | {"device": ("gpu", "cuda:99", "3", [1])},
    ),
    "fine_tune": (
        lambda m, c, **bad: tclap.fine_tune(m, c, **bad),
        dict.fromkeys(("epochs", "batch", "pairs", "micro_batch", "chunk_size"), WHOLE)
        | {"lr": (0, -1, nan, inf, "1e-3", None, True), "preset": ("x", None), "precision": ("fp16", None)}
        | {"variant": ("x", None, ["t-clap"], "readout-mean"), "checkpoints": ("/proc/none",), "seed": SEED},
    ),
    "evaluate": (
        lambda m, c, **bad: tclap.evaluate(m, c, **bad),
        dict.fromkeys(("pairs", "control_pairs"), WHOLE)
        | {"suite": ("", "x", None, 3, [], ["tasks", 3]), "seed": SEED}
        | dict.fromkeys(("sample_rate", "window"), (0, "a", inf, nan)),
    ),
    "slots": (
        lambda m, c, **bad: SlotModel(m, Reads(), **bad),
        {"slots": WHOLE, "parts": ([], [0], [1.5], [nan], ["a"], 0.5, "ab"), "source": ("x", None, 3)}
        | {"whole": (1, -0.1, nan, "a", None), "hop": (0, -1, "a", nan, inf)},
    ),
    "encode_audio": (
        lambda m, c, **bad: m.encode_audio([SOUND], **bad),
        {"batch_size": WHOLE, "policy": ("", None, 3, ["fit"]), "sample_rate": (0, -1, nan, inf, "8000")},
    ),
    "encode_text": (lambda m, c, **bad: m.encode_text(["a"], **bad), {"batch_size": WHOLE}),
    "clip_loss": (
        lambda m, c, **bad: tclap.clip_loss(**{"audio": TWO, "text": TWO, "logit_scale": 1.0} | bad),
        {"logit_scale": (0, -1, nan, inf, True, "1", None, torch.ones(2), torch.tensor(True))}
        | {"chunk_size": WHOLE, "events": ([0.5, 1.0], [None, 1], "ab", [1], [nan, 0])}
        | {"audio": (None, [[1]], np.eye(2), TWO.long(), TWO.double(), torch.eye(3), TWO[:0])},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "arguments"), CALLS.values(), ids=CALLS)
def test_arguments(tiny_model, clips, call, arguments):
    for name, values in arguments.items():
        for value in values:
            refused(lambda name=name, value=value: call(tiny_model, clips, **{name: value}))


@pytest.mark.parametrize("function", ["evaluate", "fine_tune"])
def test_clips_tables_made_by_hand(tiny_model, clips, function):
    bad = [None, [1], "clips.csv", clips[:0], clips.assign(label="dog"), clips.assign(clip_id="a")]
    bad += [clips.drop(columns=column) for column in ("clip_id", "label", "captions", "split", "source")]
    bad += [clips.assign(captions=[value] * len(clips)) for value in ("dog", [""], [], [nan], None)]
    for table in bad:
        refused(lambda table=table: getattr(tclap, function)(tiny_model, table))


# Tables and files of items


CSV = "file,label\n" + "".join(f"{n}.wav,{'dog' if n % 2 else 'hen'}\n" for n in range(8))
WIDER = CSV.replace("\n", ",x\n")
TABLES = [
    "", "\n\n", "file,label\n", CSV.replace("file", "path"), CSV.replace(",", ";"), CSV.replace(",", "\t"),
    CSV.encode("utf-16"), CSV.replace("hen", "h\u00e9n").encode("latin-1"), WIDER.replace(",x", ",label", 1),
    WIDER.replace(",x", ", label", 1), CSV + "a,b,c\n", CSV + "a\n", CSV + ",dog\n", CSV + "a.wav,\n",
    CSV + 'a.wav,"dog', CSV + '"a.wav"b,dog\n', CSV + "0.wav,dog\n", CSV + "a.wav," + "x" * 200_000, "{}",
    CSV.replace("hen", "dog"), CSV + "gone.wav,dog\n", CSV + ".,dog\n", CSV + "a" * 300 + ",dog\n", "<html>",
]  # fmt: skip


def test_tables_of_recordings(folder):
    for n in range(8):
        soundfile.write(folder / f"{n}.wav", SOUND, 8000)
    for content in TABLES:
        (folder / "clips.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(lambda: tclap.load_clips("folder", folder))


def test_tables_of_esc50_and_what_is_chosen_of_data_sets(folder):
    root = write_esc50(folder / "esc", (1, 2, 3), ("dog", "rain"))
    csv = root / "meta" / "esc50.csv"
    table = csv.read_text()
    for fold in ("one", "1.5", "9" * 30, "\u00b2", "-1"):
        csv.write_text(table.replace(",1,", f",{fold},"))
        refused(lambda: tclap.load_clips("esc50", root), csv, fold)
    csv.write_text(table.replace("True", "yes"))
    refused(lambda: tclap.load_clips("esc50", root), csv, "yes")
    csv.write_text(table)
    bad = dict.fromkeys(("test_fold", "validation_fold"), (0, 9, "1", [1], True, nan))
    bad |= {
        "folds": (1, "123", ["1"], [1, None], []),
        "classes": (3, "", [1], None, ["cow"]),
        "per_class": WHOLE,
    }
    made_up = {
        "labels": ("dog", [1], [], ["x"]),
        "clips_per_class": (3, [1], {"x": 1}, {"base": -1}),
        "seed": SEED,
    }
    for data, arguments in (("esc50", bad), ("synthetic", made_up)):
        for name, values in arguments.items():
            for value in values:
                refused(lambda d=data, n=name, v=value: tclap.load_clips(d, root, **{n: v}))


JSONS = {
    "audiotime": {"x": {"event": {"dog": [[0, 1]], "cat": [[2, 3]]}}},
    "moments": {"vid": "x", "query": "a dog", "relevant_windows": [[0, 1]]},
    "dissecting": {"num_captions_per_audio": 1, "data": [{"audio": "x.wav", "caption": "a"}]},
}
OTHERS = (None, 3, "a", [], [1], {}, [[1]], [["a", "b"]], [[nan, 1]], True)


def places(value, place=()):
    """Where something stands in nested values."""
    yield place
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*place, key))


def replaced(value, place, other):
    if not place:
        return other
    value = copy.copy(value)
    value[place[0]] = replaced(value[place[0]], place[1:], other)
    return value


@pytest.mark.parametrize("kind", JSONS)
def test_files_of_items_of_which_a_value_is_of_another_kind(folder, kind):
    (folder / "x.wav").touch()
    for place in places(JSONS[kind]):
        for other in OTHERS if len(place) < 5 else OTHERS[2:]:  # a number for a number is none
            (folder / "items.json").write_text(json.dumps(replaced(JSONS[kind], place, other)))
            refused(lambda: FORMATS[kind]("items.json", "."), "items.json")


# Profiles and parameters of notebooks


@pytest.mark.parametrize("name", ["synthetic", "esc50"])
def test_profiles_of_which_a_value_is_of_another_kind(name):
    good = yaml.safe_load((paths.configs() / f"{name}.yaml").read_text()) | {"profile": name}
    config.validate(config.Config, good, "good")
    for place in list(places(good))[1:]:
        value = good
        for key in place:
            value = value[key]
        if place[0] in ("bases", "dataset_options") and len(place) > 1:  # checked by what takes them
            continue
        for other in ("x", "", -1, nan, inf, True, [[]], [{}], {"a": 1}, 0.5):
            is_number = isinstance(value, float) or place[-1] == "weight_decay"
            same = isinstance(other, type(value)) and isinstance(value, bool) or place[-1:] == ("profile",)
            if not (same or is_number and other == 0.5):
                refused(
                    lambda p=place, o=other: config.validate(config.Config, replaced(good, p, o), "made"),
                    "made",
                )


NO_YAML = (
    "dataset: synthetic\n{}", "warm_up: {{steps: 1, steps: 2}}\n", "- 1\n", "a: 1\n---\n", "[1\n", "[" * 3000,
    "a: \0\n", "? [1]\n: 2\n", "!!python/name:os.system\n",
)  # fmt: skip
TWICE = {
    "seeds": [0, 0], "variants": ["t-clap"] * 2, "readouts": ["mean"] * 2, "window_policies": ["fit"] * 2,
    "rotate": [1, 2, 3], "retrieval_sets": ["clotho"] * 2, "bases": {"../compact": {}},
    "dataset_options": [1],
}  # fmt: skip


def test_profiles_that_say_things_twice_or_make_no_sense(folder, monkeypatch):
    good = yaml.safe_load((paths.configs() / "synthetic.yaml").read_text())
    monkeypatch.setattr(paths, "configs", lambda: folder)
    contents = [content.format(yaml.safe_dump(good)) for content in NO_YAML]
    for content in [*contents, *(yaml.safe_dump(good | {name: value}) for name, value in TWICE.items())]:
        (folder / "made.yaml").write_text(content)
        refused(lambda: config.load_config("made"), "configs/made.yaml")


@pytest.mark.parametrize(
    "kind", [config.DataParameters, config.VariantParameters, config.RecordingsParameters], ids=str
)
def test_parameters_of_notebooks(kind):
    for name in kind.model_fields:
        for value in (1.5, nan, {}, [[]], b"x", {"a": 1}):
            refused(lambda n=name, v=value: config.validate(kind, {n: v}, "notebook 01"), "notebook 01")


# Checkpoints and other files


def test_checkpoints(folder, tiny_model):
    tiny_model.save("good.safetensors")
    state, settings, one = load_file("good.safetensors"), tiny_model.config, "audio_head.mlp.0.weight"
    changes = [{one: torch.ones(2, 2)}, {one: torch.full_like(state[one], nan)}, {one: state[one].int()}]
    changes += [{one: None}, {"more": torch.ones(1)}, {"logit_scale": torch.tensor(inf)}]
    made = [({n: t for n, t in (state | change).items() if t is not None}, settings) for change in changes]
    others = ({"hop": -1}, {"hop": 1.5}, {"window": "x"}, {"readout": "x"}, {"width": 9})
    made += [({}, settings), *((state, settings | other) for other in others)]
    made += [(state, no_settings) for no_settings in ([1], "x", None)]
    for name in ("x", "x.pt", "x.json"):  # which no model could be loaded from
        refused(lambda name=name: tiny_model.save(name), name)
    for weights, said in made:
        save_file(weights, "bad.safetensors", make_header("compact", said, weights))
        refused(lambda: load_model("compact", "bad.safetensors"))
    for content in (b"", bytes(99), b"\xff" * 8 + b"{}", b"<html>", b"PK\3\4", b"\x80\x02}q\0."):
        for name, model in (("bad.safetensors", "compact"), ("bad.pth", "msclap-2022"), ("bad.pth", "sfx")):
            (folder / name).write_bytes(content)
            refused(lambda name=name, model=model: load_model(model, name), name)


def test_files_of_models_with_slots(folder, tiny_model):
    tiny_model.save("good.safetensors")
    fingerprint = load_model("compact", "good.safetensors").fingerprint
    base = {"name": "compact", "weights": "good.safetensors", "fingerprint": fingerprint}
    slots = {"parts": [0.5], "slots": 2, "whole": 0, "source": "waveform", "hop": None}
    changes = {"parts": 3, "slots": "x", "whole": None, "source": 3, "hop": "a"}
    made = [{"base": base, "slots": slots | {name: value}} for name, value in changes.items()]
    made += [{"base": base | {"fingerprint": "x"}, "slots": slots}]
    made = [content | {"sha256": files.hash_json(content)} for content in made]
    made += [{"base": base, "slots": slots}, {"base": {}, "sha256": files.hash_json({"base": {}})}, {}, [], 3]
    for content in ["", "{", *map(json.dumps, made)]:
        (folder / "slots.json").write_text(content)
        refused(lambda: load("slots.json"))


def test_files_of_a_run(folder):
    run = made_up.write(folder / "runs" / "smoke" / "compact")
    (run / "data").mkdir()
    (run / "data" / "config.json").write_text("{}")
    readers = {"summary.json": read.summary, "example.json": read.example, "example.npz": read.example}
    for name in ("results", "history", "similarity"):
        readers[f"{name}.parquet"] = lambda run, name=name: read.rows(run, name)
    readers["data/config.json"] = lambda run: Experiment("smoke", "compact")
    for name, reader in readers.items():
        whole = (run / name).read_bytes()
        for content in (b"", whole[: len(whole) // 2], bytes(len(whole)), b"\xff\xfe text", b"[]", b"3"):
            (run / name).write_bytes(content)
            refused(lambda reader=reader: reader(run), name)
        (run / name).write_bytes(whole)


# The command line


WORDS = """--model nowhere; --model tones:Nothing; --model tones:RATE; --model nowhere:f; --model :; --seed -1
--sample-rate 0; --window 0; --window nan; --window inf; --threads 0; --pairs 0; --control-pairs -1; --suite x
--out a.txt; --out clips.csv/a.parquet; --out sub.parquet; --out foreign.parquet; --card sub.parquet
--root none; --classes x; --test-fold 1; --data esc50 --root none; --data clotho --root none
--weights none.pth"""


def test_the_command_line(folder, capsys):
    write_recordings(folder)
    (folder / "sub.parquet").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet("foreign.parquet")
    command = ["evaluate", "--model", "tones:Blind", "--data", "folder", "--root", ".", "--suite", "tasks"]

    def said(words: str) -> None:
        with pytest.raises(SystemExit):
            cli.main([*command, *words.split()])
        text = capsys.readouterr().err
        assert text.startswith("error: ") and text.endswith("\n")
        raise ValueError(text.removesuffix("\n"))

    for words in re.split("[;\n] ?", WORDS):
        refused(lambda words=words: said(words))
