"""Training: once, to the same bits when it is repeated or goes on, and again from other inputs."""

import logging
import re
import shutil

import pandas as pd
import pytest
import torch

from artifact import training
from artifact.__main__ import main as command
from artifact.experiment import Experiment
from artifact.training import BASES, reader_templates, train_base_models, train_variants
from tclap import files
from tclap.data.captions import ORDERED, SIMULTANEOUS, UNSEEN_ORDERED
from tclap.models import minilm
from tclap.training import loop
from tclap.training.variants import variant

NO_TEXT = "clap-no-text-loss"
OTHERS = [name for name in BASES if name != "clap"]


def weights_of(run: Experiment, names: list[str], seed: int = 0) -> dict[str, str]:
    return {name: files.hash_state(run.load(seed, name).own_state()) for name in names}


def test_models_are_trained_once_and_leave_weights_a_history_and_what_made_them(experiment, caplog):
    names = ["clap-continued", "t-clap", "t-clap-distinct", "readout-segments"]
    train_variants(experiment, 0, names)
    files_of = [experiment.path(f"seed0/{name}/weights.safetensors") for name in ("clap", *names)]
    before = [path.stat().st_mtime_ns for path in files_of]
    caplog.set_level(logging.INFO)
    train_base_models(experiment, 0, ["clap"])
    train_variants(experiment, 0, names)
    assert [path.stat().st_mtime_ns for path in files_of] == before
    assert "clap, seed 0: made already" in caplog.text and "t-clap, seed 0: made already" in caplog.text
    config = experiment.config
    models = ["warm-up"] * config.warm_up.steps + ["clap"] * config.base_training.steps
    history = experiment.history(0)
    assert history["model"].tolist() == models and (history["seed"] == 0).all()
    found = sorted(path.name for path in (experiment.folder / "seed0/clap").iterdir())
    assert found == ["history.parquet", "made.json", "weights.safetensors"]
    # All start from one trunk and end elsewhere.
    trunk = experiment.load(0).audio_trunk.fingerprint
    for name in names:
        assert experiment.load(0, name).audio_trunk.fingerprint == trunk
        assert experiment.history(0, name)["model"].tolist() == [name] * config.post_pretraining.steps
    assert experiment.load(0, "readout-segments").config["readout"] == "segments"
    assert len(set(weights_of(experiment, ["clap", *names]).values())) == 1 + len(names)


def test_what_is_cut_is_made_again_with_the_same_bits(experiment, monkeypatch):
    folder = experiment.folder / "seed0/clap"
    before, history = (folder / "weights.safetensors").read_bytes(), experiment.history(0)
    (folder / "weights.safetensors").write_bytes(before[: len(before) // 2])
    torch.manual_seed(12345)  # the state that is found does not matter
    monkeypatch.setattr(minilm, "load", lambda: pytest.fail("MiniLM was loaded"))
    train_base_models(Experiment("smoke", "compact"), 0, ["clap"])
    assert (folder / "weights.safetensors").read_bytes() == before
    pd.testing.assert_frame_equal(history, experiment.history(0), check_exact=True)


@pytest.mark.parametrize(
    ("phase", "name"),
    [("warm-up", "clap"), ("base", "clap"), ("post", "t-clap-more-wordings")],
)
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(experiment, monkeypatch, phase, name):
    folder = experiment.folder / "seed0" / name

    def train() -> None:
        train_base_models(experiment, 0, ["clap"])
        train_variants(experiment, 0, ["t-clap"] if name == "clap" else [name])

    train()
    before = (folder / "weights.safetensors").read_bytes()
    (folder / "made.json").unlink()
    saved, save = [], loop.save

    def cut_off_at_the_second(checkpoint, state) -> None:
        if f"checkpoint-{phase}" in checkpoint.name:
            saved.append(state["step"])
            if len(saved) == 2:
                raise KeyboardInterrupt
        save(checkpoint, state)

    monkeypatch.setattr(loop, "save", cut_off_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(list(folder.glob(f"checkpoint-{phase}-*"))) == 1
    (folder / "checkpoint-post-of-another.pt").touch()
    train()
    assert saved[2:] == [saved[1]], "it goes on from the first checkpoint"
    assert (folder / "weights.safetensors").read_bytes() == before
    assert not list(folder.glob("checkpoint-*"))


def test_more_wordings_are_those_that_the_reader_learned_and_none_that_is_held_out(experiment):
    assert reader_templates(variant("t-clap")) == {}
    templates = reader_templates(variant("t-clap-more-wordings"))
    ordered, simultaneous = templates["ordered"], templates["simultaneous"]
    # By hand, from wordings.yaml: what sounds first is {a}, whatever is named first.
    assert {"{a}: then {b}", "{b} had followed {a}", "this is a sound of {b}, following {a}"} <= set(ordered)
    assert {"{a} whilst {b}", "this is a sound of {a} concurrently with {b}"} <= set(simultaneous)
    assert set(ORDERED) <= set(ordered) and set(SIMULTANEOUS) <= set(simultaneous)
    for template in (*ordered, *simultaneous):
        assert sorted(re.findall(r"{.*?}", template)) == ["{a}", "{b}"]
        bare = template.removeprefix("this is a sound of ")
        assert bare not in UNSEEN_ORDERED and not re.search(r"precedes|follows\b|preceded by|prior to", bare)
        assert ", then" not in bare or template in ORDERED
    train_variants(experiment, 0, ["t-clap", "t-clap-more-wordings"])
    losses = [experiment.history(0, name)["loss_text"] for name in ("t-clap", "t-clap-more-wordings")]
    assert (losses[0] != losses[1]).all()


def test_the_launched_way_trains_what_the_notebooks_train(experiment, monkeypatch, capsys):
    monkeypatch.setattr("artifact.notebook.setup.set_up", lambda: None)  # it is the whole process's
    train_variants(experiment, 0, ["t-clap"])
    weights = weights_of(experiment, ["t-clap"])
    experiment.path("seed0/t-clap/made.json").unlink()
    command(["train", "--profile", "smoke", "--base", "compact", "--seed", "0", "--variants", "t-clap"])
    assert weights_of(experiment, ["t-clap"]) == weights
    assert command(["train", "--profile", "smoke", "--variants", "t-clip"]) == 2
    assert "error: unknown variant 't-clip', expected one of" in capsys.readouterr().err


def test_other_inputs_or_other_data_train_again(experiment):
    def made(run: Experiment) -> tuple[dict, dict]:
        train_base_models(run, 1, ["clap"])
        train_variants(run, 1, ["t-clap"])
        return run.made(1, "clap")["inputs"], weights_of(run, ["clap", "t-clap"], seed=1)

    first, weights = made(experiment)
    assert weights["clap"] != weights_of(experiment, ["clap"])["clap"]  # another seed
    slower = experiment.config.base_training.model_copy(update={"lr": 0.001})
    experiment.config = experiment.config.model_copy(update={"base_training": slower})
    second, others = made(experiment)
    assert {key for key in first if first[key] != second[key]} == {"base_training"}
    assert all(weights[name] != others[name] for name in weights)

    path = experiment.path("data/pairs-validation.parquet")
    content = path.read_bytes()
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    try:
        third, _ = made(Experiment("smoke", "compact"))
        assert {key for key in first if first[key] != third[key]} == {"data"}
    finally:
        path.write_bytes(content)


def test_no_model_depends_on_those_trained_before_it(experiment):
    train_variants(experiment, 0, ["t-clap-distinct", "t-clap", "readout-mean"])
    train_base_models(experiment, 0, OTHERS)
    weights = weights_of(experiment, ["clap", "t-clap", "readout-mean", *OTHERS])
    assert len(set(weights.values())) == len(weights)
    assert experiment.load(0, "clap-attention").config["context"] == "attention"
    for name in ("t-clap", "readout-mean", "clap-attention"):
        experiment.path(f"seed0/{name}/made.json").unlink()
        if name in OTHERS:
            train_base_models(experiment, 0, [name])
        else:
            train_variants(experiment, 0, [name])
    assert weights_of(experiment, list(weights)) == weights
    # Base models start from the same words, or from none, and learn sounds after that.
    words = experiment.history(0).query("model == 'warm-up'")
    for name in OTHERS:
        history = experiment.history(0, name)
        if name == NO_TEXT:
            assert (history["model"] == name).all() and len(history)
            continue
        pd.testing.assert_frame_equal(history.query("model == 'warm-up'"), words)
        assert (history["model"] == name).any()


def test_a_variant_starts_from_its_base_model(experiment, monkeypatch):
    begun, pools = {}, {}

    def start(model, settings, text, pool, *_, what, **__):
        begun[what], pools[what] = model.fingerprint, pool
        return pd.DataFrame({"step": [0]})

    base_of = {"t-clap-text-none": NO_TEXT, "t-clap": "clap", "t-clap-no-overlap-text-none": NO_TEXT}
    names = list(base_of)
    with pytest.raises(FileNotFoundError, match=f"seed1/{NO_TEXT}/.* is missing: run notebook 02_base_model"):
        train_variants(experiment, 1, names[:1])
    experiment.config = experiment.config.model_copy(update={"variants": names})
    assert experiment.config.starts == ["clap", NO_TEXT]
    train_base_models(experiment, 1)
    monkeypatch.setattr(training, "post_pretrain", start)
    for name in names:
        shutil.rmtree(experiment.folder / "seed1" / name, ignore_errors=True)
    train_variants(experiment, 1)
    assert begun == {name: experiment.load(1, base).fingerprint for name, base in base_of.items()}
    # The items go through that one's trunk.
    assert pools[names[0]] is pools[names[2]]
    features = [pools[name].composites.features for name in names]
    assert features[0].shape == features[1].shape and not torch.allclose(features[0], features[1], atol=1e-3)
