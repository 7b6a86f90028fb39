"""The captions of "Dissecting temporal understanding in text-to-audio retrieval" (Oncescu et al., 2024).

Captions with a temporal word, of AudioCaps, Clotho and the authors' SynCaps (pairs of ESC-50's sounds), and
the same with their events in the other order or with the opposite temporal word (ACM Multimedia 2024, arXiv
2409.00851). https://github.com/oncescuandreea/DTU_text_audio, ``retrieval/data/*/json_files``, CC BY-NC 4.0;
the sounds come with AudioCaps, Clotho and ESC-50.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

import pandas as pd

from tclap.evaluation.formats.sounds import json_of, json_table, with_sounds
from tclap.evaluation.items import NOWHERE, item_of

log = logging.getLogger(__name__)
CLOTHO = "_5captions"  # ends the names of Clotho's files
# How the names of the changed captions' files end; SynCaps writes "replaced".
CHANGES = {"reversed": ("_reverse",), "replaced": ("_replace", "_replaced")}


def read_dissecting(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """Items of one sound: its caption against the same reversed, and against the same with its word replaced.

    ``file`` has the captions as they are, such as ``test_audioset_5_future_past.json``; those beside it whose
    names add ``_reverse``, ``_replace`` or ``_replaced`` have the changed ones in the same order. A file is
    ``{"num_captions_per_audio": 5, "data": [{"audio", "caption_1" … "caption_5"}]}``, or of one ``caption``;
    of ``audio`` the file's name counts. A caption that did not change is no item, which is logged: of
    AudioCaps' 2,960 there are 1,563 reversed and 1,566 replaced.

    Raises:
        ValueError: when a file is none of this layout, or the files' sounds differ.
        FileNotFoundError: when a file, both changes, or all sounds are missing.
    """
    file, items = Path(file), []
    stem = file.stem.removesuffix(CLOTHO)
    rest = file.stem.removeprefix(stem) + file.suffix
    captions = _captions(file)
    for change, endings in CHANGES.items():
        paths = [path for ending in endings if (path := file.with_name(stem + ending + rest)).is_file()]
        if not paths:
            continue
        changed = _captions(paths[0])
        if changed["sound"].tolist() != captions["sound"].tolist():
            raise ValueError(f"{paths[0]} has other sounds than {file}, expected the same in the same order.")
        differ = (captions["caption"] != changed["caption"]).to_numpy()
        log.warning(
            "%s: %d of %d captions differ, the others are no items", paths[0], differ.sum(), len(differ)
        )
        both = zip(captions["sound"], captions["caption"], changed["caption"], strict=True)
        items += [
            item_of(f"dissecting {change}", f"{n}", [sound], [own, other], [0, NOWHERE])
            for n, (sound, own, other) in enumerate(both)
            if differ[n]
        ]
    if not items:
        raise FileNotFoundError(f"{file} has no changed captions beside it, expected {stem}_reverse{rest}.")
    return with_sounds(items, file, audio_folder)


def _captions(file: Path) -> pd.DataFrame:
    """``sound, caption``, a row each."""
    content = json_of(file)
    if not isinstance(content, dict) or not {"num_captions_per_audio", "data"} <= content.keys():
        raise ValueError(f"{file} has no num_captions_per_audio and data, expected both.")
    count = content["num_captions_per_audio"]
    columns = ["caption"] if count == 1 else [f"caption_{n}" for n in range(1, count + 1)]
    table = json_table(file, content["data"], ["audio", *columns])
    names = table["audio"].map(lambda path: PurePosixPath(path).name)
    captions = table[columns].apply(lambda column: column.str.strip())
    return pd.DataFrame({"sound": names.repeat(len(columns)), "caption": captions.to_numpy().ravel()})
