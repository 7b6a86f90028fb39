"""Slots to look at: what a composite's hold, and which words of a caption go into which."""

from __future__ import annotations

import html
import re

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from artifact.notebook.sounds import Page
from figures.drawing import on
from figures.marks import legend_above
from figures.style import COLUMN, styled

COLOURS = ("#004488", "#DDAA33")
MARKS = {"first": COLOURS[0], "last": COLOURS[1], "between": "#777777", "both": "#DD99BB"}
ONE = {"start": "first", "end": "last", "together": "both"}  # slot of all events of a relation


def figure_slots(cosines: pd.DataFrame) -> Figure:
    """Bars by slot, a panel for each order; rows ``view, slot, event, cosine``."""
    views, slots, events = (list(cosines[key].unique()) for key in ("view", "slot", "event"))
    colours = dict(zip(events, COLOURS, strict=True))
    with styled():
        figure = Figure(figsize=(COLUMN, 2.0))
        panels = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
        for axes, view in zip(panels, views, strict=True):
            rows = cosines[cosines["view"] == view].set_index(["event", "slot"])["cosine"]
            for n, event in enumerate(events):
                at = [s + 0.4 * (n - 0.5) for s in range(len(slots))]
                axes.bar(at, rows[event][slots], 0.38, color=colours[event])
            order = events if view == "forward" else events[::-1]
            axes.set_title(", then ".join(order), fontsize="medium")
            axes.set_xticks(range(len(slots)), slots)
            axes.tick_params(axis="x", length=0)
            axes.axhline(0, color="black", linewidth=0.6)
        panels[0].set_ylabel("cosine")
        legend_above(figure, [Patch(color=colour, label=event) for event, colour in colours.items()])
    return figure


def marked_captions(readings: pd.DataFrame) -> Page:
    """Captions with their events' words coloured by the slot they go into; grey: left to the model itself.

    ``readings``: rows of :func:`artifact.order_from_text.readings`.
    """
    lines = []
    columns = ["caption", "relation", "in time", "throughout"]
    for caption, relation, in_time, throughout in readings[columns].itertuples(index=False):
        events = [html.escape(event) for event in in_time.split(" \u2192 ") if event]
        slots = ["first", *["between"] * (len(events) - 2), "last"][: len(events)]
        slots = [ONE.get(relation, slot) for slot in slots]
        marks = dict(zip(events, slots, strict=True))
        marks |= {html.escape(event): "both" for event in throughout.split(" \u2192 ") if event}
        marked = _marked(html.escape(caption), marks)
        look = "" if events else ' style="color:#777777"'
        lines.append(f"<li{look}>{marked} <small>({html.escape(relation)})</small></li>")
    legend = " &nbsp; ".join(_marked(name, {name: name}) for name in MARKS)
    return Page(f"<p>{legend}</p><ul>{''.join(lines)}</ul>", readings.to_string(index=False))


def _marked(caption: str, slots: dict[str, str]) -> str:
    """A caption whose events are coloured by their slot, the longest where several begin at one place."""

    def mark(event: re.Match) -> str:
        colour = MARKS[slots[event[0]]]
        look = f"background:{colour};color:{on(colour)};padding:1px 4px;border-radius:3px"
        return f'<span style="{look}">{event[0]}</span>'

    names = "|".join(re.escape(event) for event in sorted(slots, key=len, reverse=True))
    return re.sub(rf"(?<!\w)({names})(?!\w)", mark, caption) if slots else caption
