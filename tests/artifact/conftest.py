"""A prepared run of the smoke profile, shared: tests that change it put it back."""

from __future__ import annotations

import pytest
import torch

from artifact.experiment import Experiment
from artifact.preparation import prepare
from artifact.training import train_base_models


@pytest.fixture(scope="session")
def options() -> dict:
    """Of the run's data: four classes only, so that MiniLM has few captions to read."""
    return {"labels": ["dog", "rain", "siren", "clock tick"]}


@pytest.fixture(scope="module")
def run_root(tmp_path_factory, options):
    """The root of a prepared run; one thread computes."""
    root = tmp_path_factory.mktemp("project")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        torch.set_num_threads(1)
        prepare("smoke", "compact", dataset_options=options)
        yield root
        torch.set_num_threads(threads)


@pytest.fixture
def experiment(run_root) -> Experiment:
    """The run, with the base model of seed 0."""
    run = Experiment("smoke", "compact")
    train_base_models(run, 0, ["clap"])
    return run
