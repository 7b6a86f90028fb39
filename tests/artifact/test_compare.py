import made_up
import pytest

from artifact import compare

ALL = len(compare.differences(made_up.summary(), made_up.summary()))


def test_differences_are_ours_minus_reference_largest_first(summary):
    reference = made_up.summary()
    reference["models"]["t-clap"]["zste"]["4"]["accuracy"] = 86.7
    table = compare.differences(summary, reference)
    assert table.index[0] == "models/t-clap/zste/4" and (table["difference"] != 0).sum() == 1
    assert table.iloc[0].tolist() == pytest.approx([84.7, 86.7, -2.0])
    # Models of 10 tasks, 5 prompts and 4 measures in 2 directions of 3 galleries, and what stands beside
    beside = sum(len(conditions) for groups in summary["controls"].values() for conditions in groups.values())
    beside += 5 * (10 + 4) + 3 * 2 * 4 + sum(len(row["tasks"]) for row in summary["slot_ablation"])
    beside += 4 * 6 + 2  # of the hold-out
    assert len(table) == len(made_up.ACCURACY) * (10 + 5 + 24) + beside == ALL
    for name in ("readouts/mean/3", "windows/msclap/t-clap/4", "controls/clap/near/both"):
        assert name in table.index
    assert {"slot_ablation/parts: 35 % alone/5", "hold_out/40%/none seen, named"} <= set(table.index)
    assert "models/clap/retrieval/ordered/text_to_audio/R@10" in table.index


def test_a_run_is_verified_number_by_number(summary):
    reference = made_up.summary()
    same, text = compare.verify(summary, reference)
    assert same and text.startswith(f"Of {ALL} numbers that this run shares with the reference, 0 differ")
    reference["models"]["clap"]["zste"]["3"]["accuracy"] += 3.0
    same, text = compare.verify(summary, reference)
    assert same and "1 differ, 0 of them by more than 3 percentage points, at most by 3.00" in text
    reference["models"]["t-clap"]["zste"]["3"]["accuracy"] -= 4.25
    reference["readouts"]["ends"]["2way_after"]["accuracy"] -= 10.0
    same, text = compare.verify(summary, reference)
    assert not same and text.splitlines()[1:] == [
        "  readouts/ends/2way_after: reference 88.00, ours 98.00, difference +10.00",
        "  models/t-clap/zste/3: reference 87.95, ours 92.20, difference +4.25",
    ]
    text = compare.verify(summary, reference | {"seeds": [5]})[1]
    assert "compact with seeds [0, 1] here, synthetic compact with seeds [5] in the reference" in text


def test_what_a_run_lacks_is_a_deviation_and_what_it_has_more_is_not(summary):
    small = made_up.summary()
    del small["models"]["t-clap-no-overlap"]["zste"]["4"]
    same, text = compare.verify(small, summary)
    assert not same and text.endswith("  models/t-clap-no-overlap/zste/4: reference 79.00, not in this run")
    same, text = compare.verify(summary, small)
    assert same and "0 are missing here, 1 are new." in text and "\n" not in text
    nothing = {"profile": "p", "base": "b", "seeds": [0], "models": {}}
    assert not compare.verify(nothing, nothing)[0]
