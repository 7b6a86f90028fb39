"""Figures of the controls: what an accuracy in the order tasks means, by model, group and condition.

Each takes a summary and returns the figure and its rows. Accuracies are those of two-way tasks in percent,
with 95 % intervals, as the summary's ``controls`` hold them (``tclap.evaluation.controls``).
"""

from __future__ import annotations

from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import dot_plot
from figures.scores import measured, tidy
from figures.style import COLUMN, LABELS, PLOTTED_MODELS, TEXT, present

# Kept apart from tclap.data.captions, which imports the audio code.
SEEN = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")
PANELS: dict[str, dict[str, str]] = LABELS["conditions"]
"""By title the controls of each panel with their labels, from left to right."""


def entry(summary: dict, model: str, control: str) -> dict | None:
    """``{accuracy, ci95, …}`` of a control, named "group: condition"; None where it was not measured."""
    return measured(summary, "controls", model, *control.split(": ", 1))


def asked(summary: dict, wanted: tuple[str, ...] = PLOTTED_MODELS) -> list[str]:
    """Those of ``wanted`` that a run asked controls of."""
    return present(summary["controls"], wanted) if summary.get("controls") else []


def conditions(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy under gaps, other lengths, levels and noise, and away from the boundary."""
    models = asked(summary)
    places = ((p, m, control) for p, points in PANELS.items() for m in models for control in points)
    rows = tidy(("panel", "model", "control"), places, lambda _, *where: entry(summary, *where))
    look = {"label": "2-way (before), %", "joined": True}
    figure = dot_plot(rows, ("panel", "control", "model"), PANELS, (TEXT, 1.95), **look)
    return figure, rows.assign(panel=rows["panel"].str.replace("\n", " "))


def wordings(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy by wording, those seen in training above the others."""
    models = asked(summary)
    found = summary["controls"][models[0]].get("wording", ()) if models else ()
    names = sorted((name for name in found if "{a}" in name), key=lambda name: name not in SEEN)
    rows = tidy(("wording", "model"), product(names, models), lambda w, m: entry(summary, m, f"wording: {w}"))
    rows.insert(2, "seen", rows["wording"].isin(SEEN))
    panels = {"": {name: name.format(a="A", b="B") for name in names}}
    label = "2-way accuracy (%); ticks: seeds; above the line: seen in training"
    size = (COLUMN, 0.7 + 0.165 * len(names))
    figure = dot_plot(rows, (None, "wording", "model"), panels, size, along="x", label=label)
    for axes in figure.axes:
        axes.axhline(len(set(names) & set(SEEN)) - 0.5, color="black", linewidth=0.5, zorder=0.8)
    return figure, rows
