"""Your own recordings: a folder of audio files and a csv that describes them.

The csv has a column ``file`` (path relative to the folder and within it, where links may lead anywhere) and
``caption``, ``label`` or both; several rows of one file are several captions of it. Optional columns:
``split`` (one of ``tclap.data.clips.SPLITS``) and ``source`` (the recording that a file was cut from; by
default the file itself). Every value of these columns must be filled in. Other columns are ignored.
"""

import logging
import posixpath
from pathlib import Path

import numpy as np
import pandas as pd

from tclap.arguments import at_least
from tclap.data.clips import listing
from tclap.data.datasets import tables

log = logging.getLogger(__name__)

HELD_OUT = 0.1  # the part of a label's sources that is drawn for validation, and as much for the test


def load(root: str | Path, *, csv: str = "clips.csv", seed: int = 0) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`: those of the folder ``root``, described by its file ``csv``.

    Without captions a clip's label is its caption; without labels a clip is its own label, or that of the
    first clip with the same captions. A clip's id is its path relative to ``root``.

    Without a column ``split``, a tenth of the sources is drawn from ``seed`` for validation and a tenth for
    the test, label by label, and the others are for training. A label with three or more sources is in every
    split; one with fewer is in training only, which is logged. Clips without labels are at least two in each
    split. The order of the rows does not matter.

    Raises FileNotFoundError where the csv is missing, ValueError for a broken csv, a file outside the folder
    or with two labels, splits or sources, or too few sources to split.
    """
    if root is None:
        raise ValueError("the data set 'folder' has no default root; expected the folder of your recordings")
    at_least(0, seed=seed)
    root, file = Path(root), Path(root, csv)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; expected a csv with file and caption or label")
    clips = _by_clip(_read_csv(file), file)
    clips["path"] = [str(root / name) for name in clips["clip_id"]]
    if "split" not in clips:
        clips["split"] = _draw_splits(clips, seed, file)
    if "label" not in clips:
        # Clips that are captioned alike cannot be told apart by a caption: they are one event.
        said = clips["captions"].map(lambda given: tuple(sorted(c.lower().strip(" .") for c in given)))
        clips["label"] = clips.groupby(said)["clip_id"].transform("first")
    return clips


def _read_csv(csv: Path) -> pd.DataFrame:
    """The rows, one per caption, with ``file`` in its shortest form."""
    table = tables.read_csv(csv, ("file",), optional=("caption", "label", "split", "source"))
    if not {"caption", "label"} & set(table.columns):
        raise ValueError(f"{csv} has neither a column caption nor a column label; expected at least one")
    tables.refuse(csv, table, "file", table["file"].map(tables.leaves_folder), "a path within the folder")
    return table.assign(file=table["file"].map(posixpath.normpath))


def _by_clip(table: pd.DataFrame, csv: Path) -> pd.DataFrame:
    """One row per file: ``clip_id, captions, source``, and ``label`` and ``split`` where the csv has them."""
    values = table.groupby("file", sort=False).agg(lambda column: list(column.unique()))
    captions = values["caption" if "caption" in values else "label"]
    clips = pd.DataFrame({"clip_id": values.index, "captions": captions.to_list()})
    clips["source"] = clips["clip_id"]
    for column in values.columns.intersection(["label", "split", "source"]):
        several = values.loc[values[column].map(len) > 1, column]
        if len(several):
            named = listing(f"{name} ({' and '.join(given)})" for name, given in several.items())
            raise ValueError(f"{csv} gives more than one {column} for {named}; expected one per file")
        clips[column] = values[column].str[0].to_list()
    return clips


def _draw_splits(clips: pd.DataFrame, seed: int, csv: Path) -> pd.Series:
    # A source stays together, under one of its labels: the first in the alphabet.
    labels = clips.assign(label=clips.get("label", "")).groupby("source")["label"].min()
    # Clips without labels need two sources in a split, or they make no pair.
    least = 1 if "label" in clips else 2
    rng = np.random.default_rng(seed)
    drawn: dict[str, str] = {}
    scarce = []
    for label, sources in labels.groupby(labels):
        order = rng.permutation(sources.index)
        if len(order) < 3 * least:
            scarce.append(label)
            continue
        count = max(least, round(HELD_OUT * len(order)))
        drawn |= dict.fromkeys(order[:count], "validation") | dict.fromkeys(order[count : 2 * count], "test")
    if not drawn:
        found = f"{len(labels)} source(s) of {labels.nunique()} label(s)"
        raise ValueError(f"{csv} has too few clips to split: {found}; expected more, or a column split")
    if scarce:
        log.warning("%s: too few sources to hold any out, in training only: %s", csv, listing(scarce))
    return clips["source"].map(lambda source: drawn.get(source, "train"))
