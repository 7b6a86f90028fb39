"""Profiles and notebook parameters: what is taken, and what is said of the rest."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
import yaml

from artifact import paths
from artifact.config import (
    Config,
    DataParameters,
    Phase,
    PostPretraining,
    ReportParameters,
    SeedParameters,
    VariantParameters,
    build,
    from_plain_values,
    load_config,
    plain_values,
    profiles,
    read_parameters,
)
from tclap.models.readouts import PUBLISHED as PUBLISHED_READOUTS
from tclap.models.readouts import READOUTS as COMPACT_READOUTS
from tclap.training.variants import READOUTS, VARIANTS, Variant, variant


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the profile ``made`` from good values and changes; None takes a key away."""
    monkeypatch.setattr(paths, "configs", lambda: tmp_path)
    good = {
        "dataset": "synthetic",
        "seeds": [0, 1],
        "bases": {"compact": {"window": 4.0}},
        "test_pairs": 5,
        "validation_pairs": 4,
        "warm_up": {"steps": 3, "lr": 1, "batch": 2},
        "base_training": {"steps": 3, "lr": 0.1, "batch": 2, "validate_every": 7},
        "post_pretraining": {"steps": 3, "lr": 0.1, "batch": 2, "pool_pairs": 9},
        "variants": ["t-clap"],
    }

    def write(**changes) -> None:
        values = {key: value for key, value in (good | changes).items() if value is not None}
        (tmp_path / "made.yaml").write_text(yaml.safe_dump(values))

    write.path = tmp_path / "made.yaml"
    return write


# Profiles


def test_every_profile_loads():
    assert {"synthetic", "esc50", "smoke"} <= set(profiles())
    for name in profiles():
        config = load_config(name)
        assert config.profile == name
        assert all(config.model_options(base) == options for base, options in config.bases.items())
        assert all(variant(v) for v in config.variants)


def test_a_profile_by_hand(write):
    write(gap_ms=[-5, 20])
    config = load_config("made")
    assert config == Config(
        profile="made",
        dataset="synthetic",
        seeds=[0, 1],
        bases={"compact": {"window": 4.0}},
        test_pairs=5,
        validation_pairs=4,
        warm_up=Phase(steps=3, lr=1.0, batch=2),
        base_training=Phase(steps=3, lr=0.1, batch=2, validate_every=7),
        post_pretraining=PostPretraining(steps=3, lr=0.1, batch=2, pool_pairs=9),
        variants=["t-clap"],
        gap_ms=[-5.0, 20.0],
    )
    assert isinstance(config.warm_up.lr, float) and isinstance(config.gap_ms[0], float)
    assert config.window_policies == ["fit"] and config.readouts == [] and config.dataset_options == {}


def test_a_profile_of_published_models_needs_no_base_training(write):
    write(warm_up=None, base_training=None, retrieval_sets=["clotho"], features="bfloat16")
    config = load_config("made")
    assert config.warm_up is None and config.base_training is None and config.weights is None
    assert (config.retrieval_sets, config.features) == (["clotho"], "bfloat16")
    assert config.post_pretraining.preset == "cosine"


@pytest.mark.parametrize("name", ["paper", "paper-smoke"])
def test_the_papers_profiles(name):
    config = load_config(name)
    assert config.post_pretraining.preset == "published" and config.post_pretraining.lr == 0.001
    assert {"msclap-2022", "msclap-2023"} <= set(config.bases) and config.warm_up is None
    assert config.retrieval_sets == ["clotho", "audiocaps"] and config.dataset == "esc50"
    assert set(config.readouts) <= set(PUBLISHED_READOUTS)
    if name == "paper":
        post = config.post_pretraining
        assert post.steps * post.batch == 10 * post.pool_pairs  # ten epochs
        assert set(config.variants) == set(VARIANTS) and len(config.seeds) == 3


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        load_config("smoke").test_pairs = 3


def test_options_that_are_given_replace_the_profiles(write):
    write(dataset_options={"seed": 3, "labels": ["dog", "rain"]})
    given = {"labels": ["crow", "siren"], "duration": None, "test_fold": 5}
    options = load_config("made", given).dataset_options
    assert options == {"seed": 3, "labels": ["crow", "siren"], "test_fold": 5}
    write()
    assert load_config("made", {"test_fold": 5}).dataset_options == {"test_fold": 5}


PHASE = {"steps": 3, "lr": 0.1, "batch": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tests_pairs": 5}, "has the unknown key 'tests_pairs', expected among profile, dataset, seeds,"),
        ({"warm_up": PHASE | {"step": 1}}, ": warm_up has the unknown key 'step', expected among steps, lr"),
        ({"dataset": None}, "lacks the key 'dataset'"),
        ({"warm_up": {"steps": 3, "batch": 2}}, ": warm_up lacks the key 'lr'"),
        ({"test_pairs": True}, ": test_pairs is True, expected int"),
        ({"test_pairs": 5.0}, ": test_pairs is 5.0, expected int"),
        ({"test_pairs": "5"}, ": test_pairs is '5', expected int"),
        ({"test_pairs": [5]}, r": test_pairs is \[5\], expected int"),
        ({"dataset": 3}, ": dataset is 3, expected str"),
        ({"warm_up": PHASE | {"lr": "3e-3"}}, ": warm_up: lr is '3e-3', expected float"),
        ({"warm_up": PHASE | {"lr": True}}, ": warm_up: lr is True, expected float"),
        ({"warm_up": 3}, ": warm_up is 3, expected keys and values"),
        ({"seeds": 0}, ": seeds is 0, expected list"),
        ({"seeds": [0, "1"]}, r": seeds\[1\] is '1', expected int"),
        ({"seeds": [0, True]}, r": seeds\[1\] is True, expected int"),
        ({"seeds": []}, ": seeds is empty, expected at least one number"),
        ({"seeds": [0, -1]}, "seed must be at least 0, got -1"),
        ({"bases": ["compact"]}, r": bases is \['compact'\], expected dict"),
        ({"bases": {"compact": 4}}, ": bases.compact is 4, expected dict"),
        ({"dataset_options": "x"}, ": dataset_options is 'x', expected dict"),
        ({"variants": "t-clap"}, ": variants is 't-clap', expected list"),
        ({"variants": ["t-clapp"]}, ": variants has 't-clapp', expected among clap-continued, t-clap,"),
        ({"readouts": ["max"]}, ": readouts has 'max', expected among mean, segments, ends"),
        ({"window_policies": ["half"]}, ": window_policies has 'half', expected among fit, full, msclap"),
        ({"retrieval_sets": ["flickr"]}, ": retrieval_sets has 'flickr', expected among clotho, audiocaps"),
        ({"retrieval_sets": "clotho"}, ": retrieval_sets is 'clotho', expected list"),
        ({"features": "float64"}, ": features has 'float64', expected among float32, float16, bfloat16"),
        ({"weights": 3}, ": weights is 3, expected str"),
        (
            {"post_pretraining": PHASE | {"preset": "adam"}},
            ": post_pretraining: preset is 'adam', expected one of cosine, published",
        ),
        ({"gap_ms": [0, 1, 2]}, r": gap_ms is \[0.0, 1.0, 2.0\], expected two numbers"),
        ({"gap_ms": ["0", 1]}, r": gap_ms\[0\] is '0', expected float"),
    ],
)
def test_what_is_wrong_is_named(write, changes, message):
    write(**changes)
    prefix = "" if message.startswith("seed must") else "configs/made.yaml ?"
    with pytest.raises((ValueError, TypeError), match=prefix + message):
        load_config("made")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "configs/made.yaml is None, expected keys and values"),
        ("- a\n- b\n", r"configs/made.yaml is \['a', 'b'\], expected keys and values"),
        ("seeds: [0, 1\n", "configs/made.yaml is no readable YAML"),
    ],
)
def test_a_file_that_is_no_profile(write, text, message):
    write.path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        load_config("made")


def test_an_unquoted_exponent_in_yaml_is_a_string(write):
    write()
    write.path.write_text(write.path.read_text().replace("lr: 1\n", "lr: 3e-3\n"))
    with pytest.raises(TypeError, match="configs/made.yaml: warm_up: lr is '3e-3', expected float"):
        load_config("made")


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown profile 'synthetik', expected one of .*synthetic"):
        load_config("synthetik")
    with pytest.raises(ValueError, match="unknown profile '../configs/smoke'"):
        load_config("../configs/smoke")
    with pytest.raises(ValueError, match="profile smoke has no base 'msclap', expected one of compact"):
        load_config("smoke").model_options("msclap")
    with pytest.raises(ValueError, match="unknown variant 'readout-max', expected one of clap-continued"):
        variant("readout-max")
    with pytest.raises(ValueError, match="seed must be at least 0, got -2"):
        load_config("smoke").check_seed(-2)


@pytest.mark.parametrize("name", profiles())
def test_a_config_survives_json(name):
    config = load_config(name)
    values = json.loads(json.dumps(plain_values(config)))
    assert from_plain_values(values, "config.json") == config


def test_a_kept_config_is_checked_too():
    values = plain_values(load_config("smoke"))
    with pytest.raises(ValueError, match=r"run/config\.json has the unknown key 'more'"):
        from_plain_values(values | {"more": 1}, "run/config.json")
    with pytest.raises(TypeError, match=r"run/config\.json: post_pretraining: steps is None, expected int"):
        from_plain_values(
            values | {"post_pretraining": values["post_pretraining"] | {"steps": None}}, "run/config.json"
        )


# Variants


def test_variants_by_name():
    assert variant("t-clap") == Variant()
    assert {name: variant(f"readout-{name}") for name in READOUTS} == READOUTS
    assert all(settings.readout == name for name, settings in READOUTS.items())
    assert set(READOUTS) == {*COMPACT_READOUTS, *PUBLISHED_READOUTS}
    # Those of the paper, all there.
    assert set(VARIANTS) == {
        "clap-continued", "t-clap", "t-clap-no-replay", "t-clap-no-overlap", "t-clap-no-time",
        "t-clap-half", "t-clap-distinct", "t-clap-alpha-same-0", "t-clap-alpha-cross-0",
    }  # fmt: skip


# Parameters of notebooks


def kernel(**variables) -> dict:
    """A namespace such as a notebook's, with what IPython leaves in it."""
    return {
        "__name__": "__main__",
        "_": "",
        "_i1": "x = 1",
        "In": ["", "x"],
        "Out": {},
        "json": json,
    } | variables


def test_parameters_are_read_from_the_namespace():
    found = read_parameters(VariantParameters, kernel(profile="smoke", seed=1, variants=["t-clap"]), "03")
    assert found == VariantParameters(profile="smoke", base="compact", seed=1, variants=["t-clap"])
    assert read_parameters(VariantParameters, kernel(variants=None), "03").variants is None
    assert read_parameters(ReportParameters, kernel(), "05") == ReportParameters()


def test_an_unknown_parameter_is_refused():
    with pytest.raises(
        ValueError, match="notebook 02 has the unknown key 'sed', expected among profile, base, seed"
    ):
        read_parameters(SeedParameters, kernel(seed=0, sed=1), "02")


@pytest.mark.parametrize(
    ("cls", "variables", "message"),
    [
        (SeedParameters, {"seed": "1"}, "notebook 0: seed is '1', expected int"),
        (SeedParameters, {"seed": True}, "notebook 0: seed is True, expected int"),
        (SeedParameters, {"seed": None}, "notebook 0: seed is None, expected int"),
        (SeedParameters, {"profile": 3}, "notebook 0: profile is 3, expected str"),
        # papermill writes a tuple's text.
        (
            VariantParameters,
            {"variants": "('t-clap', 'clap')"},
            r"variants is .\('t-clap', 'clap'\).*, expected list",
        ),
        (VariantParameters, {"variants": ("t-clap",)}, r"variants is \('t-clap',\), expected list"),
        (VariantParameters, {"variants": ["t-clap", 3]}, r"variants\[1\] is 3, expected str"),
        (DataParameters, {"test_fold": "5"}, "notebook 0: test_fold is '5', expected int"),
    ],
)
def test_a_parameter_of_a_wrong_type_is_refused(cls, variables, message):
    with pytest.raises(TypeError, match=message):
        read_parameters(cls, kernel(**variables), "0")


@pytest.mark.parametrize(
    ("cls", "variables", "message"),
    [
        (SeedParameters, {"profile": "nope"}, "unknown profile 'nope', expected one of"),
        (ReportParameters, {"base": "msclop"}, "profile synthetic has no base 'msclop', expected one of"),
        (SeedParameters, {"seed": -1}, "seed must be at least 0, got -1"),
        (VariantParameters, {"variants": ["t-clop"]}, "unknown variant 't-clop', expected one of"),
        (SeedParameters, {"sede": 1}, "unknown key 'sede'"),
    ],
)
def test_of_a_bad_parameter_a_notebook_shows_the_sentence_alone(cls, variables, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_parameters(cls, kernel(**variables), "0")
    assert caught.value._render_traceback_() == [f"ValueError: {caught.value}"]


def test_a_cell_that_runs_again_may_have_variables_beside_it():
    namespace = kernel(seed=1)
    assert read_parameters(SeedParameters, namespace, "02").seed == 1
    namespace |= {"seed": 2, "count": 7, "name": "t-clap"}
    assert read_parameters(SeedParameters, namespace, "02").seed == 2
    namespace["seed"] = "3"
    with pytest.raises(TypeError, match="seed is '3'"):
        read_parameters(SeedParameters, namespace, "02")


def test_a_refused_namespace_is_looked_at_again():
    namespace = kernel(sed=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="unknown key 'sed'"):
            read_parameters(SeedParameters, namespace, "02")


def test_data_options_of_notebook_01():
    parameters = DataParameters(esc50_root="/x", test_fold=5, classes="auto")
    assert parameters.dataset_options() == {
        "test_fold": 5, "validation_fold": None, "classes": "auto", "download": None,
    }  # fmt: skip
    assert DataParameters(download=True).dataset_options()["download"] is True


def test_optional_values_of_dataclasses():
    assert build(DataParameters, {"test_fold": None}, "here").test_fold is None
    with pytest.raises(TypeError, match="here: test_fold is 1.5, expected int"):
        build(DataParameters, {"test_fold": 1.5}, "here")
    with pytest.raises(TypeError, match="here is 3, expected keys and values"):
        build(DataParameters, 3, "here")


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("lr", -0.1), ("batch", 0), ("validate_every", 0)])
def test_a_phase_without_steps_items_or_rate_is_refused(name, value):
    values = {"steps": 1, "lr": 0.1, "batch": 1, "validate_every": 1} | {name: value}
    with pytest.raises(ValueError, match=rf"^here: {name} of a training phase is {value}"):
        build(Phase, values, "here")
