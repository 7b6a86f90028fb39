"""Clotho 2.1: 5929 Freesound recordings of 15 to 30 s with five captions each, in three parts.

Expected under the root: ``clotho_captions_<part>.csv`` for the parts development, validation and
evaluation, any of them, and the audio in ``<part>/``, ``audio/<part>/`` or ``clotho_audio_files/<part>/``,
with any suffix of ``tclap.data.datasets.tables.SUFFIXES``. The csv files of Clotho 1 have the same form.

``download=True`` fetches the csv files. The audio is not downloaded: it is published as 7z archives (7 GB,
``clotho_audio_<part>.7z`` at ``URL``), which need another program; unpack them under the root. No audio of
Clotho may be committed or published with this project, since each clip has a licence of its own.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import pandas as pd

from tclap.data.datasets import tables

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
SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
MD5 = {
    "development": "d4090b39ce9f2491908eebf4d5b09bae",
    "validation": "5879e023032b22a2c930aaa0528bead4",
    "evaluation": "1b16b9e57cf7bdb7f13a13802aeb57e2",
}
SOURCES = {part: (f"{URL}/files/clotho_captions_{part}.csv", f"md5:{MD5[part]}") for part in SPLITS}
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
FOLDERS = ("{part}", "audio/{part}", "clotho_audio_files/{part}")


def load(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of a Clotho folder; each clip is its own label.

    ``root``: the folder; None: the environment variable ``CLOTHO_ROOT``, else the folder ``clotho`` in the
    data folder. ``download``: fetch the csv files that are absent. A part without its csv is left out; so are
    clips without audio, which are logged and listed in ``clips.attrs["missing"]``.

    Raises FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv or
    unreadable audio, and with ``download`` the errors of :func:`tclap.data.download.fetch`.
    """
    captions = read_captions(root, download=download)
    return tables.captioned_clips(captions, tables.locate(root, "clotho"), FOLDERS, ("{clip_id}",))


def read_captions(
    root: str | Path | None = None, part: str | None = None, *, download: bool = False
) -> pd.DataFrame:
    """The captions, for which no audio is needed, one row per caption, five per clip.

    Columns: ``clip_id, source, part, split, number, caption``; the number is "1" to "5". ``part``: one of
    ``SPLITS``, None: all. Other arguments and errors as :func:`load`.
    """
    sources = SOURCES if part is None else {part: SOURCES[part]}
    rows = tables.read_parts(root, "clotho", sources, ("file_name", *CAPTIONS), download)
    clip_ids = [PurePath(name).stem for name in rows["file_name"]]
    rows = rows.assign(
        clip_id=clip_ids,
        source=clip_ids,
        split=rows["part"].map(SPLITS),
        number=[["1", "2", "3", "4", "5"]] * len(rows),
        caption=rows[list(CAPTIONS)].to_numpy().tolist(),
    )
    rows = rows[["clip_id", "source", "part", "split", "number", "caption"]]
    return rows.explode(["number", "caption"], ignore_index=True)
