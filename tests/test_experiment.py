"""The steps of a run: what is made once, what again, and what is said when something is missing."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tclap import paths, provenance
from tclap.config import load_config
from tclap.data.captions import vocabulary
from tclap.experiment import TRAINING_CODE, Experiment
from tclap.models import compact
from tclap.preparation import prepare

# The smoke profile, of four classes only, so that MiniLM has few captions to read.
OPTIONS = {"labels": ["dog", "rain", "siren", "clock tick"]}


@pytest.fixture(scope="module")
def run_root(tmp_path_factory):
    """A prepared and partly trained run, shared: tests that change it put it back."""
    root = tmp_path_factory.mktemp("project")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        torch.set_num_threads(1)
        prepare("smoke", "compact", dataset_options=OPTIONS)
        yield root
        torch.set_num_threads(threads)


@pytest.fixture
def experiment(run_root) -> Experiment:
    made = Experiment("smoke", "compact")
    made.train_base(0)
    return made


def refuse() -> None:
    raise AssertionError("MiniLM was loaded")


def stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_ino


def weights_hash(experiment: Experiment, name: str) -> str:
    return provenance.hash_state(experiment.load(0, name).own_state())


def test_what_preparing_leaves(experiment, run_root):
    config = load_config("smoke", OPTIONS)
    folder = run_root / "runs/smoke/compact/data"
    assert experiment.config == config
    assert experiment.labels == sorted(OPTIONS["labels"])
    counts = config.dataset_options["clips_per_class"]
    found = experiment.clips.groupby(["label", "split"]).size()
    assert {
        (label, split): counts[split] for label in experiment.labels for split in counts
    } == found.to_dict()
    assert len(experiment.table("data/pairs-test.parquet")) == config.test_pairs
    pairs = experiment.table("data/pairs-validation.parquet")
    assert len(pairs) == config.validation_pairs
    splits = experiment.clips.set_index("clip_id")["split"]
    assert set(splits[pairs["clip_i"]]) | set(splits[pairs["clip_j"]]) == {"validation"}
    assert (pairs["window"] == 64000).all() and (pairs["length_i"] + pairs["length_j"] == 64000).all()
    assert len(experiment.table("data/items.parquet"))
    assert len(list(folder.glob("text-*.safetensors"))) == 1
    assert all(Path(path).is_relative_to(run_root) for path in experiment.clips["path"])


def test_preparing_again_changes_nothing(experiment, run_root):
    folder = run_root / "runs/smoke/compact/data"
    wavs = sorted((run_root / "data").rglob("*.wav"))
    before = {path.name: provenance.sha256_file(path) for path in folder.iterdir()}
    stamps = [stamp(path) for path in [*wavs, *folder.glob("text-*")]]
    prepare("smoke", "compact", dataset_options=OPTIONS)
    assert {path.name: provenance.sha256_file(path) for path in folder.iterdir()} == before
    assert [stamp(path) for path in [*wavs, *folder.glob("text-*")]] == stamps


def test_every_caption_of_the_run_is_kept(experiment, monkeypatch):
    monkeypatch.setattr(compact, "_minilm", refuse)
    captions = vocabulary(experiment.labels)
    assert len(experiment.text(captions).values) == len(captions)


def test_a_base_model_is_trained_once(experiment, caplog):
    weights = experiment.model_folder(0, "clap") / "weights.safetensors"
    before = stamp(weights)
    first = experiment.load(0)
    with caplog.at_level(logging.INFO):
        again = experiment.train_base(0)
    assert stamp(weights) == before
    assert "clap, seed 0: made already" in caplog.text
    assert provenance.hash_state(again.own_state()) == provenance.hash_state(first.own_state())


def test_what_a_trained_model_leaves(experiment):
    config, folder = experiment.config, experiment.model_folder(0, "clap")
    sidecar = json.loads((folder / "weights.json").read_text())
    assert sidecar["recipe"]["seed"] == 0
    assert sidecar["recipe"]["base_training"]["steps"] == config.base_training.steps
    assert sidecar["recipe"]["code"] == provenance.hash_code(*TRAINING_CODE)
    assert sidecar["recipe_hash"] == provenance.hash_json(sidecar["recipe"])
    assert sidecar["provenance"]["config"] == sidecar["recipe"]
    history = experiment.history(0)
    assert (
        history["model"].tolist()
        == ["warm-up"] * config.warm_up.steps + ["clap"] * config.base_training.steps
    )
    assert (history["seed"] == 0).all()
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.parquet",
        "weights.json",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("missing", ["weights.safetensors", "weights.json", "history.parquet"])
def test_what_is_missing_is_made_again_with_the_same_bits(experiment, monkeypatch, missing):
    folder = experiment.model_folder(0, "clap")
    before, history = (folder / "weights.safetensors").read_bytes(), experiment.history(0)
    (folder / missing).unlink()
    torch.manual_seed(12345)  # the state that is found does not matter
    monkeypatch.setattr(compact, "_minilm", refuse)  # every caption has been through it
    experiment.train_base(0)
    assert (folder / "weights.safetensors").read_bytes() == before
    pd.testing.assert_frame_equal(experiment.history(0), history, check_exact=True)


def test_another_recipe_or_other_data_train_again(experiment):
    sidecar = experiment.model_folder(1, "clap") / "weights.json"
    names = ["clap", "t-clap"]

    def made() -> tuple[dict, list[str]]:
        experiment.train_base(1)
        experiment.train_variants(1, ["t-clap"])
        hashes = [provenance.hash_state(experiment.load(1, name).own_state()) for name in names]
        return json.loads(sidecar.read_text())["recipe"], hashes

    first, weights = made()
    assert weights[0] != provenance.hash_state(experiment.load(0).own_state())  # another seed
    config = experiment.config
    experiment.config = replace(config, base_training=replace(config.base_training, lr=0.001))
    second, other_weights = made()
    assert {key for key in first if first[key] != second[key]} == {"base_training"}
    assert all(one != other for one, other in zip(weights, other_weights, strict=True))

    path = experiment.folder / "data/pairs-validation.parquet"
    content = path.read_bytes()
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    try:
        Experiment("smoke", "compact").train_base(1)
        third = json.loads(sidecar.read_text())["recipe"]
        assert {key for key in first if first[key] != third[key]} == {"data"}
    finally:
        path.write_bytes(content)


def test_variants_start_from_the_base_and_are_trained_once(experiment):
    names = ["clap-continued", "t-clap", "t-clap-distinct", "readout-segments"]
    experiment.train_variants(0, names)
    files = [experiment.model_folder(0, name) / "weights.safetensors" for name in names]
    before = [stamp(path) for path in files]
    experiment.train_variants(0, names)
    assert [stamp(path) for path in files] == before
    base = experiment.load(0)
    for name in names:
        model = experiment.load(0, name)
        trunks = [provenance.hash_state(m.audio_trunk.state_dict()) for m in (base, model)]
        assert trunks[0] == trunks[1], name
        assert weights_hash(experiment, name) != weights_hash(experiment, "clap")
        history = experiment.history(0, name)
        assert (history["model"] == name).all()
        assert len(history) == experiment.config.post_pretraining.steps
    assert experiment.load(0, "readout-segments").config["readout"] == "segments"
    assert len({weights_hash(experiment, name) for name in names}) == len(names)


def test_a_variant_does_not_depend_on_those_trained_before_it(experiment):
    experiment.train_variants(0, ["t-clap-distinct", "t-clap", "readout-mean"])
    made = {name: weights_hash(experiment, name) for name in ("t-clap", "readout-mean")}
    for name, expected in made.items():
        (experiment.model_folder(0, name) / "weights.json").unlink()
        experiment.train_variants(0, [name])
        assert weights_hash(experiment, name) == expected


def test_a_run_that_is_not_there(project_root):
    with pytest.raises(
        FileNotFoundError, match=r"runs/smoke/compact/data/config\.json is missing: run the notebooks"
    ):
        Experiment("smoke", "compact")


def test_an_artefact_that_is_missing_is_named(experiment):
    with pytest.raises(FileNotFoundError, match=r"seed7/clap/weights\.safetensors is missing"):
        experiment.load(7)
    with pytest.raises(FileNotFoundError, match=r"seed7/clap/weights\.safetensors is missing"):
        experiment.train_variants(7)
    with pytest.raises(FileNotFoundError, match=r"seed0/t-clapp/history\.parquet is missing"):
        experiment.history(0, "t-clapp")


def test_names_and_seeds_that_are_not_there(experiment, project_root):
    with pytest.raises(ValueError, match="unknown variant 't-clapp', expected one of"):
        experiment.train_variants(0, ["t-clap", "t-clapp"])
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        experiment.train_base(-1)
    with pytest.raises(ValueError, match="unknown profile 'smok'"):
        prepare("smok", "compact")
    with pytest.raises(ValueError, match="profile smoke has no base 'compakt'"):
        prepare("smoke", "compakt")
    assert paths.root() == project_root and list(project_root.iterdir()) == []
