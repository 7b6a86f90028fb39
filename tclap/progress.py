"""How far long work is: a bar where somebody watches, plain log lines in a batch run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TypeVar

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


class progress(Iterator[T]):
    """An iterator over items that shows how far it is.

    ``quiet`` for work too short to show; ``total`` says how many items there are that have no length.
    """

    def __init__(
        self, items: Iterable[T], what: str, *, quiet: bool = False, total: int | None = None
    ) -> None:
        self._bar, self._what = None, what
        if not quiet and is_batch():
            items = _logged(items, what, total)
        elif not quiet:
            from tqdm.auto import tqdm

            items = self._bar = tqdm(items, desc=what, total=total)
        self._items = iter(items)

    def __next__(self) -> T:
        return next(self._items)

    def set_status(self, text: str) -> None:
        """Show a short text beside the bar, where there is one."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def on_step(self, row: Mapping[str, float]) -> None:
        """Give a row of a training's history to the listeners (:func:`step_listener`)."""
        for listener in _listeners:
            listener(self._what, row)


def _logged(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    total = len(items) if isinstance(items, Sized) else total
    started = time.monotonic()
    for done, item in enumerate(items):
        if total and done and done * 4 // total > (done - 1) * 4 // total:
            log.info("%s: %d of %d, %.0f s", what, done, total, time.monotonic() - started)
        yield item
    log.info("%s: done, %.0f s", what, time.monotonic() - started)
