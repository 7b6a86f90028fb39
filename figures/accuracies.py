"""Figures of accuracies by task: models, readouts, window policies.

Each takes a summary and returns the figure and its rows. Accuracies are in percent, with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import NEVER, dot_plot, key
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, dig, score, tidy
from figures.style import COLUMN, LABELS, MAIN, PLOTTED_MODELS, TEXT, ModelStyle, present

READOUT_TASKS = ("1", "2way_before", "2way_after", "3")
WINDOW_TASKS = ("2way_before", "3", "4")
READOUTS = {name: ModelStyle(*look) for name, look in LABELS["readouts"].items()}
POLICIES = ("fit", "full", "msclap")


def tasks(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """The compared models on every task; dotted: a guess of the order that never says "while"."""
    models = present(summary["models"], PLOTTED_MODELS)
    rows = tidy(("model", "task"), product(models, TASKS), partial(score, summary))
    places = {key: f"{task.short}\n{task.asks}" for key, task in TASKS.items()}
    look = {"bars": 0.8 / len(models), "keys": [key("order guessed, never \u201cwhile\u201d", **NEVER)]}
    figure = dot_plot(rows, (None, "task", "model"), {"": ("", places)}, (TEXT, 2.0), **look)
    (axes,) = figure.axes
    axes.set_ylim(0, 104)
    for place in map(list(TASKS).index, THREE_WAY):
        axes.hlines(NEVER_WHILE, place - 0.45, place + 0.45, zorder=3, **NEVER)
    return figure, rows


def _panels(tasks: Sequence[str], places: dict[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    return {task: (LABELS["panels"][task], places) for task in tasks}


def readouts(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each readout of the audio trunk's time axis can learn; a mean over time is all but order-blind."""
    rows = tidy(("readout", "task"), product(READOUTS, READOUT_TASKS), partial(dig, summary, "readouts"))
    panels = {"": ("", {task: LABELS["panels"][task] for task in READOUT_TASKS})}
    return dot_plot(rows, (None, "task", "readout"), panels, (COLUMN, 1.75), looks=READOUTS), rows


def windows(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each window policy costs at evaluation, for the main models."""
    asked = product(POLICIES, MAIN, WINDOW_TASKS)
    rows = tidy(("policy", "model", "task"), asked, partial(dig, summary, "windows"))
    panels = _panels(WINDOW_TASKS, dict(zip(POLICIES, POLICIES, strict=True)))
    return dot_plot(rows, ("task", "policy", "model"), panels, (COLUMN, 1.8)), rows
