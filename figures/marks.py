"""What figures of accuracies are drawn with: the dot plot, chance lines, legends."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLUMN, MODELS, ModelStyle

GREY = "#555555"
TIGHT = {"linespacing": 1.02}
"""Of text in several lines, which the figures' font sets wide apart."""
CHANCE = {"color": GREY, "linestyle": (0, (2, 1)), "linewidth": 0.9, "zorder": 0.9}
NEVER = CHANCE | {"linestyle": (0, (0.6, 1)), "linewidth": 1.1}


def dot_plot(
    rows: pd.DataFrame,
    columns: tuple[str | None, str, str],
    panels: Mapping[str, Mapping[str, str]],
    size: tuple[float, float],
    *,
    titles: Mapping[str, str] | None = None,
    looks: Mapping[str, ModelStyle] = MODELS,
    label: str = "accuracy (%)",
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
        label: of the accuracies' axis.
        joined: join the dots of a series by a line.
        keys: further entries of the legend.
    """
    if rows.empty:
        return nothing(size[0], "This run did not measure what this figure shows.")
    of_panel, of_place, of_series = columns
    looks = {name: look for name, look in looks.items() if name in set(rows[of_series])}
    step = min(0.2, 0.8 / len(looks))
    figure = Figure(figsize=size)
    widths = [len(places) + 1 for places in panels.values()]
    grid = figure.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, (panel, places) in zip(grid, panels.items(), strict=True):
        part, names = rows if of_panel is None else rows[rows[of_panel] == panel], list(places)
        for index, (name, look) in enumerate(looks.items()):
            own = part[part[of_series] == name]
            at = own[of_place].map(names.index) + step * (index - (len(looks) - 1) / 2)
            _series(axes, own.set_index(at), look, joined)
        chances = part.groupby(of_place)["chance"].first()
        for place, name in enumerate(names):
            if name in chances:
                axes.hlines(chances[name], place - 0.5, place + 0.5, **CHANCE)
            else:
                axes.text(place, 4, "n/a", ha="center", va="center", color=GREY)
        axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(-5, 105), yticks=(0, 25, 50, 75, 100))
        axes.set_xticks(range(len(names)), list(places.values()), **TIGHT)
        axes.set_xlabel((titles or {}).get(panel, panel), **TIGHT)
        axes.grid(True, axis="y")
        axes.tick_params(axis="x", length=0)
    grid[0].set_ylabel(label)
    legend_above(figure, [*map(dot, looks.values()), key("chance", **CHANCE), *keys])
    return figure


def _series(axes: Axes, rows: pd.DataFrame, look: ModelStyle, joined: bool) -> None:
    """The accuracies of one series with intervals and seeds; the rows' index is where they stand."""
    errors = rows[["low", "high"]].sub(rows["accuracy"], axis="index").abs().T.to_numpy()
    seeds, colour = rows["per_seed"].explode(), {"color": look.colour}
    axes.plot(seeds.index, seeds, "_", **colour, markersize=5, markeredgewidth=0.6)
    line = {"linestyle": look.line if joined else "none", "linewidth": 0.8, "elinewidth": 0.9, "capsize": 0}
    axes.errorbar(rows.index, rows["accuracy"], errors, marker=look.marker, markersize=3.4, **colour, **line)


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend over the axes, where it can hide nothing."""
    columns = 3 if figure.get_figwidth() <= COLUMN and len(handles) > 4 else len(handles)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


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
