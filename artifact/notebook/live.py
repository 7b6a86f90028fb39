"""Curves of a training while it runs, in one place of a notebook."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
from IPython.display import DisplayHandle
from matplotlib.figure import Figure

from figures.style import TEXT, styled
from tclap.progress import is_batch, step_listener

SECONDS = 3.0  # between two drawings
PANELS = {
    "loss": "loss",
    "validation_accuracy": "validation, captions (%)",
    "validation_two_way": "validation, 2-way (%)",
}


def figure_training(rows: pd.DataFrame) -> Figure:
    """Losses and validation of trainings by step.

    ``rows``: ``what`` is trained (a line each), ``step``, and columns of :data:`PANELS`, a panel each.
    """
    panels = [column for column in PANELS if column in rows and rows[column].notna().any()]
    with styled():
        figure = Figure(figsize=(TEXT, 2.1))
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, column in zip(grid, panels, strict=True):
            for what, part in rows.groupby("what", sort=False):
                curve = part.dropna(subset=[column])
                axes.plot(curve["step"] + 1, curve[column], label=what)
            axes.set(title=PANELS[column], xlabel="step")
            axes.grid(True)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


@contextmanager
def live_curves() -> Iterator[None]:
    """Draw what is trained within the block while it is trained, where somebody watches::

        with live_curves():
            train_variants(run, seed)

    In a batch run nothing is drawn. What the block ends with stays in the notebook.
    """
    if is_batch():
        yield
        return
    rows, place, due = [], DisplayHandle(), 0.0

    def add(what: str, row: Mapping[str, float]) -> None:
        nonlocal due
        rows.append({"what": what} | dict(row))
        if time.monotonic() >= due:
            draw = place.update if due else place.display
            draw(figure_training(pd.DataFrame(rows)))
            due = time.monotonic() + SECONDS

    try:
        with step_listener(add):
            yield
    finally:
        if rows:
            place.update(figure_training(pd.DataFrame(rows)))
