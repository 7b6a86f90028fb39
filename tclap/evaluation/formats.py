"""The item format of CompA-order and CompA-attribute: sounds and captions that differ in composition alone.

An item has k sounds and k captions made of the same words (k = 2; some of CompA-order have 3); caption i
belongs to sound i. The benchmark (Ghosh et al., ICLR 2024, arXiv 2310.08753) is a csv with the columns
``pair_file, pair_caption, reversed_pair_file, reversed_pair_caption``, and for a third of both
``triplet_file, triplet_caption``, and a folder of sounds. With s(i, j) the similarity of caption i and
sound j, an item is right, after Winoground (Thrush et al., CVPR 2022), by

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

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tclap.data.clips import listing
from tclap.data.datasets import tables
from tclap.evaluation.benchmark import checked
from tclap.evaluation.retrieval import TIE_TOLERANCE
from tclap.progress import progress

KINDS = ("pair", "reversed_pair", "triplet")
NEEDED = tuple(f"{kind}_{part}" for kind in KINDS[:2] for part in ("file", "caption"))
SCORES = ("text", "audio", "group")
# For independent continuous scores. Group: all k diagonal values are the largest of their row and column;
# by enumeration of the orders of 4 and of 9 scores.
CHANCE = {2: (1 / 4, 1 / 4, 1 / 6), 3: (1 / 27, 1 / 27, 1 / 60)}
BLOCK = 32


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

    Raises:
        ValueError: on another shape or values that are not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 3 or scores.shape[1] != scores.shape[2] or scores.shape[1] < 2:
        raise ValueError(f"scores have shape {scores.shape}; expected [items, k, k] with k of at least 2.")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores of {(~np.isfinite(scores)).any(axis=(1, 2)).sum()} items are not finite.")
    own = np.einsum("nii->ni", scores)
    others = np.where(np.eye(scores.shape[1], dtype=bool), -np.inf, scores)
    return (own - others.max(axis=1)).min(axis=1), (own - others.max(axis=2)).min(axis=1)


def score_items(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each item is right by ``text``, ``audio`` and ``group`` score; arguments as :func:`margins`."""
    text, audio = (margin > TIE_TOLERANCE for margin in margins(scores))
    return {"text": text, "audio": audio, "group": text & audio}


def evaluate(model: Any, items: pd.DataFrame, *, name: str = "model", seed: int = 0) -> pd.DataFrame:
    """Answer the items: tidy rows for :func:`tclap.evaluation.statistics.summarise`, three an item.

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
    files = list(dict.fromkeys(file for item in items["files"] for file in item))
    captions = list(dict.fromkeys(caption for item in items["captions"] for caption in item))
    sounds = _encoded(model.encode_audio, files, "encode_audio")
    words = _encoded(model.encode_text, captions, "encode_text")
    if sounds.shape[1] != words.shape[1]:
        raise ValueError(
            f"encode_audio gave {sounds.shape[1]} dimensions and encode_text {words.shape[1]}; expected one."
        )
    file_rows, caption_rows = ({x: n for n, x in enumerate(known)} for known in (files, captions))
    rows = []
    for item in items.to_dict("records"):
        w = words[[caption_rows[caption] for caption in item["captions"]]]
        s = sounds[[file_rows[file] for file in item["files"]]]
        scores = (w @ s.T).numpy()[None]
        right = score_items(scores)
        text, audio = (float(margin[0]) for margin in margins(scores))
        for score, margin, chance in zip(
            SCORES, (text, audio, min(text, audio)), CHANCE[len(s)], strict=True
        ):
            rows.append(
                {
                    "model": name,
                    "seed": seed,
                    "task": f"compa {score}",
                    "item": item["item"],
                    "source_a": Path(item["files"][0]).name,
                    "source_b": None,
                    "correct": bool(right[score][0]),
                    "tied": abs(margin) <= TIE_TOLERANCE,
                    "margin": margin,
                    "chance": chance,
                }
            )
    return pd.DataFrame(rows)


def _encoded(encode: Any, names: Sequence[str], method: str) -> torch.Tensor:
    blocks = [names[n : n + BLOCK] for n in range(0, len(names), BLOCK)]
    parts = [checked(encode(block), len(block), method) for block in progress(blocks, method, quiet=True)]
    return torch.cat(parts).double()
