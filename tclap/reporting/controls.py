"""Figures and the table of the controls: what an accuracy in the order tasks means.

Points are accuracies in percent with their 95 % interval as the summary's ``controls`` hold them
(:mod:`tclap.evaluation.controls`), by model, group and condition.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tclap.reporting import latex
from tclap.reporting.charts import CHANCE, dots, legend_above, nothing, percent_axis, point
from tclap.reporting.scores import usable
from tclap.reporting.style import ASKED, COLUMN, MAIN, MODELS, TEXT, present, styled

NONE = "This run asked no controls."
PLAIN = ("plain", "before")
HOLD_OUT_MODELS = ("clap", "t-clap", "t-clap-half", "clap-slots")
HOLD_OUT = {"both seen": "both", "one seen": "one", "none seen": "none"}


def entry(summary: dict, model: str, group: str, condition: str) -> dict | None:
    """``{accuracy, ci95, chance, n, …}`` of one control, or None where the run did not measure it."""
    found = ((summary.get("controls") or {}).get(model, {}).get(group) or {}).get(condition)
    return found if usable(found) else None


def asked(summary: dict, wanted: tuple[str, ...] = ASKED) -> list[str]:
    """Those of ``wanted`` that a run asked controls of."""
    return present(summary["controls"], wanted) if summary.get("controls") else []


# Each panel's points from left to right: group and condition, and what stands below.
PANELS = {
    "cross-fade or gap\n(% of the window)": [
        (("gap", "-25%"), "\N{MINUS SIGN}25"),
        (("gap", "-5%"), "\N{MINUS SIGN}5"),
        (PLAIN, "0"),
        (("gap", "5%"), "5"),
        (("gap", "25%"), "25"),
    ],
    "end of the first event\n(% of the time)": [
        (("boundary", "10%"), "10"),
        (("boundary", "15%"), "15"),
        (("boundary", "25%"), "25"),
        (PLAIN, "50"),
        (("boundary", "75%"), "75"),
        (("boundary", "85%"), "85"),
        (("boundary", "90%"), "90"),
    ],
    "first over second event\n(dB)": [
        (("level", "-20"), "\N{MINUS SIGN}20"),
        (("level", "-10"), "\N{MINUS SIGN}10"),
        (("level", "-3"), "\N{MINUS SIGN}3"),
        (PLAIN, "0"),
        (("level", "+3"), "3"),
        (("level", "+10"), "10"),
        (("level", "+20"), "20"),
    ],
    "signal to noise\n(dB)": [
        (PLAIN, "\N{INFINITY}"),
        (("noise", "20"), "20"),
        (("noise", "10"), "10"),
        (("noise", "0"), "0"),
    ],
    "at the boundary\n(which event)": [
        (PLAIN, "fill"),
        (("near", "both"), "both"),
        (("near", "first"), "1st"),
        (("near", "second"), "2nd"),
        (("near", "neither"), "none"),
    ],
}


def figure_conditions(summary: dict) -> Figure:
    """Two-way accuracy under gaps, other lengths, levels, noise, and away from the boundary."""
    with styled():
        models = asked(summary)
        if not models:
            return nothing(TEXT, NONE)
        figure = Figure(figsize=(TEXT, 2.2))
        widths = [len(points) + 1 for points in PANELS.values()]
        panels = figure.subplots(1, len(PANELS), sharey=True, width_ratios=widths)
        for axes, (title, points) in zip(panels, PANELS.items(), strict=True):
            for index, model in enumerate(models):
                colour, shift = MODELS[model].colour, 0.16 * (index - (len(models) - 1) / 2)
                found = [(x + shift, entry(summary, model, *where)) for x, (where, _) in enumerate(points)]
                found = [(x, value) for x, value in found if value]
                axes.plot(
                    [x for x, _ in found],
                    [value["accuracy"] for _, value in found],
                    color=colour,
                    linestyle=MODELS[model].line,
                    linewidth=0.8,
                )
                for x, value in found:
                    look = {"color": colour, "marker": MODELS[model].marker}
                    point(axes, x, value["accuracy"], value, "y", **look)
            axes.axhline(50, zorder=0.9, **CHANCE)
            percent_axis(axes, "y", "")
            axes.set_xticks(range(len(points)), [label for _, label in points])
            axes.set_xlim(-0.5, len(points) - 0.5)
            axes.grid(False, axis="x")
            axes.set_xlabel(title)
        panels[0].set_ylabel("2-way (before), %")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], len(models) + 1)
    return figure


def figure_wordings(summary: dict) -> Figure:
    """Two-way accuracy by wording, seen in training and unseen, of the main models."""
    with styled():
        models = asked(summary)
        if not models:
            return nothing(COLUMN, NONE)
        wordings = [
            name for name in summary["controls"][models[0]]["wording"] if name not in ("seen", "unseen")
        ]
        seen = [name for name in wordings if name in SEEN]
        rows = [*seen, *(name for name in wordings if name not in seen)]
        figure = Figure(figsize=(COLUMN, 0.75 + 0.19 * len(rows)))
        axes = figure.subplots()
        for row, name in enumerate(rows):
            for index, model in enumerate(models):
                look, value = MODELS[model], entry(summary, model, "wording", name)
                if value:
                    y = row + 0.2 * (index - (len(models) - 1) / 2)
                    point(axes, value["accuracy"], y, value, "x", color=look.colour, marker=look.marker)
        axes.axhline(len(seen) - 0.5, color="black", linewidth=0.6)
        axes.axvline(50, zorder=0.9, **CHANCE)
        axes.set_yticks(range(len(rows)), [name.format(a="A", b="B") for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        percent_axis(axes, "x", "2-way accuracy (%); above the line: seen in training")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], 3)
    return figure


# Kept apart from tclap.data.captions, which imports the audio code.
SEEN = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")


def figure_hold_out(summary: dict) -> Figure:
    """Two-way accuracy by how many of a pair's classes one post-pretraining had composites of."""
    with styled():
        models = asked(summary, HOLD_OUT_MODELS)
        if "t-clap-half" not in models:
            return nothing(COLUMN, "This run held no classes out.")
        figure = Figure(figsize=(COLUMN, 2.3))
        axes = figure.subplots()
        for x, condition in enumerate(HOLD_OUT):
            for index, model in enumerate(models):
                look, value = MODELS[model], entry(summary, model, "hold-out", condition)
                if value:
                    at = x + 0.2 * (index - (len(models) - 1) / 2)
                    point(axes, at, value["accuracy"], value, "y", color=look.colour, marker=look.marker)
        axes.axhline(50, zorder=0.9, **CHANCE)
        sizes = [(entry(summary, "t-clap-half", "hold-out", c) or {}).get("n", 0) for c in HOLD_OUT]
        labels = [f"{label}\n(n = {n})" for label, n in zip(HOLD_OUT.values(), sizes, strict=True)]
        axes.set_xticks(range(len(HOLD_OUT)), labels)
        axes.set_xlim(-0.5, len(HOLD_OUT) - 0.5)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("classes of the pair that \u201chalf\u201d had composites of")
        percent_axis(axes, "y", "2-way accuracy (%)")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], 3)
    return figure


ROWS = {
    ("wording", "seen"): "wordings seen in training",
    ("wording", "unseen"): "wordings never seen",
    ("words", "shuffled"): "words shuffled",
    ("words", "names only"): "the two names only",
    ("words", "swapped"): "relation swapped (right is wrong)",
    ("baseline", "audio only"): "sound only: first what is named better",
    ("baseline", "captions only"): "captions only: against the mean sound",
    ("baseline", "label prior"): "label prior of the other items",
    ("baseline", "always the first"): "always the first candidate",
    ("single", "plain"): "one sound: ``A'', not ``A before B'' \\dots",
    ("single", "says first"): "one sound: ``A before B'' over ``B before A''",
    ("same", "plain"): "two of one class: ``A'', not ``A before B'' \\dots",
    ("same", "says first"): "two of one class: ``A before B'' over ``B before A''",
    ("backwards", "each event"): "each event played backwards",
    ("three", "before"): "three events: ``A before B before C''",
    ("three", "then"): "three events: ``first A, then B, then C''",
}


def table_4(summary: dict, draft: pd.DataFrame) -> str:
    """Controls: one row each, accuracy with interval of the main models, chance, n."""
    models = asked(summary) or present(summary["models"], MAIN)
    lines = [latex.row(["control", *(MODELS[m].label for m in models), "chance", "$n$"]), r"\midrule"]
    group = None
    for (part, condition), title in ROWS.items():
        values = [entry(summary, model, part, condition) for model in models]
        if group not in (None, part):
            lines.append(r"\addlinespace")
        group = part
        cells = [
            f"{latex.number(v['accuracy'])} {latex.small(latex.interval(v['ci95']))}" if v else latex.DASH
            for v in values
        ]
        known = next((v for v in values if v), {})
        lines.append(
            latex.row([title, *cells, latex.chance(known.get("chance")), latex.number(known.get("n"), 0)])
        )
    return latex.tabular("l" + "c" * len(models) + "rr", lines) + "\n"


def frame(summary: dict) -> pd.DataFrame:
    """The table's accuracies to look at in a notebook: a row a control, a column a model."""
    models = asked(summary, (*ASKED, "t-clap-slots", "t-clap-half"))
    values = {
        f"{group}: {condition}": {
            model: found["accuracy"] if (found := entry(summary, model, group, condition)) else None
            for model in models
        }
        for group, condition in ROWS
    }
    return pd.DataFrame.from_dict(values, orient="index", columns=models).round(1)
