from __future__ import annotations

import made_up
import pandas as pd
import pytest
from test_figures import intervals, test_no_text_leaves_the_figure_or_is_too_small

from artifact import compare
from artifact.order_from_text import SWAPPED
from figures import controls, style
from paper.numbers import QUOTED_CONTROLS, macros
from tclap.data.captions import SEEN_WORDINGS, UNSEEN_ORDERED
from tclap.evaluation.controls import CONDITIONS


@pytest.mark.parametrize("name", ["conditions", "wordings", "hold_out"])
def test_no_text_leaves_a_figure(name, summary):
    test_no_text_leaves_the_figure_or_is_too_small(getattr(controls, f"figure_{name}"), summary)


def test_names_are_those_of_the_evaluation():
    conditions = {where for panel in controls.PANELS.values() for where, _ in panel} - {controls.PLAIN}
    shown = {f"{group}: {condition}" for group, condition in [*conditions, *controls.ROWS]}
    assert {f"{group}: {condition}" for group, condition in conditions} <= set(CONDITIONS) <= shown
    assert controls.SEEN == SEEN_WORDINGS


def test_conditions_have_a_point_each_with_its_interval(summary):
    for axes, points in zip(controls.figure_conditions(summary).axes, controls.PANELS.values(), strict=True):
        expected = [
            summary["controls"][model][group][condition]
            for model in style.MAIN
            for (group, condition), _ in points
        ]
        found = list(intervals(axes, "y"))
        assert [y for _, y, *_ in found] == [e["accuracy"] for e in expected]
        assert [pytest.approx(e["ci95"]) for e in expected] == [list(f[2:]) for f in found]
        assert [round(x) for x, *_ in found] == 3 * list(range(len(points)))


def test_wordings_seen_stand_above_the_line(summary):
    axes = controls.figure_wordings(summary).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [w.format(a="A", b="B") for w in (*SEEN_WORDINGS, *UNSEEN_ORDERED)]
    level = {line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2}
    assert len(SEEN_WORDINGS) - 0.5 in level
    found = sorted((round(y), x) for x, y, *_ in intervals(axes, "x"))
    expected = [
        (row, summary["controls"][model]["wording"][w]["accuracy"])
        for row, w in enumerate((*SEEN_WORDINGS, *UNSEEN_ORDERED))
        for model in style.MAIN
    ]
    assert found == sorted(expected)


def test_hold_out_compares_the_three_models(summary):
    axes = controls.figure_hold_out(summary).axes[0]
    found = sorted((round(x), y) for x, y, *_ in intervals(axes, "y"))
    expected = [
        (x, summary["controls"][model]["hold-out"][c]["accuracy"])
        for x, c in enumerate(("both seen", "one seen", "none seen"))
        for model in ("clap", "t-clap", "t-clap-half")
    ]
    assert found == sorted(expected)
    assert [t.get_text() for t in axes.get_xticklabels()][0] == "both\n(n = 200)"


def test_a_run_without_controls_says_so(summary):
    for controls_of in ({}, {"clap": summary["controls"]["clap"]}):
        few = summary | {"controls": controls_of}
        assert "held no classes out" in controls.figure_hold_out(few).texts[0].get_text()
        table = controls.table_4(few, pd.DataFrame())
        assert table.count("--") >= (len(controls.ROWS) if not controls_of else 0)
    assert "no controls" in controls.figure_conditions(summary | {"controls": {}}).texts[0].get_text()
    assert "no controls" in controls.figure_wordings(summary | {"controls": {}}).texts[0].get_text()


def test_table_4_has_a_row_a_control(summary):
    lines = controls.table_4(summary, pd.DataFrame()).splitlines()
    (line,) = [line for line in lines if line.startswith("three events: ``first")]
    values = [summary["controls"][m]["three"]["then"] for m in style.MAIN]
    for value in values:
        assert f"{value['accuracy']:.1f}" in line and f"[{value['ci95'][0]:.1f}," in line
    assert line.rstrip("\\ ").endswith("50.0 & 200")


def test_quoted_controls_are_macros_and_are_compared(summary):
    found = macros(summary)
    value = summary["controls"]["t-clap-half"]["hold-out"]["none seen"]
    assert found["HalfHoldOutNone"] == f"{value['accuracy']:.1f}"
    assert found["HalfHoldOutNoneInterval"] == "[{:.1f}, {:.1f}]".format(*value["ci95"])
    known = {(g, c) for groups in summary["controls"].values() for g, cs in groups.items() for c in cs}
    # Asked of the models with slots alone.
    known |= {tuple(name.split(": ", 1)) for name in SWAPPED.values()}
    assert set(QUOTED_CONTROLS) <= known
    other = made_up.summary()
    other["controls"]["clap"]["near"]["both"]["accuracy"] += 7
    table = compare.differences(summary, other).set_index(["model", "task"])["difference"]
    assert table["clap", "near: both"] == pytest.approx(-7) and (table.abs() > 0).sum() == 1


def test_the_frame_holds_the_tables_accuracies(summary):
    found = controls.frame(summary)
    assert list(found.index) == [": ".join(where) for where in controls.ROWS]
    assert list(found.columns) == [*style.MAIN, "t-clap-half"]
    assert found.loc["three: then", "t-clap"] == summary["controls"]["t-clap"]["three"]["then"]["accuracy"]
    assert controls.frame({"controls": {}}).empty
