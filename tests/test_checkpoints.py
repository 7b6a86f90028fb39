"""States on disk: to the bit, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import checkpoints as module
from tclap.checkpoints import Checkpoints, State

OPTIMISERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, betas=(0.8, 0.95)),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def updates(module: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimiser.zero_grad()
        module(torch.linspace(-1, 1, 12).reshape(4, 3)).square().sum().backward()
        optimiser.step()


def state(step: int = 3, optimiser: str = "adam") -> State:
    torch.manual_seed(step)
    module = nn.Linear(3, 2)
    made = OPTIMISERS[optimiser](module.parameters())
    updates(module, made, step)
    history = pd.DataFrame({"step": np.arange(step), "loss": np.linspace(0.1, 1, step)})
    best = {"weight": torch.full((2, 3), float(step)), "bias": torch.zeros(2)}
    generators = {"torch": torch.get_rng_state()}
    return State(step, module.state_dict(), made.state_dict(), best, 0.25, history, generators)


def bits(tensor: Tensor) -> tuple:
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def same(one: State | None, other: State) -> bool:
    if one is None or (one.step, one.lowest) != (other.step, other.lowest):
        return False
    tensors = ("module", "best", "generators")
    return all(
        {k: bits(v) for k, v in getattr(one, name).items()}
        == {k: bits(v) for k, v in getattr(other, name).items()}
        for name in tensors
    ) and one.history.equals(other.history)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path, optimiser):
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    made = OPTIMISERS[optimiser](module.parameters())
    updates(module, made, 3)
    saved = State(3, module.state_dict(), made.state_dict(), None, math.inf, pd.DataFrame(), {})
    assert Checkpoints(tmp_path, "a").save(saved)
    updates(module, made, 4)

    found = Checkpoints(tmp_path, "a").load()
    other = nn.Linear(3, 2)
    other.load_state_dict(found.module)
    again = OPTIMISERS[optimiser](other.parameters())
    again.load_state_dict(found.optimiser)
    assert type(found.optimiser["param_groups"][0].get("betas", ())) is tuple
    updates(other, again, 4)
    assert bits(other.weight) == bits(module.weight) and bits(other.bias) == bits(module.bias)


def test_everything_comes_back_to_the_bit(tmp_path):
    odd = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    shared = torch.arange(12.0).reshape(3, 4)
    module = {
        "odd": odd,
        "half": odd.bfloat16(),
        "double": torch.tensor(math.pi, dtype=torch.float64),
        "count": torch.tensor(7),
        "transposed": shared.T,
        "part": shared[1:, ::2],
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
    }
    history = pd.DataFrame({"step": [0, 1], "loss": [math.nan, 0.1], "a b/c": [1e-320, -0.0]})
    given = State(2, module, {"state": {}, "param_groups": []}, module, -0.5, history, {"x": odd})
    Checkpoints(tmp_path, "a").save(given)
    found = Checkpoints(tmp_path, "a").load()
    assert same(found, given)
    pd.testing.assert_frame_equal(found.history, history, check_exact=True)
    assert np.signbit(found.history["a b/c"][1])
    assert found.optimiser == given.optimiser
    assert not any(path.suffix in (".pt", ".pkl", ".pth") for path in tmp_path.rglob("*"))


def test_nothing_is_there_at_first(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder", "a")
    assert checkpoints.load() is None and checkpoints.newest is None


def test_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (9, 10, 11, 100):
        checkpoints.save(state(step))
    assert names(tmp_path) == ["step-00000011", "step-00000100"]
    assert Checkpoints(tmp_path, "a").load().step == 100
    assert Checkpoints(tmp_path, "b", keep=1).keep == 1
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, "a", keep=0)


def test_the_same_step_again_replaces(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(state(3))
    other = state(3)
    other.lowest = 0.125
    assert checkpoints.save(other)
    assert names(tmp_path) == ["step-00000003"]
    assert same(Checkpoints(tmp_path, "a").load(), other)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def edit(path: Path, **changes) -> None:
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in facts.items() if v != "absent"}))


DAMAGES = {
    "flipped bit": lambda folder: flip(folder / "state.safetensors"),
    "truncated tensors": lambda folder: os.truncate(folder / "state.safetensors", 100),
    "empty tensors": lambda folder: os.truncate(folder / "state.safetensors", 0),
    "no tensors": lambda folder: (folder / "state.safetensors").unlink(),
    "no facts": lambda folder: (folder / "state.json").unlink(),
    "truncated facts": lambda folder: os.truncate(folder / "state.json", 50),
    "binary facts": lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe\x00"),
    "another kind of facts": lambda folder: (folder / "state.json").write_text("[1, 2]"),
    "a key less": lambda folder: edit(folder / "state.json", lowest="absent"),
    "another version": lambda folder: edit(folder / "state.json", version=2),
    "facts that were changed": lambda folder: edit(folder / "state.json", step=77),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (3, 4):
        checkpoints.save(state(step))
    DAMAGES[damage](tmp_path / "step-00000004")
    assert same(Checkpoints(tmp_path, "a").load(), state(3))
    (message,) = [record.getMessage() for record in caplog.records]
    assert re.search(r"step-00000004 is damaged \(.+\); the one before it is tried", message)
    assert "\n" not in message
    # The training goes on and writes the damaged one again.
    assert checkpoints.save(state(4))
    assert same(Checkpoints(tmp_path, "a").load(), state(4))


def test_all_damaged(tmp_path):
    Checkpoints(tmp_path, "a").save(state())
    flip(tmp_path / "step-00000003" / "state.safetensors")
    assert Checkpoints(tmp_path, "a").load() is None


def test_another_training_is_refused(tmp_path):
    Checkpoints(tmp_path, "0123456789abcdef").save(state())
    with pytest.raises(ValueError, match="holds the training 0123456789ab, not b.*choose another folder"):
        Checkpoints(tmp_path, "b").load()
    assert names(tmp_path) == ["step-00000003"]


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"checkpoints cannot be kept in {tmp_path}/file/here: Not a directory"):
        Checkpoints(tmp_path / "file" / "here", "a")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="checkpoints cannot be kept in .*: Permission denied"):
        Checkpoints(tmp_path, "a")


# Everything by which a checkpoint reaches the disk.
CALLS = {
    "tempfile.mkdtemp": tempfile.mkdtemp,
    "tclap.checkpoints.save_file": module.save_file,
    "pathlib.Path.write_text": Path.write_text,
    "os.open": os.open,
    "os.fsync": os.fsync,
    "os.rename": os.rename,
    "shutil.rmtree": shutil.rmtree,
}


def failing(function, number: int, fail):
    calls = []

    def wrapped(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            fail()
        return function(*arguments, **options)

    return wrapped


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_costs_no_good_state(tmp_path, monkeypatch, caplog, call, number):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (3, 4):
        checkpoints.save(state(step))
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(CALLS[call], number, full))
        written = checkpoints.save(state(5))
    expected = state(5) if written else state(4)
    assert same(Checkpoints(tmp_path, "a").load(), expected)
    if not written:
        (message,) = [record.getMessage() for record in caplog.records]
        assert "checkpoint of step 5 could not be written" in message and "No space left" in message
        assert message.endswith("the last good one is " + str(tmp_path / "step-00000004"))
    assert checkpoints.save(state(6))
    assert names(tmp_path)[-1] == "step-00000006" and len(names(tmp_path)) == 2


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_anywhere_leaves_the_old_state_or_the_new(tmp_path, monkeypatch, call):
    """The process is killed before the n-th call, for every n, in forked children."""
    found = set()
    for number in range(1, 9):
        folder = tmp_path / str(number)
        checkpoints = Checkpoints(folder, "a")
        for step in (3, 4):
            checkpoints.save(state(step))
        child = os.fork()
        if child == 0:
            kill = failing(CALLS[call], number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            monkeypatch.setattr(call, kill)
            for step in (4, 5):
                checkpoints.save(state(step))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        loaded = Checkpoints(folder, "a").load()
        assert loaded is not None and same(loaded, state(loaded.step)), (call, number)
        found.add(loaded.step)
        assert all(re.fullmatch(r"step-\d{8}", name) for name in names(folder))
        if os.WIFEXITED(status):
            break
    assert number > 1  # it was called at least once
    assert found <= {3, 4, 5}


def test_removing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "here", "a")
    checkpoints.save(state())
    checkpoints.remove()
    assert not (tmp_path / "here").exists()
