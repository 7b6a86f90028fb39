"""ESC-50: 2000 environmental recordings of 5 s in 50 classes and 5 folds, 44.1 kHz mono.

Expected under the root, as in the official archive: ``meta/esc50.csv`` and ``audio/*.wav``. Any
subset of the rows works, and a row's file may have another suffix (``audio.SUFFIXES``; the
first releases were Ogg Vorbis). The folds keep the clips of one Freesound recording together.

The data are not part of this project; ``download=True`` fetches the official archive (600 MB). Licence:
CC BY-NC 3.0 (its subset ESC-10: CC BY 3.0), which wants the author of every clip named where it is passed on.
Therefore no audio of ESC-50, nor composites made of it, may be committed or published with this project.
Citation: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, Proceedings of the 23rd ACM
International Conference on Multimedia, pp. 1015-1018, 2015, doi:10.1145/2733373.2806390.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pandas as pd
import pooch

from tclap.arguments import at_least, is_number, rows_of, strings_of
from tclap.data.clips import listing
from tclap.data.datasets import tables
from tclap.progress import is_batch

log = logging.getLogger(__name__)

URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
# As soundata publishes it, for the archive as GitHub packs it.
MD5 = "md5:7771e4b9d86d0945acce719c7a59305a"
MOST_BYTES = 2_000_000_000  # that the archive may unpack to; the official one to 0.9 GB
COLUMNS = ("filename", "fold", "category", "esc10", "src_file")


def load(
    root: str | Path | None = None,
    *,
    classes: str | Sequence[str] = "auto",
    test_fold: int | None = None,
    validation_fold: int | None = None,
    folds: Sequence[int] | None = None,
    split_by: str = "fold",
    per_class: int | None = None,
    download: bool = False,
) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`; the label is the category (underscores as spaces).

    ``root``: the folder; None: the environment variable ``ESC50_ROOT``, else ``esc50`` in the data folder.
    ``classes``: "all", "esc10", "auto" (those that every chosen fold has) or a list of labels.
    ``folds``: the folds to use; None: all that are present. Their splits: ``test_fold`` (None: the highest)
    is "test", ``validation_fold`` (None: the next lower; below the lowest comes the highest) "validation",
    all others are "train".
    ``split_by="source"``: for few clips, whatever their fold. Of each class, its smallest Freesound sources
    first, a quarter of the clips (rounded up) are "test", an eighth (rounded down) "validation", all others
    "train"; a class of one source is left out, with a warning.
    ``per_class``: at most so many clips of each class in each fold, the first ones.
    ``download``: where the folder has no csv, fetch the official archive and unpack it as the folder.

    Raises FileNotFoundError where the csv is missing, ValueError for a broken csv or a choice of folds and
    classes that is not possible; with ``download`` also FileExistsError where the folder has other files,
    ValueError when another archive arrives, OSError when none does.
    """
    csv = find_csv(root, download=download)
    table = _read_csv(csv)
    if split_by not in ("fold", "source"):
        raise ValueError(f"split_by={split_by!r}; expected 'fold' or 'source'")
    if split_by == "source" and (test_fold, validation_fold) != (None, None):
        given = f"test_fold={test_fold}, validation_fold={validation_fold}"
        raise ValueError(f"{given} with split_by='source'; expected neither: no fold is a split then")
    chosen = _chosen_folds(sorted(set(table["fold"])), folds, test_fold, validation_fold)
    table = table[table["fold"].isin(chosen)]
    table = table[table["label"].isin(_choose_classes(table, classes))]
    at_least(1, per_class=per_class)
    if per_class is not None:
        table = table.groupby(["fold", "label"]).head(per_class)
    if split_by == "fold":
        splits = table["fold"].map(_split_of_folds(chosen, test_fold, validation_fold))
    else:
        splits = pd.concat(_split_of_sources(label, of["source"]) for label, of in table.groupby("label"))
        table = table.loc[splits.index.sort_values()]
    folder = csv.parents[1] / "audio"
    files = tables.audio_files(folder)
    stems = [Path(name).stem for name in table["filename"]]
    return table.assign(
        clip_id=stems,
        path=[str(files.get(stem, folder / f"{stem}.wav")) for stem in stems],
        captions=[[label] for label in table["label"]],
        split=splits,
    )


def folds(root: str | Path | None = None, *, download: bool = False) -> list[int]:
    """The folds that are there; arguments and errors as of :func:`load`."""
    return sorted(set(_read_csv(find_csv(root, download=download))["fold"]))


def find_csv(root: str | Path | None, *, download: bool = False) -> Path:
    """The path of the csv, with ``download`` fetched together with the audio; errors as :func:`load`."""
    root = tables.locate(root, "esc50")
    csv = root / "meta" / "esc50.csv"
    if download and not csv.is_file():
        if root.exists() and any(root.iterdir()):
            raise FileExistsError(f"{root} is not empty and has no meta/esc50.csv; expected a new folder")
        downloader = pooch.HTTPDownloader(progressbar=not is_batch())
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root.parent) as folder:
            archive = pooch.retrieve(URL, MD5, "archive.zip", folder, downloader=downloader)
            with ZipFile(archive) as packed:
                if sum(member.file_size for member in packed.infolist()) > MOST_BYTES:
                    raise ValueError(f"{URL} unpacks to more than {MOST_BYTES:,} bytes, expected ESC-50.")
                packed.extractall(folder)  # names that lead out are made harmless, links are not followed
            Path(folder, "ESC-50-master").replace(root)
    if not csv.is_file():
        raise tables.not_found(root, "esc50", "meta/esc50.csv")
    return csv


def _read_csv(csv: Path) -> pd.DataFrame:
    table = tables.read_csv(csv, COLUMNS)
    tables.refuse(csv, table, "fold", ~table["fold"].str.fullmatch("[0-9]{1,9}"), "a whole number")
    table["esc10"] = table["esc10"].str.lower()
    tables.refuse(csv, table, "esc10", ~table["esc10"].isin(["true", "false"]), "True or False")
    return table.assign(
        fold=table["fold"].astype(int),
        esc10=table["esc10"] == "true",
        source=table["src_file"],
        label=table["category"].str.replace("_", " "),
    )


def _chosen_folds(
    present: list[int], folds: Sequence[int] | None, test_fold: int | None, validation_fold: int | None
) -> list[int]:
    chosen = present if folds is None else rows_of(folds, "folds")
    if not chosen:
        raise ValueError(f"folds is empty; expected at least one fold of {listing(present)}")
    held_out = [fold for fold in (test_fold, validation_fold) if fold is not None]
    for wanted, known in ((chosen, present), (held_out, chosen)):
        if unknown := [fold for fold in wanted if not is_number(fold, whole=True) or fold not in known]:
            raise ValueError(
                f"there is no fold {listing(map(repr, unknown))}; expected some of {listing(known)}"
            )
    return sorted(set(chosen))


def _split_of_folds(chosen: list[int], test_fold: int | None, validation_fold: int | None) -> dict[int, str]:
    if test_fold is None:
        test_fold = max((fold for fold in chosen if fold != validation_fold), default=None)
    if validation_fold is None:
        assert test_fold is not None  # some fold is chosen
        # Cyclic, so that over a cross-validation each fold serves once as either.
        others = [fold for fold in chosen if fold != test_fold]
        validation_fold = max([fold for fold in others if fold < test_fold] or others, default=None)
    held_out = {test_fold: "test", validation_fold: "validation"}
    if len(held_out) < 2 or len(set(chosen) - set(held_out)) < 1:
        given = f"folds {listing(chosen)}, test_fold={test_fold}, validation_fold={validation_fold}"
        raise ValueError(f"{given}; expected at least one fold for each of test, validation and training")
    return {fold: held_out.get(fold, "train") for fold in chosen}


def _split_of_sources(label: str, sources: pd.Series) -> pd.Series:
    """The split of each clip of a class, of which ``sources`` names the recordings."""
    counts = sources.value_counts().sort_index().sort_values(kind="stable")
    if len(counts) < 2:
        log.warning("%s: all clips are of one recording; the class is left out", label)
        return pd.Series(dtype=object)
    splits, wanted = {}, {"test": -(-len(sources) // 4), "validation": len(sources) // 8}
    for source, count in counts.items():
        splits[source] = next((split for split, clips in wanted.items() if clips > 0), "train")
        if splits[source] in wanted:
            wanted[splits[source]] -= count
    return sources.map(splits)


def _choose_classes(table: pd.DataFrame, classes: str | Sequence[str]) -> set[str]:
    present = set(table["label"])
    if not isinstance(classes, str):
        wanted = {label.replace("_", " ") for label in strings_of(classes, "classes")}
        if not wanted <= present:
            raise ValueError(f"the chosen folds have no class {listing(sorted(wanted - present))}")
        return wanted
    if classes not in ("all", "esc10", "auto"):
        raise ValueError(f"classes={classes!r}; expected 'all', 'esc10', 'auto' or a list of labels")
    if classes == "auto":
        return set.intersection(*(set(labels) for _, labels in table.groupby("fold")["label"]))
    return present if classes == "all" else set(table.loc[table["esc10"], "label"])
