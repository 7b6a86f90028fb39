"""Real processes on this machine, launched as a user launches them, against one process."""

import math
import os
import subprocess
import sys
from pathlib import Path

import launched
import pytest
import torch
from launched import CASES, share_features, train

from tclap.training.distributed import Processes, current


@pytest.fixture(scope="module", params=[2, 3])
def folder(request, tmp_path_factory) -> Path:
    """The folder of what 2 and 3 processes of ``accelerate launch`` have found."""
    folder = tmp_path_factory.mktemp(f"processes-{request.param}")
    # Without a GPU this is how Accelerate starts several processes on one machine; --cpu starts one.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--num_processes", str(request.param), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", launched.__file__, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    # A group that is still there at exit has threads, which may abort the process.
    assert [path.read_text() for path in folder.glob("left*")] == ["True"] * request.param
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    """What each process found, by rank."""
    return [torch.load(path, weights_only=False) for path in sorted(folder.glob("[0-9].pt"))]


def test_each_knows_who_it_is(found):
    for rank, seen in enumerate(found):
        assert seen["who"] == (len(found), rank, rank == 0, "cpu")


@pytest.mark.parametrize("name", ["memory", "store", "kept", "of others"])
def test_trunk_outputs_are_shared_and_have_the_bits_of_one_process(found, alone, name):
    """Each process computes its part of the batches, of which one would compute all; all have the whole."""
    audio, text, counts = alone[name]
    for seen in found:
        assert torch.equal(seen["features"][name][0], audio)
        assert all(map(torch.equal, seen["features"][name][1], text))
    computed = [seen["features"][name][2] for seen in found]
    assert tuple(map(sum, zip(*computed, strict=True))) == counts
    # Batches of 4 waveforms and 3 captions, of which the last ones hold 2 and 1.
    bounds = [(math.ceil(7 / len(found)) * 4, math.ceil(6 / len(found)) * 3)] * len(found)
    assert all(a <= b and c <= d for (a, c), (b, d) in zip(computed, bounds, strict=True))


def test_fine_tuning_shares_them_too(found, alone):
    loss, computed = alone["fine-tuned"]
    for seen in found:
        torch.testing.assert_close(seen["features"]["fine-tuned"][0], loss, rtol=1e-4, atol=1e-4)
    parts = [seen["features"]["fine-tuned"][1] for seen in found]
    assert sum(parts) == computed and max(parts) < 1.2 * computed / len(found)


def test_an_error_of_one_process_ends_all_of_them_in_a_sentence(found):
    last = len(found) - 1
    for rank, seen in enumerate(found):
        *said, unshared, after = seen["failed"]
        expected = ["FileNotFoundError: dog.wav is not there", "OSError: no space left"]
        for n, guilty in enumerate((last, 0)):
            if rank != guilty:
                expected[n] = f"ChildProcessError: process {guilty} of {len(found)} failed: {expected[n]}"
        assert (said, after) == (expected, "goes on")
        # What the main process has written the others must see.
        other = f"ChildProcessError: process 1 of {len(found)} failed: " if rank == 0 else ""
        own = f"own-{rank or 1}"
        assert unshared.startswith(f"{other}FileNotFoundError: No such file") and own in unshared


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """What one process makes of the same sounds and captions."""
    return share_features(Processes(), tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("name", CASES)
def test_a_training_is_that_of_one_process(found, name):
    case = CASES[name]
    expected = train(case, Processes())
    tolerance = 1e-5 if case.text_loss_batch else 1e-10
    for key, value in expected.items():
        if not key.startswith("history"):  # a process may have no part in a loss
            same = [torch.equal(seen[name][key], found[0][name][key]) for seen in found]
            assert all(same), f"{key} differs between processes"
        options = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
        torch.testing.assert_close(
            found[0][name][key], value, **options, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert max(value.abs().max() for key, value in expected.items() if key.startswith("gradient")) > 1e-3


def test_one_process_continues_what_several_have_kept(folder, found):
    """The state is that of the training, whoever computed it."""
    continued = train(CASES["steps"], Processes(), folder / "state.pt")
    kept = found[0]["steps"]
    names = [name for name in kept if not name.startswith(("gradient", "history"))]
    assert names and all(torch.equal(kept[name], continued[name]) for name in names)


def test_all_continue_what_the_main_process_has_kept(found):
    kept = {name: value for name, value in found[0]["steps"].items() if not name.startswith("gradient")}
    for seen in found:
        options = {"rtol": 0, "atol": 0, "equal_nan": True}
        torch.testing.assert_close({name: seen["continued"][name] for name in kept}, kept, **options)


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    alone = current()
    assert (alone.world_size, alone.rank, alone.is_main) == (1, 0, True)
    assert alone.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    tensor = torch.ones(2, requires_grad=True)
    tensor.sum().backward()
    batch = (tensor, tensor, tensor[0], tensor)
    assert alone.global_batch(*batch, 2) == batch and torch.equal(alone.sum(tensor), tensor)
    alone.sum_gradients([tensor, torch.zeros(1)])
    alone.broadcast([tensor])
    assert alone.on_main(lambda: 1) == 1 and list(alone.share(3, str)) == ["0", "1", "2"]
    assert tensor.tolist() == tensor.grad.tolist() == [1.0, 1.0]
    assert not torch.distributed.is_initialized()
