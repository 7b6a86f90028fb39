"""Curves of a training while it runs, in one place of a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from artifact.notebook.sounds import png
from figures.marks import CHANCE
from figures.style import MODELS, TEXT, styled
from tclap.progress import is_batch, step_listener

SMOOTH = 10  # steps whose losses are averaged
PANELS = {
    "loss": {"loss": "-"},
    "validation (%)": {"validation_two_way": "-", "validation_accuracy": ":"},
    "cosine(forward, reversed)": {"cosine_audio": "-", "cosine_text": "--"},
}
OTHERS = ("#777777", "#AA3377", "#228833", "#66CCEE")  # of trainings that are no model's
WIDTH = 840  # pixels


def figure_training(rows: pd.DataFrame) -> Figure:
    """Loss and validation facts of trainings by step.

    ``rows``: ``what`` (a name of :data:`figures.style.MODELS`, or another), ``step``, ``loss`` and
    what there is of the columns of :data:`PANELS`. Solid: audio; dashed: text; dotted: captions alone.
    """
    with styled():
        panels = {
            title: {
                column: line
                for column, line in lines.items()
                if column in rows and rows[column].notna().any()
            }
            for title, lines in PANELS.items()
        }
        panels = {title: lines for title, lines in panels.items() if lines}
        figure = Figure(figsize=(TEXT, 2.1))
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        others = cycle(OTHERS)
        for what, part in rows.groupby("what", sort=False):
            known = MODELS.get(what)
            colour, label = (known.colour, known.label) if known else (next(others), what)
            for axes, lines in zip(grid, panels.values(), strict=True):
                for column, line in lines.items():
                    values = part.dropna(subset=[column])
                    course = values[column]
                    if column == "loss":
                        course = course.rolling(SMOOTH, min_periods=1).mean()
                    named = {"label": label} if column == "loss" else {"marker": "o", "markersize": 2.5}
                    axes.plot(values["step"] + 1, course, line, color=colour, **named)
        for axes, title in zip(grid, panels, strict=True):
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.grid(True)
            if "%" in title:
                axes.set_ylim(0, 103)
                axes.axhline(50, zorder=0.9, **CHANCE)
        figure.legend(loc="outside upper center", ncols=6)
    return figure


class LiveCurves:
    """Draws what is trained within its block while it is trained, where somebody watches::

        with LiveCurves():
            train_variants(run, seed)

    In a batch run nothing is drawn. What the block ends with stays in the notebook.

    Args:
        share: of the time that drawing may take.
        clock: of seconds.
    """

    def __init__(self, share: float = 0.15, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows: list[dict] = []
        self._share, self._clock = share, clock
        self._next, self._handle = -float("inf"), None
        self._watching = ExitStack()

    def __enter__(self) -> LiveCurves:
        self._watching.enter_context(step_listener(self))
        return self

    def __call__(self, what: str, row: Mapping[str, float]) -> None:
        """Take a row of the history of ``what``."""
        self.rows.append({"what": what} | dict(row))
        if self._clock() >= self._next:
            self._draw()

    def __exit__(self, *_: object) -> None:
        self._watching.close()
        self._draw()

    def _draw(self) -> None:
        if is_batch() or not self.rows:
            return
        from IPython.display import Image, display

        began = self._clock()
        picture = Image(png(figure_training(pd.DataFrame(self.rows))), width=WIDTH)
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)
        now = self._clock()
        self._next = now + (now - began) / self._share
