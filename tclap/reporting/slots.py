"""What a composite's slots hold: the similarity of each with the names of the two events."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tclap.reporting.charts import legend_above, swatches_of
from tclap.reporting.style import COLUMN, styled

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
