"""TREA, temporal reasoning evaluation of audio (Bhattacharya et al., Interspeech 2025, arXiv 2505.13115).

Questions with four options about sequences of ESC-50's sounds.
https://github.com/iiscleap/Audio-LLM-benchmarking-uncertainty has ``TREA_dataset/{order,count,duration}``,
each with a csv and ``audios/``, and states no licence; ESC-50 is CC BY-NC 3.0.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables
from tclap.evaluation.formats.sounds import with_sounds
from tclap.evaluation.items import NOWHERE, item_of

log = logging.getLogger(__name__)
OPTIONS = tuple("ABCD")


def read_trea(csv: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """Items of one sound and four captions, each the question and an option as they are written.

    Columns: ``id, question, audio_path, optionA … optionD, correct`` (a letter); ``audio_path`` is relative
    to ``audio_folder``, that of the csv. An option is the caption's only event.

    Known leaks: ``order.csv`` writes its correct options as ESC-50's labels (``water_drops``), in lower case,
    and the others with a capital, which is counted and logged; and few of its wrong options sound in the
    recording at all, so that the order-blind baseline answers it.

    Raises:
        ValueError: when the csv lacks a column or has an empty value, or a letter that is no option's.
        FileNotFoundError: when the csv or all sounds are missing.
    """
    csv = Path(csv)
    columns = [f"option{letter}" for letter in OPTIONS]
    table = tables.read_csv(csv, ["id", "question", "audio_path", *columns, "correct"])
    tables.refuse(csv, table, "correct", ~table["correct"].isin(OPTIONS), "a letter from A to D")
    items, told = [], 0
    for row in table.to_dict("records"):
        options, own = [row[column] for column in columns], OPTIONS.index(row["correct"])
        told += [option == option.lower() for option in options] == [n == own for n in range(len(options))]
        items.append(
            item_of(
                f"trea {csv.stem}",
                row["id"],
                [row["audio_path"]],
                [f"{row['question']} {option}" for option in options],
                [0 if n == own else NOWHERE for n in range(len(options))],
                [(option.replace("_", " ").lower(),) for option in options],
            )
        )
    if told:
        log.warning("%s: of %d items the correct option alone is in lower case in %d", csv, len(items), told)
    return with_sounds(items, csv, audio_folder)
