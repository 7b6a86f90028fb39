"""The questions of the temporal benchmark as files, so that two papers' numbers compare.

Which clips make a composite, how it is ordered, and the candidates of every question are drawn from the seed
and the clips table alone: the same table, number of pairs and seed give the same questions on any machine and
for any model. :func:`fingerprint` names them; :func:`write` lays them down with metadata in MLCommons'
Croissant 1.0 format. No audio is in the files: the clips are the data set's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tclap import files

# The version of what is asked; it changes when the same clips, pairs and seed give other questions.
VERSION, PUBLISHED = "tclap-zste-1", "2026-11-30"
PAIR_COLUMNS = ("pair_id", "clip_i", "clip_j", "label_i", "label_j", "source_i", "source_j", "sigma", "order")
ITEM_COLUMNS = ("task", "item", "audio", "candidates", "answers", "chance")
DESCRIPTIONS = {
    "pair_id": "Name of the pair.",
    "clip_i": "Clip that sounds first in the forward view.",
    "clip_j": "Clip that sounds second in the forward view.",
    "label_i": "What captions call the first clip.",
    "label_j": "What captions call the second clip.",
    "source_i": "Recording from which the first clip was cut.",
    "source_j": "Recording from which the second clip was cut.",
    "sigma": "Wording of the order in training captions: preceding or succeeding.",
    "order": "View of the pair that questions about order are asked of: forward or reversed.",
    "task": "Name of the task.",
    "item": "Pair or clip that is asked about; with the task it names the question.",
    "audio": "The clip, or the pair and its view.",
    "candidates": "Captions to choose from.",
    "answers": "Places of the correct captions among the candidates, from 0.",
    "chance": "Probability that a random choice is correct.",
}
TYPES = {"answers": "sc:Integer", "chance": "sc:Float"}
LISTS = ("candidates", "answers")


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
    about = _croissant(contents, fingerprint(pairs, items), name, seed)
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


def _croissant(contents: dict[str, str], version: str, name: str, seed: int) -> dict:
    columns = {"pairs.csv": PAIR_COLUMNS, "items.jsonl": ITEM_COLUMNS}
    formats = {"pairs.csv": "text/csv", "items.jsonl": "application/jsonlines"}
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "citeAs": "cr:citeAs",
            "column": "cr:column",
            "conformsTo": "dct:conformsTo",
            "cr": "http://mlcommons.org/croissant/",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "dct": "http://purl.org/dc/terms/",
            "extract": "cr:extract",
            "field": "cr:field",
            "fileObject": "cr:fileObject",
            "recordSet": "cr:recordSet",
            "repeated": "cr:repeated",
            "sc": "https://schema.org/",
            "source": "cr:source",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"{VERSION} {name}",
        "description": f"Questions about the order of two sounds, drawn from seed {seed}; {version}.",
        "version": "1.0.0",
        "datePublished": PUBLISHED,
        "citeAs": "T-CLAP: temporal zero-shot evaluation, item set " + VERSION,
        "license": "https://spdx.org/licenses/MIT.html",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,
                "encodingFormat": formats[file],
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
            for file, text in contents.items()
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": Path(file).stem, "name": Path(file).stem}
            | {"field": [_field(file, column) for column in columns[file]]}
            for file in contents
        ],
    }


def _field(file: str, column: str) -> dict:
    return {
        "@type": "cr:Field",
        "@id": f"{Path(file).stem}/{column}",
        "name": column,
        "description": DESCRIPTIONS[column],
        "dataType": TYPES.get(column, "sc:Text"),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
    } | ({"repeated": True} if column in LISTS else {})
