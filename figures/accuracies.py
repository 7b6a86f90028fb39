"""Figures of accuracies by task: models, ablations, prompts, readouts, window policies, changes of slots.

Each takes a summary and returns the figure and its rows. Accuracies are in percent, with 95 % intervals.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import CHANCE, NEVER, dot_plot, key, legend_above, swatch
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, dig, score, tidy
from figures.style import COLUMN, MAIN, MODELS, PLOTTED_MODELS, TEXT, ModelStyle, present

LABELS = {
    "1": "task 1\n(class)",
    "2way_before": "2-way\n(before)",
    "2way_after": "2-way\n(after)",
    "3": "task 3\n(3-way)",
    "overlap": "overlap\n(while)",
    "4": "task 4\n(1 of 50)",
    "5": "task 5\n(which first)",
    "boundary: 15%": "boundary\nat 15 %",
    "boundary: 85%": "boundary\nat 85 %",
    "wording: unseen": "unseen\nwordings",
}
ABLATION_TASKS = ("2way_before", "3", "overlap", "4", "5")
FAMILIES = {
    "t-clap-no-replay": "without", "t-clap-no-overlap": "without", "t-clap-no-time": "without",
    "t-clap-half": "without", "t-clap-distinct": "distinct", "t-clap-alpha-same-0": "distinct",
    "t-clap-alpha-cross-0": "distinct",
}  # fmt: skip
"""Models that are to be read together; the others are the compared ones."""
READOUTS = {
    "mean": ModelStyle("mean over time", "#DDAA33", "o"),
    "segments": ModelStyle("segment means", "#BB5566", "s"),
    "ends": ModelStyle("end states", "#004488", "D"),
    "published": ModelStyle("as published", "#DDAA33", "o"),
    "residual-segments": ModelStyle("residual segments", "#004488", "D"),
}
READOUT_TASKS = ("1", "2way_before", "2way_after", "3")
POLICIES = ("fit", "full", "msclap")
WINDOW_TASKS = ("2way_before", "3", "4")
SLOT_TASKS = ("2way_before", "boundary: 15%", "boundary: 85%", "wording: unseen", "overlap", "4", "5")
UNCHANGED = "as it is"
SLOT_CHANGES = {
    "parts": "parts",
    "slots": "slots",
    "whole": "weight of the whole",
    "wordings": "training wordings",
    "events": "training event names",
    "base": "base model",
}
BASES = {
    "clap-no-sequences": "no sequences",
    "clap-single-sounds": "single sounds only",
    "clap-attention": "trunk attends over time",
}


def tasks(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Base, control, T-CLAP and slots on every task; dotted: a guess of the order that never says "while"."""
    models = present(summary["models"], PLOTTED_MODELS)
    rows = tidy(("model", "task"), product(models, TASKS), partial(score, summary))
    places = {key: f"{task.short}\n{task.asks}" for key, task in TASKS.items()}
    look = {"step": 0.8 / len(models), "bars": True, "legend": False}
    figure = dot_plot(rows, (None, "task", "model"), {"": ("", places)}, (TEXT, 2.3), **look)
    figure.axes[0].set_ylim(0, 104)
    for place, task in enumerate(TASKS):
        if task in THREE_WAY:
            figure.axes[0].hlines(NEVER_WHILE, place - 0.45, place + 0.45, zorder=3, **NEVER)
    lines = [key("chance", **CHANCE), key("order guessed, never \u201cwhile\u201d", **NEVER)]
    legend_above(figure, [*(swatch(MODELS[model]) for model in models), *lines])
    return figure, rows


def ablation(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Every variant on five tasks; pale line: T-CLAP."""
    models = present(summary["models"])
    rows = tidy(("model", "task"), product(models, ABLATION_TASKS), partial(score, summary))
    places = {model: MODELS[model].label for model in models}
    label = "accuracy (%), 95 % interval; ticks: seeds; dashed: chance; blue line: T-CLAP"
    families = [FAMILIES.get(model) for model in models]
    return _list(rows, ("task", "model", "model"), ABLATION_TASKS, places, families, label, "t-clap"), rows


def slot_ablation(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Slots with one thing changed (``artifact.slot_ablation``), one seed; pale line: as they are."""
    found = summary.get("slot_ablation") or []
    changes = {(row["group"], row["change"]): row["tasks"] for row in found}
    asked = ((*change, task) for change, tasks in changes.items() for task in tasks)
    rows = tidy(("group", "change", "task"), asked, lambda *where: changes[where[:2]][where[2]])
    places = {change: slot_change(group, change) for group, change in changes}
    label = "accuracy (%), 95 % interval, one seed; dashed: chance; green line: as it is"
    groups, looks = [group for group, _ in changes], {"": MODELS["clap-slots"]}
    columns = ("task", "change", None)
    return _list(rows, columns, SLOT_TASKS, places, groups, label, "", looks=looks), rows


def slot_change(group: str, change: str) -> str:
    """What a row of the ablation of slots changes, in a few words."""
    return UNCHANGED if group == UNCHANGED else f"{SLOT_CHANGES[group]}: {BASES.get(change, change)}"


def _list(
    rows, columns, tasks, places: dict[str, str], groups: list, label: str, reference: str, **look
) -> Figure:
    """A list of models, one row each, with a panel for each task and lines between groups of models."""
    breaks = [n for n in range(1, len(groups)) if groups[n] != groups[n - 1]]
    panels = {task: (LABELS[task], places) for task in tasks}
    look |= {
        "along": "x",
        "label": label,
        "step": 0,
        "reference": reference,
        "breaks": breaks,
        "legend": False,
    }
    return dot_plot(rows, columns, panels, (TEXT, 0.9 + 0.17 * len(places)), **look)


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
    panels = {"": ("", {task: LABELS[task] for task in READOUT_TASKS})}
    return dot_plot(rows, (None, "task", "readout"), panels, (COLUMN, 2.0), looks=READOUTS), rows


def windows(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each window policy costs at evaluation, for the main models."""
    asked = product(POLICIES, MAIN, WINDOW_TASKS)
    rows = tidy(("policy", "model", "task"), asked, partial(dig, summary, "windows"))
    panels = {task: (LABELS[task], dict(zip(POLICIES, POLICIES, strict=True))) for task in WINDOW_TASKS}
    return dot_plot(rows, ("task", "policy", "model"), panels, (COLUMN, 2.1)), rows
