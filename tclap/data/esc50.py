"""ESC-50: 2000 environmental recordings of 5 s in 50 classes and 5 folds, 44.1 kHz mono.

Expected under the root, as in the official archive: ``meta/esc50.csv`` and ``audio/*.wav``. Any
subset of the rows works, and a row's file may have the suffix of another of ``SUFFIXES`` (the
first releases were Ogg Vorbis). The folds keep the clips of one Freesound recording together.

The data are not part of this project and are not downloaded by it. Their licence forbids commercial
use and wants the author of every clip named where it is passed on (LICENSE of the official
repository); therefore no audio of ESC-50, nor composites made of it, may be committed or published
with this project.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tclap import audio
from tclap.data.clips import COLUMNS, listing

URL = "https://github.com/karolpiczak/ESC-50"
ARCHIVE_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
LICENCE = "CC BY-NC 3.0 (ESC-50); its subset ESC-10: CC BY 3.0"
CITATION = (
    "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. Proceedings of the 23rd ACM "
    "International Conference on Multimedia, pp. 1015-1018, 2015. doi:10.1145/2733373.2806390"
)
ROOT_VARIABLE = "ESC50_ROOT"
CSV_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
SUFFIXES = (".wav", ".ogg", ".flac")


def load(
    root: str | Path | None = None,
    *,
    classes: str | Sequence[str] = "auto",
    test_fold: int | None = None,
    validation_fold: int | None = None,
    folds: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of an ESC-50 folder.

    ``root``: the folder; None takes the environment variable ``ESC50_ROOT``.
    ``folds``: the folds to use; None takes all that are present.
    ``classes``: "all", "esc10", "auto" (those that every chosen fold has) or a list of labels.
    ``test_fold``: None takes the highest chosen fold; ``validation_fold``: None takes the next lower
    one (below the lowest comes the highest). All other chosen folds get the split "train".

    Raises FileNotFoundError where the folder, its csv or the file of a row is missing, ValueError
    for a broken csv, an unreadable file, or a choice of folds and classes that cannot be met.
    """
    root, csv = locate(root)
    table = _read_csv(csv)
    splits = _split_of_folds(table, csv, folds, test_fold, validation_fold)
    table = table[table["fold"].isin(splits)]
    table = table[table["category"].isin(_choose_classes(table, csv, classes))]
    if table["category"].nunique() < 2:
        raise ValueError(
            f"{csv} has {table['category'].nunique()} class(es) in folds {listing(splits)} with "
            f"classes={classes!r}; expected at least two"
        )
    paths = _find_files(table["filename"], root)
    clips = pd.DataFrame(
        {
            "clip_id": [Path(name).stem for name in table["filename"]],
            "path": [str(path) for path in paths],
            "label": table["category"].to_list(),
            "captions": [[label] for label in table["category"]],
            "split": [splits[fold] for fold in table["fold"]],
            "fold": table["fold"].to_list(),
            "source": table["src_file"].to_list(),
            "duration": _durations(paths),
        }
    )
    return clips[list(COLUMNS)]


def locate(root: str | Path | None) -> tuple[Path, Path]:
    """The folder (None: the environment variable's) and its csv; FileNotFoundError where missing."""
    hint = f"expected the official layout, from {URL}"
    if root is None:
        root = os.environ.get(ROOT_VARIABLE)
        if not root:
            raise FileNotFoundError(f"{ROOT_VARIABLE} is not set and no root is given; {hint}")
        said = f"{ROOT_VARIABLE}={root}"
    else:
        said = f"ESC-50 root {root}"
    csv = Path(root) / "meta" / "esc50.csv"
    if not csv.is_file():
        raise FileNotFoundError(f"{said} has no meta/esc50.csv; {hint}")
    return Path(root), csv


def _read_csv(csv: Path) -> pd.DataFrame:
    try:
        # As text: a missing value must not turn the ids of a column into floats.
        table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{csv} is empty; expected the columns {', '.join(CSV_COLUMNS)}") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{csv} is no readable csv: {error}") from error
    missing = [column for column in CSV_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{csv} lacks the column(s) {listing(missing)}; expected {', '.join(CSV_COLUMNS)}")
    if table.empty:
        raise ValueError(f"{csv} has no rows; expected one a clip")
    table = table.apply(lambda column: column.str.strip())
    for column in ("filename", "category", "src_file"):
        _refuse(csv, table, column, table[column] == "", "a value")
    _refuse(csv, table, "fold", ~table["fold"].str.fullmatch(r"\d+"), "a whole number")
    flags = table["esc10"].str.lower()
    _refuse(csv, table, "esc10", ~flags.isin(["true", "false"]), "True or False")
    return table.assign(
        fold=table["fold"].astype(int),
        esc10=flags == "true",
        category=table["category"].str.replace("_", " "),
    )


def _refuse(csv: Path, table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    if wrong.any():
        # Line numbers as an editor shows them: line 1 is the header.
        found = (f"{value!r} (line {line + 2})" for line, value in table.loc[wrong, column].items())
        raise ValueError(f"{csv} has in column {column} {listing(found)}; expected {expected}")


def _split_of_folds(
    table: pd.DataFrame,
    csv: Path,
    folds: Sequence[int] | None,
    test_fold: int | None,
    validation_fold: int | None,
) -> dict[int, str]:
    present = sorted(int(fold) for fold in table["fold"].unique())
    chosen = present if folds is None else sorted(set(folds))
    wanted = {*chosen, *(fold for fold in (test_fold, validation_fold) if fold is not None)}
    absent = sorted(wanted - set(present))
    if absent:
        raise ValueError(f"{csv} has no fold {listing(absent)}; the folds present are {listing(present)}")
    left_out = sorted(wanted - set(chosen))
    if left_out:
        raise ValueError(f"fold {listing(left_out)} is not among folds={chosen}, and is to be held out")
    if test_fold is not None and test_fold == validation_fold:
        raise ValueError(f"test_fold and validation_fold are both {test_fold}; expected different folds")

    if test_fold is None:
        test_fold = max((fold for fold in chosen if fold != validation_fold), default=None)
    if validation_fold is None:
        # Cyclic, so that over a cross-validation each fold serves once as either.
        others = [fold for fold in chosen if fold != test_fold]
        validation_fold = max(
            (fold for fold in others if fold < test_fold), default=max(others, default=None)
        )
    held_out = {test_fold: "test", validation_fold: "validation"}
    if set(chosen) <= set(held_out):
        raise ValueError(
            f"{csv} leaves no fold to train on: folds {listing(chosen)}, test_fold={test_fold}, "
            f"validation_fold={validation_fold}; expected at least three folds"
        )
    return {fold: held_out.get(fold, "train") for fold in chosen}


def _choose_classes(table: pd.DataFrame, csv: Path, classes: str | Sequence[str]) -> set[str]:
    present = set(table["category"])
    if classes == "all":
        return present
    if classes == "esc10":
        return set(table.loc[table["esc10"], "category"])
    if classes == "auto":
        return set.intersection(*(set(rows) for _, rows in table.groupby("fold")["category"]))
    if isinstance(classes, str):
        raise ValueError(f"classes={classes!r}; expected 'all', 'esc10', 'auto' or a list of labels")
    wanted = {label.replace("_", " ") for label in classes}
    if wanted - present:
        raise ValueError(f"{csv} has no class {listing(sorted(wanted - present))} in the chosen folds")
    return wanted


def _find_files(names: pd.Series, root: Path) -> list[Path]:
    folder = root / "audio"
    paths, missing = [], []
    for name in names:
        given = folder / name
        candidates = [given, *(given.with_suffix(suffix) for suffix in SUFFIXES)]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(name)
        else:
            paths.append(path)
    if missing:
        raise FileNotFoundError(
            f"{folder} has no file ({', '.join(SUFFIXES)}) for {len(missing)} row(s) of meta/esc50.csv: "
            f"{listing(missing)}"
        )
    return paths


def _durations(paths: Sequence[Path]) -> list[float]:
    durations, unreadable = [], []
    for path in paths:
        try:
            durations.append(audio.duration(path))
        except ValueError as error:
            unreadable.append(str(error).rstrip("."))
    if unreadable:
        raise ValueError(f"{len(unreadable)} file(s) of ESC-50 cannot be read: {listing(unreadable)}")
    return durations
