"""Progress of long work: a bar where somebody watches, plain log lines in a batch run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("tclap")


def is_batch() -> bool:
    """Whether this is a batch run (the workflow sets ``TCLAP_BATCH=1``)."""
    return os.environ.get("TCLAP_BATCH") == "1"


def set_up(threads: int) -> None:
    """Prepare a notebook's kernel: threads torch computes with, log lines in a batch run, no chatter."""
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if is_batch():
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for noisy in ("papermill", "httpx", "matplotlib"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


def progress(items: Iterable[T], what: str, *, quiet: bool = False) -> Iterator[T]:
    """Iterate over ``items`` and show how far it is; ``quiet`` for work too short to show."""
    if quiet:
        yield from items
    elif is_batch():
        yield from _logged(items, what)
    else:
        from tqdm.auto import tqdm

        yield from tqdm(items, desc=what)


def _logged(items: Iterable[T], what: str) -> Iterator[T]:
    total = len(items) if isinstance(items, Sized) else None
    started = time.monotonic()
    for done, item in enumerate(items):
        if total and done and done * 4 // total > (done - 1) * 4 // total:
            log.info("%s: %d of %d, %.0f s", what, done, total, time.monotonic() - started)
        yield item
    log.info("%s: done, %.0f s", what, time.monotonic() - started)
