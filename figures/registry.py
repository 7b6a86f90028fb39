"""The paper's figures by name: those of ideas, and those of a run, with their rows as csv."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures import accuracies, concepts, controls, curves, read, similarities, style

CONCEPTS: dict[str, Callable] = {
    "loss_matrix": concepts.loss_matrix,
    "architecture": concepts.architecture,
    "slots_idea": concepts.slots_idea,
}
RESULTS: dict[str, tuple[Callable, str]] = {
    "tasks": (accuracies.tasks, "summary"),
    "readouts": (accuracies.readouts, "summary"),
    "windows": (accuracies.windows, "summary"),
    "conditions": (controls.conditions, "summary"),
    "wordings": (controls.wordings, "summary"),
    "hold_out": (accuracies.hold_out, "summary"),
    "margins": (similarities.margins, "results"),
    "similarity": (similarities.similarity, "similarity"),
    "composite": (similarities.composite, "example"),
    "curves": (curves.curves, "history"),
}
"""Figures of a run: the function, and which of :data:`figures.read.READERS` it takes."""
FIGURES = (*CONCEPTS, *RESULTS)


def function_of(name: str) -> Callable:
    """What draws the figure ``name``."""
    return CONCEPTS[name] if name in CONCEPTS else RESULTS[name][0]


def data_of(name: str) -> tuple[str, ...]:
    """The files of a run folder whose rows the figure ``name`` shows."""
    return () if name in CONCEPTS else read.READERS[RESULTS[name][1]][1]


def inputs(name: str) -> list[str]:
    """The files of a run folder that a figure is made of; the summary says whether the weights are random."""
    return [] if name in CONCEPTS else sorted({*data_of(name), "summary.json"})


def sources(name: str) -> list[Path]:
    """The source files that make a figure: its module, what figures share, and the style sheet."""
    shared = ("drawing.py",) if name in CONCEPTS else ("marks.py", "read.py", "scores.py")
    here = Path(__file__).parent
    return [
        Path(inspect.getfile(function_of(name))),
        *(here / file for file in (*shared, "style.py", "labels.yaml")),
        style.SHEET,
    ]


def make(name: str, data: Any = None) -> tuple[Figure, pd.DataFrame | None]:
    """The figure ``name`` and its rows, of data as its reader gives them; ValueError if unknown."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    with style.styled():
        return (CONCEPTS[name](), None) if name in CONCEPTS else RESULTS[name][0](data)


def _of_run(name: str, run: str | Path) -> tuple[Figure, pd.DataFrame | None]:
    if name not in RESULTS:
        return make(name)
    figure, rows = make(name, read.READERS[RESULTS[name][1]][0](run))
    if read.has_random_weights(read.summary(run)):
        style.stamp(figure)
    return figure, rows


def draw(name: str, data: Any = None) -> Figure:
    """The figure alone, see :func:`make`."""
    return make(name, data)[0]


def build(name: str, run: str | Path) -> Figure:
    """The figure ``name`` of a run folder; errors as of :func:`make` and of its reader."""
    return _of_run(name, run)[0]


def write(name: str, run: str | Path, folder: str | Path) -> list[Path]:
    """Write the figure ``name`` as PDF and PNG, its rows as csv to ten digits; errors as :func:`build`."""
    figure, rows = _of_run(name, run)
    written = style.save(figure, name, folder)
    if rows is not None:
        written.append(Path(folder) / f"{name}.csv")
        rows.to_csv(written[-1], index=False, float_format="%.10g", lineterminator="\n")
    return written
