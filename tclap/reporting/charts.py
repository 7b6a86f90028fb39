"""Figures of accuracies: tasks, ablation, prompts, readouts and window policies.

Every point or bar is an accuracy in percent with its 95 % interval as the summary holds them; the short
grey lines are chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from tclap.reporting.scores import NEVER_WHILE, TASKS, THREE_WAY, score, shared, usable
from tclap.reporting.style import ASKED, COLUMN, MAIN, MODELS, TEXT, present, styled

GREY = "#555555"
# The white rim keeps the lines visible where they cross a dark bar.
RIM = [withStroke(linewidth=2.2, foreground="white")]
CHANCE = {"color": GREY, "linestyle": (0, (2, 1)), "linewidth": 0.9, "path_effects": RIM}
NEVER = {"color": GREY, "linestyle": (0, (0.6, 1)), "linewidth": 1.1, "path_effects": RIM}


def whiskers(entry: dict) -> np.ndarray:
    """Distances ``[2, 1]`` of a score's interval ends from its accuracy, as error bars want them."""
    accuracy, (low, high) = entry["accuracy"], entry["ci95"]
    return np.array([[accuracy - low], [high - accuracy]]).clip(min=0)


def point(axes: Axes, x: float, y: float, entry: dict, along: str, **look) -> ErrorbarContainer:
    """A dot with its interval along ``"x"`` or ``"y"``."""
    errors = {f"{along}err": whiskers(entry)}
    return axes.errorbar([x], [y], **errors, linestyle="none", elinewidth=0.9, markersize=3.2, **look)


def legend_above(figure: Figure, handles: Sequence, columns: int) -> None:
    """Put a legend over the axes, where it can hide nothing."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def swatches(models: Sequence[str]) -> list[Patch]:
    """Legend entries of bars."""
    return swatches_of({MODELS[model].label: MODELS[model].colour for model in models})


def swatches_of(colours: dict[str, str]) -> list[Patch]:
    """Legend entries of bars by name and colour."""
    return [Patch(color=colour, label=name) for name, colour in colours.items()]


def dots(models: Sequence[str]) -> list[Line2D]:
    """Legend entries of points."""
    return [dot(MODELS[model].label, MODELS[model].colour, MODELS[model].marker) for model in models]


def dot(label: str, colour: str, marker: str) -> Line2D:
    """One point in a legend."""
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)


def nothing(width: float, sentence: str) -> Figure:
    """A figure that says why it is empty, so that a paper about a smaller run still builds."""
    figure = Figure(figsize=(width, 0.6))
    figure.text(0.5, 0.5, sentence, ha="center", va="center", style="italic")
    return figure


def percent_axis(axes: Axes, along: str = "y", label: str = "accuracy (%)") -> None:
    """Limits 0 to 100 with a little air, so that a marker at either end is whole."""
    getattr(axes, f"set_{along}lim")(-4, 104)
    getattr(axes, f"set_{along}ticks")([0, 25, 50, 75, 100])
    axes.grid(True, axis=along)
    getattr(axes, f"set_{along}label")(label)


def figure_tasks(summary: dict) -> Figure:
    """Bars of base, control and T-CLAP on every task, with 95 % intervals and chance lines."""
    with styled():
        models = present(summary["models"], ASKED)
        figure = Figure(figsize=(TEXT, 2.3))
        axes = figure.subplots()
        width = 0.8 / len(models)
        for position, task in enumerate(TASKS):
            for index, model in enumerate(models):
                entry = score(summary, model, task)
                if entry is None:
                    continue
                x = position + (index - (len(models) - 1) / 2) * width
                look = MODELS[model]
                axes.bar(x, entry["accuracy"], 0.92 * width, color=look.colour, label=model)
                axes.errorbar(x, entry["accuracy"], yerr=whiskers(entry), color="black", elinewidth=0.8)
            chance = shared(summary, task, "chance")
            if chance is None:
                axes.text(position, 4, "n/a", ha="center", color=GREY)
                continue
            axes.hlines(chance, position - 0.45, position + 0.45, zorder=3, **CHANCE)
            if task in THREE_WAY:
                axes.hlines(NEVER_WHILE, position - 0.45, position + 0.45, zorder=3, **NEVER)
        axes.set_xticks(range(len(TASKS)), [f"{task.short}\n{task.asks}" for task in TASKS.values()])
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


def figure_ablation(summary: dict) -> Figure:
    """Every variant on five tasks, one panel a task, as dots with 95 % intervals."""
    with styled():
        models = present(summary["models"])
        figure = Figure(figsize=(TEXT, 0.75 + 0.17 * len(models)))
        panels = figure.subplots(1, len(ABLATION_TASKS), sharey=True)
        for axes, (task, title) in zip(panels, ABLATION_TASKS.items(), strict=True):
            for row, model in enumerate(models):
                entry, look = score(summary, model, task), MODELS[model]
                if entry is not None:
                    point(axes, entry["accuracy"], row, entry, "x", color=look.colour, marker=look.marker)
            chance = shared(summary, task, "chance")
            if chance is None:
                axes.text(50, (len(models) - 1) / 2, "n/a", ha="center", color=GREY)
            else:
                axes.axvline(chance, zorder=0.9, **CHANCE)
            percent_axis(axes, "x", "")
            axes.set_xlim(-5, 105)
            axes.set_xticks([0, 50, 100])
            axes.set_title(title)
            axes.grid(True, axis="y")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(models)), [MODELS[model].label for model in models])
        panels[0].set_ylim(len(models) - 0.5, -0.5)
        figure.supxlabel("accuracy (%), 95 % interval; dashed: chance", fontsize="medium")
    return figure


def figure_prompts(summary: dict) -> Figure:
    """Single-clip classification under each prompt template, as dots with 95 % intervals."""
    with styled():
        models = [m for m in MAIN if summary["models"].get(m, {}).get("prompts")]
        if not models:
            return nothing(COLUMN, "This run measured no prompt sensitivity.")
        templates = list(dict.fromkeys(t for m in models for t in summary["models"][m]["prompts"]))
        figure = Figure(figsize=(COLUMN, 0.8 + 0.27 * len(templates)))
        axes = figure.subplots()
        found = []
        for row, template in enumerate(templates):
            for index, model in enumerate(models):
                entry, look = score(summary, model, template, "prompts"), MODELS[model]
                if entry is None:
                    continue
                y = row + 0.24 * (index - (len(models) - 1) / 2)
                point(axes, entry["accuracy"], y, entry, "x", color=look.colour, marker=look.marker)
                found += entry["ci95"]
        axes.set_yticks(range(len(templates)), templates)
        axes.set_ylim(len(templates) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        # The prompts differ by little, so the axis covers what was found, and says its range by its ticks.
        axes.set_xlim(max(min(found, default=0) - 3, -2), min(max(found, default=100) + 3, 102))
        axes.grid(True, axis="x")
        axes.set_xlabel("task 1 accuracy (%), 95 % interval")
        legend_above(figure, dots(models), 3)
    return figure


READOUTS = {
    "mean": ("mean over time", "#DDAA33", "o"),
    "segments": ("segment means", "#BB5566", "s"),
    "ends": ("end states", "#004488", "D"),
    "published": ("as published", "#DDAA33", "o"),
    "residual-segments": ("residual segments", "#004488", "D"),
}
READOUT_TASKS = {
    "1": "task 1\n(class)",
    "2way_before": "2-way\n(before)",
    "2way_after": "2-way\n(after)",
    "3": "task 3\n(3-way)",
}


def figure_readouts(summary: dict) -> Figure:
    """What each readout of the audio trunk's time axis can learn; a mean over time is all but order-blind."""
    with styled():
        names = [name for name in READOUTS if (summary.get("readouts") or {}).get(name)]
        if not names:
            return nothing(COLUMN, "This run compared no readouts.")
        figure = Figure(figsize=(COLUMN, 2.0))
        axes = figure.subplots()
        for position, task in enumerate(READOUT_TASKS):
            entries = {name: summary["readouts"][name].get(task) for name in names}
            for index, (name, entry) in enumerate(entries.items()):
                if not usable(entry):
                    continue
                x = position + 0.22 * (index - (len(names) - 1) / 2)
                _, colour, marker = READOUTS[name]
                point(axes, x, entry["accuracy"], entry, "y", color=colour, marker=marker)
            chances = [entry["chance"] for entry in entries.values() if usable(entry)]
            if chances:
                axes.hlines(chances[0], position - 0.42, position + 0.42, **CHANCE)
        axes.set_xticks(range(len(READOUT_TASKS)), list(READOUT_TASKS.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(READOUT_TASKS) - 0.4)
        percent_axis(axes)
        legend_above(figure, [dot(*READOUTS[name]) for name in names], 3)
    return figure


POLICIES = ("fit", "full", "msclap")
WINDOW_TASKS = {"2way_before": "2-way (before)", "3": "task 3", "4": "task 4"}


def figure_windows(summary: dict) -> Figure:
    """What each window policy costs base and T-CLAP at evaluation."""
    with styled():
        windows = summary.get("windows") or {}
        policies = [policy for policy in POLICIES if windows.get(policy)]
        if not policies:
            return nothing(COLUMN, "This run compared no window policies.")
        models = present({m for p in policies for m in windows[p]}, MAIN)
        figure = Figure(figsize=(COLUMN, 2.0))
        panels = figure.subplots(1, len(WINDOW_TASKS), sharey=True)
        for axes, (task, title) in zip(panels, WINDOW_TASKS.items(), strict=True):
            for index, model in enumerate(models):
                look = MODELS[model]
                for x, policy in enumerate(policies):
                    entry = (windows[policy].get(model) or {}).get(task)
                    if usable(entry):
                        x += 0.2 * (index - (len(models) - 1) / 2)
                        point(axes, x, entry["accuracy"], entry, "y", color=look.colour, marker=look.marker)
            chances = [
                windows[p][m][task]["chance"]
                for p in policies
                for m in windows[p]
                if usable((windows[p][m] or {}).get(task))
            ]
            if chances:
                axes.axhline(chances[0], zorder=0.9, **CHANCE)
            else:
                axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", color=GREY)
            percent_axis(axes, "y", "")
            axes.set_title(title)
            axes.set_xticks(range(len(policies)), policies)
            axes.set_xlim(-0.5, len(policies) - 0.5)
        panels[0].set_ylabel("accuracy (%)")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], 4)
    return figure
