"""A trained model in its folder: made once for the same inputs, and taken up where a training was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import made, provenance
from tclap import files
from tclap.models.base import AudioTextModel
from tclap.progress import log_reused
from tclap.training.distributed import Processes

STAMP = "made.json"


class ModelFolder:
    """A trained model's ``weights.safetensors``, its ``history.parquet`` and their stamp.

    Args:
        path: ``<run>/seed<k>/<name>``.
        inputs: everything that the model is a function of, as plain values.
        processes: that train it; the main one writes.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any], processes: Processes) -> None:
        self.path, self.inputs, self._processes = path, inputs, processes
        self.fingerprint = files.hash_json(inputs)

    def is_up_to_date(self) -> bool:
        """Whether the model is there, undamaged, made from the same inputs; logs that it is reused."""
        current = made.is_current(self.path / STAMP, self.fingerprint)
        if current:
            log_reused(f"{self.path.name}, seed {self.inputs['seed']}")
        return current

    def checkpoint(self, phase: str) -> Path:
        """Where a phase of the training keeps its state until the model is complete."""
        return self.path / f"checkpoint-{phase}-{self.fingerprint[:8]}.pt"

    def save(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove the training's checkpoints."""
        if self._processes.is_main:
            table = self.path / "history.parquet"
            files.write_table(table, history.assign(seed=self.inputs["seed"]))
            products = [table, self.path / "weights.safetensors"]
            model.save(products[1])
            record = {"inputs": self.inputs, "provenance": provenance.collect(self.inputs)}
            made.write(self.path / STAMP, self.fingerprint, products, **record)
            for checkpoint in self.path.glob("*checkpoint-*.pt"):
                # A second run of the same training may be removing them too.
                checkpoint.unlink(missing_ok=True)
        self._processes.wait()
