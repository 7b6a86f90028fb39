"""The questions of the temporal benchmark as files, so that two papers' numbers compare.

Which clips make a composite, how it is ordered, and the candidates of every question are drawn from the seed
and the clips table alone: the same table, number of pairs and seed give the same questions on any machine and
for any model. :func:`fingerprint` names them; :func:`write` lays them down with metadata in MLCommons'
Croissant 1.0 format. No audio is in the files: the clips are the data set's.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from tclap import files

# The version of what is asked; it changes when the same clips, pairs and seed give other questions.
VERSION = "tclap-zste-1"
METADATA = Path(__file__).with_name("croissant.yaml")
PAIR_COLUMNS = ("pair_id", "clip_i", "clip_j", "label_i", "label_j", "source_i", "source_j", "sigma", "order")
ITEM_COLUMNS = ("task", "item", "audio", "candidates", "answers", "chance")


def fingerprint(pairs: pd.DataFrame, items: pd.DataFrame) -> str:
    """Version and a hash of the questions, such as ``tclap-zste-1:3f0c9a5be2d1``."""
    digest = hashlib.sha256(_csv(pairs).encode())
    for line in _lines(items):
        digest.update(line.encode())
    return f"{VERSION}:{digest.hexdigest()[:12]}"


def write(folder: str | Path, pairs: pd.DataFrame, items: pd.DataFrame, *, name: str, seed: int) -> None:
    """Write ``pairs.csv``, ``items.jsonl`` and ``croissant.json`` into a folder.

    Args:
        folder: is made; files of these names in it are replaced.
        pairs: from :func:`tclap.data.composites.draw_pairs`.
        items: from :func:`tclap.evaluation.tasks.build_items`.
        name: of the set, such as the data set's and its fold.
        seed: that pairs and candidates were drawn from.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"pairs.csv": _csv(pairs), "items.jsonl": "".join(_lines(items))}
    about = yaml.safe_load(METADATA.read_text(encoding="utf-8"))
    drawn = f"Questions about the order of two sounds, drawn from seed {seed}; {fingerprint(pairs, items)}."
    about |= {"name": f"{VERSION} {name}", "description": drawn}
    for file in about["distribution"]:
        file["sha256"] = hashlib.sha256(contents[file["name"]].encode()).hexdigest()
    for file, text in (contents | {"croissant.json": json.dumps(about, indent=2) + "\n"}).items():
        with files.replacing(folder / file) as aside:
            aside.write_text(text, encoding="utf-8")


def _csv(pairs: pd.DataFrame) -> str:
    return pairs[list(PAIR_COLUMNS)].to_csv(index=False, lineterminator="\n")


def _lines(items: pd.DataFrame) -> Iterator[str]:
    """One JSON object per question; numpy's integers as plain ones."""
    for values in zip(*(items[column] for column in ITEM_COLUMNS), strict=True):
        row = dict(zip(ITEM_COLUMNS, values, strict=True))
        yield json.dumps(row | {"answers": [int(k) for k in row["answers"]]}) + "\n"
