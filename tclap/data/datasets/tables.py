"""What the data sets on disk share: finding their folder, reading their csv files, finding their audio."""

from __future__ import annotations

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from csv import Error, reader
from pathlib import Path

import pandas as pd

from tclap import files
from tclap.data.clips import listing
from tclap.data.download import fetch

log = logging.getLogger(__name__)

# Of several files of one stem the first of these wins.
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".webm", ".mka", ".mkv", ".wma")


def locate(root: str | Path | None, name: str) -> Path:
    """The folder of the data set ``name``, which need not exist: ``root``, or where it is None what the
    environment variable ``<NAME>_ROOT`` says, or the folder ``name`` in the data folder.
    """
    return Path(root or os.environ.get(f"{name.upper()}_ROOT") or files.data_folder() / name)


def not_found(folder: Path, name: str, expected: str) -> FileNotFoundError:
    """The error for a data set that lacks its csv; says how to get it."""
    hint = f"give a root, set {name.upper()}_ROOT, or use download=True"
    return FileNotFoundError(f"{folder} has no {expected} of {name}: {hint}")


def read_csv(csv: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a csv file, every value as text without surrounding blanks, indexed by their first line.

    Raises ValueError when it is not a csv, has a column twice or a row of more or fewer values than columns,
    lacks one of ``columns``, has no rows, or has an empty value in ``columns`` or ``optional``.
    """
    expected = f"expected the columns {', '.join(columns)}"
    try:
        with open(csv, newline="", encoding="utf-8-sig") as file:
            table = _table(reader(file, strict=True))
    except (Error, ValueError) as error:
        raise ValueError(f"{csv} is not a readable csv ({error}); {expected}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        problem = f"lacks the column(s) {listing(missing)}" if missing else "has no rows"
        raise ValueError(f"{csv} {problem}; {expected}")
    table = table.apply(lambda column: column.str.strip())
    for column in table.columns.intersection([*columns, *optional]):
        refuse(csv, table, column, table[column] == "", "a value")
    return table


def _table(lines: Iterator[list[str]]) -> pd.DataFrame:
    header = [name.strip() for name in next(lines, [])]
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise ValueError(f"it has more than one column {listing(twice)}")
    rows, last = {}, lines.line_num
    for row in lines:
        first, last = last + 1, lines.line_num  # a quoted value may go over several lines
        if row and len(row) != len(header):
            counts = f"{len(row)} values for {len(header)} columns"
            raise ValueError(f"line {first} has {counts}, and a value with a comma needs quotes")
        if row:
            rows[first] = row
    return pd.DataFrame(rows.values(), index=list(rows), columns=header, dtype=str)


def refuse(csv: Path, table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    """Raise ValueError with value and line of every row whose ``column`` is ``wrong`` (boolean, by row)."""
    if wrong.any():
        found = (f"{value!r} (line {line})" for line, value in table.loc[wrong, column].items())
        raise ValueError(f"{csv} has in column {column} {listing(found)}; expected {expected}")


def leaving(names: pd.Series) -> pd.Series:
    """Which paths of a csv lead out of the folder that they are relative to."""
    shortest = names.map(posixpath.normpath)
    return shortest.str.startswith("/") | (shortest.str.split("/").str[0] == "..")


def read_parts(
    folder: Path, name: str, sources: Mapping[str, tuple], columns: Sequence[str], download: bool
) -> pd.DataFrame:
    """The rows of a data set that has one csv per part, with a column ``part``; absent parts are left out.

    ``sources``: address and known hash of each part's csv. Raises FileNotFoundError when no part is present,
    the errors of :func:`read_csv`, and with ``download``, which fetches absent parts, those of ``fetch``.
    """
    tables = []
    for part, (url, known_hash) in sources.items():
        csv = folder / url.rsplit("/", 1)[1]
        if download and not csv.is_file():
            fetch(url, csv, known_hash)
        if csv.is_file():
            tables.append(read_csv(csv, columns).assign(part=part))
    if not tables:
        raise not_found(folder, name, f"{' or '.join(sources)} csv")
    return pd.concat(tables, ignore_index=True)


def audio_files(*folders: Path) -> dict[str, Path]:
    """The audio files (``SUFFIXES``) in those of the folders that exist, by stem.

    Of several files of one stem the one in the earlier folder wins, then the earlier suffix.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        # One listing per folder: asking for every name under every suffix takes minutes on a network disk.
        names = os.listdir(folder) if folder.is_dir() else []
        paths = [folder / name for name in names if name.lower().endswith(SUFFIXES)]
        for path in sorted(paths, key=lambda path: SUFFIXES.index(path.suffix.lower())):
            found.setdefault(path.stem, path)
    return found


def captioned_clips(
    captions: pd.DataFrame, root: Path, folders: Sequence[str], stems: Sequence[str]
) -> pd.DataFrame:
    """The clips ``clip_id, source, split, captions, path`` of a data set without labels.

    ``captions``: one row per caption, ``clip_id, source, part, split, caption``. A clip's audio file is named
    as the first of the ``stems``, in the first of the ``folders`` below ``root``; both may hold ``{part}``,
    ``{clip_id}`` and ``{source}``. Clips without a file are left out and logged. FileNotFoundError when
    no clip has one.
    """
    clips = captions.groupby(["part", "split", "clip_id"], sort=False)
    clips = clips.agg(source=("source", "first"), captions=("caption", list)).reset_index()
    found = {p: audio_files(*(root / f.format(part=p) for f in folders)) for p in clips["part"].unique()}
    paths = []
    for clip in clips[["part", "clip_id", "source"]].to_dict("records"):
        candidates = (found[clip["part"]].get(stem.format(**clip)) for stem in stems)
        paths.append(next((str(path) for path in candidates if path), None))
    clips["path"] = paths
    missing = clips.loc[clips["path"].isna(), "clip_id"]
    if len(missing) == len(clips):
        raise FileNotFoundError(f"{root} has no audio of any clip; expected it in {' or '.join(folders)}")
    if len(missing):
        counts = f"{len(missing)} of {len(clips)} clips"
        log.warning("%s: %s have no audio file and are left out: %s", root, counts, listing(missing))
    return clips.drop(columns="part").dropna(subset="path")
