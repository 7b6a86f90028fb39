"""States on disk: to the bit, whatever happens while they are written."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest
import torch

from tclap.training.checkpoints import Checkpoints


def state(step: int = 3) -> dict:
    """Everything that a training keeps, and values that text would not hold."""
    torch.manual_seed(step)
    module = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1, betas=(0.8, 0.95))
    for _ in range(step):
        optimiser.zero_grad()
        module(torch.ones(4, 3)).square().sum().backward()
        optimiser.step()
    odd = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    return {
        "step": step,
        "module": dict(module.state_dict())
        | {"odd": odd, "half": odd.bfloat16(), "empty": torch.zeros(0, 3)},
        "optimiser": optimiser.state_dict(),
        "best": None,
        "lowest": math.inf,
        "history": [{"step": 0, "loss": 0.1}, {"step": 1, "loss": math.nan}],
        "generators": {"torch": torch.get_rng_state()},
    }


def bits(value):
    """Equal for two values only where they are so in types and to the bit."""
    if torch.is_tensor(value):
        return value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [bits(item) for item in value]
    return type(value).__name__, repr(value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def loaded(folder: Path) -> list:
    return bits(Checkpoints(folder, "a").load())


@pytest.fixture
def written(tmp_path) -> Checkpoints:
    """A folder with steps 3 and 4."""
    checkpoints = Checkpoints(tmp_path, "a")
    assert all(checkpoints.save(step, state(step)) for step in (3, 4))
    return checkpoints


def test_everything_comes_back_to_the_bit(written, tmp_path):
    assert loaded(tmp_path) == bits(state(4))
    assert written.newest == tmp_path / "step-00000004.pt"


def test_the_last_two_are_kept_and_nothing_else_is_touched(written, tmp_path):
    for other in ("step-notes", "step-00000002 (copy).pt", "notes.pt"):
        (tmp_path / other).write_text("mine")
    for step in (4, 5, 100):  # the same step again replaces
        written.save(step, state(step))
    kept = ["step-00000005.pt", "step-00000100.pt"]
    assert names(tmp_path) == sorted([*kept, "step-notes", "step-00000002 (copy).pt", "notes.pt"])
    assert loaded(tmp_path) == bits(state(100))


DAMAGES = {
    "flipped bit": lambda content: content[:700] + bytes([content[700] ^ 1]) + content[701:],
    "flipped bit of the hash": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "truncated": lambda content: content[:-100],
    "longer": lambda content: content + b"x",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(written, tmp_path, damage, caplog):
    newest = tmp_path / "step-00000004.pt"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    assert loaded(tmp_path) == bits(state(3))
    assert "step-00000004.pt is damaged" in caplog.text
    # The training goes on and writes the damaged one again.
    assert written.save(4, state(4)) and loaded(tmp_path) == bits(state(4))


def test_a_training_that_starts_below_damaged_ones_keeps_what_it_writes(written, tmp_path):
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path, "a")
    assert checkpoints.load() is None
    for step in (1, 2):
        assert checkpoints.save(step, state(step)) and loaded(tmp_path) == bits(state(step))


def test_what_a_file_may_hold_is_no_code(written, tmp_path):
    """Only tensors and plain values are read, whoever wrote the file."""
    written.save(5, state(5) | {"module": os.system})
    with pytest.raises(Exception, match="[Ww]eights.only"):
        written.load()


def test_another_training_is_refused(written, tmp_path):
    with pytest.raises(ValueError, match="holds the training a, not b: choose another folder"):
        Checkpoints(tmp_path, "b").load()
    assert len(names(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/here cannot be written: Not a directory"):
        Checkpoints(tmp_path / "file" / "here", "a")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: os.stat("/dev/null/nothing"))
    with pytest.raises(OSError):
        Checkpoints(tmp_path, "a")


@pytest.mark.parametrize("room", [0, 300])
def test_a_disk_that_is_really_full(written, tmp_path, caplog, room):
    """No file may grow beyond ``room`` bytes: the training goes on, and the states before are kept."""

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        assert not written.save(5, state(5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (message,) = [record.getMessage() for record in caplog.records]
    assert all(part in message for part in ("step 5", "File too large", "step-00000004.pt"))
    assert names(tmp_path) == ["step-00000003.pt", "step-00000004.pt"]
    assert loaded(tmp_path) == bits(state(4))
