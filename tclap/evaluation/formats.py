"""The item format of CompA-order and CompA-attribute: sounds and captions that differ in composition alone.

An item has k sounds and k captions made of the same words (k = 2; some of CompA-order have 3); caption i
belongs to sound i. The benchmark (Ghosh et al., ICLR 2024, arXiv 2310.08753) is a csv with the columns
``pair_file, pair_caption, reversed_pair_file, reversed_pair_caption``, for a third of both ``triplet_file,
triplet_caption``, and a folder of sounds. With s(i, j) the similarity of caption i and sound j, an item is
correct, after Winoground (Thrush et al., CVPR 2022), by

==========  ============================================================  ============
score       every ...                                                     chance, k = 2
==========  ============================================================  ============
``text``    sound prefers its own caption: s(j, j) > s(i, j) for i ≠ j    1 / 4
``audio``   caption prefers its own sound: s(i, i) > s(i, j) for j ≠ i    1 / 4
``group``   both                                                          1 / 6
==========  ============================================================  ============

Ties count against the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tclap.data.clips import listing
from tclap.data.datasets import tables
from tclap.evaluation.embeddings import ModelEmbeddings
from tclap.evaluation.tasks import TIE_TOLERANCE

KINDS = ("pair", "reversed_pair", "triplet")
NEEDED = tuple(f"{kind}_{part}" for kind in KINDS[:2] for part in ("file", "caption"))
SCORES = ("text", "audio", "group")
# For independent continuous scores. Group: all k diagonal values are the largest of their row and column;
# by enumeration of the orders of 4 and of 9 scores.
CHANCE = {2: (1 / 4, 1 / 4, 1 / 6), 3: (1 / 27, 1 / 27, 1 / 60)}


def read_items(csv: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """The benchmark's items, ``item, files, captions``, the last two lists of k.

    Raises:
        ValueError: when the csv lacks a column or has an empty value, or a third sound without a caption.
        FileNotFoundError: when the csv or sounds are missing.
    """
    csv, folder = Path(csv), Path(audio_folder)
    if not csv.is_file():
        raise FileNotFoundError(f"{csv} does not exist; expected the csv of CompA-order or CompA-attribute.")
    table = tables.read_csv(csv, NEEDED)
    third = [f"{KINDS[2]}_{part}" for part in ("file", "caption")]
    table = table.assign(**{column: "" for column in third if column not in table})
    tables.refuse(
        csv, table, third[1], (table[third[0]] == "") != (table[third[1]] == ""), "a caption iff a file"
    )
    items = []
    for number, row in enumerate(table.to_dict("records")):
        kinds = [kind for kind in KINDS if row[f"{kind}_file"]]
        files = [str(folder / row[f"{kind}_file"]) for kind in kinds]
        items.append(
            {"item": f"{number}", "files": files, "captions": [row[f"{kind}_caption"] for kind in kinds]}
        )
    missing = sorted({file for item in items for file in item["files"] if not Path(file).is_file()})
    if missing:
        raise FileNotFoundError(f"{csv} names sounds that are not there: {listing(missing)}.")
    return pd.DataFrame(items)


def margins(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much the smallest needed preference holds: of sounds (text score) and of captions, ``[n]`` each.

    ``scores [n, k, k]``: first axis the item, second the caption, third the sound.
    """
    own = np.einsum("nii->ni", scores)
    others = np.where(np.eye(scores.shape[1], dtype=bool), -np.inf, scores)
    return (own - others.max(axis=1)).min(axis=1), (own - others.max(axis=2)).min(axis=1)


def evaluate(model: Any, items: pd.DataFrame, *, name: str = "model", seed: int = 0) -> pd.DataFrame:
    """Answer the items: tidy rows for :func:`tclap.evaluation.statistics.summarise`, three per item.

    Args:
        model: with ``encode_audio(list of file paths)`` and ``encode_text(list of captions)``, as
            :class:`~tclap.models.base.AudioTextModel`; each distinct file and caption is encoded once.
        items: from :func:`read_items`.
        name, seed: of the rows.

    Raises:
        ValueError: on no items, or embeddings of a wrong shape or that are not finite.
    """
    if items.empty:
        raise ValueError("there are no items; expected at least one.")
    embeddings = ModelEmbeddings(model, list(items["files"].explode().unique()), str)
    embeddings.add_captions(items["captions"].explode())
    rows = []
    for item in items.to_dict("records"):
        words, sounds = embeddings.captions(item["captions"]), embeddings.sounds(item["files"])
        text, audio = (float(m[0]) for m in margins((words.double() @ sounds.double().T).numpy()[None]))
        found = zip(SCORES, (text, audio, min(text, audio)), CHANCE[len(sounds)], strict=True)
        rows += [
            {
                "model": name,
                "seed": seed,
                "task": f"compa {score}",
                "item": item["item"],
                "source_a": Path(item["files"][0]).name,
                "source_b": None,
                "correct": margin > TIE_TOLERANCE,
                "tied": abs(margin) <= TIE_TOLERANCE,
                "margin": margin,
                "chance": chance,
            }
            for score, margin, chance in found
        ]
    return pd.DataFrame(rows)
