"""The paper's figures by name: those of ideas, and those of a run, whose rows are written beside them as csv."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from figures import accuracies, concepts, controls, curves, read, similarities, style

CONCEPTS: dict[str, Callable] = {
    "paradigm": concepts.paradigm,
    "loss_matrix": concepts.loss_matrix,
    "architecture": concepts.architecture,
    "slots_idea": concepts.slots_idea,
}
RESULTS: dict[str, tuple[Callable, str]] = {
    "tasks": (accuracies.tasks, "summary"),
    "ablation": (accuracies.ablation, "summary"),
    "prompts": (accuracies.prompts, "summary"),
    "readouts": (accuracies.readouts, "summary"),
    "windows": (accuracies.windows, "summary"),
    "slot_ablation": (accuracies.slot_ablation, "summary"),
    "conditions": (controls.conditions, "summary"),
    "wordings": (controls.wordings, "summary"),
    "hold_out": (controls.hold_out, "summary"),
    "margins": (similarities.margins, "results"),
    "similarity": (similarities.similarity, "similarity"),
    "composite": (similarities.composite, "example"),
    "curves": (curves.curves, "history"),
}
"""Figures of a run: the function, and which of :data:`figures.read.READERS` it takes."""
FIGURES = (*CONCEPTS, *RESULTS)


def inputs(name: str) -> list[str]:
    """The files of a run folder that a figure is made of; whether its weights are random, the summary says."""
    return [] if name in CONCEPTS else list({*read.READERS[RESULTS[name][1]][1], "summary.json"})


def sources(name: str) -> list[Path]:
    """The source files that make a figure: its module, what figures share, and the style sheet."""
    function = CONCEPTS[name] if name in CONCEPTS else RESULTS[name][0]
    shared = ("drawing.py",) if name in CONCEPTS else ("marks.py", "read.py", "scores.py")
    here = Path(__file__).parent
    return [Path(inspect.getfile(function)), *(here / file for file in (*shared, "style.py")), style.SHEET]


def _made(name: str, run: str | Path):
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    with style.styled():
        if name in CONCEPTS:
            return CONCEPTS[name](), None
        function, source = RESULTS[name]
        figure, rows = function(read.READERS[source][0](run))
        if read.has_random_weights(read.summary(run)):
            style.stamp(figure)
        return figure, rows


def build(name: str, run: str | Path) -> Figure:
    """The figure ``name`` of a run folder; ValueError for an unknown name, else errors as of :mod:`figures.read`."""
    return _made(name, run)[0]


def write(name: str, run: str | Path, folder: str | Path) -> list[Path]:
    """Write the figure ``name`` as PDF and PNG, and its rows as csv to ten digits; errors as of :func:`build`."""
    figure, rows = _made(name, run)
    written = style.save(figure, name, folder)
    if rows is not None:
        written.append(Path(folder) / f"{name}.csv")
        rows.to_csv(written[-1], index=False, float_format="%.10g", lineterminator="\n")
    return written
