"""Profiles and notebook parameters: what is taken, and that one sentence names what is wrong."""

import json

import pytest
import yaml

from artifact import paths
from artifact.config import (
    Config,
    DataParameters,
    ReportParameters,
    SeedParameters,
    VariantParameters,
    load_config,
    profiles,
    read_parameters,
    validate,
)

PHASE = {"steps": 3, "lr": 0.1, "batch": 2}
GOOD = {
    "dataset": "synthetic",
    "seeds": [0, 1],
    "bases": {"compact": {"window": 4.0}},
    "test_pairs": 5,
    "validation_pairs": 4,
    "warm_up": {"steps": 3, "lr": 1, "batch": 2},
    "base_training": PHASE | {"validate_every": 7},
    "post_pretraining": PHASE | {"pool_pairs": 9},
    "variants": ["t-clap"],
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the profile ``made`` from good values and changes."""
    monkeypatch.setattr(paths, "configs", lambda: tmp_path)
    return lambda **changes: (tmp_path / "made.yaml").write_text(yaml.safe_dump(GOOD | changes))


# Profiles


@pytest.mark.parametrize("name", profiles())
def test_every_profile_loads_and_survives_json(name):
    config = load_config(name)
    assert config.profile == name
    assert all(config.model_options(base) == options for base, options in config.bases.items())
    assert validate(Config, json.loads(json.dumps(config.model_dump())), "config.json") == config


def test_options_that_are_given_replace_the_profiles(write):
    write(dataset_options={"seed": 3, "labels": ["dog", "rain"]})
    given = {"labels": ["crow", "siren"], "seed": None, "clips_per_class": {"base": 5}}
    options = load_config("made", given).dataset_options
    assert options == {"seed": 3, "labels": ["crow", "siren"], "clips_per_class": {"base": 5}}
    with pytest.raises(
        ValueError, match="data set synthetic has no option 'test_fold', expected among clips_per"
    ):
        load_config("made", {"test_fold": 5})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"tests_pairs": 5}, "unknown key 'tests_pairs', expected among profile, dataset"),
        ({"warm_up": PHASE | {"step": 1}}, "unknown key 'warm_up.step'."),
        ({"warm_up": {"steps": 3, "batch": 2}}, "lacks the key 'warm_up.lr'"),
        ({"dataset": "esc05"}, "dataset is 'esc05'"),
        ({"warm_up": PHASE | {"lr": "3e-3"}}, "warm_up.lr is '3e-3', but should be a valid number"),
        ({"warm_up": PHASE | {"steps": 0}}, "warm_up.steps is 0, but should be greater than 0"),
        ({"warm_up": PHASE | {"preset": "adam"}}, "warm_up.preset is 'adam', but should be 'cosine' or"),
        ({"seeds": [0, -1]}, "seeds.1 is -1"),
        ({"variants": ["t-clapp"]}, "variants.0 is 't-clapp', but should be 'clap-continued', 'clap-ord"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(write, changes, key):
    write(**changes)
    with pytest.raises(ValueError, match=rf"^configs/made.yaml.*{key}"):
        load_config("made")


@pytest.mark.parametrize(("text", "message"), [("", "is None"), ("seeds: [0, 1\n", "no readable YAML")])
def test_a_file_that_is_no_profile(write, tmp_path, text, message):
    (tmp_path / "made.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"^configs/made.yaml.*{message}"):
        load_config("made")


def test_unknown_names():
    for profile in ("synthetik", "../configs/smoke"):
        with pytest.raises(ValueError, match=f"unknown profile '{profile}', expected one of .*synthetic"):
            load_config(profile)
    with pytest.raises(ValueError, match="profile smoke has no base 'msclap', expected one of compact"):
        load_config("smoke").model_options("msclap")


# Parameters of notebooks


def kernel(**variables) -> dict:
    """A namespace such as a notebook's, with what IPython leaves in it."""
    left = {"__name__": "__main__", "_": "", "_i1": "x = 1", "In": ["", "x"], "Out": {}, "json": json}
    return left | variables


def test_parameters_are_read_from_the_namespace():
    found = read_parameters(VariantParameters, kernel(profile="smoke", seed=1, variants=["t-clap"]), "03")
    assert found == VariantParameters(profile="smoke", base="compact", seed=1, variants=["t-clap"])
    assert read_parameters(VariantParameters, kernel(variants=None), "03").variants is None
    assert read_parameters(VariantParameters, kernel(variants=["readout-mean"]), "03")
    assert read_parameters(ReportParameters, kernel(), "06") == ReportParameters()


@pytest.mark.parametrize(
    ("cls", "variables", "message"),
    [
        (SeedParameters, {"sed": 1}, "unknown key 'sed', expected among profile, base, seed"),
        (SeedParameters, {"seed": -1}, "seed is -1"),
        (SeedParameters, {"profile": "nope"}, "unknown profile 'nope', expected one of"),
        (ReportParameters, {"base": "msclop"}, "profile synthetic has no base 'msclop', expected one of"),
        (VariantParameters, {"variants": ["t-clop"]}, "variants.0 is 't-clop'"),
        # papermill writes a tuple's text.
        (VariantParameters, {"variants": "('t-clap', 'clap')"}, "variants is .*, but should be a valid list"),
        (VariantParameters, {"variants": ("t-clap",)}, r"variants is \('t-clap',\)"),
        (DataParameters, {"test_fold": "5"}, "test_fold is '5'"),
    ],
)
def test_of_a_bad_parameter_a_notebook_shows_the_sentence_alone(cls, variables, message):
    namespace = kernel(**variables)
    for _ in range(2):  # a cell that is run again is refused again
        with pytest.raises(ValueError, match=f"^notebook 0.*{message}") as caught:
            read_parameters(cls, namespace, "0")
        assert caught.value._render_traceback_() == [f"ValueError: {caught.value}"]
