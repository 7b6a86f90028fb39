"""What the data sets on disk share: finding their folder, reading their csv files, finding their audio."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tclap import audio, files
from tclap.data.clips import COLUMNS, listing

log = logging.getLogger(__name__)

# Of several files of one stem the first of these wins.
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def locate(root: str | Path | None, data_set: str, *, variable: str, default: str) -> tuple[Path, str]:
    """The folder of the ``data_set``, and how to call it in an error message; it need not exist.

    ``root`` where one is given, else what the environment variable ``variable`` names, else the folder
    ``default`` among the downloaded data (``tclap.files.data_folder()``).
    """
    if root is not None:
        return Path(root), f"{data_set} root {root}"
    if os.environ.get(variable):
        return Path(os.environ[variable]), f"{variable}={os.environ[variable]}"
    folder = files.data_folder() / default
    return folder, f"{variable} is not set and no root is given, and the folder {folder}"


def read_csv(csv: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a csv file, every value as text without surrounding blanks.

    Raises ValueError when it is no csv, lacks one of ``columns`` or has no rows.
    """
    expected = f"expected the columns {', '.join(columns)}"
    try:
        # As text: a missing value must not turn the ids of a column into floats.
        table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{csv} is empty; {expected}") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{csv} is no readable csv: {error}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{csv} lacks the column(s) {listing(missing)}; {expected}")
    if table.empty:
        raise ValueError(f"{csv} has no rows; expected one a clip")
    return table.apply(lambda column: column.str.strip())


def refuse(csv: Path, table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    """Raise ValueError with value and line of every row whose ``column`` is ``wrong`` (boolean, by row)."""
    if wrong.any():
        # Line numbers as an editor shows them: line 1 is the header.
        found = (f"{value!r} (line {line + 2})" for line, value in table.loc[wrong, column].items())
        raise ValueError(f"{csv} has in column {column} {listing(found)}; expected {expected}")


def refuse_empty(csv: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise ValueError for the first of ``columns`` that has an empty value; see :func:`refuse`."""
    for column in columns:
        refuse(csv, table, column, table[column] == "", "a value")


def audio_files(*folders: Path) -> dict[str, Path]:
    """The audio files (``SUFFIXES``) in the folders, by stem; folders that do not exist are passed over.

    Of several files of one stem the one in the earlier folder wins, then the earlier suffix. One listing
    a folder: asking for every name under every suffix takes minutes on a network disk.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file()]
        ranked = [(SUFFIXES.index(p.suffix.lower()), p) for p in files if p.suffix.lower() in SUFFIXES]
        for _, path in sorted(ranked):
            found.setdefault(path.stem, path)
    return found


def durations(files: Sequence[str | Path], data_set: str) -> list[float]:
    """Length in seconds of each audio file, from its header.

    Raises one ValueError that names the files of the ``data_set`` that cannot be read.
    """
    seconds, unreadable = [], []
    for path in files:
        try:
            seconds.append(audio.duration(path))
        except ValueError as error:
            unreadable.append(str(error).rstrip("."))
    if unreadable:
        raise ValueError(f"{len(unreadable)} file(s) of {data_set} cannot be read: {listing(unreadable)}")
    return seconds


def read_parts(
    folder: Path, said: str, names: Mapping[str, str], columns: Sequence[str], hint: str
) -> dict[str, pd.DataFrame]:
    """Read the csv files of a data set that has one for each of its parts.

    ``names``: the csv's name in ``folder`` by part. Returns the table of each part that is present.
    Raises FileNotFoundError, with ``said`` (see :func:`locate`) and ``hint``, when there is none, and the
    errors of :func:`read_csv`; a value of ``columns`` that is empty is a ValueError.
    """
    tables = {}
    for part, name in names.items():
        if (folder / name).is_file():
            tables[part] = read_csv(folder / name, columns)
            refuse_empty(folder / name, tables[part], columns)
    if not tables:
        raise FileNotFoundError(f"{said} has none of {', '.join(names.values())}; {hint}")
    return tables


class _Ids(tuple):
    """Ids in a table's ``attrs``, which pandas copies deeply with every column it takes out of the table:
    with thousands of ids, checking a large table would take minutes."""

    def __deepcopy__(self, memo: dict) -> _Ids:
        return self


def captioned_clips(rows: pd.DataFrame, data_set: str, searched: Iterable[Path]) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of a data set whose clips have captions and no labels.

    ``rows``: one a caption, with the columns ``clip_id, source, split, caption, path``; ``path`` is None
    for a clip without an audio file. Such clips are left out and logged, and their ids are in the tuple
    ``clips.attrs["missing"]``. Every clip is its own label. Raises FileNotFoundError, naming the folders
    ``searched``, when no clip has a file, and the errors of :func:`durations`.
    """
    keys = ["split", "clip_id"]
    columns = {"source": "first", "path": "first", "caption": list}
    clips = rows.groupby(keys, sort=False).agg(columns).reset_index()
    clips = clips.rename(columns={"caption": "captions"})
    missing = clips.loc[clips["path"].isna(), "clip_id"].to_list()
    if len(missing) == len(clips):
        raise FileNotFoundError(
            f"none of the {len(clips)} clips of {data_set} has an audio file ({', '.join(SUFFIXES)}) in "
            f"{', '.join(map(str, searched))}"
        )
    if missing:
        share = f"{len(missing)} of {len(clips)} clips"
        log.warning("%s: %s have no audio file and are left out: %s", data_set, share, listing(missing))
    clips = clips[clips["path"].notna()].reset_index(drop=True)
    clips["path"] = clips["path"].map(str)
    clips["label"] = clips["clip_id"]
    clips["fold"] = 0
    clips["duration"] = durations(clips["path"], data_set)
    clips = clips[list(COLUMNS)]
    clips.attrs["missing"] = _Ids(missing)
    return clips
