"""CompA-order and CompA-attribute (Ghosh et al., ICLR 2024, arXiv 2310.08753).

Sounds and captions of the same words that differ in composition: order, or which attribute belongs to what.
The repository https://github.com/Sreyan88/CompA links ``CompA_order_benchmark.csv`` and
``Compa-Attribute.csv``, each with a folder of sounds, many of them from AudioSet, and states no licence.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tclap.data.datasets import tables
from tclap.evaluation.formats.sounds import with_sounds
from tclap.evaluation.items import item_of

KINDS = ("pair", "reversed_pair", "triplet")
NONE = ("", "-")  # what stands for no triplet


def read_compa(csv: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """The items of either csv: two sounds and two captions, in a third of CompA-order three of both.

    Columns: ``pair_file, pair_caption, reversed_pair_file, reversed_pair_caption``, for CompA-order
    ``triplet_file, triplet_caption``, which are "-" where there are but two. CompA-attribute names the files
    of its folder in ``pair_file.1`` and ``reversed_pair_file.1``; those without ".1" are AudioSet's.

    Raises:
        ValueError: when the csv lacks a column or has an empty value, or a third sound without a caption.
        FileNotFoundError: when the csv or all sounds are missing.
    """
    csv = Path(csv)
    table = tables.read_csv(csv, [f"{kind}_caption" for kind in KINDS[:2]])
    is_order = "triplet_file" in table
    for kind in KINDS:
        table[f"{kind}_file"] = table.get(f"{kind}_file.1", table.get(f"{kind}_file", ""))
    table["triplet_caption"] = table.get("triplet_caption", "")
    for kind in KINDS[:2]:
        tables.refuse(csv, table, f"{kind}_file", table[f"{kind}_file"].isin(NONE), "a file")
    alone = table["triplet_file"].isin(NONE) != table["triplet_caption"].isin(NONE)
    tables.refuse(csv, table, "triplet_caption", alone, "a caption iff a file")
    items = []
    for number, row in enumerate(table.to_dict("records")):
        kinds = [kind for kind in KINDS if row[f"{kind}_file"] not in NONE]
        sounds, captions = ([row[f"{kind}_{part}"] for kind in kinds] for part in ("file", "caption"))
        task = "compa order" if is_order else "compa attribute"
        items.append(item_of(task, f"{number}", sounds, captions, list(range(len(kinds)))))
    return with_sounds(items, csv, audio_folder)
