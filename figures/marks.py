"""What figures of accuracies are drawn with: points with intervals, bars, chance lines, legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from figures.style import MODELS

GREY = "#555555"
TIGHT = {"linespacing": 1.02}
"""Of text in several lines, which the figures' font sets wide apart."""

# The white rim keeps the lines visible where they cross a dark bar.
RIM = [withStroke(linewidth=2.2, foreground="white")]
CHANCE = {"color": GREY, "linestyle": (0, (2, 1)), "linewidth": 0.9, "path_effects": RIM}
NEVER = {"color": GREY, "linestyle": (0, (0.6, 1)), "linewidth": 1.1, "path_effects": RIM}


def whiskers(row: Mapping) -> np.ndarray:
    """Distances ``[2, 1]`` of a score's interval ends from its accuracy, as error bars want them."""
    accuracy = row["accuracy"]
    return np.array([[accuracy - row["low"]], [row["high"] - accuracy]]).clip(min=0)


def point(axes: Axes, x: float, y: float, row: Mapping, along: str, **look) -> ErrorbarContainer:
    """A dot with its interval along ``"x"`` or ``"y"``."""
    errors = {f"{along}err": whiskers(row)}
    look = {"linestyle": "none", "elinewidth": 0.9, "markersize": 3.2, "capsize": 0} | look
    return axes.errorbar([x], [y], **errors, **look)


def spread(index: int, count: int, step: float) -> float:
    """How far to shift the ``index``-th of ``count`` things that share one place, ``step`` apart."""
    return step * (index - (count - 1) / 2)


def legend_above(figure: Figure, handles: Sequence, columns: int) -> None:
    """Put a legend over the axes, where it can hide nothing."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def swatches(models: Sequence[str]) -> list[Patch]:
    """Legend entries of bars."""
    return [Patch(**bar_look(model), label=MODELS[model].label) for model in models]


def bar_look(model: str) -> dict:
    """Colour and hatch of a model's bars."""
    return {
        "facecolor": MODELS[model].colour,
        "hatch": MODELS[model].hatch,
        "edgecolor": "white",
        "linewidth": 0,
    }


def swatches_of(colours: dict[str, str]) -> list[Patch]:
    """Legend entries of bars by name and colour."""
    return [Patch(color=colour, label=name) for name, colour in colours.items()]


def dots(models: Sequence[str]) -> list[Line2D]:
    """Legend entries of points."""
    return [dot(MODELS[model].label, MODELS[model].colour, MODELS[model].marker) for model in models]


def dot(label: str, colour: str, marker: str) -> Line2D:
    """One point in a legend."""
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)


def nothing(width: float, sentence: str) -> Figure:
    """A figure that says why it is empty, so that a paper about a smaller run still builds."""
    figure = Figure(figsize=(width, 0.6))
    figure.text(0.5, 0.5, sentence, ha="center", va="center", style="italic")
    return figure


def percent_axis(axes: Axes, along: str = "y", label: str = "accuracy (%)") -> None:
    """Limits 0 to 100 with a little air, so that a marker at either end is whole."""
    getattr(axes, f"set_{along}lim")(-4, 104)
    getattr(axes, f"set_{along}ticks")([0, 25, 50, 75, 100])
    axes.grid(True, axis=along)
    getattr(axes, f"set_{along}label")(label)


def chance_of(rows: pd.DataFrame) -> float | None:
    """Chance of the rows of one question: the same for every model, so the first one's."""
    return rows["chance"].iloc[0] if len(rows) else None


def line(model: str, **look) -> Line2D:
    """A model's line in a legend."""
    known = MODELS[model]
    return Line2D([], [], **{"color": known.colour, "linestyle": known.line, "label": known.label} | look)
