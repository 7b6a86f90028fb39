"""What the data sets on disk share: finding their folder, reading their csv files, finding their audio."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from csv import DictReader, Error
from pathlib import Path

import pandas as pd

from tclap import audio, files
from tclap.data.clips import listing

log = logging.getLogger(__name__)


def locate(root: str | Path | None, name: str) -> Path:
    """The folder of the data set ``name``, which need not exist: ``root``, or where it is None what the
    environment variable ``<NAME>_ROOT`` says, or the folder ``name`` in the data folder.
    """
    return Path(root or os.environ.get(f"{name.upper()}_ROOT") or files.data_folder() / name)


def not_found(folder: Path, name: str, expected: str) -> FileNotFoundError:
    """The error for a data set that lacks its csv; says where it is looked for."""
    return FileNotFoundError(f"{folder} has no {expected} of {name}: give a root or set {name.upper()}_ROOT")


def read_csv(csv: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a csv file, every value as text without surrounding blanks, indexed by their (last) line.

    Raises ValueError when it is not a csv, has no rows or one of more or fewer values than columns, lacks one
    of ``columns`` or has it twice, or has an empty value in ``columns`` or ``optional``.
    """
    try:
        with open(csv, newline="", encoding="utf-8-sig") as file:
            lines = DictReader(file, strict=True)
            lines.fieldnames = [name.strip() for name in lines.fieldnames or ()]
            rows = [(lines.line_num, row) for row in lines]
    except (Error, UnicodeDecodeError) as error:
        raise ValueError(f"{csv} is not a readable csv: {error}") from error
    if twice := [name for name, count in Counter(lines.fieldnames).items() if name and count > 1]:
        raise ValueError(f"{csv} has the column(s) {listing(twice)} more than once; expected each once")
    # DictReader's key of the values that have no column, and its value of the columns that have none.
    if uneven := [line for line, row in rows if None in row or None in row.values()]:
        counts = f"more or fewer values than columns in line {listing(uneven)}"
        raise ValueError(f"{csv} has {counts}; a value with a comma needs quotes")
    index = [line for line, _ in rows]
    table = pd.DataFrame([row for _, row in rows], index, dtype=str)
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        problem = "has no rows" if table.empty else f"lacks the column(s) {listing(missing)}"
        raise ValueError(f"{csv} {problem}; expected the columns {', '.join(columns)}")
    table = table.apply(lambda column: column.str.strip())
    for column in table.columns.intersection([*columns, *optional]):
        refuse(csv, table, column, table[column] == "", "a value")
    return table


def refuse(csv: Path, table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    """Raise ValueError with value and line of every row whose ``column`` is ``wrong`` (boolean, by row)."""
    if wrong.any():
        found = (f"{value!r} (line {line})" for line, value in table.loc[wrong, column].items())
        raise ValueError(f"{csv} has in column {column} {listing(found)}; expected {expected}")


def leaves_folder(name: str) -> bool:
    """Whether a file's name leads out of the folder that it is relative to; links are followed anywhere."""
    return posixpath.normpath(name).startswith(("/", "../")) or posixpath.normpath(name) == ".."


def read_parts(folder: Path, name: str, csvs: Mapping[str, str], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a data set that has one csv per part, with a column ``part``; absent parts are left out.

    ``csvs``: each part's file in the folder. Raises FileNotFoundError when no part is present, and the errors
    of :func:`read_csv`.
    """
    present = {part: folder / csv for part, csv in csvs.items() if (folder / csv).is_file()}
    if not present:
        raise not_found(folder, name, " or ".join(csvs.values()))
    tables = [read_csv(csv, columns).assign(part=part) for part, csv in present.items()]
    return pd.concat(tables, ignore_index=True)


def audio_files(root: Path) -> dict[str, Path]:
    """The audio files (``audio.SUFFIXES``) anywhere below a folder, by stem; of one stem the first path."""
    # One listing per folder: asking for every name under every suffix takes minutes on a network disk.
    walked = os.walk(root, followlinks=True)
    paths = [Path(folder, name) for folder, _, names in walked for name in names]
    found = [path for path in paths if path.suffix.lower() in audio.SUFFIXES]
    return {path.stem: path for path in sorted(found, reverse=True)}


def captioned_clips(captions: pd.DataFrame, root: Path, stems: Sequence[str]) -> pd.DataFrame:
    """The clips ``clip_id, source, split, captions, path`` of a data set without labels.

    ``captions``: one row per caption, ``clip_id, source, split, caption``. A clip's audio file lies anywhere
    below ``root``, and is named as the first of the ``stems`` (which may hold ``{clip_id}`` and ``{source}``)
    that there is. Clips without a file are left out and logged; FileNotFoundError when no clip has one.
    """
    clips = captions.groupby(["split", "clip_id", "source"], sort=False)["caption"].agg(list)
    clips = clips.rename("captions").reset_index()
    found = audio_files(root)
    paths = []
    for clip in clips.to_dict("records"):
        candidates = (found.get(stem.format(**clip)) for stem in stems)
        paths.append(next((str(path) for path in candidates if path), None))
    clips["path"] = paths
    missing = clips.loc[clips["path"].isna(), "clip_id"]
    if len(missing) == len(clips):
        raise FileNotFoundError(f"{root} has no audio of any clip; expected names as {' or '.join(stems)}")
    if len(missing):
        counts = f"{len(missing)} of {len(clips)} clips"
        log.warning("%s: %s have no audio file and are left out: %s", root, counts, listing(missing))
    return clips.dropna(subset="path")
