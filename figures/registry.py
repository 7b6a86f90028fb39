"""The paper's figures by name: those of ideas, and those of a run, with their rows as csv."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures import accuracies, concepts, curves, read, similarities, style

CONCEPTS = {name: getattr(concepts, name) for name in ("loss_matrix", "architecture", "slots_idea")}
RESULTS: dict[str, tuple[Callable, str]] = {
    "tasks": (accuracies.tasks, "summary"),
    "readouts": (accuracies.readouts, "summary"),
    "windows": (accuracies.windows, "summary"),
    "conditions": (accuracies.conditions, "summary"),
    "wordings": (accuracies.wordings, "summary"),
    "hold_out": (accuracies.hold_out, "summary"),
    "margins": (similarities.margins, "results"),
    "similarity": (similarities.similarity, "similarity"),
    "composite": (similarities.composite, "example"),
    "curves": (curves.curves, "history"),
}
"""Figures of a run: the function, and which of :data:`figures.read.READERS` it takes."""
FIGURES = (*CONCEPTS, *RESULTS)
SHARED = ("marks.py", "read.py", "scores.py", "style.py", "labels.yaml", "tclap.mplstyle")


def sources(name: str) -> list[Path]:
    """The source files that make a figure: its module, and what figures share."""
    function = CONCEPTS[name] if name in CONCEPTS else RESULTS[name][0]
    return [Path(inspect.getfile(function)), *map(Path(__file__).with_name, SHARED)]


def make(name: str, data: Any = None) -> tuple[Figure, pd.DataFrame | None]:
    """The figure ``name`` and its rows, of data as its reader gives them; ValueError if unknown."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    with style.styled():
        return (CONCEPTS[name](), None) if name in CONCEPTS else RESULTS[name][0](data)


def draw(name: str, data: Any = None) -> Figure:
    """The figure alone, see :func:`make`."""
    return make(name, data)[0]


def of_run(name: str, run: str | Path) -> tuple[Figure, pd.DataFrame | None]:
    """As :func:`make`, of a run folder; errors also as of its reader."""
    if name not in RESULTS:
        return make(name)
    figure, rows = make(name, read.READERS[RESULTS[name][1]](run))
    if read.has_random_weights(read.summary(run)):
        style.stamp(figure)
    return figure, rows


def build(name: str, run: str | Path) -> Figure:
    """The figure alone, see :func:`of_run`."""
    return of_run(name, run)[0]


def write(name: str, run: str | Path, folder: str | Path) -> list[Path]:
    """Write the figure ``name`` as PDF and PNG, its rows as csv to ten digits; errors as :func:`of_run`."""
    figure, rows = of_run(name, run)
    written = style.save(figure, name, folder)
    if rows is not None:
        written.append(Path(folder) / f"{name}.csv")
        rows.to_csv(written[-1], index=False, float_format="%.10g", lineterminator="\n")
    return written
