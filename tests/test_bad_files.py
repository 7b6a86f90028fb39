"""Hundreds of bad files: each is refused at once, in one sentence that names it, and nothing is written."""

import copy
import json
import math
from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile
import torch
import yaml
from refusals import SEED, WHOLE, refused
from safetensors.torch import load_file, save_file
from tones import write_esc50

import tclap
from artifact import config, paths
from artifact.experiment import Experiment
from figures import read
from tclap import files
from tclap.evaluation.formats import FORMATS
from tclap.models.registry import load_model
from tclap.models.weights import make_header
from tclap.slots.model import load

nan, inf = math.nan, math.inf


@pytest.fixture(autouse=True)
def folder(project_root, monkeypatch) -> Path:
    """Where everything of a test is."""
    monkeypatch.chdir(project_root)
    return project_root


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
        soundfile.write(folder / f"{n}.wav", np.full(4000, 0.1, np.float32), 8000)
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
