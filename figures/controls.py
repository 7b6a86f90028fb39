"""Figures of the controls: what an accuracy in the order tasks means, by model, group and condition.

Each takes a summary and returns the figure and its rows. Accuracies are those of two-way tasks in percent,
with 95 % intervals, as the summary's ``controls`` hold them (``tclap.evaluation.controls``).
"""

from __future__ import annotations

from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import dot_plot
from figures.scores import dig, tidy, usable
from figures.style import COLUMN, LABELS, PLOTTED_MODELS, TEXT, present

# Kept apart from tclap.data.captions, which imports the audio code.
SEEN = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")


PANELS: dict[str, dict[str, str]] = LABELS["conditions"]
"""By title the controls of each panel with their labels, from left to right."""


def entry(summary: dict, model: str, control: str) -> dict | None:
    """``{accuracy, ci95, …}`` of a control, named "group: condition"; None where it was not measured."""
    found = dig(summary, "controls", model, *control.split(": ", 1))
    return found if usable(found) else None


def asked(summary: dict, wanted: tuple[str, ...] = PLOTTED_MODELS) -> list[str]:
    """Those of ``wanted`` that a run asked controls of."""
    return present(summary["controls"], wanted) if summary.get("controls") else []


def conditions(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy under gaps, other lengths, levels and noise, and away from the boundary."""
    panels = {" ".join(title.split()): (title, places) for title, places in PANELS.items()}
    models = asked(summary)
    places = ((p, m, control) for p, (_, points) in panels.items() for m in models for control in points)
    rows = tidy(("panel", "model", "control"), places, lambda _, *where: entry(summary, *where))
    look = {"label": "2-way (before), %", "step": 0.16, "joined": True}
    return dot_plot(rows, ("panel", "control", "model"), panels, (TEXT, 1.95), **look), rows


def wordings(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy by wording, those seen in training above the others."""
    models = asked(summary)
    names = [name for name in dig(summary, "controls", *models[:1], "wording") or () if "{a}" in name]
    names.sort(key=lambda name: name not in SEEN)
    rows = tidy(("wording", "model"), product(names, models), lambda w, m: entry(summary, m, f"wording: {w}"))
    rows.insert(2, "seen", rows["wording"].isin(SEEN))
    panels = {"": ("", {name: name.format(a="A", b="B") for name in names})}
    label = "2-way accuracy (%); ticks: seeds; above the line: seen in training"
    look = {"along": "x", "label": label, "groups": [name in SEEN for name in names]}
    size = (COLUMN, 0.7 + 0.165 * len(names))
    return dot_plot(rows, (None, "wording", "model"), panels, size, **look), rows
