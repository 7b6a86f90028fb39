"""ESC-50: 2000 environmental recordings of 5 s in 50 classes and 5 folds, 44.1 kHz mono.

Expected under the root, as in the official archive: ``meta/esc50.csv`` and ``audio/*.wav``. Any
subset of the rows works, and a row's file may have another suffix (``tables.SUFFIXES``; the
first releases were Ogg Vorbis). The folds keep the clips of one Freesound recording together.

The data are no part of this project; ``load(download=True)`` fetches the official archive (600 MB), or
the same file from the mirror that the environment variable ``ESC50_URL`` names: its checksum is verified
in either case. Their licence forbids commercial use and wants the author of every clip named where it is
passed on (LICENSE of the official repository); therefore no audio of ESC-50, nor composites made of it,
may be committed or published with this project.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tclap.data.clips import COLUMNS, listing
from tclap.data.datasets import tables
from tclap.data.download import fetch, require_new, unpack

URL = "https://github.com/karolpiczak/ESC-50"
ARCHIVE_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
# As soundata publishes it, for the archive as GitHub packs it.
ARCHIVE_MD5 = "7771e4b9d86d0945acce719c7a59305a"
LICENCE = "CC BY-NC 3.0 (ESC-50); its subset ESC-10: CC BY 3.0"
CITATION = (
    "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. Proceedings of the 23rd ACM "
    "International Conference on Multimedia, pp. 1015-1018, 2015. doi:10.1145/2733373.2806390"
)
ROOT_VARIABLE = "ESC50_ROOT"
URL_VARIABLE = "ESC50_URL"
CSV_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def load(
    root: str | Path | None = None,
    *,
    classes: str | Sequence[str] = "auto",
    test_fold: int | None = None,
    validation_fold: int | None = None,
    folds: Sequence[int] | None = None,
    per_class: int | None = None,
    download: bool = False,
) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of an ESC-50 folder.

    ``root``: the folder; None takes the environment variable ``ESC50_ROOT``, or where that is not set the
    folder ``esc50`` among the downloaded data (``tclap.files.data_folder()``).
    ``folds``: the folds to use; None takes all that are present.
    ``classes``: "all", "esc10", "auto" (those that every chosen fold has) or a list of labels.
    ``test_fold``: None takes the highest chosen fold; ``validation_fold``: None takes the next lower
    one (below the lowest comes the highest). All other chosen folds get the split "train".
    ``per_class``: at most so many clips of each class in each fold, the first ones.
    ``download``: where the folder has no csv, fetch the official archive (see the module) and unpack it
    as the folder.

    Raises FileNotFoundError where the folder, its csv or the file of a row is missing, ValueError
    for a broken csv, an unreadable file, or a choice of folds and classes that cannot be met; with
    ``download`` also FileExistsError where the folder holds other files, and the errors of
    :func:`tclap.data.download.fetch`.
    """
    root, csv = locate(root, download=download)
    table = _read_csv(csv)
    splits = _split_of_folds(table, csv, folds, test_fold, validation_fold)
    table = table[table["fold"].isin(splits)]
    table = table[table["category"].isin(_choose_classes(table, csv, classes))]
    if per_class is not None:
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}, expected at least 1")
        table = table.groupby(["fold", "category"]).head(per_class)
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
            "duration": tables.durations(paths, "ESC-50"),
        }
    )
    return clips[list(COLUMNS)]


def locate(root: str | Path | None, *, download: bool = False) -> tuple[Path, Path]:
    """The folder and its csv, downloaded where asked for; arguments and errors as :func:`load`."""
    root, said = tables.locate(root, "ESC-50", variable=ROOT_VARIABLE, default="esc50")
    csv = root / "meta" / "esc50.csv"
    if download and not csv.is_file():
        _download(root)
    if not csv.is_file():
        raise FileNotFoundError(
            f"{said} has no meta/esc50.csv; expected the official layout, from {URL} or with download=True"
        )
    return root, csv


def _download(root: Path) -> None:
    root = root.resolve()
    require_new(root)
    url = os.environ.get(URL_VARIABLE) or ARCHIVE_URL
    archive = fetch(url, root.with_name(f"{root.name}.download.zip"), md5=ARCHIVE_MD5, what="ESC-50")
    unpack(archive, root, inner="ESC-50-master")
    archive.unlink()


def _read_csv(csv: Path) -> pd.DataFrame:
    table = tables.read_csv(csv, CSV_COLUMNS)
    tables.refuse_empty(csv, table, ("filename", "category", "src_file"))
    tables.refuse(csv, table, "fold", ~table["fold"].str.fullmatch(r"\d+"), "a whole number")
    flags = table["esc10"].str.lower()
    tables.refuse(csv, table, "esc10", ~flags.isin(["true", "false"]), "True or False")
    return table.assign(
        fold=table["fold"].astype(int),
        esc10=flags == "true",
        category=table["category"].str.replace("_", " "),
    )


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
    files = tables.audio_files(folder)
    missing = [name for name in names if Path(name).stem not in files]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no file ({', '.join(tables.SUFFIXES)}) for {len(missing)} row(s) of "
            f"meta/esc50.csv: {listing(missing)}"
        )
    return [files[Path(name).stem] for name in names]
