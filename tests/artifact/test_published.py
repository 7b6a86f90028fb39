"""A run of a published base model: heads alone are kept, and everything says whose weights it rests on."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import TinyPublished

from artifact import paths
from artifact.evaluation import evaluate_seed
from artifact.experiment import Experiment
from artifact.preparation import prepare
from artifact.slot_ablation import base_model_names
from artifact.summary import summarise_run
from artifact.training import HISTORY, train_base_models, train_variants
from figures import read
from tclap import files
from tclap.models import registry as models

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


def enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Make a folder the project's root, with its own profile and the tiny model among the models."""
    patch.setenv("TCLAP_ROOT", str(root))
    patch.setattr(paths, "configs", lambda: root / "configs")
    patch.setitem(models.MODELS, "tiny", "tiny:TinyPublished")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
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
        train_base_models(run, 0)
        train_variants(run, 0)
        torch.set_num_threads(threads)
    return root


@pytest.fixture
def run(root, monkeypatch) -> Experiment:
    enter(monkeypatch, root)
    return Experiment("tiny-run", "tiny")


def weights_of(run: Experiment) -> dict[str, str]:
    return {name: files.hash_state(run.load(0, name).own_state()) for name in EVERY}


def test_what_a_run_says_it_rests_on(run, root):
    weights = root / "weights.pth"
    assert run.config.weights == str(weights)  # found from any folder
    sha256 = files.sha256_file(weights)
    said = f"profile tiny-run, base tiny, weights sha256 {sha256[:12]} from {weights}; RANDOM WEIGHTS"
    assert run.description.startswith(said)
    run.reference.origin = {"path": None, "revision": "abc", "sha256": sha256, "random_weights": False}
    assert run.description.endswith(f"weights sha256 {sha256[:12]} from the hub, revision abc")
    # Captions are in the store, and no list of the run's own is kept beside it.
    assert not list((run.folder / "data").glob("features-*"))
    assert list((root / "data" / "features").glob("features-*"))


def test_a_published_base_is_not_trained_and_its_models_share_its_trunks(run):
    weights, reference = run.path("seed0/clap/weights.safetensors"), run.reference
    state, own = load_file(weights), reference.own_state()
    assert state.keys() == own.keys() and all(torch.equal(state[name], own[name]) for name in state)
    history = run.history(0)
    assert history.empty and {"model", "seed", *HISTORY} <= set(history.columns)
    before = weights.stat().st_mtime_ns
    train_base_models(run, 0)
    assert weights.stat().st_mtime_ns == before
    for name in EVERY:
        model = run.load(0, name)
        assert model.audio_trunk is reference.audio_trunk and model.text_trunk is reference.text_trunk
        kept = load_file(run.path(f"seed0/{name}/weights.safetensors"))
        assert not any(key.startswith(("audio_trunk.", "text_trunk.")) for key in kept)
    assert len(set(weights_of(run).values())) == len(EVERY)
    assert run.load(0, "readout-residual-segments").audio_head.order is not None


def test_a_published_bases_variants_are_trained_once_by_the_published_preset(run):
    # Six pairs in batches of three: an epoch is two steps.
    history = run.history(0, "t-clap")
    assert history["lr"].tolist() == pytest.approx([0.01, 0.01, 0.0095, 0.0095])
    assert history["validation_loss"].notna().tolist() == [False, True, False, True]
    before = weights_of(run)
    train_variants(run, 0)
    # Trained again they are the same to the bit, from kept outputs alone and whatever torch's state.
    for name in ("t-clap", "readout-residual-segments"):
        run.path(f"seed0/{name}/made.json").unlink()
        torch.manual_seed(12345)
        train_variants(run, 0, [name])
    assert (run.reference.audio_trunk.seen, run.reference.text_trunk.seen) == (0, 0)
    assert weights_of(run) == before


def test_other_published_weights_are_refused_until_everything_is_trained_again(run, root):
    before = weights_of(run)
    (root / "weights.pth").write_text("4")
    try:
        other = Experiment("tiny-run", "tiny")
        for name in EVERY:
            with pytest.raises(ValueError, match=f"seed0/{name}/.* made on other published weights"):
                other.load(0, name)
        train_base_models(other, 0)
        train_variants(other, 0)
        assert not set(weights_of(other).values()) & set(before.values())
    finally:
        (root / "weights.pth").write_text("3")
    train_base_models(run, 0)
    train_variants(run, 0)
    assert weights_of(run) == before


def test_a_published_run_is_summarised_with_its_origin(run):
    evaluate_seed(run, 0)
    seen = run.reference.audio_trunk.seen
    again = Experiment("tiny-run", "tiny")
    results = run.table("seed0/results.parquet")
    evaluate_seed(again, 0)
    assert again.reference.audio_trunk.seen == 0, "what is there is not made again"
    run.path("seed0/evaluation.json").unlink()
    evaluate_seed(again, 0)
    # The other window policy's outputs are not kept: five pairs in two orders, some of which are asked. Nor
    # is the receptive field, which is measured on 101 sounds.
    assert 101 < again.reference.audio_trunk.seen <= 111 < seen
    pd.testing.assert_frame_equal(again.table("seed0/results.parquet"), results, check_exact=True)
    summary = summarise_run("tiny-run", "tiny")
    assert summary["origin"] == run.reference.origin and read.has_random_weights(summary)
    assert set(summary["models"]) == {"clap", *TINY["variants"]}
    assert set(summary["readouts"]) == {"residual-segments"} and set(summary["windows"]) == {"fit", "msclap"}


def test_a_pretrained_trunk_under_heads_that_are_trained_here(run, monkeypatch):
    """Its outputs are kept and its models share it; only that it needs no training is not so."""
    trained, weights = {name: run.made(0, name) for name in EVERY}, weights_of(run)
    monkeypatch.setattr(TinyPublished, "is_published", False)
    other = Experiment("tiny-run", "tiny")
    assert ", heads trained from scratch, audio trunk sha256 " in other.description
    assert other.store is not None and other.load(0, "t-clap").audio_trunk is other.reference.audio_trunk
    train_variants(other, 0)  # all of them are as they would be
    assert {name: run.made(0, name) for name in EVERY} == trained
    run.path("seed0/t-clap/made.json").unlink()
    train_variants(other, 0, ["t-clap"])
    assert weights_of(run) == weights
    assert base_model_names(other) == []
    with pytest.raises(
        ValueError, match=r"configs/tiny-run\.yaml has no warm_up or base_training, expected both"
    ):
        train_base_models(other, 0)


def test_weights_for_a_model_that_is_trained_here_are_refused(run, root):
    with pytest.raises(ValueError, match="weights=.*weights.pth: compact is trained from scratch"):
        prepare("tiny-run", "compact", weights=root / "weights.pth")
    assert not (root / "runs/tiny-run/compact").exists()
