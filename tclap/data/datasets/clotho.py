"""Clotho 2.1: 5929 Freesound recordings of 15 to 30 s with five captions each, in three parts.

Source: https://zenodo.org/records/4783391. Expected under the root: its ``clotho_captions_<part>.csv`` for
the parts development, validation and evaluation, any of them, and anywhere below the root the audio, as the
archives ``clotho_audio_<part>.7z`` (7 GB) unpack or with other suffixes (``audio.SUFFIXES``). Clotho 1's csv
files have the same form.

Licence: the captions are under Tampere University's licence (non-commercial use with attribution), each
recording is under a Creative Commons licence of its own (``clotho_metadata_*.csv``). No audio of Clotho may
be committed or published with this project. Citation: K. Drossos, S. Lipping, T. Virtanen, Clotho: an Audio
Captioning Dataset, ICASSP, pp. 736-740, 2020, doi:10.1109/ICASSP40776.2020.9052990.
"""

from pathlib import Path, PurePath

import pandas as pd

from tclap.data.datasets import tables

SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
CAPTIONS = [f"caption_{number}" for number in range(1, 6)]


def load(root: str | Path | None = None) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`; an id is the file's stem.

    ``root``: the folder; None: the variable ``CLOTHO_ROOT``, else ``clotho`` in the data folder.
    A part without its csv is left out, and so are clips without audio, which are logged. Raises
    FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv.
    """
    return tables.captioned_clips(read_captions(root), tables.locate(root, "clotho"), ["{clip_id}"])


def read_captions(root: str | Path | None = None, part: str | None = None) -> pd.DataFrame:
    """The captions, without audio: ``clip_id, source, part, split, number, caption``, one row per caption.

    ``number`` is "1" to "5". ``part``: one of ``SPLITS``; None: all. ``root`` and errors as :func:`load`.
    """
    csvs = {p: f"clotho_captions_{p}.csv" for p in ([part] if part else SPLITS)}
    rows = tables.read_parts(tables.locate(root, "clotho"), "clotho", csvs, ["file_name", *CAPTIONS])
    ids = [PurePath(name).stem for name in rows["file_name"]]
    rows = rows.assign(clip_id=ids, source=ids, split=rows["part"].map(SPLITS))
    rows = rows.assign(number=[list("12345")] * len(rows), caption=rows[CAPTIONS].to_numpy().tolist())
    rows = rows[["clip_id", "source", "part", "split", "number", "caption"]]
    return rows.explode(["number", "caption"], ignore_index=True)
