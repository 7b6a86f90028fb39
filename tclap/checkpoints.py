"""The state of a training on disk, from which one that was killed goes on.

A checkpoint is a folder ``step-<updates>/`` with ``state.safetensors`` (all tensors: weights, the
optimiser's, the best weights so far, random states, the history's columns) and ``state.json`` (the rest,
and the tensors' hash). It is written under another name, synced and renamed, so that a folder of that name
is whole whenever the writer is killed; a damaged one is recognised by its hash.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tclap import provenance

log = logging.getLogger(__name__)

VERSION = 1
TENSORS, FACTS = "state.safetensors", "state.json"
TEMPORARY = ".writing-"


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

    Each carries the best weights so far, so that the best are kept whatever is removed.

    Args:
        folder: where they lie; made if it is not there.
        identity: of the training, such as a hash of all it is a function of.
        keep: how many are kept.

    Raises:
        OSError: when the folder cannot be written.
    """

    def __init__(self, folder: Path, identity: str, *, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}.")
        self.folder, self.identity, self.keep = Path(folder), identity, keep
        self.newest: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise type(error)(
                error.errno, f"checkpoints cannot be kept in {self.folder}: {error.strerror}"
            ) from error

    def save(self, state: State) -> bool:
        """Write a state and remove what is older than the last ``keep``; whether it could be written.

        A disk that is full or has gone is no reason to stop a training: it is logged.
        """
        path = self.folder / f"step-{state.step:08d}"
        tensors: dict[str, Tensor] = {}
        facts = {
            "version": VERSION,
            "identity": self.identity,
            "step": state.step,
            "lowest": state.lowest if math.isfinite(state.lowest) else None,
            "content": _packed(
                {
                    "module": dict(state.module),
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
        temporary = None
        try:
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.folder))
            save_file(tensors, temporary / TENSORS)
            facts["sha256"] = provenance.sha256_file(temporary / TENSORS)
            facts["own_sha256"] = provenance.hash_json(facts)
            (temporary / FACTS).write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")
            for written in (temporary / TENSORS, temporary / FACTS, temporary):
                _sync(written)
            temporary.chmod(0o755)
            if path.exists():
                self._remove(path)
            os.rename(temporary, path)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            log.warning(
                "checkpoint of step %d could not be written to %s: %s; the last good one is %s",
                state.step,
                self.folder,
                error,
                self.newest or "none",
            )
            return False
        self.newest = path
        try:
            for old in self._found()[self.keep :]:
                self._remove(old)
            self._clear()
        except OSError as error:
            log.warning("old checkpoints in %s could not be removed: %s", self.folder, error)
        return True

    def load(self) -> State | None:
        """The last good state, on the CPU; None when there is none.

        Raises:
            ValueError: when the folder holds another training.
        """
        self._clear()
        for path in self._found():
            try:
                facts, tensors = _read(path)
            except (OSError, ValueError, SafetensorError) as error:
                log.warning("%s is damaged (%s); the one before it is tried", path, error)
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
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _remove(self, path: Path) -> None:
        # Under a name that nobody takes for a checkpoint's first: removing takes more than one call.
        doomed = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.folder))
        os.rename(path, doomed / path.name)
        shutil.rmtree(doomed)

    def _clear(self) -> None:
        for left in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    expected = {"version", "identity", "step", "lowest", "content", "sha256", "own_sha256"}
    if not isinstance(facts, dict) or facts.keys() != expected:
        raise ValueError(f"{FACTS} has not the keys of a checkpoint")
    if facts["version"] != VERSION:
        raise ValueError(f"its version is {facts['version']}, expected {VERSION}")
    if facts.pop("own_sha256") != provenance.hash_json(facts):
        raise ValueError(f"{FACTS} is not what was written")
    if provenance.sha256_file(path / TENSORS) != facts["sha256"]:
        raise ValueError(f"{TENSORS} is not what {FACTS} describes")
    return facts, load_file(path / TENSORS)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON, which has neither tuples nor numbers as keys; its tensors go into ``tensors``."""
    if isinstance(value, Tensor):
        # safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_packed(item, f"{name}/{n}", tensors) for n, item in enumerate(value)]
        return {type(value).__name__: items}
    return value


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(item, tensors) for key, item in content}
    items: Iterator[Any] = (_unpacked(item, tensors) for item in content)
    return tuple(items) if kind == "tuple" else list(items)
