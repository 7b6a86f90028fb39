"""Figures of ideas, drawn from code alone: the paradigm, the loss, the architecture, slots in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures.drawing import FIRST, SECOND, arrow, box, canvas, cell, chip, composite, on, say, wave
from figures.style import COLUMN, TEXT, styled

VIEWS = ("forward", "reversed", "overlap")


def figure_paradigm() -> Figure:
    """What a CLAP is trained for: in a batch of pairs, the similarities on the diagonal."""
    items, size, left, top = 4, 0.4, 1.58, 2.02
    captions = ("a dog barks", "rain falls", "a clock ticks", "a bell rings")
    with styled():
        figure, axes = canvas(COLUMN, 2.92)
        box(axes, left, 2.28, items * size, 0.25, "audio tower")
        for n in range(items):
            x = left + (n + 0.5) * size
            wave(axes, x - 0.15, 2.76, 0.3, 0.26, "#333333", n + 1)
            arrow(axes, (x, 2.62), (x, 2.54))
            arrow(axes, (x, 2.27), (x, top + 0.13))
            say(axes, x, top + 0.065, f"$a_{n + 1}$")
        box(axes, 0.92, top - items * size, 0.27, items * size, "text tower", rotation=90)
        for n, caption in enumerate(captions):
            y = top - (n + 0.5) * size
            say(axes, 0.82, y, caption, ha="right", style="italic")
            arrow(axes, (0.84, y), (0.91, y))
            arrow(axes, (1.2, y), (1.31, y))
            say(axes, 1.43, y, f"$t_{n + 1}$")
            for m in range(items):
                match = m == n
                x = left + m * size
                cell(axes, x, y - size / 2, size, size, FIRST if match else "#DDDDDD")
                colour = "white" if match else "#333333"
                say(axes, x + size / 2, y, rf"$t_{n + 1}\!\cdot a_{m + 1}$", color=colour)
        cell(axes, 0.92, 0.14, 0.14, 0.14, FIRST)
        say(axes, 1.1, 0.2, "the pair: to be most similar in its row and its column", ha="left", size=7)
    return figure


ALPHAS = {
    "alpha_same": (0.8, r"$\alpha_s$"),
    "alpha_cross": (0.6, r"$\alpha_c$"),
    "alpha_same_overlap": (0.4, r"$\alpha_s^o$"),
    "alpha_cross_overlap": (0.2, r"$\alpha_c^o$"),
}
"""Values by which the weights are told apart, and how they are written."""


def loss_weights(items: int = 3) -> np.ndarray:
    """The matrix A ``[3 N, 3 N]`` of :mod:`tclap.losses` for N pairs, measured on the loss itself.

    With orthogonal embeddings all similarities are 0, so that the logits are log A. For anchors of one
    view the gradient of text u's embedding along audio v's is then ``½ A_uv / R_u``, the column's own
    anchor adding as much within the view, and ``1 / R_u − 1`` at the match, where R_u is the sum of row u.
    """
    import torch

    from tclap.losses import temporal_nce

    size = len(VIEWS) * items
    weights = np.empty((size, size))
    for view in range(len(VIEWS)):
        text, audio = torch.eye(2 * size, dtype=torch.float64).reshape(2, len(VIEWS), items, 2 * size)
        text.requires_grad_()
        chosen = tuple(float(v == view) for v in range(len(VIEWS)))
        values = {name: value for name, (value, _) in ALPHAS.items()}
        temporal_nce(audio, text, 1.0, view_weights=chosen, **values).backward()
        gradient = items * text.grad[view, :, size:].numpy()
        own = slice(view * items, (view + 1) * items)
        match = gradient[:, own].diagonal()
        sums = 1 / (1 + match)
        block = 2 * gradient * sums[:, None]
        block[:, own] /= 2
        block[:, own][np.diag_indices(items)] = 1.0
        weights[own] = block
    return weights


LOSS_COLOURS = {
    "match": FIRST,
    "1": "#D9D9D9",
    r"$\alpha_s$": "#DDAA33",
    r"$\alpha_c$": "#F3DFB3",
    r"$\alpha_s^o$": "#D08A95",
    r"$\alpha_c^o$": "#F1D9DC",
}


def figure_loss_matrix() -> Figure:
    """The weights of a batch's 3 N texts against its 3 N sounds in the temporal loss; matches dark."""
    items, size, left, top = 3, 0.29, 0.68, 3.0
    symbols = {1.0: "1"} | dict(ALPHAS.values())
    with styled():
        figure, axes = canvas(COLUMN, 3.62)
        count = len(VIEWS) * items
        for (u, v), weight in np.ndenumerate(loss_weights(items)):
            symbol = next(s for value, s in symbols.items() if abs(value - weight) < 1e-6)
            colour = LOSS_COLOURS["match" if u == v else symbol]
            x, y = left + v * size, top - (u + 1) * size
            cell(axes, x, y, size, size, colour)
            say(axes, x + size / 2, y + size / 2, symbol, color="white" if u == v else "black")
        for n in range(1, len(VIEWS)):
            at = n * items * size
            axes.plot([left, left + count * size], [top - at] * 2, color="black", linewidth=1)
            axes.plot([left + at] * 2, [top, top - count * size], color="black", linewidth=1)
        for n, view in enumerate(VIEWS):
            middle = (n + 0.5) * items * size
            say(axes, left + middle, top + 0.24, view)
            say(axes, left - 0.3, top - middle, view, rotation=90)
        for n in range(count):
            say(axes, left + (n + 0.5) * size, top + 0.09, str(n % items + 1), size=7, color="#555555")
            say(axes, left - 0.1, top - (n + 0.5) * size, str(n % items + 1), size=7, color="#555555")
        say(axes, left + count * size / 2, top + 0.44, "sounds $Z_a$")
        say(axes, left - 0.52, top - count * size / 2, "texts $Z_t$", rotation=90)
        keys = ("match", "match"), ("1", "other pairs"), (r"$\alpha_s$", "time"), (r"$\alpha_s^o$", "overlap")
        for n, (key, meaning) in enumerate(keys):
            x = left + (0, 0.62, 1.4, 1.92)[n]
            pair = {r"$\alpha_s$": r"$\alpha_c$", r"$\alpha_s^o$": r"$\alpha_c^o$"}.get(key)
            cell(axes, x, 0.1, 0.12, 0.12, LOSS_COLOURS[key])
            if pair:
                cell(axes, x + 0.06, 0.1, 0.06, 0.12, LOSS_COLOURS[pair], linewidth=0)
            say(axes, x + 0.17, 0.155, meaning, ha="left", size=7.5)
    return figure


SHADES = {"forward": "#444444", "reversed": "#888888", "overlap": "#C4C4C4", "replay": "white"}
CAPTIONS = {"forward": "A before B", "reversed": "B before A", "overlap": "A while B", "replay": "A"}


def shade(axes: Axes, x: float, y: float, width: float, height: float, view: str) -> None:
    """A rectangle in a view's shade of grey, centred at the height ``y``; replay's is hatched."""
    look = {"edgecolor": "#777777", "linewidth": 0.5, "hatch": "/////" if view == "replay" else None}
    cell(axes, x, y - height / 2, width, height, SHADES[view], **look)


def blocks(axes: Axes, left: float, top: float, size: float, views: Sequence[str]) -> None:
    """The matrix of a loss as blocks of views: matches as a line, other views' blocks in their colour."""
    for (u, one), (v, other) in itertools.product(enumerate(views), repeat=2):
        x, y = left + v * size, top - u * size
        key = "1" if u == v else r"$\alpha_c^o$" if "overlap" in (one, other) else r"$\alpha_c$"
        cell(axes, x, y - size, size, size, LOSS_COLOURS[key])
        if u == v:
            axes.plot(
                [x, x + size], [y, y - size], color=LOSS_COLOURS["match"], linewidth=2, solid_capstyle="butt"
            )


def figure_architecture() -> Figure:
    """Both towers: three views of each pair, and replay, through frozen trunks and trained heads."""
    with styled():
        figure, axes = canvas(TEXT, 2.3)
        rows = {"audio": (2.1, 1.82, 1.54, 1.26), "text": (0.78, 0.57, 0.36, 0.15)}
        for tower, heights in rows.items():
            for view, y in zip(SHADES, heights, strict=True):
                shade(axes, 0.04, y, 0.07, 0.13, view)
                say(axes, 0.16, y, view, ha="left")
                if tower == "audio":
                    composite(axes, 0.65, y, 0.95, 0.24, view)
                else:
                    say(axes, 0.65, y, f"\u201c{CAPTIONS[view]}\u201d", style="italic", ha="left")
            y, between = sum(heights) / 4, "frames" if tower == "audio" else "tokens"
            arrow(axes, (1.66, y), (1.9, y))
            box(axes, 1.92, y - 0.28, 0.8, 0.56, f"{tower} trunk\nfrozen")
            arrow(axes, (2.73, y), (3.3, y))
            for n in range(5):
                cell(axes, 2.79 + 0.09 * n, y + 0.06, 0.08, 0.18, "#BBBBBB", linewidth=0)
            say(axes, 3.01, y - 0.1, between)
            box(axes, 3.32, y - 0.28, 0.8, 0.56, f"{tower} head\ntrained", trained=True)
            arrow(axes, (4.14, y), (4.36, y))
            for n, view in enumerate(SHADES):
                shade(axes, 4.4, y + 0.21 - 0.14 * n, 0.36, 0.12, view)
            say(axes, 4.58, y + 0.36, f"$Z_{tower[0]}$")
            arrow(axes, (4.8, y), (5.16, y))
        frame = FancyBboxPatch((5.2, 0.12), 1.75, 2.06, boxstyle="round,pad=0,rounding_size=0.05")
        frame.set(facecolor="none", edgecolor="#777777", linewidth=0.6, linestyle="--")
        axes.add_patch(frame)
        blocks(axes, 5.32, 2.04, 0.27, VIEWS)
        say(axes, 6.54, 1.64, "TNCE\non the views\n$S + \\log A$")
        say(axes, 6.08, 0.98, "+", size=12)
        blocks(axes, 5.56, 0.72, 0.36, ["replay"])
        say(axes, 6.54, 0.54, "CLAP\u2019s loss\non replay")
    return figure


def slots(axes: Axes, x: float, y: float, contents: Sequence[str], colours: Sequence[str]) -> None:
    """An embedding with slots, each with its text and colour; the last is the narrow rest."""
    for n, (text, colour) in enumerate(zip(contents, colours, strict=True)):
        width = 0.2 if n == len(contents) - 1 else 0.5
        look = {"edgecolor": "#777777", "linewidth": 0.5}
        cell(axes, x + 0.5 * n, y - 0.12, width, 0.24, colour, **look)
        say(axes, x + 0.5 * n + width / 2, y, text, color=on(colour))


WHOLE = "#C4C4C4"
PARTS = {"whole": (range(10), WHOLE), "first": (range(5), FIRST), "last": (range(5, 10), SECOND)}


def figure_slots_idea() -> Figure:
    """Slots in time: parts of a sound and events of a caption, by one frozen model, in one vector each."""
    with styled():
        figure, axes = canvas(TEXT, 2.42)
        top, left, right, colours = 1.98, 4.9, 4.4, [WHOLE, FIRST, SECOND, "white"]
        composite(axes, 0.04, top, 1.25, 0.4, "forward")
        say(axes, 0.665, top - 0.32, "a dog barks, then rain falls")
        arrow(axes, (1.33, top), (1.52, top))
        box(axes, 1.54, top - 0.28, 0.62, 0.56, "audio\ntrunk\nfrozen")
        box(axes, 3.62, top - 0.42, 0.56, 0.84, "audio\nhead\nfrozen")
        for n, (name, (kept, colour)) in enumerate(PARTS.items()):
            y = top + 0.3 * (1 - n)
            arrow(axes, (2.18, top + 0.1 * (1 - n)), (2.36, y))
            say(axes, 2.42, y, name, ha="left")
            for k in range(10):
                look = FIRST if k < 5 else SECOND
                cell(
                    axes,
                    2.76 + 0.07 * k,
                    y - 0.08,
                    0.065,
                    0.16,
                    look if k in kept else "#EEEEEE",
                    linewidth=0,
                )
            arrow(axes, (3.47, y), (3.61, y))
            arrow(axes, (4.2, y), (4.36, y))
            cell(axes, right, y - 0.1, 0.28, 0.2, colour, edgecolor="#777777", linewidth=0.5)
            say(axes, right + 0.14, y, f"$e_{n}$", color=on(colour))
        arrow(axes, (4.71, top), (4.89, top))
        slots(axes, left, top, ("$e_0$", "$e_1$", "$e_2$", "0"), colours)
        say(axes, left + 1.74, top, r"$/\sqrt{3}$", ha="left")

        timed, plain = (0.9, 0.6), 0.2
        middle = sum(timed) / 2
        chip(axes, 0.3, middle + 0.1, "rain falls", SECOND)
        say(axes, 0.74, middle + 0.1, "after")
        chip(axes, 0.97, middle - 0.1, "a dog barks", FIRST)
        chip(axes, 0.66, plain, "a dog barks", WHOLE)
        box(axes, 1.54, 0.05, 0.62, 1.05, "reader\ntrained\non captions\nalone", trained=True)
        box(axes, 3.62, 0.05, 0.56, 1.05, "text\ntower\nfrozen")
        events = ("a dog barks", FIRST, "1"), ("rain falls", SECOND, "2"), ("a dog barks", WHOLE, "0")
        for (words, colour, number), y in zip(events, (*timed, plain), strict=True):
            arrow(axes, (2.18, y), (2.34, y))
            chip(axes, 2.9, y, words, colour)
            arrow(axes, (3.43, y), (3.6, y))
            arrow(axes, (4.2, y), (4.36, y))
            cell(axes, right, y - 0.1, 0.28, 0.2, colour, edgecolor="#777777", linewidth=0.5)
            say(axes, right + 0.14, y, f"$g_{number}$", color=on(colour))
        say(axes, 2.42, timed[0], "1", ha="left")
        say(axes, 2.42, timed[1], "2", ha="left")
        for y, contents, kinds in (
            (middle, ("0", "\u00bd $g_1$", "\u00bd $g_2$", "$r$"), ["white", FIRST, SECOND, "white"]),
            (plain, ("$g_0$", "0", "0", "0"), [WHOLE, "white", "white", "white"]),
        ):
            arrow(axes, (1.35, y), (1.52, y))
            arrow(axes, (4.71, y), (4.89, y))
            slots(axes, left, y, contents, kinds)
        for n in range(3):
            x = left + 0.25 + 0.5 * n
            axes.plot([x, x], [middle + 0.15, top - 0.15], color="black", linewidth=0.7, linestyle=":")
            say(
                axes,
                x,
                (middle + top) / 2,
                r"$\cdot$",
                size=14,
                bbox={"facecolor": "white", "edgecolor": "none"},
            )
        say(axes, left + 1.3, (middle + top) / 2, "one dot\nproduct", ha="left")
    return figure
