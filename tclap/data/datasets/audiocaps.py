"""AudioCaps 1.0: captions of 51 308 clips of 10 s from AudioSet, one a clip to train on, five elsewhere.

Expected under the root: ``train.csv``, ``val.csv`` and ``test.csv``, any of them, and the audio in
``audio/<part>/``, ``<part>/`` or ``audio/``, as ``<youtube_id>_<start_time>``, ``<youtube_id>`` or
``Y<youtube_id>`` with any suffix of ``tclap.data.datasets.tables.SUFFIXES``.

``download=True`` fetches the csv files. The audio is not downloaded: it is cut from YouTube videos, of
which a part is withdrawn every year, so that hardly anybody has all clips; say with a result how many
clips there were. No audio of AudioCaps may be committed or published with this project.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables
from tclap.data.download import fetch

URL = "https://github.com/cdjkim/audiocaps"
# The authors publish no checksums of these files.
CSV_URL = "https://raw.githubusercontent.com/cdjkim/audiocaps/master/dataset"
LICENCE = "Captions: free to use for academic purposes only; audio: the terms of each YouTube video"
CITATION = (
    "C. D. Kim, B. Kim, H. Lee, G. Kim. AudioCaps: Generating Captions for Audios in The Wild. "
    "Proceedings of NAACL-HLT, pp. 119-132, 2019. doi:10.18653/v1/N19-1011"
)
ROOT_VARIABLE = "AUDIOCAPS_ROOT"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
CSV_FILES = {part: f"{part}.csv" for part in SPLITS}
CSV_COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


def load(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The clips table (see ``tclap.data.clips``) of an AudioCaps folder; each clip is its own label.

    ``root``: the folder; None takes the environment variable ``AUDIOCAPS_ROOT``, or where that is not set
    the folder ``audiocaps`` among the downloaded data (``files.data_folder()``). ``download``: fetch the
    csv files that are not there. A clip's id is ``<youtube_id>_<start_time>``, its source the video. The
    parts become the splits "train", "validation" and "test"; a part without its csv is left out. Clips
    without audio are left out, logged, and listed in ``clips.attrs["missing"]``.

    Raises FileNotFoundError where there is no csv or no audio at all, ValueError for a broken csv or
    unreadable audio, and with ``download`` the errors of :func:`tclap.data.download.fetch`.
    """
    folder, rows = _read(root, download)
    searched = {part: [folder / "audio" / part, folder / part, folder / "audio"] for part in SPLITS}
    searched = {part: folders for part, folders in searched.items() if (rows["part"] == part).any()}
    files = {part: tables.audio_files(*folders) for part, folders in searched.items()}
    keys = zip(rows["part"], rows["clip_id"], rows["source"], strict=True)
    found = [
        next((files[part][stem] for stem in (clip_id, video, f"Y{video}") if stem in files[part]), None)
        for part, clip_id, video in keys
    ]
    rows["path"] = pd.Series(found, index=rows.index, dtype=object)
    folders = dict.fromkeys(folder for folders in searched.values() for folder in folders)
    return tables.captioned_clips(rows, "AudioCaps", folders)


def read_captions(root: str | Path | None = None, *, download: bool = False) -> pd.DataFrame:
    """The captions alone, for which no audio is needed: ``clip_id, split, caption``, one row a caption.

    Arguments and errors as :func:`load`.
    """
    return _read(root, download)[1][["clip_id", "split", "caption"]]


def _read(root: str | Path | None, download: bool) -> tuple[Path, pd.DataFrame]:
    folder, said = tables.locate(root, "AudioCaps", variable=ROOT_VARIABLE, default="audiocaps")
    for name in CSV_FILES.values():
        if download and not (folder / name).is_file():
            fetch(f"{CSV_URL}/{name}", folder / name, what=f"AudioCaps {name}")
    hint = f"expected the csv files of {URL}, which download=True fetches"
    parts = tables.read_parts(folder, said, CSV_FILES, CSV_COLUMNS, hint)
    rows = pd.concat([table.assign(part=part) for part, table in parts.items()], ignore_index=True)
    rows = rows.assign(
        clip_id=rows["youtube_id"] + "_" + rows["start_time"],
        source=rows["youtube_id"],
        split=rows["part"].map(SPLITS),
    )
    return folder, rows
