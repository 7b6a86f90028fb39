"""Readers of a run folder, ``runs/<profile>/<base>``; each error is one sentence that says what to run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from artifact import paths

DRAFT = paths.CHECKOUT / "paper" / "draft_tables.csv"

COLUMNS = {
    "results": ("model", "seed", "task", "item", "margin"),
    "history": ("model", "seed", "step", "loss", "validation_two_way", "cosine_audio", "cosine_text"),
    "similarity": ("model", "seed", "row", "column", "row_caption", "column_event", "similarity"),
}
"""Columns that the figures need of each table of rows; a file may have more."""

SUMMARY_KEYS = ("profile", "base", "seeds", "models")


@dataclass(frozen=True)
class Example:
    """One composite to look at: its two labels, both spectrograms and its captions' similarities.

    ``forward_mel``, ``reversed_mel``: ``[mels, frames]`` in dB; times in seconds; ``captions`` and
    ``captions_reversed``: ``{caption: {model: cosine}}`` for the forward and the reversed audio.
    """

    first: str
    second: str
    forward_mel: np.ndarray
    reversed_mel: np.ndarray
    frame_seconds: float
    boundary_seconds: float
    captions: dict[str, dict[str, float]]
    captions_reversed: dict[str, dict[str, float]]


def existing(path: Path) -> Path:
    """``path``, or FileNotFoundError that says which command makes it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `make reproduce` makes it.")
    return path


def summary(run: str | Path) -> dict:
    """``summary.json`` of a run folder, or of a file given directly.

    Raises FileNotFoundError where it is missing and ValueError where it is not a summary.
    """
    path = Path(run)
    path = existing(path if path.suffix == ".json" else path / "summary.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON (line {error.lineno}); `make reproduce` makes it."
        ) from None
    missing = lacking(content, SUMMARY_KEYS)
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; `make reproduce` makes a complete one.")
    return content


def has_random_weights(summary: dict) -> bool:
    """Whether a run's base model has stand-ins for published weights."""
    return bool((summary.get("origin") or {}).get("random_weights"))


def rows(run: str | Path, name: str) -> pd.DataFrame:
    """Rows ``results``, ``history`` or ``similarity`` of a run folder.

    Raises FileNotFoundError where the file is missing and ValueError where a column is.
    """
    path = existing(Path(run) / f"{name}.parquet")
    frame = pd.read_parquet(path)
    missing = lacking(frame.columns, COLUMNS[name])
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; `make reproduce` makes a complete one.")
    return frame


def example(run: str | Path) -> Example:
    """The composite that ``example.npz`` and ``example.json`` of a run folder hold.

    Raises FileNotFoundError where one is missing and ValueError where one lacks a key.
    """
    arrays_path, words_path = existing(Path(run) / "example.npz"), existing(Path(run) / "example.json")
    words = json.loads(words_path.read_text(encoding="utf-8"))
    with np.load(arrays_path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for path, found, needed in (
        (arrays_path, arrays, ("forward_mel", "reversed_mel", "frame_seconds", "boundary_seconds")),
        (words_path, words, ("first", "second", "captions", "captions_reversed")),
    ):
        missing = lacking(found, needed)
        if missing:
            raise ValueError(f"{path} has no {', '.join(missing)}; `make reproduce` makes a complete one.")
    return Example(
        first=words["first"],
        second=words["second"],
        forward_mel=arrays["forward_mel"],
        reversed_mel=arrays["reversed_mel"],
        frame_seconds=float(arrays["frame_seconds"]),
        boundary_seconds=float(arrays["boundary_seconds"]),
        captions=words["captions"],
        captions_reversed=words["captions_reversed"],
    )


def draft(path: str | Path = DRAFT) -> pd.DataFrame:
    """The draft's printed numbers: ``table, row, column, value, note``, all text, an empty cell ``""``."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is part of the repository, in paper/.")
    return pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)


def lacking(found: Iterable[str], needed: Iterable[str]) -> list[str]:
    """Those of ``needed`` that are not in ``found``."""
    found = set(found)
    return [name for name in needed if name not in found]
