"""Figures of accuracies: models by task, readouts, window policies, controls, the class hold-out.

Each takes a summary and returns the figure and its rows. Accuracies are in percent, with 95 % intervals.
"""

from functools import partial
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import NEVER, dot_plot, key
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, control, controlled, measured, score, tidy
from figures.style import COLUMN, LABELS, MAIN, MODELS, PLOTTED_MODELS, TEXT, ModelStyle, present

READOUT_TASKS = ("1", "2way_before", "2way_after", "3")
WINDOW_TASKS = ("2way_before", "3", "4")
READOUTS = {name: ModelStyle(*look) for name, look in LABELS["readouts"].items()}
POLICIES = ("fit", "full", "msclap")
CONDITIONS: dict[str, dict[str, str]] = LABELS["conditions"]
"""By title the controls of each panel with their labels, from left to right."""
# Kept apart from tclap.data.captions, which imports the audio code.
SEEN_WORDINGS = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")
SEEN = {name: ModelStyle(*look) for name, look in LABELS["hold_out"].items()}
NAMED = {"": "classes in composites\n(all pairs)", ", named": "classes in composites\n(both sounds named)"}
"""By the end of a name in the hold-out, the panel's title."""


def tasks(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """The compared models on every task; dotted: a guess of the order that never says "while"."""
    models = present(summary["models"], PLOTTED_MODELS)
    rows = tidy(("model", "task"), product(models, TASKS), partial(score, summary))
    panels = {"": {name: f"{task.short}\n{task.asks}" for name, task in TASKS.items()}}
    never = key("order guessed, never \u201cwhile\u201d", **NEVER)
    figure = dot_plot(rows, (None, "task", "model"), panels, (TEXT, 2.0), keys=[never])
    for place in map(list(TASKS).index, THREE_WAY):
        figure.axes[0].hlines(NEVER_WHILE, place - 0.5, place + 0.5, **NEVER)
    return figure, rows


def readouts(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each readout of the audio trunk's time axis can learn, on the tasks and by the events' distance.

    A mean over time tells the order by what is near the boundary alone.
    """
    panels = {
        "tasks": {task: LABELS["panels"][task] for task in READOUT_TASKS},
        "silence (% of window)": LABELS["distances"],
    }
    places = ((panel, name, task) for panel in panels for name in READOUTS for task in panels[panel])
    rows = tidy(("panel", "readout", "task"), places, lambda _, *where: measured(summary, "readouts", *where))
    return dot_plot(rows, ("panel", "task", "readout"), panels, (COLUMN, 1.9), looks=READOUTS), rows


def windows(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """What each window policy costs at evaluation, for the main models."""
    asked = product(POLICIES, MAIN, WINDOW_TASKS)
    rows = tidy(("policy", "model", "task"), asked, partial(measured, summary, "windows"))
    panels = {task: {policy: policy for policy in POLICIES} for task in WINDOW_TASKS}
    titles = LABELS["panels"]
    return dot_plot(rows, ("task", "policy", "model"), panels, (COLUMN, 1.8), titles=titles), rows


def conditions(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy under gaps, other lengths, levels and noise, and away from the boundary."""
    models = controlled(summary)
    places = ((p, m, name) for p, points in CONDITIONS.items() for m in models for name in points)
    rows = tidy(("panel", "model", "control"), places, lambda _, *where: control(summary, *where))
    look = {"label": "2-way (before), %", "joined": True}
    figure = dot_plot(rows, ("panel", "control", "model"), CONDITIONS, (TEXT, 1.95), **look)
    return figure, rows.assign(panel=rows["panel"].str.replace("\n", " "))


def wordings(summary: dict) -> tuple[Figure, pd.DataFrame]:
    """Accuracy by wording, those seen in training before the others."""
    models = controlled(summary)
    found = summary["controls"][models[0]].get("wording", ()) if models else ()
    names = sorted((name for name in found if "{a}" in name), key=lambda name: name not in SEEN_WORDINGS)
    rows = tidy(
        ("wording", "model"), product(names, models), lambda w, m: control(summary, m, f"wording: {w}")
    )
    rows.insert(2, "seen", rows["wording"].isin(SEEN_WORDINGS))
    panels = {"": {name: name.format(a="A", b="B") for name in names}}
    look = {"label": "2-way accuracy (%)", "titles": {"": "left of the line: seen in training"}}
    figure = dot_plot(rows, (None, "wording", "model"), panels, (COLUMN, 2.6), **look)
    for axes in figure.axes:
        axes.tick_params(axis="x", rotation=90)
        axes.axvline(len(set(names) & set(SEEN_WORDINGS)) - 0.5, color="black", linewidth=0.5, zorder=0.8)
    return figure, rows


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
