"""States on disk: to the bit, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import files
from tclap.training import checkpoints as module
from tclap.training.checkpoints import Checkpoints, State

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


def comparable(value: Any) -> Any:
    """Equal for two values only where they are so in types and to the bit."""
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, dict):
        return [(key, comparable(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [comparable(item) for item in value]
    if isinstance(value, pd.DataFrame):
        return [(name, column.dtype, column.to_numpy().tobytes()) for name, column in value.items()]
    return type(value).__name__, repr(value)


def same(one: State | None, other: State | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(comparable(value) == comparable(getattr(other, name)) for name, value in vars(one).items())


def in_a_fork(action: Callable[[], object]) -> int:
    """How an action ends in a forked process: 0, or minus the signal that killed it, or 1."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    plain = {0: 1, "0": True, "values": (math.nan, -math.inf, None, "a", [(), {}])}
    # The same path, 0, twice: as a number and as text.
    optimiser = {"state": {0: odd, "0": odd + 1, "0'": odd + 2}, "param_groups": [plain]}
    given = State(2, module, optimiser, module, -0.5, history, {"x": odd})
    Checkpoints(tmp_path, "a").save(given)
    found = Checkpoints(tmp_path, "a").load()
    assert same(found, given)
    pd.testing.assert_frame_equal(found.history, history, check_exact=True)
    assert np.signbit(found.history["a b/c"][1])
    assert all(tensor.device.type == "cpu" for tensor in found.module.values())
    assert not any(path.suffix in (".pt", ".pkl", ".pth") for path in tmp_path.rglob("*"))


def test_what_was_loaded_is_a_copy(tmp_path):
    Checkpoints(tmp_path, "a").save(state())

    def load_and_damage() -> None:
        found = Checkpoints(tmp_path, "a").load()
        found.module["weight"].zero_()
        assert same(Checkpoints(tmp_path, "a").load(), state())
        # Of a view of the file, reading would now kill the process.
        os.truncate(tmp_path / "step-00000003" / "state.safetensors", 0)
        assert comparable(found.best) == comparable(state().best)

    assert in_a_fork(load_and_damage) == 0


def test_what_cannot_be_kept_is_told_and_leaves_nothing(tmp_path):
    checkpoints, wrong = Checkpoints(tmp_path, "a"), state()
    wrong.optimiser["param_groups"][0]["names"] = {"a", "b"}
    with pytest.raises(TypeError, match="/optimiser/param_groups/0/names is of set"):
        checkpoints.save(wrong)
    for lowest in (math.nan, -math.inf):
        wrong = state()
        wrong.lowest = lowest
        with pytest.raises(ValueError, match=f"lowest must be a number.*got {lowest}"):
            checkpoints.save(wrong)
    assert names(tmp_path) == [] and checkpoints.load() is None


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        Checkpoints(tmp_path, "a").save(state())
    finally:
        os.umask(before)
    folder = tmp_path / "step-00000003"
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


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


def test_only_folders_of_checkpoints_are_looked_at(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (2, 3):
        checkpoints.save(state(step))
    # Longer than the rest, which text would sort before them.
    large = state(4)
    for large.step in (10**8 - 1, 10**8):
        checkpoints.save(large)
    for other in ("step-notes", "step-00000002 (copy)"):
        (tmp_path / other).mkdir()
    assert checkpoints.load().step == 10**8
    assert names(tmp_path) == ["step-00000002 (copy)", "step-100000000", "step-99999999", "step-notes"]
    assert not caplog.records


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


def edit(path: Path, *, hashed: bool = False, **changes) -> None:
    facts = json.loads(path.read_text()) | changes
    if hashed:
        del facts["own_sha256"]
        facts["own_sha256"] = files.hash_json(facts)
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
    "another version": lambda folder: edit(folder / "state.json", hashed=True, version=2),
    "facts that were changed": lambda folder: edit(folder / "state.json", lowest=0.5),
    "those of another step": lambda folder: [
        shutil.copy(file, folder) for file in (folder.parent / "step-00000003").iterdir()
    ],
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


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_ones_do_not_count(tmp_path, keep):
    """A training that starts anew below them keeps what it writes, and they go when it has passed them."""
    checkpoints = Checkpoints(tmp_path, "a", keep=2)
    for step in (5, 6):
        checkpoints.save(state(step))
        flip(tmp_path / f"step-{step:08d}" / "state.safetensors")
    checkpoints = Checkpoints(tmp_path, "a", keep=keep)
    assert checkpoints.load() is None
    for step in (2, 3, 4):
        assert checkpoints.save(state(step)) and checkpoints.newest.is_dir()
        assert same(Checkpoints(tmp_path, "a", keep=keep).load(), state(step))
    checkpoints.save(state(7))
    assert names(tmp_path) == ["step-00000004", "step-00000007"][-keep:]


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

    for call in ("tempfile.TemporaryFile", "os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(call, refuse)
            with pytest.raises(PermissionError, match="checkpoints cannot be kept in .*: Permission denied"):
                Checkpoints(tmp_path, "a")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("room", [0, 300])
def test_a_disk_that_is_really_full(tmp_path, room):
    """No file may grow beyond ``room`` bytes: enough for nothing, or not for the tensors."""

    def fill() -> None:
        checkpoints = Checkpoints(tmp_path, "a")
        checkpoints.save(state(3))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        assert not checkpoints.save(state(4))
        with pytest.raises(OSError, match=f"checkpoints cannot be kept in {tmp_path}: File too large"):
            Checkpoints(tmp_path, "a")

    assert in_a_fork(fill) == 0
    assert names(tmp_path) == ["step-00000003"]
    assert same(Checkpoints(tmp_path, "a").load(), state(3))


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    checkpoints, done = Checkpoints(tmp_path, "a"), []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(handle):
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def recorded_rename(old, new):
        done.append(f"to {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    checkpoints.save(state(3))
    assert sorted(done[:2]) == ["state.json", "state.safetensors"]
    assert done[2].startswith(".writing-")
    assert done[3:] == ["to step-00000003", tmp_path.name]


# All that a checkpoint is made, moved and removed with.
CALLS = ("mkdir", "open", "fsync", "rename", "replace", "chmod", "unlink", "rmdir")


def disturbed(patch: pytest.MonkeyPatch, disturb: Callable[[], None]) -> None:
    """``disturb()`` before every call that changes the disk, and when a file is half written."""

    def first(function):
        def call(*arguments, **options):
            disturb()
            return function(*arguments, **options)

        return call

    for name in CALLS:
        patch.setattr(os, name, first(getattr(os, name)))
    save_file, write_text = module.save_file, Path.write_text

    def save_half(tensors, path):
        save_file(tensors, path)
        os.truncate(path, Path(path).stat().st_size // 2)
        disturb()
        save_file(tensors, path)

    def write_half(path, text, **options):
        write_text(path, text[: len(text) // 2], **options)
        disturb()
        write_text(path, text, **options)

    patch.setattr(module, "save_file", save_half)
    patch.setattr(Path, "write_text", write_half)


def other_loss(step: int) -> State:
    again = state(step)
    again.lowest = 0.125
    return again


def set_aside(folder: Path) -> None:
    os.rename(folder / "step-00000004", folder / ".replaced-step-00000004")
    (folder / ".writing-0").mkdir()
    (folder / ".writing-0" / "state.json").write_text("{}")


# What is kept, what lies there, what is done, and the states before and after.
SCENES = {
    "first": (2, [], lambda kept: kept.save(state(4)), None, state(4)),
    "new": (2, [3, 4], lambda kept: kept.save(state(5)), state(4), state(5)),
    "new, one kept": (1, [4], lambda kept: kept.save(state(5)), state(4), state(5)),
    "again": (2, [3, 4], lambda kept: kept.save(other_loss(4)), state(4), other_loss(4)),
    "again, one kept": (1, [4], lambda kept: kept.save(other_loss(4)), state(4), other_loss(4)),
    "put back": (1, [4, set_aside], lambda kept: kept.load(), state(4), state(4)),
    "removed": (2, [3, 4], lambda kept: kept.remove(), state(4), None),
}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Makes copies of the folder in which a scene begins."""
    # Processes are killed here, not the machine: to wait for the disk would show nothing.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as parent:

        def make(scene: str) -> Callable[[int], Checkpoints]:
            keep, contents, *_ = SCENES[scene]
            original = Checkpoints(Path(parent) / "original", "a", keep=keep)
            for content in contents:
                content(original.folder) if callable(content) else original.save(state(content))

            def copied(number: int) -> Checkpoints:
                folder = shutil.copytree(original.folder, Path(parent) / str(number))
                checkpoints = Checkpoints(folder, "a", keep=keep)
                checkpoints.newest = original.newest and folder / original.newest.name
                return checkpoints

            return copied

        yield make


def sound_after(checkpoints: Checkpoints) -> State | None:
    """The state that another process finds; nothing but whole checkpoints is left then."""
    found = Checkpoints(checkpoints.folder, "a").load()
    for path in checkpoints.folder.iterdir():
        assert re.fullmatch(r"step-\d{8}", path.name)
        assert names(path) == ["state.json", "state.safetensors"]
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_anywhere_leaves_the_old_state_or_the_new(stage, monkeypatch, scene):
    """Killed at the n-th call, for every n, in forked processes; never a mixture, never an error."""
    *_, action, before, after = SCENES[scene]
    copied, found = stage(scene), []
    for number in range(1000):
        checkpoints, calls = copied(number), iter(range(number))

        def kill(calls=calls) -> None:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        def act(checkpoints=checkpoints, kill=kill) -> None:
            disturbed(monkeypatch, kill)
            action(checkpoints)

        ended = in_a_fork(act)
        assert ended in (0, -signal.SIGKILL)
        loaded = sound_after(checkpoints)
        found.append(same(loaded, after))
        assert found[-1] or same(loaded, before), number
        # The new one stays, once it is there.
        assert found == sorted(found)
        if ended == 0:
            break
    assert number > 3 and found[-1]


@pytest.mark.parametrize("lasting", [False, True], ids=["one call fails", "all fail from there"])
@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene not in ("put back", "removed")])
def test_a_failing_disk_costs_no_good_state(stage, monkeypatch, caplog, scene, lasting):
    *_, action, before, after = SCENES[scene]
    copied, later = stage(scene), state(6)
    for number in range(1000):
        checkpoints, calls = copied(number), []
        last = checkpoints.newest

        def fail(number=number, calls=calls) -> None:
            calls.append(1)
            if len(calls) == number + 1 or (lasting and len(calls) > number):
                raise OSError(errno.ENOSPC, "No space left on device")

        caplog.clear()
        with monkeypatch.context() as patch:
            disturbed(patch, fail)
            written = action(checkpoints)
        messages = [record.getMessage() for record in caplog.records]
        if not written:
            assert messages[0] == (
                f"checkpoint of step {after.step} could not be written to {checkpoints.folder}: "
                f"No space left on device; the last good one is {last or 'none'}"
            )
            if not lasting:
                assert len(messages) == 1
                assert all(name.startswith("step-") for name in names(checkpoints.folder))
        loaded = sound_after(checkpoints)
        # Unwritten it may be there all the same: whole, but perhaps not on the disk.
        assert same(loaded, after) or (not written and same(loaded, before)), number
        assert checkpoints.save(later) and same(sound_after(checkpoints), later)
        assert len(names(checkpoints.folder)) <= checkpoints.keep
        if len(calls) <= number:
            break
    assert number > 5 and written and messages == []


def test_removing(tmp_path, monkeypatch, caplog):
    checkpoints = Checkpoints(tmp_path / "here", "a")
    checkpoints.save(state())
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", lambda *_, **__: os.stat("/dev/null/nothing"))
        checkpoints.remove()
    assert "here could not be removed: " in caplog.records[-1].getMessage()
    checkpoints.remove()
    assert not (tmp_path / "here").exists() and checkpoints.newest is None
    checkpoints.remove()
