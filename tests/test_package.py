import importlib
import subprocess
import sys

import tclap


def run(code: str) -> str:
    """Standard output of a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_public_names_are_what_their_modules_hold():
    assert set(tclap.__all__) == {
        "add_slots", "clip_loss", "evaluate", "fine_tune", "load_clips", "load_model", "temporal_nce", "wrap",
    }  # fmt: skip
    for name, home in (
        ("clip_loss", "losses"),
        ("temporal_nce", "losses"),
        ("load_clips", "data.clips"),
        ("load_model", "models.registry"),
        ("evaluate", "evaluation.benchmark"),
        ("fine_tune", "training.post_pretraining"),
    ):
        assert getattr(tclap, name) is getattr(importlib.import_module(f"tclap.{home}"), name)
        assert name in dir(tclap)
    assert {"__version__", "slots"} <= set(dir(tclap))


def test_slots_are_there_when_asked_for():
    assert run("import tclap; print(tclap.slots.load_reader.__name__)") == "load_reader"


def test_what_is_light_does_not_wait_for_torch():
    code = (
        "import sys, tclap, tclap.training.variants, artifact.config; artifact.config.load_config('smoke'); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert run(code) == "set()"


def test_importing_leaves_torchs_and_numpys_generators_alone():
    code = (
        "import numpy, torch; a = torch.get_rng_state(); b = numpy.random.get_state()[1].copy(); "
        "import artifact.experiment; "
        "print(torch.equal(a, torch.get_rng_state()), (b == numpy.random.get_state()[1]).all())"
    )
    assert run(code) == "True True"
