"""The clips table: what every dataset becomes before anything else looks at it.

A clips table is a pandas DataFrame with one row per clip and the columns ``COLUMNS``:

============  =========================================================================
``clip_id``   str, unique
``path``      str, the audio file
``label``     str, the identity of the sound event (a data set without labels: the clip id)
``captions``  list of str, at least one
``split``     str, one of ``SPLITS``
``fold``      int, the data set's own partition; 0 where it has none
``source``    str, the recording the clip was cut from; it belongs to one split only
``duration``  float, seconds
============  =========================================================================
"""

import importlib
import inspect
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd

from tclap import audio, files
from tclap.arguments import one_of

COLUMNS = ("clip_id", "path", "label", "captions", "split", "fold", "source", "duration")
NEEDED = ("clip_id", "label", "captions", "split", "source")  # of a table that was made without load_clips
STAGES = ("base", "post", "validation", "test")
SPLITS = ("train", *STAGES)
DATASETS = ("synthetic", "esc50", "clotho", "audiocaps", "folder")


def listing(names: Iterable, limit: int = 10) -> str:
    """The names for an error message: at most ``limit`` of them, then how many more there are."""
    names = [str(name) for name in names]
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def load_clips(name: str, root: str | Path | None = None, **options: object) -> pd.DataFrame:
    """The clips table of the data set ``name`` (one of ``DATASETS``), complete and checked.

    ``root`` is the data set's folder (None: its own default) and ``options`` go to its ``load``, which gives
    ``clip_id, path, captions, split`` and may leave out ``label`` and ``source`` (default: the clip id) and
    ``fold`` (0). Raises ValueError for an unknown name, audio files that are missing or unreadable or an
    invalid table, and FileNotFoundError for a missing csv.
    """
    clips = _module(name).load(root, **options)
    defaults = {"label": clips["clip_id"], "source": clips["clip_id"], "fold": 0}
    clips = clips.assign(**{column: value for column, value in defaults.items() if column not in clips})
    clips["duration"] = _durations(clips["path"])
    validate(clips)
    return clips[list(COLUMNS)].reset_index(drop=True)


def dataset_options(name: str) -> set[str]:
    """Names of the options that :func:`load_clips` takes for a data set; ValueError for an unknown name."""
    return set(inspect.signature(_module(name).load).parameters) - {"root"}


def _module(name: str) -> ModuleType:
    one_of(DATASETS, data=name)
    return importlib.import_module(f"tclap.data.datasets.{name}")


def _durations(paths: Iterable[str]) -> list[float]:
    """Length in seconds of each audio file; one error names all that are missing or cannot be read."""
    seconds, problems = [], []
    for path in paths:
        try:
            seconds.append(audio.duration(path))
        except (OSError, ValueError) as error:
            problems.append(error)
    if problems:
        raise ValueError(f"{len(problems)} audio file(s) cannot be read: {listing(problems)}")
    return seconds


def validate(clips: pd.DataFrame) -> None:
    """Check a clips table, not its audio files; one ValueError names every problem and some offenders."""
    missing = [column for column in COLUMNS if column not in clips]
    if missing:
        raise ValueError(f"clips table lacks the column(s) {listing(missing)}; expected {', '.join(COLUMNS)}")
    splits = clips.groupby("source")["split"].unique()
    leaking = splits[splits.map(len) > 1]
    offenders = {
        "clip_id occurs more than once": clips.loc[clips["clip_id"].duplicated(), "clip_id"].unique(),
        f"split is none of {', '.join(SPLITS)} for": clips.loc[~clips["split"].isin(SPLITS), "clip_id"],
        "no list of captions for": clips.loc[~clips["captions"].map(_are_texts), "clip_id"],
        "source occurs in more than one split": [f"{s} ({' and '.join(v)})" for s, v in leaking.items()],
    }
    problems = [f"{problem}: {listing(names)}" for problem, names in offenders.items() if len(names)]
    if clips["label"].nunique() < 2:
        problems.append(f"at least two labels are needed, found {listing(clips['label'].unique()) or 'none'}")
    if problems:
        raise ValueError("clips table is invalid: " + "; ".join(problems))


def content_hash(clips: pd.DataFrame) -> str:
    """SHA-256 of what a clips table says of its clips and of their audio files' bytes, wherever they lie."""
    said = clips.filter(items=["clip_id", "label", "captions", "split", "source"]).to_dict("list")
    return files.hash_json([said, [files.sha256_file(path) for path in clips["path"]]])


def require(clips: pd.DataFrame) -> None:
    """Check a table that may have been made by hand, for :func:`tclap.evaluate` and :func:`tclap.fine_tune`.

    Raises ValueError for what is no clips table, and for clips without captions or of one id.
    """
    missing = [column for column in NEEDED if column not in getattr(clips, "columns", ())]
    if missing:
        raise ValueError(
            f"clips table lacks the column(s) {listing(missing)}; expected what load_clips gives"
        )
    if clips["clip_id"].duplicated().any() or not clips["captions"].map(_are_texts).all():
        raise ValueError(
            "clips table is invalid: a clip has no list of captions, or its clip_id occurs twice"
        )


def for_stage(clips: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The rows that a stage of the experiment may use, with a fresh index.

    ``stage``: one of ``STAGES``. The split of the same name belongs to it, and the split "train" to both
    ``base`` and ``post``. Raises ValueError for an unknown stage or when no row is left.
    """
    one_of(STAGES, stage=stage)
    wanted = {stage, "train"} if stage in ("base", "post") else {stage}
    rows = clips[clips["split"].isin(wanted)].reset_index(drop=True)
    if rows.empty:
        present = listing(sorted(clips["split"].unique())) or "none"
        raise ValueError(f"no clips for stage {stage!r}; the splits present are {present}")
    return rows


def _are_texts(captions: Sequence[str]) -> bool:
    """Whether the captions of a clip are a list of texts, at least one, none of them blank."""
    is_list = not isinstance(captions, str) and isinstance(captions, Collection) and len(captions) > 0
    return is_list and all(isinstance(text, str) and text.strip() for text in captions)


def has_labels(clips: pd.DataFrame) -> bool:
    """Whether the clips have labels; a data set without them names each clip's event after the clip."""
    return not set(clips["label"]) <= set(clips["clip_id"])
