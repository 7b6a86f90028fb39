"""Skips work whose inputs have not changed: a stamp beside each product holds the inputs it was made from.

The stamp of a trained model is its ``weights.json``, that of an evaluation's tables a file of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import provenance
from tclap import files
from tclap.models.base import AudioTextModel
from tclap.progress import log_reused
from tclap.training.checkpoints import Checkpoints
from tclap.training.distributed import Processes


def stamp_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a stamp holds: the inputs (plain values) and their hash."""
    return {"inputs": inputs, "fingerprint": files.hash_json(inputs)}


def is_up_to_date(stamp: Path, inputs: Mapping[str, Any], products: Sequence[str], what: str) -> bool:
    """Whether ``products`` lie beside ``stamp`` and were made from ``inputs``; logs it as ``what``."""
    if not all((stamp.parent / name).is_file() for name in (stamp.name, *products)):
        return False
    same = json.loads(stamp.read_text()).get("fingerprint") == files.hash_json(inputs)
    if same:
        log_reused(what)
    return same


def write_stamp(stamp: Path, inputs: Mapping[str, Any]) -> None:
    """Write the stamp that :func:`is_up_to_date` looks for, once the products are there."""
    files.write_json(stamp, stamp_of(inputs))


class ModelFolder:
    """A trained model's ``weights.safetensors``, its stamp and its ``history.parquet``.

    Args:
        path: ``<run>/seed<k>/<name>``.
        inputs: everything that the model is a function of, as plain values.
        processes: that train it; the main one writes.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any], processes: Processes) -> None:
        self.path, self.inputs, self._processes = path, inputs, processes

    def is_up_to_date(self) -> bool:
        """Whether the model is there, made from the same inputs."""
        what = f"{self.path.name}, seed {self.inputs['seed']}"
        products = ("weights.safetensors", "history.parquet")
        return is_up_to_date(self.path / "weights.json", self.inputs, products, what)

    def checkpoints(self, phase: str) -> Checkpoints:
        """Where a phase of the training keeps its state until the model is complete."""
        fingerprint = files.hash_json(self.inputs)
        return Checkpoints(self.path / f"checkpoints-{phase}-{fingerprint[:8]}", fingerprint)

    def save(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove the training's checkpoints."""
        if self._processes.is_main:
            files.write_table(self.path / "history.parquet", history.assign(seed=self.inputs["seed"]))
            stamp = stamp_of(self.inputs) | {"provenance": provenance.collect(self.inputs)}
            stamp |= {"config": model.config, "weights_hash": files.hash_state(model.own_state())}
            model.save(self.path / "weights.safetensors")
            files.write_json(self.path / "weights.json", stamp)
            for checkpoints in self.path.glob("checkpoints-*"):
                shutil.rmtree(checkpoints)
        self._processes.wait()
