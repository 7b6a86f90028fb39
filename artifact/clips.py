"""What a run's clips tables are by content, and which captioned data sets are there."""

import logging
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from tclap import files
from tclap.data.clips import load_clips
from tclap.data.datasets.synthetic import LABELS

log = logging.getLogger(__name__)


def load_run(dataset: str, root: str | Path | None, options: Mapping[str, Any]) -> pd.DataFrame:
    """A run's clips table; errors as of :func:`tclap.load_clips`.

    Half of the synthetic sounds of all classes are made by a second process: no other step can run without
    them. It ends with its half, also where this one is killed.
    """
    if dataset == "synthetic" and "labels" not in options:
        other = {**options, "labels": LABELS[1::2]}
        process = get_context("spawn").Process(target=load_clips, args=(dataset, root), kwargs=other)
        process.start()
        load_clips(dataset, root, **options, labels=LABELS[::2])
        process.join()
    return load_clips(dataset, root, **options)  # and what the other may have failed to make


def hashed(clips: pd.DataFrame) -> pd.DataFrame:
    """A clips table with the SHA-256 of each audio file."""
    return clips.assign(sha256=[files.sha256_file(path) for path in clips["path"]])


def content_of(clips: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a clips table with hashes of its audio (``sha256``), wherever the files lie."""
    return clips.drop(columns="path").to_dict("records")


def load_captioned(names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The clips tables of those captioned data sets that are there; the log says which are not.

    Raises:
        ValueError: when one is there and broken.
    """
    found = {}
    for name in names:
        try:
            found[name] = load_clips(name)
        except FileNotFoundError as error:
            log.warning("no retrieval on %s: %s", name, error)
    return found
