"""The state of a training on disk, from which one that was killed goes on.

A checkpoint is a folder ``step-<updates>/`` with ``state.safetensors`` (all tensors: weights, the
optimiser's, the best weights so far, random states, the history's columns) and ``state.json`` (the rest,
and the tensors' hash). It is written under another name, synced and renamed, so that a folder of that name
is whole whenever the writer is killed; a damaged one is recognised by its hash. One of the same step is
set aside under a name that tells its own, and :meth:`Checkpoints.load` puts it back where the writer was
killed before the new one stood in its place.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tclap import files

log = logging.getLogger(__name__)

VERSION = 1
TENSORS, FACTS = "state.safetensors", "state.json"
TEMPORARY, ASIDE = ".writing-", ".replaced-"


@dataclass
class State:
    """Where a training stands after ``step`` updates.

    Attributes:
        step: number of updates that are done.
        module: state of what is trained.
        optimiser: its ``state_dict()``.
        best: weights of the lowest validation loss so far.
        lowest: that loss; infinite when there is none.
        history: a row a step.
        generators: random states by name.
    """

    step: int
    module: dict[str, Tensor]
    optimiser: dict[str, Any]
    best: dict[str, Tensor] | None
    lowest: float
    history: pd.DataFrame
    generators: dict[str, Tensor]


class Checkpoints:
    """A folder of the last checkpoints of one training.

    Each carries the best weights so far, so that the best are kept whatever is removed. Only one process at
    a time may save.

    Args:
        folder: where they lie; made if it is not there.
        identity: of the training, such as a hash of all it is a function of.
        keep: how many are kept; those found damaged do not count.

    Attributes:
        newest: the last one that was written or loaded.

    Raises:
        OSError: when the folder cannot be written.
        ValueError: when ``keep`` is below 1.
    """

    def __init__(self, folder: Path, identity: str, *, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}.")
        self.folder, self.identity, self.keep = Path(folder), identity, keep
        self.newest: Path | None = None
        self._damaged: set[Path] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Bytes and both kinds of sync: a full disk takes an empty file, and some file systems sync none.
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
            _sync(self.folder)
        except OSError as error:
            raise type(error)(
                error.errno, f"checkpoints cannot be kept in {self.folder}: {error.strerror or error}"
            ) from error

    def save(self, state: State) -> bool:
        """Write a state and remove what is older than the last ``keep``; whether it could be written.

        A disk that is full or has gone is no reason to stop a training: it is logged.

        Raises:
            TypeError: when the optimiser holds what is neither a tensor nor a plain value.
            ValueError: when ``lowest`` is NaN or -inf.
        """
        if math.isnan(state.lowest) or state.lowest == -math.inf:
            raise ValueError(f"lowest must be a number, or inf when there is none, got {state.lowest}.")
        path = self.folder / f"step-{state.step:08d}"
        tensors: dict[str, Tensor] = {}
        facts = {
            "version": VERSION,
            "identity": self.identity,
            "step": state.step,
            "lowest": None if state.lowest == math.inf else state.lowest,
            "content": _packed(
                {
                    "module": state.module,
                    "optimiser": state.optimiser,
                    "best": state.best,
                    "history": {
                        name: torch.tensor(column.to_numpy()) for name, column in state.history.items()
                    },
                    "generators": state.generators,
                },
                "",
                tensors,
            ),
        }
        try:
            self._write(path, facts, tensors)
        # safetensors has an error of its own for a full disk.
        except (OSError, SafetensorError) as error:
            log.warning(
                "checkpoint of step %d could not be written to %s: %s; the last good one is %s",
                state.step,
                self.folder,
                getattr(error, "strerror", None) or error,
                self.newest or "none",
            )
            return False
        else:
            self.newest = path
            self._damaged.discard(path)
            self._prune(path)
            return True
        finally:
            self._clear()

    def load(self) -> State | None:
        """The last good state, on the CPU; None when there is none.

        What is damaged is logged and left where it is.

        Raises:
            ValueError: when the folder holds another training.
        """
        self._clear()
        for path in self._found():
            try:
                facts, tensors = _read(path)
            except (OSError, ValueError, SafetensorError) as error:
                log.warning("%s is damaged (%s); the one before it is tried", path, error)
                self._damaged.add(path)
                continue
            if facts["identity"] != self.identity:
                raise ValueError(
                    f"{self.folder} holds the training {facts['identity'][:12]}, not {self.identity[:12]}: "
                    "choose another folder or remove it."
                )
            self.newest = path
            content = _unpacked(facts["content"], tensors)
            lowest = math.inf if facts["lowest"] is None else facts["lowest"]
            history = pd.DataFrame({name: column.numpy() for name, column in content.pop("history").items()})
            return State(step=facts["step"], lowest=lowest, history=history, **content)
        return None

    def remove(self) -> None:
        """Remove the folder and all that is in it; what cannot be removed is logged."""
        self._clear()
        self.newest = None
        try:
            # The newest last: killed in between, a training goes on from there.
            for path in reversed(self._found()):
                self._remove(path)
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            log.info("%s is gone already", self.folder)
        except OSError as error:
            log.warning("%s could not be removed: %s", self.folder, error)

    def _found(self) -> list[Path]:
        """What stands under a checkpoint's name, the newest first."""
        found = [path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
        return sorted(found, key=_step, reverse=True)

    def _write(self, path: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        temporary = self._temporary()
        temporary.mkdir()
        with files.replacing(temporary / TENSORS) as file:
            save_file(tensors, file)
        facts["sha256"] = files.sha256_file(temporary / TENSORS)
        facts["own_sha256"] = files.hash_json(facts)
        files.write_json(temporary / FACTS, facts)
        for written in (temporary / TENSORS, temporary / FACTS, temporary):
            _sync(written)
        if path.exists():
            # A folder cannot be renamed onto another one that is not empty.
            os.rename(path, path.with_name(ASIDE + path.name))
        os.rename(temporary, path)
        _sync(self.folder)

    def _prune(self, path: Path) -> None:
        # Only what is older: a later one is damaged, or of a training that this one has not gone on from.
        older = [other for other in self._found() if _step(other) < _step(path)]
        sound = [other for other in older if other not in self._damaged]
        try:
            for other in older:
                if other not in sound[: self.keep - 1]:
                    self._remove(other)
        except OSError as error:
            log.warning("old checkpoints in %s could not be removed: %s", self.folder, error)

    def _remove(self, path: Path) -> None:
        # Under a name that nobody takes for a checkpoint's first: removing takes more than one call.
        doomed = self._temporary()
        os.rename(path, doomed)
        shutil.rmtree(doomed)

    def _temporary(self) -> Path:
        return self.folder / f"{TEMPORARY}{uuid.uuid4().hex[:8]}"

    def _clear(self) -> None:
        """Put back what was set aside for nothing, and remove what a writer left."""
        try:
            for left in self.folder.glob(f"{ASIDE}*"):
                place = left.with_name(left.name.removeprefix(ASIDE))
                if place.exists():
                    self._remove(left)
                else:
                    os.rename(left, place)
            for left in self.folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left)
        except OSError as error:
            log.warning("what a writer left in %s could not be removed: %s", self.folder, error)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    expected = {"version", "identity", "step", "lowest", "content", "sha256", "own_sha256"}
    if not isinstance(facts, dict) or facts.keys() != expected:
        raise ValueError(f"{FACTS} has not the keys of a checkpoint")
    if facts["version"] != VERSION:
        raise ValueError(f"its version is {facts['version']}, expected {VERSION}")
    if facts.pop("own_sha256") != files.hash_json(facts):
        raise ValueError(f"{FACTS} is not what was written")
    if facts["step"] != _step(path):
        raise ValueError(f"it is that of step {facts['step']}")
    if files.sha256_file(path / TENSORS) != facts["sha256"]:
        raise ValueError(f"{TENSORS} is not what {FACTS} describes")
    return facts, load_file(path / TENSORS)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON, which has no tuples, numbers as keys or NaN; its tensors go into ``tensors``."""
    if isinstance(value, Tensor):
        while name in tensors:  # the keys 0 and "0", or "a/b" and "b" in "a"
            name += "'"
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {
            "dict": [
                [_packed(key, name, tensors), _packed(item, f"{name}/{key}", tensors)]
                for key, item in value.items()
            ]
        }
    if isinstance(value, (list, tuple)):
        items = [_packed(item, f"{name}/{n}", tensors) for n, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is of {type(value).__name__}; a checkpoint holds tensors and plain values.")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        # A copy: what safetensors gives is a view of the file, and the file may be removed or fail later.
        return tensors[content].clone()
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {_unpacked(key, tensors): _unpacked(item, tensors) for key, item in content}
    items: Iterator[Any] = (_unpacked(item, tensors) for item in content)
    return tuple(items) if kind == "tuple" else list(items)
