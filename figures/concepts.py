"""Conceptual diagrams, drawn from code alone: the loss, the architecture, slots in time.

Modules, arrows, sounds and words are drawn in inches, so that they are as large as they will be printed. An
event's colour stays its own; what is frozen is grey with a thin edge, what is trained has a thick one.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from figures.style import COLUMN, TEXT

FIRST, SECOND, WHOLE = "#004488", "#DDAA33", "#C4C4C4"
"""Colours of the event that sounds first, of the other, and of both."""
RIM = "#777777"
VIEWS = ("forward", "reversed", "overlap")
SYMBOLS = ("1", "1", r"$\alpha_s$", r"$\alpha_c$", r"$\alpha_s^o$", r"$\alpha_c^o$")
"""The loss's weights of the same pair and of other pairs: within a view, by time, by overlap."""
COLOURS = (FIRST, "#D9D9D9", "#DDAA33", "#F3DFB3", "#D08A95", "#F1D9DC")


def weights(items: int) -> np.ndarray:
    """``[3 N, 3 N]``: which of SYMBOLS is the temporal loss's weight of a text (row) against a sound."""
    view, item = np.divmod(np.arange(len(VIEWS) * items), items)
    overlap = np.maximum.outer(view, view) == VIEWS.index("overlap")
    kind = np.where(np.equal.outer(view, view), 0, np.where(overlap, 2, 1))
    return 2 * kind + np.not_equal.outer(item, item)


def loss_matrix() -> Figure:
    """The weights of a batch's 3 N texts against its 3 N sounds in the temporal loss; matches dark."""
    items = 3
    shown = weights(items)
    figure = Figure(figsize=(COLUMN, 3.5))
    axes = figure.subplots()
    axes.pcolormesh(shown, cmap=ListedColormap(COLOURS), edgecolors="white", linewidth=0.8)
    for (u, v), which in np.ndenumerate(shown):
        say(axes, v + 0.5, u + 0.5, SYMBOLS[which], color=on(COLOURS[which]))
    axes.set(aspect="equal", xlim=(0, len(shown)), ylim=(len(shown), 0))
    for axis, end, name in ((axes.xaxis, "\n", "sounds $Z_a$"), (axes.yaxis, "  ", "texts $Z_t$")):
        labels = [f"{view if n == 2 else ''}{end}{n}" for view in VIEWS for n in range(1, items + 1)]
        axis.set_ticks(np.arange(len(shown)) + 0.5, labels)
        axis.set_label_text(name)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for edge in (items, 2 * items):
        axes.axhline(edge, color="black", linewidth=1)
        axes.axvline(edge, color="black", linewidth=1)
    keys = {"match": COLOURS[:1], "other pairs": COLOURS[1:2], "time": COLOURS[2:4], "overlap": COLOURS[4:]}
    handles = [tuple(Patch(color=colour) for colour in colours) for colours in keys.values()]
    look = {"loc": "outside lower center", "ncols": len(keys), "handler_map": {tuple: HandlerTuple(None)}}
    figure.legend(handles, keys, **look)
    return figure


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


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str) -> None:
    """A module, by its lower left corner: frozen, or trained where its text says so."""
    trained = "trained" in text
    face = {"facecolor": "#F6DDE0" if trained else "#E8E8E8", "edgecolor": "#BB5566" if trained else RIM}
    face |= {"boxstyle": "round,pad=0,rounding_size=0.05", "linewidth": 1.5 if trained else 0.6}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **face))
    say(axes, x + width / 2, y + height / 2, text, linespacing=1.1)


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


SHADES = {"forward": "#444444", "reversed": "#888888", "overlap": WHOLE, "replay": "white"}
CAPTIONS = {"forward": "A before B", "reversed": "B before A", "overlap": "A while B", "replay": "A"}


def _shade(axes: Axes, x: float, y: float, width: float, height: float, view: str) -> None:
    """A rectangle in a view's shade of grey, centred at the height ``y``; replay's is hatched."""
    look = {"edgecolor": RIM, "linewidth": 0.5, "hatch": "/////" if view == "replay" else None}
    cell(axes, x, y - height / 2, width, height, SHADES[view], **look)


def _blocks(axes: Axes, left: float, top: float, size: float, views: int) -> None:
    """The matrix of a loss as blocks of views: matches as a line, other views' blocks in their colour."""
    for (u, v), which in np.ndenumerate(weights(items=1)[:views, :views]):
        # Other pairs of the same two views, as in the loss's own figure.
        cell(axes, left + v * size, top - (u + 1) * size, size, size, COLOURS[which + 1])
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
    cell(axes, 5.2, 0.12, 1.75, 2.06, "none", edgecolor=RIM, linewidth=0.6, linestyle="--")
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
