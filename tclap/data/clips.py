"""The clips table: what every dataset becomes before anything else looks at it.

A clips table is a pandas DataFrame with one row a clip and the columns ``COLUMNS``:

============  =========================================================================
``clip_id``   str, unique
``path``      str, the audio file
``label``     str, the identity of the sound event (a data set without labels: the clip id)
``captions``  list of str, at least one
``split``     str, one of ``SPLITS``
``fold``      int, the data set's own partition
``source``    str, the recording the clip was cut from; it belongs to one split only
``duration``  float, seconds
============  =========================================================================
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tclap import audio

COLUMNS = ("clip_id", "path", "label", "captions", "split", "fold", "source", "duration")
STAGES = ("base", "post", "validation", "test")
SPLITS = ("train", *STAGES)
HALF = 40  # part of a draw's seed
DATASETS = {
    name: f"tclap.data.datasets.{name}" for name in ("synthetic", "esc50", "clotho", "audiocaps", "folder")
}


def listing(names: Iterable, limit: int = 10) -> str:
    """The names for an error message: at most ``limit`` of them, then how many more there are."""
    names = [str(name) for name in names]
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def validate(clips: pd.DataFrame, check_files: bool = True) -> None:
    """Check a clips table, and its audio files too unless ``check_files`` is false.

    Raises one ValueError that names every problem there is; each kind lists at most ten
    offenders by name and counts the rest.
    """
    missing = [column for column in COLUMNS if column not in clips.columns]
    if missing:
        raise ValueError(f"clips table lacks the column(s) {listing(missing)}; expected {', '.join(COLUMNS)}")
    if clips.empty:
        raise ValueError("clips table has no rows; expected at least one clip of each of two labels")

    problems = _table_problems(clips)
    if check_files:
        problems += _file_problems(clips["path"])
    if problems:
        raise ValueError("clips table is invalid: " + "; ".join(problems))


def _table_problems(clips: pd.DataFrame) -> list[str]:
    ids = clips["clip_id"]
    offenders = {
        "clip_id occurs more than once": ids[ids.duplicated()].unique(),
        "label missing or empty for": ids[~clips["label"].map(_is_text)],
        "captions missing or empty for": ids[~clips["captions"].map(_is_captions)],
        "source missing or empty for": ids[~clips["source"].map(_is_text)],
        f"split is none of {', '.join(SPLITS)} for": ids[~clips["split"].isin(SPLITS)],
        "duration is no positive number for": ids[~(pd.to_numeric(clips["duration"], errors="coerce") > 0)],
        "source occurs in more than one split": _leaking(clips),
    }
    problems = [f"{problem}: {listing(names)}" for problem, names in offenders.items() if len(names)]
    labels = clips.loc[clips["label"].map(_is_text), "label"].unique()
    if len(labels) < 2:
        problems.append(f"at least two labels are needed, found {len(labels)}: {listing(labels)}")
    return problems


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_captions(value: object) -> bool:
    # A table read back from Parquet holds arrays where lists were written.
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return False
    return len(value) > 0 and all(_is_text(caption) for caption in value)


def _leaking(clips: pd.DataFrame) -> list[str]:
    splits = clips.groupby("source")["split"].agg(lambda column: sorted(set(column.astype(str))))
    return [f"{source} ({' and '.join(found)})" for source, found in splits.items() if len(found) > 1]


def _file_problems(paths: Iterable) -> list[str]:
    missing, unreadable = [], []
    for path in paths:
        if not isinstance(path, str | Path) or not str(path):
            missing.append(repr(path))
            continue
        try:
            audio.check(path)
        except FileNotFoundError:
            missing.append(path)
        except ValueError as error:
            unreadable.append(str(error).rstrip("."))
    problems = [f"missing files: {listing(missing)}"] if missing else []
    return problems + ([f"unreadable files: {listing(unreadable)}"] if unreadable else [])


def load_clips(name: str, root: str | Path | None = None, **options: object) -> pd.DataFrame:
    """Load and validate the clips table of the data set ``name`` (one of ``DATASETS``).

    ``root`` is the data set's folder (None: its own default) and ``options`` go to its ``load``.
    Raises ValueError for an unknown name or an invalid table, FileNotFoundError for missing data.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(DATASETS)}")
    clips = importlib.import_module(DATASETS[name]).load(root, **options)
    validate(clips)
    return clips


def for_stage(clips: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The rows that a stage of the experiment may see, with a fresh index.

    ``stage`` is one of ``STAGES``: base training, post-pretraining, validation or test. The split
    of the same name belongs to it, and the split "train" to both base training and
    post-pretraining. Raises ValueError for an unknown stage or when no row is left.
    """
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
    wanted = {stage, "train"} if stage in ("base", "post") else {stage}
    rows = clips[clips["split"].isin(wanted)].reset_index(drop=True)
    if rows.empty:
        present = listing(sorted(clips["split"].astype(str).unique())) or "none"
        raise ValueError(f"no clips for stage {stage!r}; the splits present are {present}")
    return rows


def has_labels(clips: pd.DataFrame) -> bool:
    """Whether the clips have labels; a data set without them names each clip's event after the clip."""
    return not set(clips["label"]) <= set(clips["clip_id"])


def half_of_labels(labels: Iterable[str], seed: int) -> list[str]:
    """Half of the labels (at least two), drawn from the seed: the classes that a hold-out trains on."""
    ordered = sorted(set(labels))
    drawn = np.random.default_rng([seed, HALF]).permutation(len(ordered))[: max(len(ordered) // 2, 2)]
    return [ordered[n] for n in sorted(drawn)]
