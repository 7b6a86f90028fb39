"""Clotho 2.1: 5929 Freesound recordings of 15 to 30 s with five captions each, in three parts.

Expected under the root: ``clotho_captions_<part>.csv`` for the parts development, validation and
evaluation, any of them, and the audio in ``<part>/``, ``audio/<part>/`` or ``clotho_audio_files/<part>/``,
under any suffix of ``tclap.data.datasets.tables.SUFFIXES``. The csv files of Clotho 1 have the same form.

``download=True`` fetches the csv files. The audio is not downloaded: it is published as 7z archives
(7 GB, ``clotho_audio_<part>.7z`` at ``URL``) which Python's standard library cannot unpack; unpack them
under the root. No audio of Clotho may be committed or published with this project, since each clip has
a licence of its own.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables
from tclap.data.download import fetch

URL = "https://zenodo.org/records/4783391"
LICENCE = (
    "Captions: Tampere University licence, non-commercial use with attribution; audio: the Creative "
    "Commons licence of each Freesound clip (clotho_metadata_*.csv)"
)
CITATION = (
    "K. Drossos, S. Lipping, T. Virtanen. Clotho: an Audio Captioning Dataset. IEEE International "
    "Conference on Acoustics, Speech and Signal Processing (ICASSP), pp. 736-740, 2020. "
    "doi:10.1109/ICASSP40776.2020.9052990"
)
ROOT_VARIABLE = "CLOTHO_ROOT"
SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
CSV_FILES = {part: f"clotho_captions_{part}.csv" for part in SPLITS}
CSV_MD5 = {
    "development": "d4090b39ce9f2491908eebf4d5b09bae",
    "validation": "5879e023032b22a2c930aaa0528bead4",
    "evaluation": "1b16b9e57cf7bdb7f13a13802aeb57e2",
}
CAPTION_COLUMNS = [f"caption_{number}" for number in range(1, 6)]
AUDIO_FOLDERS = ("", "audio", "clotho_audio_files")


def load(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of a Clotho folder; each clip is its own label.

    ``root``: the folder; None takes the environment variable ``CLOTHO_ROOT``, or where that is not set
    the folder ``clotho`` among the downloaded data (:func:`tclap.files.data_folder`). ``download``: fetch csv
    files that are not there. The parts become the splits "train", "validation" and "test"; a part
    without its csv is left out. Clips without audio are left out, logged, and listed in
    ``clips.attrs["missing"]``.

    Raises FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv or
    unreadable audio, and with ``download`` the errors of :func:`tclap.data.download.fetch`.
    """
    folder, rows = _read(root, download)
    searched = {part: [folder / name / part for name in AUDIO_FOLDERS] for part in rows["part"].unique()}
    files = {part: tables.audio_files(*folders) for part, folders in searched.items()}
    keys = zip(rows["part"], rows["clip_id"], strict=True)
    rows["path"] = pd.Series([files[part].get(stem) for part, stem in keys], index=rows.index, dtype=object)
    return tables.captioned_clips(rows, "Clotho", [f for folders in searched.values() for f in folders])


def read_captions(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The captions alone, for which no audio is needed: ``clip_id, split, caption``, one row a caption.

    Arguments and errors as :func:`load`.
    """
    return _read(root, download)[1][["clip_id", "split", "caption"]]


def _read(root: str | Path | None, download: bool) -> tuple[Path, pd.DataFrame]:
    folder, said = tables.locate(root, "Clotho", variable=ROOT_VARIABLE, default="clotho")
    for part, name in CSV_FILES.items():
        if download and not (folder / name).is_file():
            fetch(f"{URL}/files/{name}", folder / name, md5=CSV_MD5[part], what=name)
    hint = f"expected the csv files of {URL}, which download=True fetches"
    parts = tables.read_parts(folder, said, CSV_FILES, ("file_name", *CAPTION_COLUMNS), hint)
    for part, table in parts.items():
        csv = folder / CSV_FILES[part]
        tables.refuse(csv, table, "file_name", table["file_name"].duplicated(), "each file once")
    return folder, pd.concat([_by_caption(part, table) for part, table in parts.items()], ignore_index=True)


def _by_caption(part: str, table: pd.DataFrame) -> pd.DataFrame:
    clip_ids = table["file_name"].map(lambda name: Path(name).stem)
    return pd.DataFrame(
        {
            "clip_id": clip_ids.repeat(len(CAPTION_COLUMNS)),
            "source": clip_ids.repeat(len(CAPTION_COLUMNS)),
            "part": part,
            "split": SPLITS[part],
            "caption": table[CAPTION_COLUMNS].to_numpy().ravel(),
        }
    )
