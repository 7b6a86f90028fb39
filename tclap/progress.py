"""How far long work is: a bar where somebody watches, plain log lines in a batch run."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")
Listener = Callable[[str, Mapping[str, float]], None]
log, made = logging.getLogger("tclap"), logging.getLogger("tclap.made")
_listeners: list[Listener] = []


def is_batch() -> bool:
    """Whether this is a batch run (the workflow sets ``TCLAP_BATCH=1``)."""
    return os.environ.get("TCLAP_BATCH") == "1"


def log_reused(what: str) -> None:
    """Log that an existing output is reused."""
    made.info("%s: made already", what)


@contextmanager
def step_listener(listener: Listener) -> Iterator[None]:
    """Within the block, ``listener`` gets every row that a training writes to its history, with its name."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class progress(tqdm):
    """A bar of work over a list of items, in a batch run log lines; ``quiet`` for work too short to show."""

    def __init__(self, items: Collection[Any], what: str, *, quiet: bool = False) -> None:
        self.what = what
        shown = _logged(items, what) if is_batch() and not quiet else items
        super().__init__(shown, desc=what, disable=quiet or is_batch())

    def on_step(self, row: Mapping[str, float]) -> None:
        """Give a row of a training's history to the listeners (:func:`step_listener`)."""
        for listener in _listeners:
            listener(self.what, row)


def _logged(items: Collection[T], what: str) -> Iterator[T]:
    started, total = time.monotonic(), len(items)
    for done, item in enumerate(items):
        if done and done * 4 // total > (done - 1) * 4 // total:
            log.info("%s: %d of %d, %.0f s", what, done, total, time.monotonic() - started)
        yield item
    log.info("%s: done, %.0f s", what, time.monotonic() - started)
