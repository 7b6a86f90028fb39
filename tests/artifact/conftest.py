"""A prepared run of the smoke profile, made once a session; a module has a copy of its own."""

import shutil

import pytest
import torch

from artifact.experiment import Experiment
from artifact.preparation import prepare
from artifact.training import train_base_models


@pytest.fixture(scope="session")
def options() -> dict:
    """Of the run's data: four classes only, so that MiniLM has few captions to read."""
    return {"labels": ["dog", "rain", "siren", "clock tick"]}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, options):
    """The root of a run with the base model of seed 0; one thread computes."""
    root = tmp_path_factory.mktemp("project")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        torch.set_num_threads(1)
        train_base_models(prepare("smoke", "compact", dataset_options=options), 0, ["clap"])
        torch.set_num_threads(threads)
    return root


@pytest.fixture(scope="module")
def run_root(prepared, tmp_path_factory):
    """A copy of the run's folder, whose sounds lie in the first one; tests that change it put it back."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(prepared / "runs", root / "runs")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        torch.set_num_threads(1)
        yield root
        torch.set_num_threads(threads)


@pytest.fixture
def experiment(run_root) -> Experiment:
    """The run, with the base model of seed 0."""
    return Experiment("smoke", "compact")
