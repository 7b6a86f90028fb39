from __future__ import annotations

import re

import made_up
import pytest

from paper import latex, numbers


def defined(text: str) -> list[str]:
    return re.findall(r"^\\newcommand\{\\([A-Za-z]+)\}\{.*\}$", text, re.M)


def test_macros_are_letters_and_unique(summary):
    text = numbers.numbers_tex(summary)
    names = defined(text)
    assert len(names) == len(set(names)) == text.count(r"\newcommand")
    pairs = [pair for part in numbers.PARTS for pair in part(summary)]
    assert len(pairs) == len(names), "no two parts may define the same macro"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"random_weights": True}, r"\textbf{random weights: these numbers mean nothing}"),
        ({"random_weights": False}, ""),
        (None, ""),
    ],
)
def test_the_paper_warns_of_random_weights(summary, origin, expected):
    summary["origin"] = origin
    assert numbers.macros(summary)["weightswarning"] == expected
    line = rf"\newcommand{{\weightswarning}}{{{expected}}}"
    assert line in numbers.numbers_tex(summary).splitlines()


def test_names_of_several_words_are_joined(summary):
    summary["readouts"] = {"residual-segments": {"3": made_up.entry(90.0, 33.3)}}
    macros = numbers.macros(summary)
    assert macros["ReadoutResidualSegmentsTaskThree"] == "90.0"
    assert macros["ReadoutPublishedTaskThree"] == "--"
    assert macros["TClapClothoTextToAudioROne"] == macros["TClapAudiocapsAudioToTextMedianRank"] == "--"
    gallery = {"text_to_audio": {"R@1": 12.5, "median_rank": 7.0}}
    summary["models"]["t-clap"]["retrieval"]["clotho"] = gallery
    macros = numbers.macros(summary)
    assert macros["TClapClothoTextToAudioROne"] == "12.5"
    assert macros["TClapClothoTextToAudioMedianRank"] == "7.0"


def test_values(summary):
    macros = numbers.macros(summary)
    assert macros["TClapTaskThree"] == "92.2"
    assert macros["TClapTaskThreeInterval"] == "[90.7, 93.7]"
    assert macros["ChanceTaskFive"] == "0.13"
    assert macros["GainOverClapTaskThree"] == r"\ensuremath{+73.7}"
    assert macros["GainOverClapTaskThreeInterval"] == r"[\ensuremath{+71.7}, \ensuremath{+75.7}]"
    assert macros["POverClapTaskThree"] == r"\ensuremath{p < 0.001}"
    assert macros["VerdictOverClapTaskThree"] == "significantly above"
    assert macros["VerdictOverClapTaskOne"] == "not significantly different from"
    assert macros["ClapPromptLowest"] == "89.2" and macros["ClapPromptHighest"] == "93.2"
    assert macros["TClapOrderedTextToAudioROne"] == "44.0"
    assert macros["WindowMsclapTClapTaskThree"] == "59.4"
    assert macros["ReadoutMeanTwoWayBefore"] == "51.0"
    assert (macros["seeds"], macros["classes"], macros["ClipsPost"]) == ("2", "20", "800")


def test_a_worse_model_is_called_so(summary):
    summary["models"]["t-clap"]["zste"]["3"]["accuracy"] = 1.0
    assert numbers.macros(summary)["VerdictOverClapTaskThree"] == "significantly below"


def test_a_comparison_is_told_in_a_clause(summary):
    macros = numbers.macros(summary)
    assert macros["ClauseOverClapTaskThree"] == (
        r"significantly above the base model (difference \ensuremath{+73.7} points, 95\,\% interval "
        r"[\ensuremath{+71.7}, \ensuremath{+75.7}], \ensuremath{p < 0.001})"
    )
    assert macros["ClauseSlotsOverClapTaskThree"] == "not compared with the base model"
    assert macros["AboveOverClap"].startswith("task 2a, task 3, task 3$'$, two-way before")
    assert macros["AboveOverClap"].endswith("overlap, task 4 and task 5")
    assert macros["BelowOverClap"] == macros["AboveSlotsOverTClap"] == "none"
    assert macros["DetectableOverClapTaskOne"] == "--"
    summary["comparisons"][0]["detectable"] = 2.34
    assert numbers.macros(summary)["DetectableOverClapTaskOne"] == "2.3"


def test_the_p_that_is_told_is_the_adjusted_one(summary):
    summary["comparisons"][3] |= {"mcnemar_p": 0.01, "holm_p": 0.06}
    macros = numbers.macros(summary)
    assert macros["POverClapTaskThree"] == r"\ensuremath{p = 0.060}"
    assert macros["VerdictOverClapTaskThree"] == "not significantly different from"


def test_wordings_are_misread_in_seeds(summary):
    wordings = summary["controls"]["t-clap"]["wording"]
    for entry in wordings.values():
        entry["per_seed"] = [45.0, 99.0]
    macros = numbers.macros(summary)
    assert (macros["TClapMisread"], macros["TClapWordingsUnseenBySeed"]) == ("none", "45.0 and 99.0")
    wordings["{b} follows {a}"]["per_seed"] = [0.5, 24.9]
    wordings["before {b}, {a}"]["per_seed"] = [3.0, 100.0]
    wordings["unseen"]["per_seed"] = [0.5, 3.0]
    expected = "``B follows A'' (in 2 of 2 seeds) and ``before B, A'' (in 1 of 2 seeds)"
    assert set(numbers.macros(summary)["TClapMisread"].split(" and ")) == set(expected.split(" and "))
    assert numbers.macros(summary)["SlotsMisread"] == "none"


def test_slots_with_one_thing_changed(summary):
    macros = numbers.macros(summary)
    assert macros["AblatedUnchangedTwoWayBefore"] == "95.0"
    assert macros["AblatedShortPartsBoundaryFifteen"] == "92.0"
    assert macros["AblatedAttentionThreeBefore"] == "74.0"
    assert macros["AblatedHalfPartsTaskFive"] == "--"


def test_a_difference_of_nothing_has_no_minus():
    assert latex.signed(-0.04) == latex.signed(0.0) == r"\ensuremath{+0.0}"
    assert (latex.signed(-0.06), latex.signed(None)) == (r"\ensuremath{-0.1}", "--")


def test_settings_are_printed_as_they_were_given():
    assert (latex.plain(0.005), latex.plain(450), latex.plain(12800)) == ("0.005", "450", r"12\,800")
    assert (latex.plain(None), latex.thousands(1234567), latex.percent(0.2)) == (
        "--",
        r"1\,234\,567",
        r"20\,\%",
    )
