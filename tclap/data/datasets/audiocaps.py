"""AudioCaps 1.0: captions of 51 308 clips of 10 s from AudioSet, one per training clip, five elsewhere.

Source: https://github.com/cdjkim/audiocaps. Expected under the root: its ``train.csv``, ``val.csv`` and
``test.csv``, any of them, and anywhere below the root the audio, named ``<youtube_id>_<start_time>``,
``<youtube_id>`` or ``Y<youtube_id>`` (suffixes: ``audio.SUFFIXES``).

The audio is cut from YouTube videos, of which some are withdrawn every year, so that hardly anybody has all
clips; report with a result how many clips there were. Licence: the captions are free to use for academic
purposes only, the audio is under the terms of each video. No audio of AudioCaps may be committed or published
with this project. Citation: C. D. Kim, B. Kim, H. Lee, G. Kim, AudioCaps: Generating Captions for Audios in
The Wild, Proceedings of NAACL-HLT, pp. 119-132, 2019, doi:10.18653/v1/N19-1011.
"""

from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables

SPLITS = {"train": "train", "val": "validation", "test": "test"}
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
STEMS = ("{clip_id}", "{source}", "Y{source}")


def load(root: str | Path | None = None) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`; an id is ``<youtube_id>_<start_time>``, the source the video.

    ``root``: the folder; None: the variable ``AUDIOCAPS_ROOT``, else ``audiocaps`` in the data folder.
    A part without its csv is left out, and so are clips without audio, which are logged. Raises
    FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv.
    """
    return tables.captioned_clips(read_captions(root), tables.locate(root, "audiocaps"), STEMS)


def read_captions(root: str | Path | None = None, part: str | None = None) -> pd.DataFrame:
    """The captions, without audio: ``clip_id, source, part, split, number, caption``, one row per caption.

    ``number`` is the csv's ``audiocap_id``. ``part``: one of ``SPLITS``; None: all. ``root`` and errors as
    :func:`load`.
    """
    csvs = {p: f"{p}.csv" for p in ([part] if part else SPLITS)}
    rows = tables.read_parts(tables.locate(root, "audiocaps"), "audiocaps", csvs, COLUMNS)
    rows = rows.rename(columns={"youtube_id": "source", "audiocap_id": "number"})
    rows = rows.assign(clip_id=rows["source"] + "_" + rows["start_time"], split=rows["part"].map(SPLITS))
    return rows[["clip_id", "source", "part", "split", "number", "caption"]]
