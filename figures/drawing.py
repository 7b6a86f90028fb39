"""A drawing kit for figures of ideas: modules, arrows, sounds, words.

Coordinates are inches on paper, so that what is drawn is as large as it will be printed. An event's
colour stays its own in all figures; what is frozen is grey with a thin edge, what is trained has a thick one.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import FancyBboxPatch, Rectangle

FIRST, SECOND = "#004488", "#DDAA33"
"""Colours of the event that sounds first and of the other."""
RIM = "#777777"


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure whose one axes measures inches from the lower left corner."""
    # An engine that does nothing: without any, saving under the style sheet takes the sheet's.
    figure = Figure(figsize=(width, height), layout=PlaceHolderLayoutEngine(True, True))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def say(axes: Axes, x: float, y: float, text: str, **look) -> None:
    """Text centred at a point unless told otherwise."""
    axes.text(x, y, text, **{"ha": "center", "va": "center"} | look)


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, **look) -> None:
    """A module, by its lower left corner: frozen, or trained where its text says so."""
    trained = "trained" in text
    face = {"facecolor": "#F6DDE0" if trained else "#E8E8E8", "edgecolor": "#BB5566" if trained else RIM}
    face |= {"boxstyle": "round,pad=0,rounding_size=0.05", "linewidth": 1.5 if trained else 0.6}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **face))
    say(axes, x + width / 2, y + height / 2, text, **{"linespacing": 1.1} | look)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow between two points."""
    shape = {"arrowstyle": "-|>", "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.7}
    axes.annotate("", end, start, arrowprops=shape | {"fc": "k"})


def cell(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text="", **look) -> None:
    """A filled rectangle with a white rim and a text on it, by its lower left corner."""
    rim = {"edgecolor": "white", "linewidth": 0.8}
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, **rim | look))
    if text:
        say(axes, x + width / 2, y + height / 2, text, color=on(colour))


def on(colour: str) -> str:
    """The colour of text that stands on a colour."""
    return "white" if colour == FIRST else "black"


def wave(axes: Axes, x: float, y: float, width: float, height: float, colour: str, beats: int) -> None:
    """A sound as the outline of its waveform: ``beats`` strokes that ring out, centred on ``y``."""
    time = np.linspace(0, 1, 400)
    ring = np.exp(-4 * (time * beats % 1)) * np.minimum(1, 40 * (time * beats % 1))
    strength = 0.5 * height * ring * (0.75 + 0.25 * np.cos(2 * np.pi * 11 * beats * time))
    axes.fill_between(x + width * time, y - strength, y + strength, color=colour, linewidth=0)


def composite(axes: Axes, x: float, y: float, width: float, height: float, view: str) -> None:
    """A view of a composite: its two events one after the other, or at once; replay: one event alone."""
    cell(axes, x, y - height / 2, width, height, "white", edgecolor=RIM, linewidth=0.6)
    events = [(FIRST, 2), (SECOND, 5)]
    if view == "replay":
        wave(axes, x, y, width, 0.9 * height, FIRST, 4)
    elif view == "overlap":
        for (colour, beats), shift in zip(events, (0.25, -0.25), strict=True):
            wave(axes, x, y + shift * height, width, 0.5 * height, colour, 2 * beats)
    else:
        for n, (colour, beats) in enumerate(events if view == "forward" else events[::-1]):
            wave(axes, x + n * width / 2, y, width / 2, 0.9 * height, colour, beats)


def chip(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """An event's words on its colour, centred."""
    frame = {"boxstyle": "round,pad=0.15,rounding_size=0.2", "facecolor": colour, "edgecolor": "none"}
    say(axes, x, y, text, color=on(colour), bbox=frame)
