"""Readers of a run folder, ``runs/<profile>/<base>``; each error is one sentence that says what to run."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

STAMP = "summarised.json"
REAL = ("esc50", "esc50-fold4")  # profiles on real recordings, whose numbers the paper shows beside a run's


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `make reproduce` makes it.")
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The path of a file that is read in the block; damage of any kind is a ValueError that names it."""
    try:
        yield path
    except Exception as error:  # readers of JSON, npz and parquet raise errors of ten kinds
        raise ValueError(f"{path} is damaged; `make reproduce` makes it.") from error


def _json(path: Path) -> dict:
    with whole(_existing(path)):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"{path} holds {type(content).__name__}, expected an object.")
        return content


def summary(run: str | Path) -> dict:
    """``summary.json`` of a run folder, or of a file given directly.

    Raises FileNotFoundError where it is missing and ValueError where it is not a summary, or not as it was
    written: the run's ``summarised.json`` has its hash.
    """
    path = Path(run)
    path = path if path.suffix == ".json" else path / "summary.json"
    content = _json(path)
    missing = [key for key in ("profile", "base", "seeds", "models") if key not in content]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; `make reproduce` makes a complete one.")
    beside = path.with_name(STAMP)
    stamps = [beside] if beside.is_file() else [*path.parent.glob(f"*/{STAMP}")]  # a profile's is a copy
    hashes = [_json(stamp).get("products", {}).get("summary.json") for stamp in stamps]
    if hashes and hashlib.sha256(path.read_bytes()).hexdigest() not in hashes:
        raise ValueError(f"{path} is damaged or edited; `make reproduce` makes it again.")
    return content


def real(run: str | Path) -> dict[str, dict]:
    """The summaries of the runs on real recordings beside a run folder, by profile (:data:`REAL`)."""
    found = {profile: Path(run).resolve().parents[1] / profile / "summary.json" for profile in REAL}
    return {profile: summary(path) for profile, path in found.items() if path.is_file()}


def has_random_weights(summary: dict) -> bool:
    """Whether a run's base model has stand-ins for published weights."""
    return bool((summary.get("origin") or {}).get("random_weights"))


def rows(run: str | Path, name: str) -> pd.DataFrame:
    """Rows ``results``, ``history`` or ``similarity`` of a run folder; errors as of :func:`summary`."""
    with whole(_existing(Path(run) / f"{name}.parquet")) as path:
        return pd.read_parquet(path)


def example(run: str | Path) -> dict[str, Any]:
    """One composite to look at, from ``example.npz`` and ``example.json`` of a run folder.

    ``first`` and ``second``, its labels; ``forward_mel`` and ``reversed_mel``, ``[mels, frames]`` in dB;
    ``frame_seconds`` and ``boundary_seconds``; ``captions`` and ``captions_reversed``, ``{caption: {model:
    cosine}}`` for the forward and the reversed audio. Errors as of :func:`rows`.
    """
    path = _existing(Path(run) / "example.npz")
    with whole(path), np.load(path, allow_pickle=False) as archive:
        found = {key: value if value.ndim else float(value) for key, value in archive.items()}
    return found | _json(Path(run) / "example.json")


READERS = {"summary": summary, "example": example}
READERS |= {name: partial(rows, name=name) for name in ("results", "history", "similarity")}
"""What a figure can be made of, by name."""
