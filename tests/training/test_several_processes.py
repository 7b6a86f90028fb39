"""A step of several processes against the same global batch in one, on the launched way itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launched import CASES, compute
from safetensors.torch import load_file

from tclap.training.checkpoints import Checkpoints
from tclap.training.distributed import Processes


@pytest.fixture(scope="module", params=[2, 4])
def launched(request, tmp_path_factory) -> Path:
    """The folder of what ``accelerate launch`` found with 2 and with 4 processes."""
    folder = tmp_path_factory.mktemp(f"processes-{request.param}")
    script = Path(__file__).parent.parent / "launched.py"
    # Without a GPU this is how Accelerate starts several processes on one machine; --cpu starts one.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--num_processes", str(request.param), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", str(script), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "count").read_text() == str(request.param)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_one_process(launched, name):
    case = CASES[name]
    expected, found = compute(case, Processes()), load_file(launched / f"{name}.safetensors")
    assert found.keys() == expected.keys()
    tolerance = 1e-5 if case.text_loss_batch else 1e-10
    for key, value in expected.items():
        own_facts = ("history.items_per_second", "history.cosine_batch")  # of the main process's share
        if not key.startswith(own_facts):
            options = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
            torch.testing.assert_close(
                found[key], value, **options, msg=lambda text, key=key: f"{key}: {text}"
            )
    assert max(value.abs().max() for key, value in found.items() if key.startswith("gradient")) > 1e-3


def test_what_several_processes_have_kept_one_goes_on_from(launched):
    """The state is that of the training, whoever computed it."""
    state = Checkpoints(launched / "checkpoints", "here").load()
    assert state.step == CASES["steps"].steps
    found = compute(CASES["steps"], Processes(), Checkpoints(launched / "checkpoints", "here"))
    kept = load_file(launched / "steps.safetensors")
    for key, value in state.best.items():
        name = {"0": "audio_head", "1": "text_head"}.get(key.split(".")[0], "logit_scale")
        own = name if name == "logit_scale" else key.replace(key.split(".")[0], name, 1)
        assert torch.equal(kept[own], value) and torch.equal(found[own], value)
