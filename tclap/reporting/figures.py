"""The paper's figures by name: those of ideas from code alone, the others from a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from tclap.reporting import charts, concepts, controls, pictures, read, slot_ablation, style

CONCEPTS: dict[str, Callable[[], Figure]] = {
    "paradigm": concepts.figure_paradigm,
    "loss_matrix": concepts.figure_loss_matrix,
    "architecture": concepts.figure_architecture,
    "slots_idea": concepts.figure_slots_idea,
}
RESULTS: dict[str, Callable[[Path], Figure]] = {
    "tasks": lambda run: charts.figure_tasks(read.summary(run)),
    "ablation": lambda run: charts.figure_ablation(read.summary(run)),
    "prompts": lambda run: charts.figure_prompts(read.summary(run)),
    "readouts": lambda run: charts.figure_readouts(read.summary(run)),
    "windows": lambda run: charts.figure_windows(read.summary(run)),
    "conditions": lambda run: controls.figure_conditions(read.summary(run)),
    "wordings": lambda run: controls.figure_wordings(read.summary(run)),
    "hold_out": lambda run: controls.figure_hold_out(read.summary(run)),
    "slot_ablation": lambda run: slot_ablation.figure_slot_ablation(read.summary(run)),
    "margins": lambda run: pictures.figure_margins(read.rows(run, "results")),
    "similarity": lambda run: pictures.figure_similarity(read.rows(run, "similarity")),
    "curves": lambda run: pictures.figure_curves(read.rows(run, "history")),
    "composite": lambda run: pictures.figure_composite(read.example(run)),
}

FIGURES = (*CONCEPTS, *RESULTS)


def build(name: str, run: str | Path) -> Figure:
    """The figure ``name`` of a run folder; ValueError for an unknown name, else the errors of ``read``."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    if name in CONCEPTS:
        return CONCEPTS[name]()
    figure = RESULTS[name](Path(run))
    return style.stamp(figure) if read.has_random_weights(read.summary(run)) else figure
