from __future__ import annotations

import re

import made_up
import pytest

from tclap import paths
from tclap.reporting import numbers

TEX = (paths.CHECKOUT / "paper" / "main.tex").read_text(encoding="utf-8")


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
    # It stands where every reader sees it, in the first lines of the paper's text.
    assert r"\weightswarning" in TEX.split(r"\section")[0]


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


@pytest.mark.parametrize("models", [tuple(made_up.ACCURACY), ("clap",)])
def test_every_macro_of_the_paper_exists_for_any_run(models):
    summary = made_up.summary(models)
    for key in ("readouts", "windows", "clips", "classes", "comparisons") if len(models) == 1 else ():
        del summary[key]
    names = set(defined(numbers.numbers_tex(summary)))
    # Our macros have a capital or are the four of the run; LaTeX's own commands have neither.
    used = set(re.findall(r"\\((?:[A-Z][a-z]*){2,}|profile|base|seeds|classes)(?![A-Za-z])", TEX))
    used -= {"FloatBarrier", "Omega", "Pi"}
    built = re.findall(r"\\against\{(\w+)\}\{(\w+)\}", TEX)
    assert len(used) > 30 and len(built) == 3
    for task, opponent in built:
        used |= {f"{kind}Over{opponent}{task}" for kind in ("Verdict", "Gain", "P")}
        used.add(f"GainOver{opponent}{task}Interval")
    assert used <= names, sorted(used - names)


def test_the_paper_quotes_no_result_by_hand():
    body = TEX.split(r"\section{Results}")[1].split(r"\section{Limits}")[0]
    prose = re.sub(r"\\(begin|includegraphics|resizebox|input|label|ref)\b[^\n]*", "", body)
    assert not re.findall(r"\d+\.\d", prose)


def test_all_figures_tables_and_references_of_the_paper_exist():
    from tclap.reporting.figures import FIGURES
    from tclap.reporting.tables import TABLES

    assert set(re.findall(r"\\includegraphics\{(\w+)\}", TEX)) == set(FIGURES)
    assert set(re.findall(r"\\input\{tables/table_(\d)\}", TEX)) == set(TABLES)
    bibliography = (paths.CHECKOUT / "paper" / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{(\w+),", bibliography, re.M)
    cited = {key for group in re.findall(r"\\cite\{([^}]+)\}", TEX) for key in group.split(",")}
    assert cited == set(keys) and len(keys) == len(set(keys))
