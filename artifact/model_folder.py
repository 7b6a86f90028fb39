"""The folder of a trained model, how far its training has come, and what need not be made again.

``weights.safetensors``, ``weights.json`` (the model's config, the inputs that made it, its provenance)
and ``history.parquet``; while it is trained also ``checkpoints-<phase>-<inputs>/``.
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

HISTORY = (
    "step",
    "loss",
    "loss_contrast",
    "loss_slots",
    "validation_accuracy",
    "validation_loss",
    "validation_two_way",
    "cosine_audio",
    "cosine_text",
)


def is_up_to_date(record: Path, made_of: Mapping[str, Any], products: Sequence[str], what: str) -> bool:
    """Whether ``products`` lie beside ``record`` (JSON), and were made of what is to be made of now."""
    kept = record.is_file() and all((record.parent / name).is_file() for name in products)
    if kept := kept and json.loads(record.read_text()) == {"made_of": files.hash_json(made_of)}:
        log_reused(what)
    return kept


def write_stamp(record: Path, made_of: Mapping[str, Any]) -> None:
    """Write the record that :func:`is_up_to_date` looks for."""
    files.write_json(record, {"made_of": files.hash_json(made_of)})


class ModelFolder:
    """The folder ``<run>/seed<k>/<name>`` of a model that is made by a inputs.

    Args:
        run: the run's folder.
        seed, name: of the model.
        inputs: everything that the model is a function of, as plain values.
        processes: that train it; the main one writes.
    """

    def __init__(
        self, run: Path, seed: int, name: str, inputs: Mapping[str, Any], processes: Processes
    ) -> None:
        self.path, self.seed, self.name = run / f"seed{seed}" / name, seed, name
        self._inputs, self._processes = dict(inputs), processes
        self._fingerprint = files.hash_json(self._inputs)

    def is_made(self) -> bool:
        """Whether the model is there, made by this inputs."""
        sidecar = self.path / "weights.json"
        needed = (sidecar, self.path / "weights.safetensors", self.path / "history.parquet")
        if not all(path.is_file() for path in needed):
            return False
        made = json.loads(sidecar.read_text()).get("fingerprint") == self._fingerprint
        if made:
            log_reused(f"{self.name}, seed {self.seed}")
        return made

    def checkpoints(self, phase: str) -> Checkpoints:
        """Where a phase of the training keeps its state until the model is made."""
        return Checkpoints(self.path / f"checkpoints-{phase}-{self._fingerprint[:8]}", self._fingerprint)

    def keep(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove what the training kept meanwhile."""
        if self._processes.is_main:
            files.write_table(self.path / "history.parquet", history.assign(seed=self.seed))
            facts = {"inputs": self._inputs, "fingerprint": self._fingerprint}
            made_by = provenance.collect(self._inputs)
            # Its sidecar says that the model is made, so it is written last.
            model.save(self.path / "weights.safetensors", provenance=made_by, **facts)
            for checkpoints in self.path.glob("checkpoints-*"):
                shutil.rmtree(checkpoints)
        self._processes.wait()
