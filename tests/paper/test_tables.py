from __future__ import annotations

import re

import made_up
import pytest

from figures import read
from figures.scores import best, better, comparison
from paper import latex, tables


def cells(text: str, start: str) -> list[str]:
    """The cells of the first line that starts with ``start``."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")]


def check_latex(text: str) -> None:
    """Balanced braces and environments, nothing special unescaped, every line with as many cells."""
    bare = re.sub(r"\\[{}%&_$#]", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
    mathless = re.sub(r"\$[^$]*\$", "", bare)
    assert not set("%_#$") & set(mathless)
    assert text.isascii()
    for body in re.findall(r"\\begin{tabular}{([lcr]+)}(.*?)\\end{tabular}", text, re.S):
        for line in body[1].splitlines():
            if line.endswith(r"\\"):
                spans = [int(n) for n in re.findall(r"\\multicolumn{(\d+)}", line)]
                assert line.replace(r"\&", "").count("&") + 1 + sum(n - 1 for n in spans) == len(body[0]), (
                    line
                )


@pytest.mark.parametrize("name", tables.TABLES)
@pytest.mark.parametrize("models", [tuple(made_up.ACCURACY), ("clap",), ("t-clap", "t-clap-no-time")])
def test_tables_are_valid_latex_for_any_set_of_models(name, models):
    check_latex(tables.TABLES[name](made_up.summary(models), read.draft()))


def test_table_2_has_accuracy_interval_chance_and_n(summary):
    text = tables.table_2(summary, read.draft())
    assert cells(text, "control")[1:5] == ["93.9", "52.0", "35.1", "22.4"]
    lines = text.splitlines()
    below = lines[lines.index(next(line for line in lines if line.startswith("control"))) + 1]
    assert r"{\scriptsize [92.4, 95.4]}" in below
    assert cells(text, "chance")[1:] == [
        "5.0", "0.53", "0.53", "33.3", "33.3", "50.0", "50.0", "33.3", "2.0", "0.13",
    ]  # fmt: skip
    assert cells(text, "$n$ a seed")[1:] == ["500"] * 10
    assert cells(text, "never")[1:] == ["", "", "", "50.0", "50.0", "", "", "", "", ""]


def test_bold_marks_the_best_and_its_equals_where_another_model_is_significantly_worse(summary):
    text = tables.table_2(summary, read.draft())
    row = cells(text, "T-CLAP &")
    assert row[1] == "93.8", "task 1 has p = 0.4"
    assert row[4] == r"\textbf{92.2}"
    assert "textbf" not in "".join(cells(text, "CLAP &") + cells(text, "no replay"))
    for entry in summary["comparisons"]:
        entry["mcnemar_p"] = 0.001
    summary["models"]["t-clap"]["zste"]["1"]["accuracy"] = 60.0
    worse = tables.table_2(summary, read.draft())
    assert cells(worse, "control")[1] == r"\textbf{93.9}"
    assert (cells(worse, "CLAP &")[1], cells(worse, "T-CLAP &")[1]) == ("93.2", "60.0")


def compared(*pairs: tuple[str, str, float]) -> list[dict]:
    names = ("models", "task", "mcnemar_p", "difference", "ci95")
    return [dict(zip(names, ([a, b], "3", p, 1.0, [0, 2]), strict=True)) for a, b, p in pairs]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("clap", "slots", 0.001), ("t-clap", "slots", 0.3)], {"slots", "t-clap"}),
        ([("slots", "clap", 0.001), ("t-clap", "slots", 0.01)], {"slots"}),
        ([("clap", "slots", 0.3), ("t-clap", "slots", 0.3)], set()),
        ([("clap", "slots", 0.001)], {"slots"}),
        ([("clap", "t-clap", 0.001)], set()),
    ],
)
def test_the_best_are_the_first_and_what_is_not_significantly_below(pairs, expected):
    accuracies = {"clap": 50.0, "t-clap": 97.0, "slots": 98.0, "mine": 99.0}
    models = {name: {"zste": {"3": {"accuracy": value}}} for name, value in accuracies.items()}
    content = {"models": models, "comparisons": compared(*pairs)}
    assert best(content, "3", ["clap", "t-clap", "slots", "absent"]) == expected
    assert best(content, "4", ["clap", "t-clap"]) == best(content, "3", []) == set()
    models["equal"] = models["slots"]
    assert best(content, "3", ["clap", "t-clap", "slots", "equal"]) == (expected and expected | {"equal"})


def test_no_comparison_means_no_bold(summary):
    summary["comparisons"] = []
    assert "textbf" not in "".join(table(summary, read.draft()) for table in tables.TABLES.values())


def test_draft_rows_stand_under_their_own_heading_as_printed(summary):
    text = tables.table_2(summary, read.draft())
    ours, theirs = text.split(r"\textit{draft (2023), not ours}")
    assert "78.14" not in ours and "40.38" not in ours
    assert cells(theirs, "CLAP")[1:] == [
        "78.14", r"\multicolumn{2}{c}{49.7, 48.4}", "25.8", "", "", "", "", "2.1", "3.7, 11.7",
    ]  # fmt: skip
    empty = cells(theirs, r"T-CLAP ($\alpha_\mathrm{cross} = 0$)")
    assert [cell for cell in empty[1:] if cell] == ["--", r"\multicolumn{2}{c}{--}", "--", "--", "--"]
    third = tables.table_3(summary, read.draft()).split(r"\textit{draft (2023), not ours}")[1]
    assert cells(third, "CLAP") == ["CLAP", "99.34", "62.28", "69.89", "0.0259.71", "0.2563", "0.1593"]


def test_table_1_joins_our_prompts_with_the_draft_column(summary):
    text = tables.table_1(summary, read.draft())
    row = cells(text, r"\texttt{i can hear \{label\}}")
    assert row[1:] == [
        r"93.2 {\scriptsize [91.7, 94.7]}", r"93.9 {\scriptsize [92.4, 95.4]}",
        r"93.8 {\scriptsize [92.3, 95.3]}", "5.0", "400", "0.786",
    ]  # fmt: skip


def test_table_3_has_both_directions(summary):
    for model in ("clap", "clap-continued"):
        way = summary["models"][model]["retrieval"]["ordered"]["audio_to_text"]
        way |= {
            "ci95": {"R@1": [40.0, 46.0], "mAP@10": [28.5, 31.5]},
            "chance": {"R@1": 0.222, "mAP@10": 1.0},
        }
    text = tables.table_3(summary, read.draft())
    check_latex(text)
    row = cells(text, "ordered composites")
    assert row[1:] == [
        "CLAP",
        *["42.0", "72.0", "80.0", "30.0", "4.0", "43.0", "72.0", "80.0", "30.0", "4.0", "400"],
    ]
    lines = text.splitlines()
    below = lines[lines.index(next(line for line in lines if line.startswith("ordered"))) + 1]
    found = [cell.strip() for cell in below.removesuffix(r"\\").split("&")]
    assert found[7:] == [
        r"{\scriptsize [40.0, 46.0]}", "", "", r"{\scriptsize [28.5, 31.5]}", "", "",
    ]  # fmt: skip
    (chances,) = [line for line in lines if line.startswith(" & chance")]
    assert [c.strip() for c in chances.removesuffix(r"\\").split("&")][7:] == ["0.22", "", "", "1.0", "", ""]


def test_table_3_has_chance_and_the_models_with_slots(summary):
    for model in ("clap", "clap-slots"):
        groups = summary["models"].setdefault(model, {"retrieval": made_up.retrieval(9.0)})
        for ways in groups["retrieval"].values():
            ways["text_to_audio"]["chance"] = ways["audio_to_text"]["chance"] = {"R@1": 0.25, "R@10": 2.5}
    text = tables.table_3(
        {**summary, "models": {m: summary["models"][m] for m in ("clap", "clap-slots")}}, read.draft()
    )
    check_latex(text)
    chances = [line for line in text.splitlines() if line.startswith(" & chance")]
    assert [c.strip() for c in chances[0].removesuffix(r"\\").split("&")] == [
        "", "chance", *2 * ["0.25", "", "2.5", "", ""], "",
    ]  # fmt: skip
    assert len(chances) == 3 and text.count("CLAP + slots") == 3


def test_captioned_data_sets_have_rows_where_they_were_searched(summary):
    assert "Clotho &" not in tables.table_3(summary, read.draft())
    way = {"R@1": 12.5, "R@5": 30.0, "R@10": 41.0, "mAP@10": 20.0, "median_rank": 14.0}
    found = {"text_to_audio": way | {"n": 5225}, "audio_to_text": way | {"n": 1045}}
    for model in ("clap", "t-clap"):
        summary["models"][model]["retrieval"]["clotho"] = found
    text = tables.table_3(summary, read.draft())
    check_latex(text)
    row = cells(text, "Clotho &")
    assert row[1:] == ["CLAP", *2 * ["12.5", "30.0", "41.0", "20.0", "14.0"], "5225 / 1045"]
    assert "AudioCaps &" not in text


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables_of_random_weights_say_so_first(summary, name):
    plain = tables.build(name, summary, read.draft())
    assert plain == tables.TABLES[name](summary, read.draft())
    for origin in ({"random_weights": False}, None):
        assert tables.build(name, summary | {"origin": origin}, read.draft()) == plain
    stamped = tables.build(name, summary | {"origin": {"random_weights": True}}, read.draft())
    check_latex(stamped)
    first, rest = stamped.split("\n", 1)
    assert first == r"\textbf{random weights: these numbers mean nothing}\par\smallskip" and rest == plain


def test_the_text_table_of_random_weights_says_so_first(summary):
    plain = tables.text_table(summary)
    stamped = tables.text_table(summary | {"origin": {"random_weights": True}})
    assert stamped == "RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING\n" + plain
    assert tables.text_table(summary | {"origin": {"random_weights": False}}) == plain


def test_a_task_that_does_not_apply_is_a_dash(summary):
    for groups in summary["models"].values():
        groups["zste"]["4"] = None
    text = tables.table_2(summary, read.draft())
    assert cells(text, "CLAP &")[9] == "--" and cells(text, "chance")[9] == "--"
    assert tables.text_table(summary).splitlines()[2].split()[9] == "-"


def test_text_table_is_aligned_and_complete(summary):
    head, *lines = tables.text_table(summary).splitlines()
    assert "profile synthetic, base compact, 2 seeds (0, 1)" in head
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", *made_up.CHANCE]
    assert lines[1].split() == ["clap", *map(str, made_up.ACCURACY["clap"])]
    assert lines[2].split()[0] == "91.7-94.7"
    assert len(lines) == 1 + 10 + 3 + 2, "models, intervals of the main three, chance and n"


def test_comparisons_are_turned_to_second_minus_first():
    entry = {
        "models": ["t-clap", "clap"],
        "task": "3",
        "mcnemar_p": 0.01,
        "difference": -70.0,
        "ci95": [-72, -69],
    }
    found = comparison({"comparisons": [entry]}, "clap", "t-clap", "3")
    assert found == {"difference": 70.0, "ci95": [69, 72], "mcnemar_p": 0.01, "holm_p": 0.01}
    assert comparison({"comparisons": [entry]}, "clap", "t-clap", "4") is None


def test_better_needs_a_p_value(summary):
    assert better(summary, "3") == "t-clap"
    for entry in summary["comparisons"]:
        entry["mcnemar_p"] = None
    assert better(summary, "3") is None


def test_escape_and_number_formats():
    assert latex.escape("50% a_b & {c} ~ \\") == r"50\% a\_b \& \{c\} \textasciitilde{} \textbackslash{}"
    assert latex.number(float("nan")) == latex.number(None) == "--"
    assert (latex.chance(0.526), latex.chance(33.333)) == ("0.53", "33.3")
    found = [latex.enumeration(texts) for texts in ([], ["a"], ["a", "b"], ["a", "b", "c"])]
    assert found == ["--", "a", "a and b", "a, b and c"]
    assert (
        latex.p_value(1e-9) == r"\ensuremath{p < 0.001}"
        and latex.p_value(0.0123) == r"\ensuremath{p = 0.012}"
    )
    assert latex.signed(-3.25).startswith(r"\ensuremath{-3.2")
    assert latex.interval([1.0, None]) == "--"


def test_draft_is_quoted_with_its_provenance():
    assert len(read.draft()) == 40
    assert "not updated" in read.DRAFT.read_text(encoding="utf-8").split("table,row")[0]
