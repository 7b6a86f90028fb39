"""A trained model in its folder: made once for the same inputs, and taken up where a training was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import made
from tclap import files
from tclap.models.base import AudioTextModel
from tclap.training.distributed import Processes

STAMP = "made.json"


class ModelFolder(made.Stamp):
    """A trained model's ``weights.safetensors``, its ``history.parquet`` and their stamp.

    Args:
        folder: ``<run>/seed<k>/<name>``.
        inputs: everything that the model is a function of, as plain values.
        processes: that train it; the main one writes.
    """

    def __init__(self, folder: Path, inputs: Mapping[str, Any], processes: Processes) -> None:
        super().__init__(folder / STAMP, inputs)
        self.folder, self._processes = folder, processes

    def is_up_to_date(self) -> bool:
        """Whether the model is there, undamaged, made from the same inputs; logs that it is reused."""
        return self.is_current(f"{self.folder.name}, seed {self.inputs['seed']}")

    def checkpoint(self, phase: str) -> Path:
        """Where a phase of the training keeps its state until the model is complete."""
        return self.folder / f"checkpoint-{phase}-{self.fingerprint[:8]}.pt"

    def save(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove the training's checkpoints."""
        with self._processes.main_first():  # the others go on when all is there
            if self._processes.is_main:
                table, weights = self.folder / "history.parquet", self.folder / "weights.safetensors"
                files.write_table(table, history.assign(seed=self.inputs["seed"]))
                model.save(weights)
                self.write([table, weights])
                for checkpoint in self.folder.glob("*checkpoint-*.pt"):
                    # A second run of the same training may be removing them too.
                    checkpoint.unlink(missing_ok=True)
