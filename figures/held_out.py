"""The class hold-out: accuracy on pairs of classes, over how many classes had composites in training."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.marks import CHANCE, nothing
from figures.scores import dig, tidy
from figures.style import COLUMN, LABELS, MODELS, ModelStyle

SEEN = {name: ModelStyle(*look) for name, look in LABELS["hold_out"].items()}
PANELS = {"": "all pairs", ", named": "both sounds named"}
"""By the end of a score's name, the panel's title."""
APART = 9  # points between the names of two lines


def hold_out(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """T-CLAP's two-way accuracy, one line each for pairs of which both, one or none of the classes were seen.

    Right: of the composites whose sounds the model names rightly. The band is the base model with slots, on
    all pairs. Intervals are over clips and splits.
    """
    found = summary.get("hold_out") or {}
    classes = {name: entry["classes"] for name, entry in found.items() if "classes" in entry}
    keys = ("fraction", "seen", "panel")
    rows = tidy(keys, product(classes, SEEN, PANELS), lambda f, s, p: dig(found, f, s + p))
    band = tidy(keys, product(("all",), ("slots",), PANELS), lambda _, s, p: found.get(s + p))
    if rows.empty:
        return nothing(COLUMN, "This run held no classes out."), rows
    figure, last, names = Figure(figsize=(COLUMN, 2.1)), max(classes.values()), []
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (panel, title) in zip(panels, PANELS.items(), strict=True):
        slots, names = MODELS["clap-slots"], []
        for row in band[band["panel"] == panel].itertuples():
            axes.axhspan(row.low, row.high, color=slots.colour, alpha=0.3, linewidth=0)
            axes.axhline(row.accuracy, color=slots.colour, linestyle=slots.line)
            names.append((row.accuracy, "slots", slots.colour))
        for n, (seen, look) in enumerate(SEEN.items()):
            line = rows[(rows["panel"] == panel) & (rows["seen"] == seen)]
            at = line["fraction"].map(classes) + 0.015 * last * (n - 1)
            ends = np.maximum([line["accuracy"] - line["low"], line["high"] - line["accuracy"]], 0)
            shape = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
            axes.errorbar(at, line["accuracy"], ends, markersize=3.4, elinewidth=0.9, capsize=0, **shape)
            names += [(value, look.label, look.colour) for value in line["accuracy"][-1:]]
        axes.axhline(50, zorder=0.9, **CHANCE)
        axes.set(title=title, xlim=(0, 1.08 * last), ylim=(-5, 105), yticks=[0, 25, 50, 75, 100])
        axes.set_xticks([0, *classes.values()])
        axes.grid(True, axis="y")
    for place, (_, name, colour) in zip(_spread([value for value, *_ in names]), names, strict=True):
        panels[-1].text(1.12 * last, place, name, color=colour, va="center")
    panels[0].set_ylabel("two-way accuracy (%)")
    figure.supxlabel("classes seen in composites", fontsize="medium")
    return figure, pd.concat([rows, band], ignore_index=True)


def _spread(values: list[float]) -> np.ndarray:
    """Places near the values that are :data:`APART` at least, from the highest down."""
    order, places = np.argsort(values)[::-1], np.array(values, dtype=float)
    for upper, lower in zip(order, order[1:], strict=False):
        places[lower] = min(places[lower], places[upper] - APART)
    return places
