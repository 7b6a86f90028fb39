from __future__ import annotations

import made_up
import pytest

from tclap.reporting import compare


def test_differences_are_ours_minus_reference(summary):
    reference = made_up.summary()
    reference["models"]["t-clap"]["zste"]["4"]["accuracy"] = 86.7
    table = compare.differences(summary, reference).set_index(["model", "task"])
    row = table.loc[("t-clap", "4")]
    assert (row["ours"], row["reference"]) == (84.7, 86.7)
    assert row["difference"] == pytest.approx(-2.0)
    assert (table["difference"] != 0).sum() == 1
    # 10 models of 10 tasks, 5 prompts and 4 measures in 2 directions of 3 galleries; 50 controls of 4 models
    assert len(table) == 10 * (10 + 5 + 24) + 4 * 50


def test_report_tells_identical_within_and_different(summary):
    reference = made_up.summary()
    assert compare.report(summary, reference).startswith("Identical to the reference in all 590")
    reference["models"]["clap"]["zste"]["3"]["accuracy"] += 2.0
    reference["models"]["t-clap"]["zste"]["5"]["accuracy"] += 0.5
    text = compare.report(summary, reference, tolerance=2.5)
    assert text.startswith("Within tolerance of the reference (2.5 percentage points)")
    assert "2 differ, 0 beyond tolerance" in text
    assert "-2.00 points, clap on 3 (18.50 here, 20.50 in the reference)" in text
    assert compare.report(summary, reference, tolerance=1).startswith("Different from the reference")


def test_a_tolerance_is_inclusive_and_must_not_be_negative(summary):
    reference = made_up.summary()
    reference["models"]["clap"]["zste"]["3"]["accuracy"] = 20.5
    assert compare.report(summary, reference, tolerance=2.0).startswith("Within")
    with pytest.raises(ValueError, match="at least 0 percentage points, got -1"):
        compare.report(summary, reference, tolerance=-1)


def test_models_or_tasks_of_one_side_only_are_counted_not_compared(summary):
    small = made_up.summary(("clap",))
    text = compare.report(summary, small)
    assert text.startswith("Identical to the reference in all 89 shared numbers.")
    assert "501 numbers are in only one of the two" in text
    assert compare.differences(small, summary)["difference"].isna().sum() == 501
    small["models"]["clap"]["zste"]["4"] = None
    assert "502 numbers" in compare.report(small, summary)


def test_other_settings_are_told(summary):
    other = made_up.summary() | {"seeds": [5]}
    assert "seeds [0, 1] here, synthetic compact with seeds [5] in the reference" in compare.report(
        summary, other
    )


def test_nothing_in_common_is_told():
    assert compare.report(made_up.summary(("clap",)), made_up.summary(("t-clap",))).startswith(
        "Nothing to compare"
    )
