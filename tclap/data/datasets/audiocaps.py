"""AudioCaps 1.0: captions of 51 308 clips of 10 s from AudioSet, one per training clip, five elsewhere.

Expected under the root: ``train.csv``, ``val.csv`` and ``test.csv``, any of them, and the audio in
``audio/<part>/``, ``<part>/`` or ``audio/``, as ``<youtube_id>_<start_time>``, ``<youtube_id>`` or
``Y<youtube_id>`` with any suffix of ``tclap.data.datasets.tables.SUFFIXES``.

``download=True`` fetches the csv files. The audio is not downloaded: it is cut from YouTube videos, of
which some are withdrawn every year, so that hardly anybody has all clips; report with a result how many
clips there were. No audio of AudioCaps may be committed or published with this project.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables

URL = "https://github.com/cdjkim/audiocaps"
LICENCE = "Captions: free to use for academic purposes only; audio: the terms of each YouTube video"
CITATION = (
    "C. D. Kim, B. Kim, H. Lee, G. Kim. AudioCaps: Generating Captions for Audios in The Wild. "
    "Proceedings of NAACL-HLT, pp. 119-132, 2019. doi:10.18653/v1/N19-1011"
)
SPLITS = {"train": "train", "val": "validation", "test": "test"}
CSV_URL = "https://raw.githubusercontent.com/cdjkim/audiocaps/master/dataset"
# The authors publish no checksums of these files.
SOURCES = {part: (f"{CSV_URL}/{part}.csv", None) for part in SPLITS}
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
FOLDERS = ("audio/{part}", "{part}", "audio")
STEMS = ("{clip_id}", "{source}", "Y{source}")


def load(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of an AudioCaps folder; each clip is its own label.

    ``root``: the folder; None: the environment variable ``AUDIOCAPS_ROOT``, else the folder ``audiocaps`` in
    the data folder. ``download``: fetch the csv files that are absent. A clip's id is
    ``<youtube_id>_<start_time>``, its source the video. A part without its csv is left out; so are clips
    without audio, which are logged and listed in ``clips.attrs["missing"]``.

    Raises FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv or
    unreadable audio, and with ``download`` the errors of :func:`tclap.data.download.fetch`.
    """
    captions = read_captions(root, download=download)
    return tables.captioned_clips(captions, tables.locate(root, "audiocaps"), FOLDERS, STEMS)


def read_captions(
    root: str | Path | None = None, part: str | None = None, *, download: bool = False
) -> pd.DataFrame:
    """The captions, for which no audio is needed, one row per caption.

    Columns: ``clip_id, source, part, split, number, caption``; the number is the csv's ``audiocap_id``.
    ``part``: one of ``SPLITS``, None: all. Other arguments and errors as :func:`load`.
    """
    sources = SOURCES if part is None else {part: SOURCES[part]}
    rows = tables.read_parts(root, "audiocaps", sources, COLUMNS, download)
    return pd.DataFrame(
        {
            "clip_id": rows["youtube_id"] + "_" + rows["start_time"],
            "source": rows["youtube_id"],
            "part": rows["part"],
            "split": rows["part"].map(SPLITS),
            "number": rows["audiocap_id"],
            "caption": rows["caption"],
        }
    )
