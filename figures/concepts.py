"""Conceptual diagrams, drawn from code alone: the loss, the architecture, slots in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures.drawing import FIRST, RIM, SECOND, arrow, box, canvas, cell, chip, composite, say
from figures.style import COLUMN, TEXT

VIEWS = ("forward", "reversed", "overlap")
OTHER, WHOLE = "#DDDDDD", "#C4C4C4"
SYMBOLS = np.array([["1", "1"], [r"$\alpha_s$", r"$\alpha_c$"], [r"$\alpha_s^o$", r"$\alpha_c^o$"]])
"""The loss's weights of the same pair and of other pairs: within a view, by time, by overlap."""
COLOURS = np.array([[FIRST, "#D9D9D9"], ["#DDAA33", "#F3DFB3"], ["#D08A95", "#F1D9DC"]])


def weights(u: int, v: int, items: int = 3) -> tuple[int, int]:
    """Which of SYMBOLS the temporal loss's weight of text ``u`` against audio ``v`` is, both of ``[3 N]``."""
    (view, item), (other_view, other_item) = divmod(u, items), divmod(v, items)
    kind = 0 if view == other_view else 2 if "overlap" in (VIEWS[view], VIEWS[other_view]) else 1
    return kind, int(item != other_item)


def loss_matrix() -> Figure:
    """The weights of a batch's 3 N texts against its 3 N sounds in the temporal loss; matches dark."""
    items, size, left, top = 3, 0.29, 0.68, 3.0
    figure, axes = canvas(COLUMN, 3.62)
    count = len(VIEWS) * items
    for u, v in itertools.product(range(count), repeat=2):
        which = weights(u, v)
        cell(axes, left + v * size, top - (u + 1) * size, size, size, COLOURS[which], SYMBOLS[which])
    for n, view in enumerate(VIEWS):
        start, middle = n * items * size, (n + 0.5) * items * size
        say(axes, left + middle, top + 0.24, view)
        say(axes, left - 0.3, top - middle, view, rotation=90)
        if n:
            axes.plot([left, left + count * size], [top - start] * 2, color="black", linewidth=1)
            axes.plot([left + start] * 2, [top, top - count * size], color="black", linewidth=1)
    for n in range(count):
        number, middle = {"text": str(n % items + 1), "size": 7, "color": "#555555"}, (n + 0.5) * size
        say(axes, left + middle, top + 0.09, **number)
        say(axes, left - 0.1, top - middle, **number)
    say(axes, left + count * size / 2, top + 0.44, "sounds $Z_a$")
    say(axes, left - 0.52, top - count * size / 2, "texts $Z_t$", rotation=90)
    keys = (0, "match", COLOURS[0, :1]), (0.62, "other pairs", COLOURS[0, 1:])
    for at, meaning, colours in (*keys, (1.4, "time", COLOURS[1]), (1.92, "overlap", COLOURS[2])):
        for n, colour in enumerate(colours):
            width = 0.12 / len(colours)
            cell(axes, left + at + n * width, 0.1, width, 0.12, colour, linewidth=0)
        say(axes, left + at + 0.17, 0.155, meaning, ha="left", size=7.5)
    return figure


SHADES = {"forward": "#444444", "reversed": "#888888", "overlap": WHOLE, "replay": "white"}
CAPTIONS = {"forward": "A before B", "reversed": "B before A", "overlap": "A while B", "replay": "A"}


def _shade(axes: Axes, x: float, y: float, width: float, height: float, view: str) -> None:
    """A rectangle in a view's shade of grey, centred at the height ``y``; replay's is hatched."""
    look = {"edgecolor": RIM, "linewidth": 0.5, "hatch": "/////" if view == "replay" else None}
    cell(axes, x, y - height / 2, width, height, SHADES[view], **look)


def _blocks(axes: Axes, left: float, top: float, size: float, views: int) -> None:
    """The matrix of a loss as blocks of views: matches as a line, other views' blocks in their colour."""
    for u, v in itertools.product(range(views), repeat=2):
        cell(axes, left + v * size, top - (u + 1) * size, size, size, COLOURS[weights(u, v, items=1)[0], 1])
    end = views * size
    axes.plot([left, left + end], [top, top - end], color=FIRST, linewidth=2, solid_capstyle="butt")


def architecture() -> Figure:
    """Both towers: three views of each pair, and replay, through frozen trunks and trained heads."""
    figure, axes = canvas(TEXT, 2.3)
    rows = {"audio": (2.1, 1.82, 1.54, 1.26), "text": (0.78, 0.57, 0.36, 0.15)}
    for tower, heights in rows.items():
        for view, y in zip(SHADES, heights, strict=True):
            _shade(axes, 0.04, y, 0.07, 0.13, view)
            say(axes, 0.16, y, view, ha="left")
            if tower == "audio":
                composite(axes, 0.65, y, 0.95, 0.24, view)
            else:
                say(axes, 0.65, y, f"\u201c{CAPTIONS[view]}\u201d", style="italic", ha="left")
        y = sum(heights) / 4
        for start, end in ((1.66, 1.9), (2.73, 3.3), (4.14, 4.36), (4.8, 5.16)):
            arrow(axes, (start, y), (end, y))
        box(axes, 1.92, y - 0.28, 0.8, 0.56, f"{tower} trunk\nfrozen")
        for n in range(5):
            cell(axes, 2.79 + 0.09 * n, y + 0.06, 0.08, 0.18, "#BBBBBB", linewidth=0)
        say(axes, 3.01, y - 0.1, "frames" if tower == "audio" else "tokens")
        box(axes, 3.32, y - 0.28, 0.8, 0.56, f"{tower} head\ntrained")
        for n, view in enumerate(SHADES):
            _shade(axes, 4.4, y + 0.21 - 0.14 * n, 0.36, 0.12, view)
        say(axes, 4.58, y + 0.36, f"$Z_{tower[0]}$")
    frame = {"facecolor": "none", "edgecolor": RIM, "linewidth": 0.6, "linestyle": "--"}
    axes.add_patch(
        FancyBboxPatch((5.2, 0.12), 1.75, 2.06, boxstyle="round,pad=0,rounding_size=0.05", **frame)
    )
    _blocks(axes, 5.32, 2.04, 0.27, 3)
    say(axes, 6.54, 1.64, "TNCE\non the views\n$S + \\log A$")
    say(axes, 6.08, 0.98, "+", size=12)
    _blocks(axes, 5.56, 0.72, 0.36, 1)
    say(axes, 6.54, 0.54, "CLAP\u2019s loss\non replay")
    return figure


def _slots(axes: Axes, x: float, y: float, contents: Sequence[str], colours: Sequence[str]) -> None:
    """An embedding with slots, each with its text and colour; the last is the narrow rest."""
    for text, colour, width in zip(contents, colours, (0.5, 0.5, 0.5, 0.2), strict=True):
        cell(axes, x, y - 0.12, width, 0.24, colour, text, edgecolor=RIM, linewidth=0.5)
        x += width


def slots_idea() -> Figure:
    """Slots in time: parts of a sound and events of a caption, by one frozen model, in one vector each."""
    figure, axes = canvas(TEXT, 2.42)
    top, left, timed, plain = 1.98, 4.9, (0.9, 0.6), 0.2
    middle, rim = sum(timed) / 2, {"edgecolor": RIM, "linewidth": 0.5}
    composite(axes, 0.04, top, 1.25, 0.4, "forward")
    say(axes, 0.665, top - 0.32, "a dog barks, then rain falls")
    box(axes, 3.62, top - 0.42, 0.56, 0.84, "audio\ntower\nfrozen")
    parts = ("whole", range(10), WHOLE), ("first", range(5), FIRST), ("last", range(5, 10), SECOND)
    for n, (name, kept, colour) in enumerate(parts):
        y = top + 0.3 * (1 - n)
        arrow(axes, (1.35, top + 0.1 * (1 - n)), (2.36, y))
        say(axes, 2.42, y, name, ha="left")
        for k in range(10):
            frame = (FIRST if k < 5 else SECOND) if k in kept else "#EEEEEE"
            cell(axes, 2.76 + 0.07 * k, y - 0.08, 0.065, 0.16, frame, linewidth=0)
        arrow(axes, (3.47, y), (3.61, y))
        arrow(axes, (4.2, y), (4.36, y))
        cell(axes, 4.4, y - 0.1, 0.28, 0.2, colour, f"$e_{n}$", **rim)
    _slots(axes, left, top, ("$e_0$", "$e_1$", "$e_2$", "0"), [WHOLE, FIRST, SECOND, "white"])
    say(axes, left + 1.74, top, r"$/\sqrt{3}$", ha="left")

    chip(axes, 0.3, middle + 0.1, "rain falls", SECOND)
    say(axes, 0.74, middle + 0.1, "after")
    chip(axes, 0.97, middle - 0.1, "a dog barks", FIRST)
    chip(axes, 0.66, plain, "a dog barks", WHOLE)
    box(axes, 1.54, 0.05, 0.62, 1.05, "reader\ntrained\non text\nalone")
    box(axes, 3.62, 0.05, 0.56, 1.05, "text\ntower\nfrozen")
    events = ("a dog barks", FIRST, "1"), ("rain falls", SECOND, "2"), ("a dog barks", WHOLE, "0")
    for (words, colour, number), y in zip(events, (*timed, plain), strict=True):
        for start, end in ((2.18, 2.34), (3.43, 3.6), (4.2, 4.36)):
            arrow(axes, (start, y), (end, y))
        chip(axes, 2.9, y, words, colour)
        say(axes, 2.42, y, "" if number == "0" else number, ha="left")
        cell(axes, 4.4, y - 0.1, 0.28, 0.2, colour, f"$g_{number}$", **rim)
    for y, *vector in (
        (middle, ("0", "\u00bd $g_1$", "\u00bd $g_2$", "$r$"), ("white", FIRST, SECOND, "white")),
        (plain, ("$g_0$", "0", "0", "0"), (WHOLE, "white", "white", "white")),
    ):
        arrow(axes, (1.35, y), (1.52, y))
        _slots(axes, left, y, *vector)
    for y in (top, middle, plain):
        arrow(axes, (4.71, y), (4.89, y))
    dot = {"size": 14, "bbox": {"facecolor": "white", "edgecolor": "none"}}
    for x in (left + 0.25, left + 0.75, left + 1.25):
        axes.plot([x, x], [middle + 0.15, top - 0.15], color="black", linewidth=0.7, linestyle=":")
        say(axes, x, (middle + top) / 2, r"$\cdot$", **dot)
    say(axes, left + 1.3, (middle + top) / 2, "one dot\nproduct", ha="left")
    return figure
