"""What slots in time rest on: the figure and the table of the summary's ``slot_ablation``.

Each row is the base model with slots with one thing changed (``artifact.slot_ablation``), the first one as it
is everywhere else; all are of one seed.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import CHANCE, TIGHT, chance_of, nothing, percent_axis, point
from figures.scores import tidy
from figures.style import MODELS, TEXT, styled
from paper import latex

NONE = "This run did not take slots apart."
UNCHANGED = "as it is"
GROUPS = {
    UNCHANGED: "as it is",
    "parts": "parts",
    "slots": "slots",
    "whole": "weight of the whole",
    "wordings": "wordings learnt from",
    "events": "names learnt from",
    "base": "base model",
}
BASES = {
    "clap-no-sequences": "heard no sequence",
    "clap-single-sounds": "heard single sounds only",
    "clap-attention": "trunk attends over time",
}
PANELS = {
    "2way_before": "2-way\n(before)",
    "boundary: 15%": "boundary\n15 %",
    "boundary: 85%": "boundary\n85 %",
    "wording: unseen": "unseen\nwordings",
    "overlap": "overlap",
    "4": "task 4",
    "5": "task 5",
}
COLUMNS = {
    "1": "1",
    "2way_before": "2-way b",
    "2way_after": "2-way a",
    "boundary: 15%": r"15\,\%",
    "boundary: 85%": r"85\,\%",
    "wording: unseen": "unseen",
    "3": "3",
    "overlap": "overlap",
    "4": "4",
    "5": "5",
    "three: before": "three",
}


def title(row: dict) -> str:
    """What a row changes, in a few words."""
    if row["group"] == UNCHANGED:
        return GROUPS[UNCHANGED]
    return f"{GROUPS[row['group']]}: {BASES.get(row['change'], row['change'])}"


def frame(summary: dict) -> pd.DataFrame:
    """Tidy rows ``group, change, task`` and measures; empty where none was measured."""
    entries = (
        ((row["group"], row["change"], task), score)
        for row in summary.get("slot_ablation") or []
        for task, score in row["tasks"].items()
    )
    return tidy(("group", "change", "task"), entries)


def figure_slot_ablation(summary: dict) -> Figure:
    """Every change on the tasks of order, a panel a task, as dots with 95 % intervals."""
    with styled():
        rows, scores = summary.get("slot_ablation") or [], frame(summary)
        if not rows:
            return nothing(TEXT, NONE)
        places = {(row["group"], row["change"]): place for place, row in enumerate(rows)}
        figure = Figure(figsize=(TEXT, 0.9 + 0.17 * len(rows)))
        panels = figure.subplots(1, len(PANELS), sharey=True)
        look = MODELS["clap-slots"]
        for axes, (task, name) in zip(panels, PANELS.items(), strict=True):
            of_task = scores[scores["task"] == task]
            for row in of_task.to_dict("records"):
                place = places[row["group"], row["change"]]
                point(axes, row["accuracy"], place, row, "x", color=look.colour, marker=look.marker)
            if len(of_task):
                axes.axvline(chance_of(of_task), zorder=0.9, **CHANCE)
            for accuracy in of_task.loc[of_task["group"] == UNCHANGED, "accuracy"]:
                axes.axvline(accuracy, zorder=0.9, color=look.colour, linewidth=0.6)
            for place in range(1, len(rows)):
                if rows[place]["group"] != rows[place - 1]["group"]:
                    axes.axhline(place - 0.5, color="black", linewidth=0.4, zorder=0.8)
            percent_axis(axes, "x", "")
            axes.set_xlim(-6, 106)
            axes.set_xticks([0, 50, 100])
            axes.set_title(name, **TIGHT)
            axes.grid(True, axis="y")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(rows)), [title(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.supxlabel("accuracy (%), 95 % interval; dashed: chance; line: as it is", fontsize="medium")
    return figure


def table_5(summary: dict, draft: pd.DataFrame) -> str:
    """Slots with one thing changed: accuracies with intervals below, then chance and n."""
    rows = summary.get("slot_ablation") or []
    lines = [latex.row([r"accuracy in \%", *COLUMNS.values()]), r"\midrule"]
    group = None
    for row in rows:
        if group not in (None, row["group"]):
            lines.append(r"\addlinespace")
        group = row["group"]
        scores = [row["tasks"].get(task) for task in COLUMNS]
        cells = [(latex.number(s["accuracy"]), s["ci95"]) if s else (latex.DASH, None) for s in scores]
        lines += latex.two_lines(latex.escape(title(row)), cells)
    known = [next((row["tasks"][t] for row in rows if t in row["tasks"]), None) for t in COLUMNS]
    lines += [
        r"\midrule",
        latex.row(["chance", *(latex.chance(score and score["chance"]) for score in known)]),
        latex.row(["$n$", *(latex.number(score and score["n"], 0) for score in known)]),
    ]
    return latex.tabular("l" + "r" * len(COLUMNS), lines) + "\n"
