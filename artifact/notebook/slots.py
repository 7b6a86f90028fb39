"""Slots to look at: what a composite's hold, and which words of a caption go into which."""

from __future__ import annotations

import html
import re

import pandas as pd
from matplotlib.figure import Figure

from artifact.notebook.sounds import Html
from figures.drawing import on
from figures.marks import legend_above, swatches_of
from figures.style import COLUMN, styled

COLOURS = ("#004488", "#DDAA33")


def figure_slots(cosines: pd.DataFrame) -> Figure:
    """Bars by slot, a panel for each order; rows ``view, slot, event, cosine``."""
    with styled():
        views, slots = cosines["view"].unique(), list(cosines["slot"].unique())
        events = list(cosines["event"].unique())
        figure = Figure(figsize=(COLUMN, 2.0))
        panels = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
        for axes, view in zip(panels, views, strict=True):
            rows = cosines[cosines["view"] == view].set_index(["slot", "event"])["cosine"]
            for n, (event, colour) in enumerate(zip(events, COLOURS, strict=True)):
                at = [s + 0.4 * (n - 0.5) for s in range(len(slots))]
                axes.bar(at, [rows[slot, event] for slot in slots], 0.38, color=colour)
            order = events if view == "forward" else events[::-1]
            axes.set_title(", then ".join(order), fontsize="medium")
            axes.set_xticks(range(len(slots)), slots)
            axes.tick_params(axis="x", length=0)
            axes.axhline(0, color="black", linewidth=0.6)
        panels[0].set_ylabel("cosine")
        legend_above(figure, swatches_of(dict(zip(events, COLOURS, strict=True))), 2)
    return figure


MARKS = {"first": COLOURS[0], "last": COLOURS[1], "between": "#777777", "both": "#DD99BB"}
ONE = {"start": "first", "end": "last", "together": "both"}  # slot of all events of a relation


def marked_captions(readings: pd.DataFrame) -> Html:
    """Captions with their events' words coloured by the slot they go into; grey: left to the model itself.

    ``readings``: rows ``caption, relation, in time`` of :func:`artifact.order_from_text.readings`.
    """
    legend = " &nbsp; ".join(_mark(name, colour) for name, colour in MARKS.items())
    lines = []
    for row in readings.to_dict("records"):
        events = [event for event in row["in time"].split(" \u2192 ") if event]
        slots = ["first", *["between"] * (len(events) - 2), "last"]
        slots = [ONE[row["relation"]]] * len(events) if row["relation"] in ONE else slots[: len(events)]
        caption, last = "", 0
        for start, end, slot in _places(row["caption"], events, slots):
            caption += html.escape(row["caption"][last:start])
            caption += _mark(html.escape(row["caption"][start:end]), MARKS[slot])
            last = end
        caption += html.escape(row["caption"][last:])
        look = "" if events else ' style="color:#777777"'
        lines.append(f"<li{look}>{caption} <small>({html.escape(row['relation'])})</small></li>")
    return Html(f"<p>{legend}</p><ul>{''.join(lines)}</ul>")


def _places(caption: str, events: list[str], slots: list[str]) -> list[tuple[int, int, str]]:
    """Where each event stands in a caption, with its slot; no two overlap, the longest are found first."""
    taken: list[tuple[int, int, str]] = []
    for event, slot in sorted(zip(events, slots, strict=True), key=lambda pair: -len(pair[0])):
        for match in re.finditer(rf"(?<!\w){re.escape(event)}(?!\w)", caption):
            if all(match.end() <= start or end <= match.start() for start, end, _ in taken):
                taken.append((*match.span(), slot))
                break
    return sorted(taken)


def _mark(text: str, colour: str) -> str:
    look = f"background:{colour};color:{on(colour)};padding:1px 4px;border-radius:3px"
    return f'<span style="{look}">{text}</span>'
