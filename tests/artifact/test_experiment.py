"""The steps of a run: what is made once, what again, and what is said when something is missing."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import TinyPublished

from artifact import base_models as base_model
from artifact import order_from_text, paths, provenance, slot_ablation
from artifact.__main__ import main as command
from artifact.base_models import BaseTraining, BaseVariant
from artifact.config import load_config
from artifact.evaluation import evaluate_seed
from artifact.experiment import TRAINING_CODE, Experiment
from artifact.model_folder import HISTORY
from artifact.preparation import prepare
from artifact.summary import slot_ablation as slot_ablation_summary
from artifact.summary import summarise_run
from figures import read
from figures import registry as figures
from tclap import files
from tclap.data.captions import vocabulary
from tclap.models import compact
from tclap.models import registry as models
from tclap.slots.event_captions import WORDINGS
from tclap.slots.model import Reading, SlotModel
from tclap.training.checkpoints import Checkpoints

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
    return files.hash_state(experiment.load(0, name).own_state())


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
    assert len(experiment.table("data/controls.parquet"))
    # The vocabulary, and what the controls ask beyond it.
    assert len(list(folder.glob("text-*.safetensors"))) == 2
    assert all(Path(path).is_relative_to(run_root) for path in experiment.clips["path"])


def test_preparing_again_changes_nothing(experiment, run_root):
    folder = run_root / "runs/smoke/compact/data"
    wavs = sorted((run_root / "data").rglob("*.wav"))
    before = {path.name: files.sha256_file(path) for path in folder.iterdir()}
    stamps = [stamp(path) for path in [*wavs, *folder.glob("text-*")]]
    prepare("smoke", "compact", dataset_options=OPTIONS)
    assert {path.name: files.sha256_file(path) for path in folder.iterdir()} == before
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
    assert files.hash_state(again.own_state()) == files.hash_state(first.own_state())


def test_what_a_trained_model_leaves(experiment):
    config, folder = experiment.config, experiment.model_folder(0, "clap")
    sidecar = json.loads((folder / "weights.json").read_text())
    assert sidecar["inputs"]["seed"] == 0
    assert sidecar["inputs"]["base_training"]["steps"] == config.base_training.steps
    assert sidecar["inputs"]["code"] == provenance.hash_code(*TRAINING_CODE)
    assert sidecar["fingerprint"] == files.hash_json(sidecar["inputs"])
    assert sidecar["provenance"]["config"] == sidecar["inputs"]
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
    history = history.drop(columns="items_per_second")
    (folder / missing).unlink()
    torch.manual_seed(12345)  # the state that is found does not matter
    monkeypatch.setattr(compact, "_minilm", refuse)  # every caption has been through it
    experiment.train_base(0)
    assert (folder / "weights.safetensors").read_bytes() == before
    again = experiment.history(0).drop(columns="items_per_second")
    pd.testing.assert_frame_equal(again, history, check_exact=True)


@pytest.mark.parametrize("phase", ["warm-up", "base", "post"])
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(experiment, monkeypatch, phase):
    name = "t-clap" if phase == "post" else "clap"
    folder = experiment.model_folder(0, name)

    def train() -> None:
        experiment.train_base(0)
        experiment.train_variants(0, ["t-clap"])

    train()
    before = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.json").unlink()
    written = []

    def cut_off(self, state) -> bool:
        if f"checkpoints-{phase}" in self.folder.name:
            written.append(state.step)
            if len(written) == 2:
                raise KeyboardInterrupt
        return save(self, state)

    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train()
    (kept,) = folder.glob(f"checkpoints-{phase}-*")
    assert sorted(path.name for path in kept.iterdir())[-1] == f"step-{written[0]:08d}"
    (folder / "checkpoints-of-another-fingerprint").mkdir()
    resumed = []

    def note(self, state) -> bool:
        resumed.extend([state.step] if f"checkpoints-{phase}" in self.folder.name else [])
        return save(self, state)

    monkeypatch.setattr(Checkpoints, "save", note)
    train()
    assert resumed == [written[1]]
    assert (folder / "weights.safetensors").read_bytes() == before
    assert not list(folder.glob("checkpoints-*"))


def test_the_launched_way_trains_what_the_notebooks_train(experiment, monkeypatch, capsys):
    monkeypatch.setattr("artifact.notebook.setup.set_up", lambda threads: None)  # it is the whole process's
    sidecar = experiment.model_folder(0, "t-clap") / "weights.json"
    experiment.train_variants(0, ["t-clap"])
    weights = weights_hash(experiment, "t-clap")
    sidecar.unlink()
    command(["train", "--profile", "smoke", "--base", "compact", "--seed", "0", "--variants", "t-clap"])
    assert sidecar.is_file() and weights_hash(experiment, "t-clap") == weights
    assert command(["train", "--profile", "smoke", "--variants", "t-clip"]) == 1
    assert "error: unknown variant 't-clip', expected one of" in capsys.readouterr().err


def test_another_recipe_or_other_data_train_again(experiment):
    sidecar = experiment.model_folder(1, "clap") / "weights.json"
    names = ["clap", "t-clap"]

    def made() -> tuple[dict, list[str]]:
        experiment.train_base(1)
        experiment.train_variants(1, ["t-clap"])
        hashes = [files.hash_state(experiment.load(1, name).own_state()) for name in names]
        return json.loads(sidecar.read_text())["inputs"], hashes

    first, weights = made()
    assert weights[0] != files.hash_state(experiment.load(0).own_state())  # another seed
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
        third = json.loads(sidecar.read_text())["inputs"]
        assert {key for key in first if first[key] != third[key]} == {"data"}
    finally:
        path.write_bytes(content)


def test_variants_start_from_the_base_and_are_trained_once(experiment):
    names = ["clap-continued", "t-clap", "t-clap-distinct", "readout-segments"]
    experiment.train_variants(0, names)
    weights = [experiment.model_folder(0, name) / "weights.safetensors" for name in names]
    before = [stamp(path) for path in weights]
    experiment.train_variants(0, names)
    assert [stamp(path) for path in weights] == before
    base = experiment.load(0)
    for name in names:
        model = experiment.load(0, name)
        trunks = [files.hash_state(m.audio_trunk.state_dict()) for m in (base, model)]
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


def test_slots_are_trained_once_and_share_a_reader(experiment, caplog):
    experiment.train_variants(0, ["t-clap"])
    models = order_from_text.train_slots(experiment, 0)
    assert set(models) == {"clap-slots", "t-clap-slots"}
    readers = [model.reader.state_dict() for model in models.values()]
    assert all(torch.equal(readers[0][name], readers[1][name]) for name in readers[0])
    assert (models["clap-slots"].whole, models["t-clap-slots"].whole) == (0, pytest.approx(1 / 3))
    # Neither the classes nor the wordings that are held out are learnt from.
    assert not {"dog", "precedes", "prior"} & set(models["clap-slots"].closed_class)
    base = experiment.load(0)
    head = {
        name.removeprefix("head."): value
        for name, value in models["clap-slots"].audio_head.state_dict().items()
    }
    assert all(torch.equal(value, head[name]) for name, value in base.audio_head.state_dict().items())
    caplog.set_level(logging.INFO)
    order_from_text.train_slots(experiment, 0)
    assert "clap-slots, seed 0: made already" in caplog.text and "caption reader:" not in caplog.text


def test_a_profile_without_slots_is_told_so(experiment):
    experiment.config = replace(experiment.config, slots=None)
    with pytest.raises(ValueError, match="configs/smoke.yaml has no slots, expected the key 'slots'"):
        order_from_text.train_slots(experiment, 0)


def by_rule(self, captions, text=None):
    """Stands for a trained reader: reads "X before Y" and "Y after X"."""
    readings = []
    for caption in captions:
        found = re.fullmatch(r"this is a sound of (.+) (before|after) (.+)", caption)
        ends = found and (found[1], found[3])[:: 1 if found[2] == "before" else -1]
        readings.append(Reading("forward", ends) if found else Reading("plain", ()))
    return readings


def test_slots_are_asked_what_all_are_and_turn_round_when_swapped(experiment, monkeypatch):
    monkeypatch.setattr(SlotModel, "read", by_rule)
    experiment.train_variants(0, ["t-clap"])
    rows = order_from_text.evaluate_slots(experiment, 0)
    kept = pd.read_parquet(experiment.folder / "seed0/slots-results.parquet")
    assert len(kept) == len(rows) and set(rows["model"]) == {"clap-slots", "t-clap-slots"}
    with monkeypatch.context() as patch:
        patch.setattr(order_from_text, "TestAudio", lambda *_: pytest.fail("asked again"))
        pd.testing.assert_frame_equal(order_from_text.evaluate_slots(experiment, 0), kept)
    asked = set(experiment.table("data/items.parquet")["task"]) | set(
        experiment.table("data/controls.parquet")["task"]
    )
    assert asked < set(rows["task"])
    # The margins change sign with the slots.
    of_base = rows[rows["model"] == "clap-slots"].set_index(["task", "item"])["margin"]
    for task, swapped in order_from_text.SWAPPED.items():
        one, other = of_base[task], of_base[swapped].loc[of_base[task].index]
        np.testing.assert_allclose(one, -other, atol=1e-5)
        assert one.abs().max() > 1e-4
    pair = experiment.table("data/pairs-test.parquet").iloc[0]
    model = experiment.load(0, "clap-slots")
    cosines = order_from_text.slot_cosines(experiment, model, pair)
    assert len(cosines) == 12 and cosines["cosine"].abs().max() <= 1 + 1e-6
    whole = cosines[cosines["slot"] == "whole"].pivot(index="view", columns="event", values="cosine")
    base = experiment.load(0)
    names = [f"this is a sound of {pair[f'label_{end}']}" for end in "ij"]
    features = experiment.audio_features(base).outputs([(pair.to_dict(), "forward")], "one")
    with torch.inference_mode():
        expected = (base.embed_audio(features) @ base.embed_text(experiment.text(names)).T)[0]
    found = whole.loc["forward", [pair["label_i"], pair["label_j"]]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    table = order_from_text.readings(model, ["dog", "rain before dog"])
    assert list(table.columns) == ["caption", "relation", "in time"] and len(table) == 2


def test_a_base_models_variant_does_not_depend_on_those_trained_before_it(experiment):
    names = ["clap-no-sequences", "clap-attention", "clap-single-sounds"]
    training = BaseTraining(experiment, 0)
    models = {name: training.train(name) for name in names}
    assert models["clap-attention"].config["context"] == "attention"
    hashes = {name: weights_hash(experiment, name) for name in ["clap", *names]}
    assert len(set(hashes.values())) == 4
    (experiment.model_folder(0, "clap-attention") / "weights.json").unlink()
    BaseTraining(experiment, 0).train("clap-attention")
    assert weights_hash(experiment, "clap-attention") == hashes["clap-attention"]
    # They start from the same words, and hear sounds after that.
    for name in names:
        words = experiment.history(0, name).query("model == 'warm-up'")
        pd.testing.assert_frame_equal(words, experiment.history(0).query("model == 'warm-up'"))
        assert (experiment.history(0, name)["model"] == name).any()
    with pytest.raises(
        ValueError, match="unknown base model 'clop', expected one of clap, clap-no-sequences"
    ):
        training.train("clop")


def test_variants_of_a_base_model_start_from_the_words_that_were_learnt(experiment, monkeypatch):
    heads = []

    def start(model, *_, **__):
        heads.append({name: value.clone() for name, value in model.text_head.state_dict().items()})
        raise InterruptedError

    monkeypatch.setattr(base_model, "train_base", start)
    training = BaseTraining(experiment, 5)
    for name in ("clap", "clap-attention"):
        with pytest.raises(InterruptedError):
            training.train(name)
    fresh = training._fresh(BaseVariant()).text_head.state_dict()
    for name, value in heads[0].items():
        assert torch.equal(value, heads[1][name])
    assert not all(torch.equal(value, fresh[name]) for name, value in heads[0].items())


def test_slots_are_taken_apart_one_change_at_a_time(experiment, monkeypatch):
    learnt = []

    def note(model, *, wordings, event, **options):
        learnt.append((wordings, event))

    monkeypatch.setattr(SlotModel, "read", by_rule)
    monkeypatch.setattr(slot_ablation, "train_reader", note)
    experiment.train_variants(0, ["t-clap"])
    kept = experiment.folder / "seed0/slots-ablation.parquet"
    command(["ablate", "--profile", "smoke", "--seed", "0", "--bases"])
    assert experiment.load(0, "clap-single-sounds") is not None and not kept.exists()
    command(["ablate", "--profile", "smoke", "--seed", "0"])
    rows = pd.read_parquet(kept)
    found = rows.groupby("group", sort=False)["change"].unique().map(list).to_dict()
    assert found == {
        "as it is": [""],
        "parts": ["20 % alone", "40 % alone", "50 % alone"],
        "slots": ["three"],
        "whole": ["a third"],
        "wordings": ["a half", "an eighth"],
        "events": ["20", "200"],
        "base": ["clap-no-sequences", "clap-single-sounds", "clap-attention"],
    }
    margins = rows.set_index(["group", "change", "task", "item"])["margin"].sort_index()
    assert not margins.index.duplicated().any()
    assert set(rows["task"]) == set(slot_ablation.ASKED) - {"4"}  # which needs seven classes
    asked = rows.groupby(["group", "change"])["task"].value_counts().unstack()
    assert (asked == asked.iloc[0]).all(axis=None)
    # Of single sounds all is as before, unless the base model is another one or √(slots + 1) is.
    unchanged = margins["as it is", ""]
    for group, change in (("parts", "20 % alone"), ("whole", "a third"), ("events", "20")):
        np.testing.assert_allclose(margins[group, change]["1"], unchanged["1"], atol=1e-6)
    np.testing.assert_allclose(2 * margins["slots", "three"]["1"], 3**0.5 * unchanged["1"], atol=1e-5)
    assert not np.allclose(margins["base", "clap-no-sequences"]["1"], unchanged["1"], atol=1e-3)
    for change in ("20 % alone", "50 % alone"):
        assert not np.allclose(margins["parts", change]["2way_before"], unchanged["2way_before"], atol=1e-4)
    half, eighth, *_ = [len(set(wordings["forward"])) for wordings, _ in learnt]
    assert half == (len(set(WORDINGS["forward"])) + 1) // 2 and eighth < half / 3
    generator = np.random.default_rng(0)
    assert [len({event(generator) for _ in range(3000)}) for _, event in learnt[2:]] == [20, 200]
    table = slot_ablation_summary(rows)
    accuracy = rows.query("group == 'slots' and task == '5'")["correct"].mean()
    (row,) = [row for row in table if row["group"] == "slots"]
    assert row["tasks"]["5"]["accuracy"] == pytest.approx(100 * accuracy) and row["tasks"]["5"]["n"] == 20


def test_a_run_that_is_not_there(project_root):
    with pytest.raises(
        FileNotFoundError,
        match=r"runs/smoke/compact/data/config\.json is missing: run notebook 01_data_construction first, "
        r"with profile = 'smoke', base = 'compact' \(`make reproduce` runs all\)\.$",
    ):
        Experiment("smoke", "compact")


@pytest.mark.parametrize(
    ("asked", "missing", "maker"),
    [
        (lambda run: run.load(7), "seed7/clap/weights.safetensors", "02_base_model"),
        (lambda run: run.train_variants(7), "seed7/clap/weights.safetensors", "02_base_model"),
        (lambda run: run.history(7, "t-clap"), "seed7/t-clap/history.parquet", "03_post_pretraining"),
        (lambda run: run.load(7, "clap-slots"), "seed7/clap-slots/weights.safetensors", "06_order_from_text"),
        (lambda run: run.table("seed7/results.parquet"), "seed7/results.parquet", "04_evaluation"),
        (
            lambda run: run.table("seed7/slots-results.parquet"),
            "seed7/slots-results.parquet",
            "06_order_from_text",
        ),
    ],
)
def test_of_an_artefact_that_is_missing_it_is_said_what_makes_it(experiment, asked, missing, maker):
    with pytest.raises(FileNotFoundError) as caught:
        asked(experiment)
    sentence = str(caught.value)
    assert f"{missing} is missing: run notebook {maker} first, with profile = 'smoke'" in sentence
    assert "seed = 7" in sentence
    # What IPython shows in place of the frames.
    assert caught.value._render_traceback_() == [f"FileNotFoundError: {sentence}"]


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


# A published base model


TINY = {
    "dataset": "synthetic",
    "dataset_options": {
        "labels": ["dog", "rain", "siren", "clock tick"],
        "clips_per_class": {"base": 1, "post": 2, "validation": 1, "test": 1},
    },
    "seeds": [0],
    "bases": {"tiny": {}, "compact": {}},
    "test_pairs": 5,
    "validation_pairs": 4,
    "post_pretraining": {
        "preset": "published", "steps": 4, "lr": 0.01, "batch": 3, "replay_batch": 3, "text_loss_batch": 0,
        "pool_pairs": 6, "pool_items": 9,
    },
    "variants": ["clap-continued", "t-clap", "t-clap-distinct"],
    "readouts": ["residual-segments"],
    "window_policies": ["fit", "msclap"],
    "features": "float32",
}  # fmt: skip
EVERY = ["clap", *TINY["variants"], "readout-residual-segments"]
HEADS = {name for name in TinyPublished().own_state()}


@pytest.fixture(scope="module")
def published_root(tmp_path_factory):
    """A prepared and trained run of the tiny published model, shared: tests that change it put it back."""
    root = tmp_path_factory.mktemp("published")
    threads = torch.get_num_threads()
    (root / "configs").mkdir()
    (root / "configs" / "tiny-run.yaml").write_text(yaml.safe_dump(TINY))
    (root / "weights.pth").write_text("3")
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, root)
        patch.chdir(root)
        torch.set_num_threads(1)
        run = prepare("tiny-run", "tiny", weights="weights.pth")
        run.train_base(0)
        run.train_variants(0)
        torch.set_num_threads(threads)
    return root


def enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Make a folder the project's root, with its own profile and the tiny model among the models."""
    patch.setenv("TCLAP_ROOT", str(root))
    patch.setattr(paths, "configs", lambda: root / "configs")
    patch.setitem(models.MODELS, "tiny", "tiny:TinyPublished")


@pytest.fixture
def published(published_root, monkeypatch) -> Experiment:
    enter(monkeypatch, published_root)
    return Experiment("tiny-run", "tiny")


def test_preparing_a_published_base(published, published_root):
    weights = published_root / "weights.pth"
    assert published.config.weights == str(weights)  # found from any folder
    sha256 = files.sha256_file(weights)
    assert published.description == (
        f"profile tiny-run, base tiny, weights sha256 {sha256[:12]} from {weights}; "
        "RANDOM WEIGHTS: the numbers mean nothing"
    )
    published.reference.origin = {"path": None, "revision": "abc", "sha256": sha256, "random_weights": False}
    assert published.description.endswith(f"weights sha256 {sha256[:12]} from the hub, revision abc")
    # Captions are in the store, and no list of the run's own is kept beside it.
    assert not list((published.folder / "data").glob("text-*"))
    kept = list((published_root / "data" / "features" / "float32").iterdir())
    assert kept and {path.suffix for path in kept} == {".safetensors"}


def test_of_a_published_base_the_heads_alone_are_kept_and_nothing_is_trained(published):
    weights = published.model_folder(0, "clap") / "weights.safetensors"
    state, reference = load_file(weights), published.reference.own_state()
    assert set(state) == HEADS and all(torch.equal(state[name], reference[name]) for name in HEADS)
    history = published.history(0)
    assert history.empty and {"model", "seed", *HISTORY} <= set(history.columns)
    before = stamp(weights)
    published.train_base(0)
    assert stamp(weights) == before
    sidecar = json.loads(weights.with_suffix(".json").read_text())
    assert sidecar["config"]["origin"] == sidecar["inputs"]["origin"] == published.reference.origin
    assert set(sidecar["inputs"]) == {"seed", "origin"}


def test_all_models_of_a_published_base_share_its_trunks(published):
    reference = published.reference
    heads = set()
    for name in EVERY:
        model = published.load(0, name)
        assert model.audio_trunk is reference.audio_trunk and model.text_trunk is reference.text_trunk
        file = load_file(published.model_folder(0, name) / "weights.safetensors")
        assert not any(key.startswith(("audio_trunk.", "text_trunk.")) for key in file)
        heads.add(files.hash_state(model.own_state()))
    assert len(heads) == len(EVERY)
    assert published.load(0, "readout-residual-segments").audio_head.order is not None
    assert published.load(0, "t-clap").audio_head.order is None
    # What is loaded is not tied to what is loaded next.
    first, second = published.load(0), published.load(0)
    with torch.no_grad():
        first.audio_head.outer.weight.zero_()
    assert second.audio_head.outer.weight.any() and reference.audio_head.outer.weight.any()


def test_a_published_bases_variants_are_trained_once_by_the_published_recipe(published):
    # Six pairs in batches of three: an epoch is two steps.
    history = published.history(0, "t-clap")
    assert history["lr"].tolist() == pytest.approx([0.01, 0.01, 0.0095, 0.0095])
    assert history["validation_loss"].notna().tolist() == [False, True, False, True]
    before = {name: weights_hash(published, name) for name in EVERY}
    seen = published.reference.audio_trunk.seen, published.reference.text_trunk.seen
    assert seen == (0, 0)  # this process has computed nothing
    published.train_variants(0)
    assert (published.reference.audio_trunk.seen, published.reference.text_trunk.seen) == (0, 0)
    # Made again they are the same to the bit, from kept outputs alone and whatever torch's state.
    for name in ("t-clap", "readout-residual-segments"):
        (published.model_folder(0, name) / "weights.json").unlink()
        torch.manual_seed(12345)
        published.train_variants(0, [name])
    assert (published.reference.audio_trunk.seen, published.reference.text_trunk.seen) == (0, 0)
    assert {name: weights_hash(published, name) for name in EVERY} == before


def test_other_published_weights_are_refused_until_everything_is_trained_again(published, published_root):
    weights = published_root / "weights.pth"
    file = published.model_folder(0, "t-clap") / "weights.safetensors"
    before = weights_hash(published, "t-clap")
    weights.write_text("4")
    try:
        other = Experiment("tiny-run", "tiny")
        for name in EVERY:
            with pytest.raises(ValueError, match="made on other published weights; train it again"):
                other.load(0, name)
        with pytest.raises(ValueError) as error:
            other.load(0, "t-clap")
        assert str(error.value) == f"{file} was made on other published weights; train it again."
        with pytest.raises(ValueError, match="train it again"):
            other.train_variants(0)
        other.train_base(0)
        other.train_variants(0, ["t-clap"])
        assert weights_hash(other, "t-clap") != before
    finally:
        weights.write_text("3")
    again = Experiment("tiny-run", "tiny")
    again.train_base(0)
    again.train_variants(0)
    assert weights_hash(again, "t-clap") == before


def test_a_published_run_is_summarised_with_its_origin(published):
    evaluate_seed(published, 0)
    seen = published.reference.audio_trunk.seen
    again = Experiment("tiny-run", "tiny")
    results = published.table("seed0/results.parquet")
    evaluate_seed(again, 0)
    assert again.reference.audio_trunk.seen == 0, "what is there is not made again"
    (published.folder / "seed0/evaluated.json").unlink()
    evaluate_seed(again, 0)
    # The other window policy's outputs are not kept: five pairs in two orders, some of which are asked.
    assert 0 < again.reference.audio_trunk.seen <= 10 < seen
    pd.testing.assert_frame_equal(again.table("seed0/results.parquet"), results, check_exact=True)
    summary = summarise_run("tiny-run", "tiny")
    assert summary["origin"] == published.reference.origin and summary["origin"]["random_weights"]
    assert read.has_random_weights(read.summary(published.folder))
    assert set(summary["models"]) == {"clap", *TINY["variants"]}
    assert set(summary["readouts"]) == {"residual-segments"} and set(summary["windows"]) == {"fit", "msclap"}
    for name in figures.RESULTS:
        texts = [text.get_text() for text in figures.build(name, published.folder).texts]
        assert "random weights: these numbers mean nothing" in texts, name


def test_weights_for_a_model_that_is_trained_here_are_refused(published_root, monkeypatch):
    enter(monkeypatch, published_root)
    weights = published_root / "weights.pth"
    with pytest.raises(ValueError, match=f"weights={weights}: compact is trained from scratch, expected no"):
        prepare("tiny-run", "compact", weights=weights)
    assert not (published_root / "runs/tiny-run/compact").exists()


def test_a_run_trained_from_scratch_says_so(experiment):
    assert experiment.description == "profile smoke, base compact, trained from scratch"
    assert experiment.store is None
