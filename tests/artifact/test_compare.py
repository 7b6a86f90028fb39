from __future__ import annotations

import made_up
import pytest

from artifact import compare

ALL = len(compare.differences(made_up.summary(), made_up.summary()))


def test_differences_are_ours_minus_reference(summary):
    reference = made_up.summary()
    reference["models"]["t-clap"]["zste"]["4"]["accuracy"] = 86.7
    table = compare.differences(summary, reference).set_index(["model", "task"])
    row = table.loc[("t-clap", "4")]
    assert (row["ours"], row["reference"]) == (84.7, 86.7)
    assert row["difference"] == pytest.approx(-2.0)
    assert (table["difference"] != 0).sum() == 1
    # 10 models of 10 tasks, 5 prompts and 4 measures in 2 directions of 3 galleries, and what stands beside
    beside = sum(len(conditions) for groups in summary["controls"].values() for conditions in groups.values())
    beside += 3 * 4 + 3 * 2 * 3 + sum(len(row["tasks"]) for row in summary["slot_ablation"])
    assert len(table) == 10 * (10 + 5 + 24) + beside == ALL
    for name in (
        ("readout mean", "3"),
        ("t-clap", "window msclap: 4"),
        ("slots with parts: 20 % alone", "5"),
    ):
        assert name in table.index


def test_report_tells_identical_within_and_different(summary):
    reference = made_up.summary()
    assert compare.report(summary, reference).startswith(f"Identical to the reference in all {ALL} ")
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
    count = len(compare.differences(small, small))
    text = compare.report(summary, small)
    assert text.startswith(f"Identical to the reference in all {count} shared numbers.")
    assert f"{ALL - count} numbers are in only one of the two" in text
    assert compare.differences(small, summary)["difference"].isna().sum() == ALL - count
    small["models"]["clap"]["zste"]["4"] = None
    assert f"{ALL - count + 1} numbers" in compare.report(small, summary)


def test_a_run_is_verified_number_by_number(summary):
    reference = made_up.summary()
    assert compare.verify(summary, reference) == (
        True,
        f"Identical to the reference in all {ALL} shared numbers.\n"
        f"{ALL} numbers: {ALL} the same, 0 within tolerance, 0 different, 0 not in this run, "
        "0 not in the reference.\n",
    )
    reference["models"]["clap"]["zste"]["3"]["accuracy"] += 2.0
    same, text = compare.verify(summary, reference)
    assert same and text.startswith("Within tolerance") and text.count("\n") == 2
    assert f"{ALL - 1} the same, 1 within tolerance, 0 different" in text

    reference["models"]["t-clap"]["zste"]["3"]["accuracy"] -= 4.25
    reference["readouts"]["ends"]["2way_after"]["accuracy"] -= 10.0
    same, text = compare.verify(summary, reference)
    lines = text.splitlines()
    assert not same and lines[0].startswith("Different from the reference")
    assert lines[1:3] == [
        "  readout ends on 2way_after: ours 98.00, reference 88.00, difference +10.00",
        "  t-clap on 3: ours 92.20, reference 87.95, difference +4.25",
    ]
    assert len(lines) == 4 and f"{ALL - 3} the same, 1 within tolerance, 2 different" in lines[3]
    # A wider tolerance, inclusive.
    assert compare.verify(summary, reference, 10.0)[0] and not compare.verify(summary, reference, 9.99)[0]


def test_what_a_run_lacks_is_a_deviation_and_what_it_has_more_is_not(summary):
    small = made_up.summary()
    del small["models"]["t-clap-no-time"]["zste"]["4"]
    same, text = compare.verify(small, summary)
    assert not same
    assert "  t-clap-no-time on 4: not in this run, reference 41.50\n" in text
    assert "1 not in this run, 0 not in the reference." in text
    same, text = compare.verify(summary, small)
    assert same and "0 not in this run, 1 not in the reference." in text


def test_two_runs_without_a_number_in_common_are_not_the_same():
    one, other = (
        {
            "profile": "p",
            "base": "b",
            "seeds": [0],
            "models": {name: {"zste": {"3": made_up.entry(50, 33.3)}}},
        }
        for name in ("clap", "t-clap")
    )
    assert compare.report(one, other).startswith("Nothing to compare")
    assert not compare.verify(one, other)[0]
    assert not compare.verify(one, one | {"models": {}})[0]


def test_other_settings_are_told(summary):
    other = made_up.summary() | {"seeds": [5]}
    assert "seeds [0, 1] here, synthetic compact with seeds [5] in the reference" in compare.report(
        summary, other
    )
