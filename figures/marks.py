"""What figures of accuracies are drawn with: the dot plot, chance lines, legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from figures.style import COLUMN, MODELS, ModelStyle

GREY = "#555555"
TIGHT = {"linespacing": 1.02}
"""Of text in several lines, which the figures' font sets wide apart."""

# The white rim keeps the lines visible where they cross a dark bar.
RIM = [withStroke(linewidth=2.2, foreground="white")]
CHANCE = {"color": GREY, "linestyle": (0, (2, 1)), "linewidth": 0.9, "path_effects": RIM}
NEVER = CHANCE | {"linestyle": (0, (0.6, 1)), "linewidth": 1.1}


def dot_plot(
    rows: pd.DataFrame,
    columns: tuple[str | None, str, str],
    panels: Mapping[str, Mapping[str, str]],
    size: tuple[float, float],
    *,
    titles: Mapping[str, str] | None = None,
    looks: Mapping[str, ModelStyle] = MODELS,
    along: str = "y",
    label: str = "accuracy (%)",
    bars: bool = False,
    joined: bool = False,
    keys: Sequence[Artist] = (),
) -> Figure:
    """Accuracies with their 95 % intervals by place and series, in panels side by side; short ticks: seeds.

    Args:
        rows: tidy rows with the measures of :func:`figures.scores.tidy`; without any, the figure says so.
        columns: those that name the panel (None: there is one), the place and the series.
        panels: by name, the places with their labels; a place without rows is marked "n/a".
        size: width and height in inches.
        titles: of the panels (None: their names).
        looks: by name, the styles of series, which share a place side by side.
        along: axis of the accuracies; places stand along the other one.
        label: of the accuracies' axis.
        bars: draw bars instead of dots.
        joined: join the dots of a series by a line.
        keys: further entries of the legend.
    """
    if rows.empty:
        return nothing(size[0], "This run did not measure what this figure shows.")
    of_panel, of_place, of_series = columns
    looks = {name: look for name, look in looks.items() if name in set(rows[of_series])}
    step = 0.8 / len(looks) if bars else min(0.2, 0.8 / len(looks))
    across = "x" if along == "y" else "y"
    figure = Figure(figsize=size)
    widths = [len(places) + 1 for places in panels.values()]
    grid = figure.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, (panel, places) in zip(grid, panels.items(), strict=True):
        part, names = rows if of_panel is None else rows[rows[of_panel] == panel], list(places)
        for index, (name, look) in enumerate(looks.items()):
            own = part[part[of_series] == name]
            at = own[of_place].map(names.index).to_numpy() + step * (index - (len(looks) - 1) / 2)
            _series(axes, at, own, look, along, step if bars else 0, joined)
        _chance(axes, part, of_place, names, along, bars)
        axes.set(**{f"{across}lim": (-0.6, len(names) - 0.4), f"{along}lim": (-5, 105)})
        getattr(axes, f"set_{across}ticks")(range(len(names)), list(places.values()), **TIGHT)
        getattr(axes, f"set_{along}ticks")([0, 25, 50, 75, 100])
        axes.grid(True, axis=along)
        axes.tick_params(axis=across, length=0)
        (axes.set_xlabel if along == "y" else axes.set_title)((titles or {}).get(panel, panel), **TIGHT)
    if along == "x":
        grid[0].invert_yaxis()
        figure.supxlabel(label, fontsize="medium")
    else:
        grid[0].set_ylabel(label)
    legend_above(figure, [*map(swatch if bars else dot, looks.values()), key("chance", **CHANCE), *keys])
    return figure


def _series(axes: Axes, at: np.ndarray, rows: pd.DataFrame, look: ModelStyle, along, bar, joined) -> None:
    """The accuracies of one series at their places, with intervals and seeds."""
    low, value, high = (rows[end].to_numpy() for end in ("low", "accuracy", "high"))
    errors = {f"{along}err": np.maximum([value - low, high - value], 0)}
    if bar:
        axes.bar(at, value, 0.92 * bar, **bar_look(look))
        axes.errorbar(at, value, **errors, linestyle="none", color="black", elinewidth=0.8)
        return
    seeds = [(x, seed) for x, several in zip(at, rows["per_seed"], strict=True) for seed in several]
    dots, ticks = (at, value), (list(axis) for axis in zip(*seeds, strict=True))
    if along == "x":
        dots, ticks = dots[::-1], list(ticks)[::-1]
    shape = {"color": look.colour, "linestyle": look.line if joined else "none", "linewidth": 0.8}
    tick = {"marker": "|" if along == "x" else "_", "markersize": 5, "markeredgewidth": 0.6}
    axes.plot(*ticks, **shape | tick | {"linestyle": "none"})
    axes.errorbar(*dots, **errors, **shape, marker=look.marker, markersize=3.4, elinewidth=0.9, capsize=0)


def _chance(
    axes: Axes, rows: pd.DataFrame, of_place: str, names: Sequence[str], along: str, bars: bool
) -> None:
    """Chance as a line at each place, over bars and under dots; "n/a" at a place without rows."""
    chances = rows.groupby(of_place)["chance"].first()
    for place, name in enumerate(names):
        if name in chances:
            line = axes.hlines if along == "y" else axes.vlines
            line(chances[name], place - 0.5, place + 0.5, zorder=3 if bars else 0.9, **CHANCE)
        else:
            at = (place, 4) if along == "y" else (50, place)
            axes.text(*at, "n/a", ha="center", va="center", color=GREY)


def bar_look(look: ModelStyle) -> dict:
    """Colour and hatch of bars."""
    return {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0}


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend over the axes, where it can hide nothing."""
    columns = 3 if figure.get_figwidth() <= COLUMN and len(handles) > 4 else len(handles)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def swatch(look: ModelStyle) -> Patch:
    """Legend entry of bars."""
    return Patch(**bar_look(look), label=look.label)


def dot(look: ModelStyle) -> Line2D:
    """Legend entry of dots."""
    return key(look.label, color=look.colour, marker=look.marker, linestyle="none")


def key(label: str, **look) -> Line2D:
    """Legend entry of lines."""
    return Line2D([], [], label=label, **look)


def nothing(width: float, sentence: str) -> Figure:
    """A figure that says why it is empty, so that a paper about a smaller run still builds."""
    figure = Figure(figsize=(width, 0.6))
    figure.text(0.5, 0.5, sentence, ha="center", va="center", style="italic")
    return figure
