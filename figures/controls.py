"""Figures and the table of the controls: what an accuracy in the order tasks means.

Points are accuracies in percent with their 95 % interval as the summary's ``controls`` hold them
(:mod:`tclap.evaluation.controls`), by model, group and condition.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.marks import CHANCE, TIGHT, dots, legend_above, nothing, percent_axis, point, spread
from figures.scores import tidy, usable
from figures.style import ASKED, COLUMN, MAIN, MODELS, TEXT, present, styled
from paper import latex

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


def rows_conditions(summary: dict) -> pd.DataFrame:
    """Two-way accuracies by panel and point: ``panel, model, group, condition`` and measures."""
    entries = (
        ((" ".join(title.split()), model, *where), entry(summary, model, *where))
        for title, points in PANELS.items()
        for model in asked(summary)
        for where, _ in points
    )
    return tidy(("panel", "model", "group", "condition"), entries)


def figure_conditions(summary: dict) -> Figure:
    """Two-way accuracy under gaps, other lengths, levels, noise, and away from the boundary."""
    with styled():
        rows = rows_conditions(summary)
        if rows.empty:
            return nothing(TEXT, NONE)
        models = list(rows["model"].unique())
        figure = Figure(figsize=(TEXT, 2.2))
        widths = [len(points) + 1 for points in PANELS.values()]
        panels = figure.subplots(1, len(PANELS), sharey=True, width_ratios=widths)
        for axes, (title, points) in zip(panels, PANELS.items(), strict=True):
            of_panel = rows[rows["panel"] == " ".join(title.split())]
            places = [where for where, _ in points]
            for index, model in enumerate(models):
                look, shift = MODELS[model], spread(index, len(models), 0.16)
                found = of_panel[of_panel["model"] == model]
                at = [
                    places.index(where) + shift
                    for where in zip(found["group"], found["condition"], strict=True)
                ]
                axes.plot(at, found["accuracy"], color=look.colour, linestyle=look.line, linewidth=0.8)
                for x, row in zip(at, found.to_dict("records"), strict=True):
                    point(axes, x, row["accuracy"], row, "y", color=look.colour, marker=look.marker)
            axes.axhline(50, zorder=0.9, **CHANCE)
            percent_axis(axes, "y", "")
            axes.set_xticks(range(len(points)), [label for _, label in points])
            axes.set_xlim(-0.5, len(points) - 0.5)
            axes.grid(False, axis="x")
            axes.set_xlabel(title, **TIGHT)
        panels[0].set_ylabel("2-way (before), %")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], len(models) + 1)
    return figure


def rows_wordings(summary: dict) -> pd.DataFrame:
    """Two-way accuracies by wording, those seen in training first: ``model, wording, seen`` and measures."""
    models = asked(summary)
    names = summary["controls"][models[0]].get("wording", {}) if models else ()
    wordings = sorted((name for name in names if "{a}" in name), key=lambda name: name not in SEEN)
    entries = (((m, w, w in SEEN), entry(summary, m, "wording", w)) for w in wordings for m in models)
    return tidy(("model", "wording", "seen"), entries)


def figure_wordings(summary: dict) -> Figure:
    """Two-way accuracy by wording, seen in training and unseen, of the main models."""
    with styled():
        rows = rows_wordings(summary)
        if rows.empty:
            return nothing(COLUMN, NONE)
        models, wordings = present(rows["model"], ASKED), list(rows["wording"].unique())
        figure = Figure(figsize=(COLUMN, 0.75 + 0.19 * len(wordings)))
        axes = figure.subplots()
        for row in rows.to_dict("records"):
            look = MODELS[row["model"]]
            y = wordings.index(row["wording"]) + spread(models.index(row["model"]), len(models), 0.2)
            point(axes, row["accuracy"], y, row, "x", color=look.colour, marker=look.marker)
        axes.axhline(sum(name in SEEN for name in wordings) - 0.5, color="black", linewidth=0.6)
        axes.axvline(50, zorder=0.9, **CHANCE)
        axes.set_yticks(range(len(wordings)), [name.format(a="A", b="B") for name in wordings])
        axes.set_ylim(len(wordings) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        percent_axis(axes, "x", "2-way accuracy (%); above the line: seen in training")
        legend_above(figure, [*dots(models), Line2D([], [], **CHANCE, label="chance")], 3)
    return figure


# Kept apart from tclap.data.captions, which imports the audio code.
SEEN = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")


def rows_hold_out(summary: dict) -> pd.DataFrame:
    """Two-way accuracies by how many of a pair's classes "half" had: ``model, classes`` and measures."""
    models = asked(summary, HOLD_OUT_MODELS)
    entries = (((m, c), entry(summary, m, "hold-out", c)) for c in HOLD_OUT for m in models)
    return tidy(("model", "classes"), entries)


def figure_hold_out(summary: dict) -> Figure:
    """Two-way accuracy by how many of a pair's classes one post-pretraining had composites of."""
    with styled():
        rows = rows_hold_out(summary)
        if "t-clap-half" not in set(rows["model"]):
            return nothing(COLUMN, "This run held no classes out.")
        models = present(rows["model"], HOLD_OUT_MODELS)
        figure = Figure(figsize=(COLUMN, 2.3))
        axes = figure.subplots()
        for row in rows.to_dict("records"):
            look = MODELS[row["model"]]
            x = list(HOLD_OUT).index(row["classes"]) + spread(models.index(row["model"]), len(models), 0.2)
            point(axes, x, row["accuracy"], row, "y", color=look.colour, marker=look.marker)
        axes.axhline(50, zorder=0.9, **CHANCE)
        sizes = rows[rows["model"] == "t-clap-half"].set_index("classes")["n"]
        labels = [f"{label}\n(n = {sizes.get(name, 0)})" for name, label in HOLD_OUT.items()]
        axes.set_xticks(range(len(HOLD_OUT)), labels, **TIGHT)
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
    lines = [
        latex.row([r"control (accuracy in \%)", *(MODELS[m].label for m in models), "chance", "$n$"]),
        r"\midrule",
    ]
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
