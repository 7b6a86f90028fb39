"""Clotho 2.1: 5929 Freesound recordings of 15 to 30 s with five captions each, in three parts.

Source: https://zenodo.org/records/4783391. Expected under the root: ``clotho_captions_<part>.csv`` for the
parts development, validation and evaluation, any of them, and the audio in ``<part>/``, ``audio/<part>/``
or ``clotho_audio_files/<part>/`` (suffixes: ``tables.SUFFIXES``). Clotho 1's csv files have the same form.

``download=True`` fetches the csv files. The audio is not downloaded: it is published there as 7z archives
(7 GB, ``clotho_audio_<part>.7z``), which need another program; unpack them under the root. Licence: the
captions are under Tampere University's licence (non-commercial use with attribution), each recording is
under a Creative Commons licence of its own (``clotho_metadata_*.csv``). No audio of Clotho may be committed
or published with this project. Citation: K. Drossos, S. Lipping, T. Virtanen, Clotho: an Audio Captioning
Dataset, ICASSP, pp. 736-740, 2020, doi:10.1109/ICASSP40776.2020.9052990.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import pandas as pd

from tclap.data.datasets import tables

SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
MD5 = {
    "development": "d4090b39ce9f2491908eebf4d5b09bae",
    "validation": "5879e023032b22a2c930aaa0528bead4",
    "evaluation": "1b16b9e57cf7bdb7f13a13802aeb57e2",
}
URL = "https://zenodo.org/records/4783391/files"
SOURCES = {part: (f"{URL}/clotho_captions_{part}.csv", f"md5:{md5}") for part, md5 in MD5.items()}
CAPTIONS = [f"caption_{number}" for number in range(1, 6)]
FOLDERS = ("{part}", "audio/{part}", "clotho_audio_files/{part}")


def load(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`; an id is the file's stem.

    ``root``: the folder; None: the variable ``CLOTHO_ROOT``, else ``clotho`` in the data folder.
    ``download``: fetch the csv files that are absent. A part without its csv is left out, and so are clips
    without audio, which are logged. Raises FileNotFoundError where there is no csv or no audio at all,
    ValueError for a broken csv, and with ``download`` the errors of :func:`tclap.data.download.fetch`.
    """
    captions = read_captions(root, download=download)
    return tables.captioned_clips(captions, tables.locate(root, "clotho"), FOLDERS, ["{clip_id}"])


def read_captions(
    root: str | Path | None = None, part: str | None = None, *, download: bool = False
) -> pd.DataFrame:
    """The captions, without audio: ``clip_id, source, part, split, number, caption``, one row per caption.

    ``number`` is "1" to "5". ``part``: one of ``SPLITS``; None: all. Other arguments and errors as
    :func:`load`.
    """
    sources = SOURCES if part is None else {part: SOURCES[part]}
    rows = tables.read_parts(
        tables.locate(root, "clotho"), "clotho", sources, ["file_name", *CAPTIONS], download
    )
    ids = [PurePath(name).stem for name in rows["file_name"]]
    rows = rows.assign(clip_id=ids, source=ids, split=rows["part"].map(SPLITS))
    rows = rows.assign(number=[list("12345")] * len(rows), caption=rows[CAPTIONS].to_numpy().tolist())
    rows = rows[["clip_id", "source", "part", "split", "number", "caption"]]
    return rows.explode(["number", "caption"], ignore_index=True)
