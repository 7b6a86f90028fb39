"""The folder of a trained model, how far its training has come, and what need not be made again.

``weights.safetensors``, ``weights.json`` (the model's config, the recipe that made it, its provenance)
and ``history.parquet``; while it is trained also ``checkpoints-<phase>-<recipe>/``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tclap import paths, provenance
from tclap.checkpoints import Checkpoints
from tclap.models.base import AudioTextModel
from tclap.processes import Processes
from tclap.progress import made_already

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


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, all of it or nothing."""
    with paths.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def is_kept(record: Path, made_of: Mapping[str, Any], files: Sequence[str], what: str) -> bool:
    """Whether ``files`` lie beside ``record`` (JSON), and were made of what is to be made of now."""
    kept = record.is_file() and all((record.parent / name).is_file() for name in files)
    if kept := kept and json.loads(record.read_text()) == {"made_of": provenance.hash_json(made_of)}:
        made_already(what)
    return kept


def keep_record(record: Path, made_of: Mapping[str, Any]) -> None:
    """Write the record that :func:`is_kept` looks for."""
    provenance.write_json(record, {"made_of": provenance.hash_json(made_of)})


class ModelFolder:
    """The folder ``<run>/seed<k>/<name>`` of a model that is made by a recipe.

    Args:
        run: the run's folder.
        seed, name: of the model.
        recipe: everything that the model is a function of, as plain values.
        processes: that train it; the main one writes.
    """

    def __init__(
        self, run: Path, seed: int, name: str, recipe: Mapping[str, Any], processes: Processes
    ) -> None:
        self.path, self.seed, self.name = run / f"seed{seed}" / name, seed, name
        self._recipe, self._processes = dict(recipe), processes
        self._hash = provenance.hash_json(self._recipe)

    def is_made(self) -> bool:
        """Whether the model is there, made by this recipe."""
        sidecar = self.path / "weights.json"
        needed = (sidecar, self.path / "weights.safetensors", self.path / "history.parquet")
        if not all(path.is_file() for path in needed):
            return False
        made = json.loads(sidecar.read_text()).get("recipe_hash") == self._hash
        if made:
            made_already(f"{self.name}, seed {self.seed}")
        return made

    def checkpoints(self, phase: str) -> Checkpoints:
        """Where a phase of the training keeps its state until the model is made."""
        return Checkpoints(self.path / f"checkpoints-{phase}-{self._hash[:8]}", self._hash)

    def keep(self, model: AudioTextModel, history: pd.DataFrame) -> None:
        """Write the model and its history, and remove what the training kept meanwhile."""
        if self._processes.is_main:
            write_table(self.path / "history.parquet", history.assign(seed=self.seed))
            facts = {"recipe": self._recipe, "recipe_hash": self._hash}
            made_by = provenance.collect(self._recipe)
            # Its sidecar says that the model is made, so it is written last.
            model.save(self.path / "weights.safetensors", provenance=made_by, **facts)
            for checkpoints in self.path.glob("checkpoints-*"):
                shutil.rmtree(checkpoints)
        self._processes.wait()
