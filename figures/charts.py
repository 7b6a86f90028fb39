"""Figures of accuracies: tasks, ablation, prompts, readouts and window policies.

Every point or bar is an accuracy in percent with its 95 % interval as the summary holds them; the short
grey lines are chance.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.marks import (
    CHANCE,
    GREY,
    NEVER,
    TIGHT,
    bar_look,
    chance_of,
    dot,
    dots,
    legend_above,
    nothing,
    percent_axis,
    point,
    spread,
    swatches,
    whiskers,
)
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, score, tidy
from figures.style import ASKED, COLUMN, MAIN, MODELS, TEXT, present, styled


def rows_tasks(summary: dict) -> pd.DataFrame:
    """Accuracies of base, control, T-CLAP and slots on every task: ``model, task`` and measures."""
    models = present(summary["models"], ASKED)
    return tidy(("model", "task"), (((m, t), score(summary, m, t)) for m in models for t in TASKS))


def figure_tasks(summary: dict) -> Figure:
    """Bars of :func:`rows_tasks` with 95 % intervals and chance lines."""
    with styled():
        rows = rows_tasks(summary)
        models = list(rows["model"].unique())
        figure = Figure(figsize=(TEXT, 2.3))
        axes = figure.subplots()
        width = 0.8 / len(models)
        for position, task in enumerate(TASKS):
            of_task = rows[rows["task"] == task]
            for row in of_task.to_dict("records"):
                x = position + spread(models.index(row["model"]), len(models), width)
                axes.bar(x, row["accuracy"], 0.92 * width, label=row["model"], **bar_look(row["model"]))
                axes.errorbar(x, row["accuracy"], yerr=whiskers(row), color="black", elinewidth=0.8)
            chance = chance_of(of_task)
            if chance is None:
                axes.text(position, 4, "n/a", ha="center", color=GREY)
                continue
            axes.hlines(chance, position - 0.45, position + 0.45, zorder=3, **CHANCE)
            if task in THREE_WAY:
                axes.hlines(NEVER_WHILE, position - 0.45, position + 0.45, zorder=3, **NEVER)
        axes.set_xticks(range(len(TASKS)), [f"{task.short}\n{task.asks}" for task in TASKS.values()], **TIGHT)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(TASKS) - 0.4)
        percent_axis(axes)
        axes.set_ylim(0, 104)
        axes.grid(False, axis="x")
        lines = [
            Line2D([], [], **CHANCE, label="chance"),
            Line2D([], [], **NEVER, label="order guessed, never \u201cwhile\u201d"),
        ]
        legend_above(figure, swatches(models) + lines, 6)
    return figure


ABLATION_TASKS = {
    "2way_before": "2-way (before)",
    "3": "task 3",
    "overlap": "overlap",
    "4": "task 4",
    "5": "task 5",
}


ASPECTS = ("t-clap-no-replay", "t-clap-no-overlap", "t-clap-no-time", "t-clap-half")
FAMILIES = dict.fromkeys(ASPECTS, "without") | {
    name: "distinct" for name in ("t-clap-distinct", "t-clap-alpha-same-0", "t-clap-alpha-cross-0")
}
"""Models that are to be read together; the others are the compared ones."""


def rows_ablation(summary: dict) -> pd.DataFrame:
    """Accuracies of every variant on five tasks: ``model, task`` and measures."""
    models = present(summary["models"])
    return tidy(("model", "task"), (((m, t), score(summary, m, t)) for m in models for t in ABLATION_TASKS))


def figure_ablation(summary: dict) -> Figure:
    """:func:`rows_ablation`, one panel a task, as dots with 95 % intervals."""
    with styled():
        rows = rows_ablation(summary)
        models = list(rows["model"].unique())
        figure = Figure(figsize=(TEXT, 0.75 + 0.17 * len(models)))
        panels = figure.subplots(1, len(ABLATION_TASKS), sharey=True)
        for axes, (task, title) in zip(panels, ABLATION_TASKS.items(), strict=True):
            of_task = rows[rows["task"] == task]
            for row in of_task.to_dict("records"):
                look, y = MODELS[row["model"]], models.index(row["model"])
                point(axes, row["accuracy"], y, row, "x", color=look.colour, marker=look.marker)
            chance = chance_of(of_task)
            if chance is None:
                axes.text(50, (len(models) - 1) / 2, "n/a", ha="center", color=GREY)
            else:
                axes.axvline(chance, zorder=0.9, **CHANCE)
            known = of_task.loc[of_task["model"] == "t-clap", "accuracy"]
            if len(known):
                axes.axvline(known.iloc[0], zorder=0.9, color=MODELS["t-clap"].colour, linewidth=0.6)
            for row in range(1, len(models)):
                if FAMILIES.get(models[row], "") != FAMILIES.get(models[row - 1], ""):
                    axes.axhline(row - 0.5, color="black", linewidth=0.4, zorder=0.8)
            percent_axis(axes, "x", "")
            axes.set_xlim(-5, 105)
            axes.set_xticks([0, 50, 100])
            axes.set_title(title)
            axes.grid(True, axis="y")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(models)), [MODELS[model].label for model in models])
        panels[0].set_ylim(len(models) - 0.5, -0.5)
        figure.supxlabel("accuracy (%), 95 % interval; dashed: chance; blue line: T-CLAP", fontsize="medium")
    return figure


def rows_prompts(summary: dict) -> pd.DataFrame:
    """Single-clip accuracies of the main models by prompt: ``model, prompt`` and measures."""
    prompts = {m: summary["models"].get(m, {}).get("prompts") or {} for m in MAIN}
    entries = (((m, p), score(summary, m, p, "prompts")) for m in MAIN for p in prompts[m])
    return tidy(("model", "prompt"), entries)


def figure_prompts(summary: dict) -> Figure:
    """:func:`rows_prompts` as dots with 95 % intervals."""
    with styled():
        rows = rows_prompts(summary)
        if rows.empty:
            return nothing(COLUMN, "This run measured no prompt sensitivity.")
        models, prompts = list(rows["model"].unique()), list(rows["prompt"].unique())
        figure = Figure(figsize=(COLUMN, 0.8 + 0.27 * len(prompts)))
        axes = figure.subplots()
        for row in rows.to_dict("records"):
            look = MODELS[row["model"]]
            y = prompts.index(row["prompt"]) + spread(models.index(row["model"]), len(models), 0.24)
            point(axes, row["accuracy"], y, row, "x", color=look.colour, marker=look.marker)
        axes.set_yticks(range(len(prompts)), prompts)
        axes.set_ylim(len(prompts) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        # The prompts differ by little, so the axis covers what was found, and says its range by its ticks.
        axes.set_xlim(max(rows["low"].min() - 3, -2), min(rows["high"].max() + 3, 102))
        axes.grid(True, axis="x")
        axes.set_xlabel("task 1 accuracy (%), 95 % interval")
        legend_above(figure, dots(models), 3)
    return figure


READOUT_LOOKS = {
    "mean": ("mean over time", "#DDAA33", "o"),
    "segments": ("segment means", "#BB5566", "s"),
    "ends": ("end states", "#004488", "D"),
    "published": ("as published", "#DDAA33", "o"),
    "residual-segments": ("residual segments", "#004488", "D"),
}
READOUTS = ("mean", "segments", "ends", "published", "residual-segments")
READOUT_TASKS = {
    "1": "task 1\n(class)",
    "2way_before": "2-way\n(before)",
    "2way_after": "2-way\n(after)",
    "3": "task 3\n(3-way)",
}


def rows_readouts(summary: dict) -> pd.DataFrame:
    """Accuracies by readout of the audio trunk's time axis: ``readout, task`` and measures."""
    found = summary.get("readouts") or {}
    pairs = ((name, task) for name in READOUTS for task in READOUT_TASKS)
    return tidy(("readout", "task"), ((pair, (found.get(pair[0]) or {}).get(pair[1])) for pair in pairs))


def figure_readouts(summary: dict) -> Figure:
    """What each readout can learn, from :func:`rows_readouts`; a mean over time is all but order-blind."""
    with styled():
        rows = rows_readouts(summary)
        if rows.empty:
            return nothing(COLUMN, "This run compared no readouts.")
        names = list(rows["readout"].unique())
        figure = Figure(figsize=(COLUMN, 2.0))
        axes = figure.subplots()
        for position, task in enumerate(READOUT_TASKS):
            of_task = rows[rows["task"] == task]
            for row in of_task.to_dict("records"):
                x = position + spread(names.index(row["readout"]), len(names), 0.22)
                _, colour, marker = READOUT_LOOKS[row["readout"]]
                point(axes, x, row["accuracy"], row, "y", color=colour, marker=marker)
            if len(of_task):
                axes.hlines(chance_of(of_task), position - 0.42, position + 0.42, **CHANCE)
        axes.set_xticks(range(len(READOUT_TASKS)), list(READOUT_TASKS.values()), **TIGHT)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(READOUT_TASKS) - 0.4)
        percent_axis(axes)
        legend_above(figure, [dot(*READOUT_LOOKS[name]) for name in names], 3)
    return figure


POLICIES = ("fit", "full", "msclap")
WINDOW_TASKS = {"2way_before": "2-way (before)", "3": "task 3", "4": "task 4"}


def rows_windows(summary: dict) -> pd.DataFrame:
    """Accuracies of the main models by window policy: ``model, policy, task`` and measures."""
    windows = summary.get("windows") or {}
    found = {policy: windows.get(policy) or {} for policy in POLICIES}
    places = ((m, p, t) for m in MAIN for p in POLICIES for t in WINDOW_TASKS)
    entries = (((m, p, t), (found[p].get(m) or {}).get(t)) for m, p, t in places)
    return tidy(("model", "policy", "task"), entries)


def figure_windows(summary: dict) -> Figure:
    """What each window policy costs at evaluation, from :func:`rows_windows`."""
    with styled():
        rows = rows_windows(summary)
        if rows.empty:
            return nothing(COLUMN, "This run compared no window policies.")
        policies, models = present(rows["policy"], POLICIES), present(rows["model"], MAIN)
        figure = Figure(figsize=(COLUMN, 2.0))
        panels = figure.subplots(1, len(WINDOW_TASKS), sharey=True)
        for axes, (task, title) in zip(panels, WINDOW_TASKS.items(), strict=True):
            of_task = rows[rows["task"] == task]
            for row in of_task.to_dict("records"):
                look = MODELS[row["model"]]
                x = policies.index(row["policy"]) + spread(models.index(row["model"]), len(models), 0.2)
                point(axes, x, row["accuracy"], row, "y", color=look.colour, marker=look.marker)
            if len(of_task):
                axes.axhline(chance_of(of_task), zorder=0.9, **CHANCE)
            else:
                axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", color=GREY)
            percent_axis(axes, "y", "")
            axes.set_title(title)
            axes.set_xticks(range(len(policies)), policies)
            axes.set_xlim(-0.5, len(policies) - 0.5)
        panels[0].set_ylabel("accuracy (%)")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], 4)
    return figure
