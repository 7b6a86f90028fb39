"""Figures of accuracies: models by task, readouts, window policies, the class hold-out.

Each takes a summary and returns the figure and its rows. Accuracies are in percent, with 95 % intervals.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import NEVER, dot_plot, key
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, measured, score, tidy
from figures.style import COLUMN, LABELS, MAIN, MODELS, PLOTTED_MODELS, TEXT, ModelStyle, present

READOUT_TASKS = ("1", "2way_before", "2way_after", "3")
WINDOW_TASKS = ("2way_before", "3", "4")
READOUTS = {name: ModelStyle(*look) for name, look in LABELS["readouts"].items()}
POLICIES = ("fit", "full", "msclap")
SEEN = {name: ModelStyle(*look) for name, look in LABELS["hold_out"].items()}
NAMED = {"": "classes in composites\n(all pairs)", ", named": "classes in composites\n(both sounds named)"}
"""By the end of a name in the hold-out, the panel's title."""


def tasks(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """The compared models on every task; dotted: a guess of the order that never says "while"."""
    models = present(summary["models"], PLOTTED_MODELS)
    rows = tidy(("model", "task"), product(models, TASKS), partial(score, summary))
    panels = {"": {name: f"{task.short}\n{task.asks}" for name, task in TASKS.items()}}
    never = key("order guessed, never \u201cwhile\u201d", **NEVER)
    figure = dot_plot(rows, (None, "task", "model"), panels, (TEXT, 2.0), bars=True, keys=[never])
    (axes,) = figure.axes
    axes.set_ylim(0, 104)
    for place in map(list(TASKS).index, THREE_WAY):
        axes.hlines(NEVER_WHILE, place - 0.5, place + 0.5, zorder=3, **NEVER)
    return figure, rows


def readouts(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each readout of the audio trunk's time axis can learn; a mean over time is all but order-blind."""
    rows = tidy(("readout", "task"), product(READOUTS, READOUT_TASKS), partial(measured, summary, "readouts"))
    panels = {"": {task: LABELS["panels"][task] for task in READOUT_TASKS}}
    return dot_plot(rows, (None, "task", "readout"), panels, (COLUMN, 1.75), looks=READOUTS), rows


def windows(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each window policy costs at evaluation, for the main models."""
    asked = product(POLICIES, MAIN, WINDOW_TASKS)
    rows = tidy(("policy", "model", "task"), asked, partial(measured, summary, "windows"))
    panels = {task: {policy: policy for policy in POLICIES} for task in WINDOW_TASKS}
    titles = LABELS["panels"]
    return dot_plot(rows, ("task", "policy", "model"), panels, (COLUMN, 1.8), titles=titles), rows


def hold_out(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """T-CLAP's two-way accuracy over the classes that composites had in training, by how many a pair has.

    Right: of the composites whose sounds the model names rightly. The band is the base model with slots, on
    all pairs. Intervals are over clips and splits.
    """
    found = summary.get("hold_out") or {}
    classes = {name: str(entry["classes"]) for name, entry in found.items() if "classes" in entry}
    keys = ("fraction", "seen", "panel")
    rows = tidy(keys, product(classes, SEEN, NAMED), lambda f, s, p: measured(found, f, s + p))
    look = {"titles": NAMED, "looks": SEEN, "label": "two-way accuracy (%)", "joined": True}
    slots = {"color": MODELS["clap-slots"].colour}
    look |= {"keys": [key(MODELS["clap-slots"].label, **slots)]}
    panels = dict.fromkeys(NAMED, classes)
    figure = dot_plot(rows, ("panel", "fraction", "seen"), panels, (COLUMN, 2.1), **look)
    band = tidy(keys, product(("all",), ("slots",), NAMED), lambda _, s, p: measured(found, s + p))
    for axes, row in zip(figure.axes, band.itertuples(), strict=False):
        axes.axhspan(row.low, row.high, alpha=0.3, linewidth=0, **slots)
        axes.axhline(row.accuracy, **slots)
    return figure, pd.concat([rows, band], ignore_index=True)
