"""ESC-50: 2000 environmental recordings of 5 s in 50 classes and 5 folds, 44.1 kHz mono.

Expected under the root, as in the official archive: ``meta/esc50.csv`` and ``audio/*.wav``. Any
subset of the rows works, and a row's file may have another suffix (``tables.SUFFIXES``; the
first releases were Ogg Vorbis). The folds keep the clips of one Freesound recording together.

The data are not part of this project; ``load(download=True)`` fetches the official archive (600 MB).
Licence: CC BY-NC 3.0 (its subset ESC-10: CC BY 3.0), which wants the author of every clip named where it is
passed on. Therefore no audio of ESC-50, nor composites made of it, may be committed or published with this
project. Citation: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, Proceedings of the 23rd
ACM International Conference on Multimedia, pp. 1015-1018, 2015, doi:10.1145/2733373.2806390.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tclap.data.clips import COLUMNS, listing
from tclap.data.datasets import tables
from tclap.data.download import fetch, unpack

URL = "https://github.com/karolpiczak/ESC-50"
# As soundata publishes it, for the archive as GitHub packs it.
MD5 = "md5:7771e4b9d86d0945acce719c7a59305a"
CSV_COLUMNS = ("filename", "fold", "category", "esc10", "src_file")


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

    ``root``: the folder; None: the environment variable ``ESC50_ROOT``, else the folder ``esc50`` in the data
    folder (``tclap.files.data_folder()``).
    ``folds``: the folds to use; None: all that are present.
    ``classes``: "all", "esc10", "auto" (those that every chosen fold has) or a list of labels.
    ``test_fold``: None: the highest chosen fold; ``validation_fold``: None: the next lower one (below the
    lowest comes the highest). All other chosen folds get the split "train".
    ``per_class``: at most so many clips of each class in each fold, the first ones.
    ``download``: where the folder has no csv, fetch the official archive and unpack it as the folder.

    Raises FileNotFoundError where the csv or the file of a row is missing, ValueError for a broken csv, an
    unreadable file, or a choice of folds and classes that is not possible; with ``download`` also
    FileExistsError where the folder has other files, and the errors of :func:`tclap.data.download.fetch`.
    """
    csv = find_csv(root, download=download)
    table = _read_csv(csv)
    splits = _split_of_folds(sorted(set(table["fold"])), folds, test_fold, validation_fold)
    table = table[table["fold"].isin(splits)]
    table = table[table["category"].isin(_choose_classes(table, classes))]
    if per_class is not None:
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}, expected at least 1")
        table = table.groupby(["fold", "category"]).head(per_class)
    folder = csv.parents[1] / "audio"
    files = tables.audio_files(folder)
    stems = [Path(name).stem for name in table["filename"]]
    if missing := [stem for stem in stems if stem not in files]:
        raise FileNotFoundError(f"{folder} has no audio file for {len(missing)} row(s): {listing(missing)}")
    paths = [str(files[stem]) for stem in stems]
    clips = table.rename(columns={"category": "label", "src_file": "source"}).assign(
        clip_id=stems,
        path=paths,
        captions=[[label] for label in table["category"]],
        split=table["fold"].map(splits),
        duration=tables.durations(paths, "ESC-50"),
    )
    return clips[list(COLUMNS)].reset_index(drop=True)


def find_csv(root: str | Path | None, *, download: bool = False) -> Path:
    """The path of the csv, downloaded with the rest where asked for; arguments and errors as :func:`load`."""
    root = tables.locate(root, "esc50")
    csv = root / "meta" / "esc50.csv"
    if download and not csv.is_file():
        if root.exists() and any(root.iterdir()):
            raise FileExistsError(f"{root} is not empty and has no meta/esc50.csv; expected a new folder")
        archive = fetch(f"{URL}/archive/master.zip", f"{root.resolve()}.download.zip", MD5)
        unpack(archive, root, inner="ESC-50-master")
        archive.unlink()
    if not csv.is_file():
        raise tables.not_found(root, "esc50", "meta/esc50.csv", URL)
    return csv


def _read_csv(csv: Path) -> pd.DataFrame:
    table = tables.read_csv(csv, CSV_COLUMNS)
    tables.refuse(csv, table, "fold", ~table["fold"].str.fullmatch(r"\d+"), "a whole number")
    flags = table["esc10"].str.lower()
    tables.refuse(csv, table, "esc10", ~flags.isin(["true", "false"]), "True or False")
    labels = table["category"].str.replace("_", " ")
    return table.assign(fold=table["fold"].astype(int), esc10=flags == "true", category=labels)


def _split_of_folds(
    present: list[int], folds: Sequence[int] | None, test_fold: int | None, validation_fold: int | None
) -> dict[int, str]:
    """The split of each chosen fold."""
    chosen = present if folds is None else sorted(set(folds))
    for wanted, known in ((chosen, present), ({test_fold, validation_fold} - {None}, chosen)):
        if unknown := sorted(set(wanted) - set(known)):
            raise ValueError(f"there is no fold {listing(unknown)}; expected some of {listing(known)}")
    if test_fold is None:
        test_fold = max((fold for fold in chosen if fold != validation_fold), default=None)
    if validation_fold is None:
        # Cyclic, so that over a cross-validation each fold serves once as either.
        others = [fold for fold in chosen if fold != test_fold]
        lower = [fold for fold in others if fold < test_fold]
        validation_fold = max(lower or others, default=None)
    if set(chosen) <= {test_fold, validation_fold} or test_fold == validation_fold:
        raise ValueError(
            f"folds {listing(chosen)} with test_fold={test_fold} and validation_fold={validation_fold}; "
            "expected at least one fold for each of test, validation and training"
        )
    held_out = {test_fold: "test", validation_fold: "validation"}
    return {fold: held_out.get(fold, "train") for fold in chosen}


def _choose_classes(table: pd.DataFrame, classes: str | Sequence[str]) -> set[str]:
    present = set(table["category"])
    if isinstance(classes, str):
        if classes == "all":
            return present
        if classes == "esc10":
            return set(table.loc[table["esc10"], "category"])
        if classes == "auto":
            return set.intersection(*(set(rows) for _, rows in table.groupby("fold")["category"]))
        raise ValueError(f"classes={classes!r}; expected 'all', 'esc10', 'auto' or a list of labels")
    wanted = {label.replace("_", " ") for label in classes}
    if not wanted <= present:
        raise ValueError(f"the chosen folds have no class {listing(sorted(wanted - present))}")
    return wanted
