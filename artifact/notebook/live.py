"""Curves of a training while it runs, in one place of a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
from IPython.display import DisplayHandle, Image
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


def figure_training(rows: pd.DataFrame) -> Figure:
    """Loss and validation of trainings by step; solid: audio, dashed: text, dotted: captions alone.

    ``rows``: ``what`` (a model or another training), ``step``, and columns of :data:`PANELS`.
    """
    columns = list(rows.columns[rows.notna().any()])
    panels = {title: lines for title, lines in PANELS.items() if lines.keys() & columns}
    with styled():
        figure = Figure(figsize=(TEXT, 2.1))
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for n, (what, part) in enumerate(rows.groupby("what", sort=False)):
            model = MODELS.get(what)
            colour, label = (model.colour, model.label) if model else (f"C{n}", what)
            for axes, lines in zip(grid, panels.values(), strict=True):
                for column in [c for c in lines if c in columns]:
                    curve = part.dropna(subset=[column]).set_index("step")[column]
                    look = {"marker": "o", "markersize": 2.5}
                    if column == "loss":
                        curve, look = curve.rolling(SMOOTH, min_periods=1).mean(), {"label": label}
                    axes.plot(curve.index + 1, curve, lines[column], color=colour, **look)
        for axes, title in zip(grid, panels, strict=True):
            axes.set(title=title, xlabel="step")
            axes.grid(True)
            if "%" in title:
                axes.set_ylim(0, 103)
                axes.axhline(50, zorder=0.9, **CHANCE)
        figure.legend(loc="outside upper center", ncols=6)
    return figure


@contextmanager
def live_curves(part: float = 0.15, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Draw what is trained within the block while it is trained, where somebody watches::

        with live_curves():
            train_variants(run, seed)

    In a batch run nothing is drawn. What the block ends with stays in the notebook. Drawing takes ``part`` of
    the time, by a ``clock`` of seconds.
    """
    rows: list[dict] = []
    handle, due, show = DisplayHandle(), -float("inf"), "display"

    def draw() -> None:
        nonlocal due, show
        began = clock()
        getattr(handle, show)(Image(png(figure_training(pd.DataFrame(rows))), width=840))
        due, show = clock() + (clock() - began) / part, "update"

    def add(what: str, row: Mapping[str, float]) -> None:
        rows.append({"what": what} | dict(row))
        if not is_batch() and clock() >= due:
            draw()

    try:
        with step_listener(add):
            yield
    finally:
        if rows and not is_batch():
            draw()
