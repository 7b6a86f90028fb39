"""What the readers share: finding an item's sounds in a folder, and tables of JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tclap.data.clips import listing
from tclap.data.datasets import tables
from tclap.evaluation.items import ITEM_COLUMNS

log = logging.getLogger(__name__)


def with_sounds(items: Iterable[dict[str, Any]], file: Path, audio_folder: str | Path) -> pd.DataFrame:
    """The items whose sounds are all in the folder, by name or under another suffix; others are logged.

    FileNotFoundError when none are left.
    """
    items, folder = pd.DataFrame(items, columns=list(ITEM_COLUMNS)), Path(audio_folder)
    by_stem = tables.audio_files(folder)
    paths = {}
    for name in items["sounds"].explode().unique():
        path = folder / name
        paths[name] = str(path) if path.is_file() else str(by_stem.get(Path(name).stem, ""))
    items["sounds"] = items["sounds"].map(lambda names: [paths[name] for name in names])
    there = items["sounds"].map(all).astype(bool)
    missing = [name for name, path in paths.items() if not path]
    if not there.any():
        raise FileNotFoundError(
            f"{folder} has the sounds of none of the {len(items)} items of {file}: {listing(missing)}."
        )
    if missing:
        counts = (file, (~there).sum(), len(items), listing(missing))
        log.warning("%s: %d of %d items are left out, whose sounds are not there: %s", *counts)
    return items[there].reset_index(drop=True)


def json_of(file: Path, lines: bool = False) -> Any:
    """What a JSON file holds, a list of its lines' if each is JSON; ValueError when it is none."""
    text = file.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON{' Lines' if lines else ''}: {error}.") from error


def json_table(file: Path, records: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Records of a JSON file as a table; ValueError when one lacks a column."""
    table = pd.DataFrame(records)
    lacking = [column for column in columns if column not in table or table[column].isna().any()]
    if lacking:
        raise ValueError(f"{file} has records without {listing(lacking)}, expected {listing(columns)}.")
    return table
