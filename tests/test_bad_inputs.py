"""Hundreds of bad inputs: each is refused at once, in one sentence that names it, and nothing is written.

What an object of somebody else raises is let through.
"""

import math
import os
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import SEED, WHOLE, refused
from tiny import write_clips
from tones import write_recordings

import tclap
from tclap import audio, cli
from tclap.models.compact import TextTrunk
from tclap.models.registry import load_model
from tclap.slots import Reading
from tclap.slots.model import SlotModel

nan, inf = math.nan, math.inf


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
