"""Figures of accuracies by task: models, ablations, prompts, readouts, window policies, changes of slots.

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
from figures.style import COLUMN, COMPARED, LABELS, MAIN, MODELS, PLOTTED_MODELS, TEXT, ModelStyle, present

ABLATION_TASKS = ("2way_before", "3", "overlap", "4", "5")
READOUT_TASKS = ("1", "2way_before", "2way_after", "3")
WINDOW_TASKS = ("2way_before", "3", "4")
SLOT_TASKS = ("2way_before", "boundary: 15%", "boundary: 85%", "wording: unseen", "overlap", "4", "5")
READOUTS = {name: ModelStyle(*look) for name, look in LABELS["readouts"].items()}
POLICIES = ("fit", "full", "msclap")
UNCHANGED = "as it is"


def tasks(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Base, control, T-CLAP and slots on every task; dotted: a guess of the order that never says "while"."""
    models = present(summary["models"], PLOTTED_MODELS)
    rows = tidy(("model", "task"), product(models, TASKS), partial(score, summary))
    places = {key: f"{task.short}\n{task.asks}" for key, task in TASKS.items()}
    look = {"bars": 0.8 / len(models), "keys": [key("order guessed, never \u201cwhile\u201d", **NEVER)]}
    figure = dot_plot(rows, (None, "task", "model"), {"": ("", places)}, (TEXT, 2.3), **look)
    (axes,) = figure.axes
    axes.set_ylim(0, 104)
    for place in map(list(TASKS).index, THREE_WAY):
        axes.hlines(NEVER_WHILE, place - 0.45, place + 0.45, zorder=3, **NEVER)
    return figure, rows


def ablation(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Every variant on five tasks; lines set those apart that are to be read together."""
    models = present(summary["models"])
    rows = tidy(("model", "task"), product(models, ABLATION_TASKS), partial(score, summary))
    panels = _panels(ABLATION_TASKS, {model: MODELS[model].label for model in models})
    distinct = ("t-clap-distinct", "t-clap-alpha-same-0", "t-clap-alpha-cross-0")
    figure = dot_plot(
        rows,
        ("task", "model", "model"),
        panels,
        (TEXT, 0.9 + 0.17 * len(models)),
        along="x",
        label="accuracy (%), 95 % interval; ticks: seeds; dashed: chance; blue line: T-CLAP",
        step=0,
        reference="t-clap",
        groups=[(model in COMPARED, model in distinct) for model in models],
    )
    return figure, rows


def slot_ablation(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Slots with one thing changed (``artifact.slot_ablation``), of one seed."""
    found = {(row["group"], row["change"]): row["tasks"] for row in summary.get("slot_ablation") or []}
    asked = ((*change, task) for change, scores in found.items() for task in scores)
    rows = tidy(("group", "change", "task"), asked, lambda *where: found[where[:2]][where[2]])
    figure = dot_plot(
        rows,
        ("task", "change", None),
        _panels(SLOT_TASKS, {change: slot_change(group, change) for group, change in found}),
        (TEXT, 0.9 + 0.17 * len(found)),
        looks={"": MODELS["clap-slots"]},
        along="x",
        label="accuracy (%), 95 % interval, one seed; dashed: chance; green line: as it is",
        step=0,
        reference="",
        groups=[group for group, _ in found],
    )
    return figure, rows


def slot_change(group: str, change: str) -> str:
    """What a row of the ablation of slots changes, in a few words."""
    what = LABELS["slot_changes"].get(group)
    return f"{what}: {LABELS['bases'].get(change, change)}" if what else UNCHANGED


def _panels(tasks: Sequence[str], places: dict[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    return {task: (LABELS["panels"][task], places) for task in tasks}


def prompts(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Single clips by prompt, of the main models; the axis covers what was found and says so by its ticks."""
    asked = ((model, prompt) for model in MAIN for prompt in dig(summary["models"], model, "prompts") or {})
    rows = tidy(("model", "prompt"), asked, partial(score, summary, group="prompts"))
    places = {prompt: prompt for prompt in rows["prompt"].unique()}
    limits = max(rows["low"].min() - 3, -2), min(rows["high"].max() + 3, 102)
    look = {"along": "x", "label": "task 1 accuracy (%), 95 % interval; ticks: seeds", "limits": limits}
    size = (COLUMN, 0.8 + 0.27 * len(places))
    return dot_plot(rows, (None, "prompt", "model"), {"": ("", places)}, size, **look), rows


def readouts(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each readout of the audio trunk's time axis can learn; a mean over time is all but order-blind."""
    rows = tidy(("readout", "task"), product(READOUTS, READOUT_TASKS), partial(dig, summary, "readouts"))
    panels = {"": ("", {task: LABELS["panels"][task] for task in READOUT_TASKS})}
    return dot_plot(rows, (None, "task", "readout"), panels, (COLUMN, 2.0), looks=READOUTS), rows


def windows(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each window policy costs at evaluation, for the main models."""
    asked = product(POLICIES, MAIN, WINDOW_TASKS)
    rows = tidy(("policy", "model", "task"), asked, partial(dig, summary, "windows"))
    panels = _panels(WINDOW_TASKS, dict(zip(POLICIES, POLICIES, strict=True)))
    return dot_plot(rows, ("task", "policy", "model"), panels, (COLUMN, 2.1)), rows
