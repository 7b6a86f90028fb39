"""The paper's figures by name, each built from a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from tclap.reporting import charts, controls, pictures, read, style

FIGURES: dict[str, Callable[[Path], Figure]] = {
    "tasks": lambda run: charts.figure_tasks(read.summary(run)),
    "ablation": lambda run: charts.figure_ablation(read.summary(run)),
    "prompts": lambda run: charts.figure_prompts(read.summary(run)),
    "readouts": lambda run: charts.figure_readouts(read.summary(run)),
    "windows": lambda run: charts.figure_windows(read.summary(run)),
    "conditions": lambda run: controls.figure_conditions(read.summary(run)),
    "wordings": lambda run: controls.figure_wordings(read.summary(run)),
    "hold_out": lambda run: controls.figure_hold_out(read.summary(run)),
    "margins": lambda run: pictures.figure_margins(read.rows(run, "results")),
    "similarity": lambda run: pictures.figure_similarity(read.rows(run, "similarity")),
    "curves": lambda run: pictures.figure_curves(read.rows(run, "history")),
    "composite": lambda run: pictures.figure_composite(read.example(run)),
}


def build(name: str, run: str | Path) -> Figure:
    """The figure ``name`` of a run folder; ValueError for an unknown name, else the errors of ``read``."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    figure = FIGURES[name](Path(run))
    return style.stamp(figure) if read.has_random_weights(read.summary(run)) else figure
