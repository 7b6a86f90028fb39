import re

import made_up
import pytest

from figures.style import LABELS, PLOTTED_MODELS
from paper import tables
from paper.tables import NOT_OURS, best, build


def cells(text: str, start: str) -> list[str]:
    """The cells of the first line that starts with ``start``."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")]


@pytest.mark.parametrize("name", tables.TABLES)
@pytest.mark.parametrize("models", [tuple(made_up.ACCURACY), ("clap",), ("t-clap", "t-clap-no-overlap")])
def test_tables_are_made_of_any_run_and_warn_of_random_weights(name, models):
    content = made_up.summary(models)
    plain = build(name, content)
    least = build(name, {key: content[key] for key in ("profile", "base", "seeds", "models")})
    for text in (plain, least):
        columns = re.search(r"\\begin{tabular}{([lcr]+)}", text).group(1)
        for line in (line for line in text.splitlines() if line.endswith(r"\\")):
            spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn{(\d+)}", line))
            assert line.count(" & ") + 1 + spans == len(columns) and "nan" not in line, line
    assert build(name, content | {"origin": {"random_weights": False}}) == plain
    first, rest = build(name, content | {"origin": {"random_weights": True}}).split("\n", 1)
    assert first == r"\textbf{random weights: these numbers mean nothing}\par\smallskip" and rest == plain


def test_an_unknown_table_is_refused(summary):
    with pytest.raises(ValueError, match="no table '7'"):
        build("7", summary)


def test_table_2_has_accuracy_interval_chance_and_n(summary):
    text = build("2", summary)
    assert cells(text, "control")[1:3] == [r"\score{93.9}{[92.4, 95.4]}", r"\score{52.0}{[50.5, 53.5]}"]
    assert cells(text, "chance")[1:] == [
        "5.0", "0.53", "0.53", "33.3", "33.3", "50.0", "50.0", "33.3", "2.0", "0.13",
    ]  # fmt: skip
    assert cells(text, "$n$ per seed")[1:] == ["500"] * 10
    assert cells(text, "never")[1:] == ["", "", "", "50.0", "50.0", "", "", "", "", ""]
    for groups in summary["models"].values():
        groups["zste"]["4"] = None
    text = build("2", summary)
    assert cells(text, "CLAP &")[9] == cells(text, "chance")[9] == "--"
    assert tables.text_table(summary).splitlines()[2].split()[9] == "--"


def test_bold_marks_the_best_and_its_equals_where_another_model_is_significantly_worse(summary):
    text = build("2", summary)
    row = cells(text, "T-CLAP &")
    assert row[1] == r"\score{93.8}{[92.3, 95.3]}", "task 1 has p = 0.4"
    assert row[4] == r"\score{\textbf{92.2}}{[90.7, 93.7]}"
    assert "textbf" not in "".join(cells(text, "CLAP &") + cells(text, "ordered control"))
    summary["comparisons"] = []
    assert "textbf" not in "".join(build(name, summary) for name in tables.TABLES)


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
    names = ("models", "task", "holm_p", "difference", "ci95")
    rows = [dict(zip(names, ([a, b], "3", p, 1.0, [0, 2]), strict=True)) for a, b, p in pairs]
    content = {"models": models, "comparisons": rows}
    assert best(content, "3", ["clap", "t-clap", "slots", "absent"]) == expected
    assert best(content, "4", ["clap", "t-clap"]) == best(content, "3", []) == set()
    models["equal"] = models["slots"]
    assert best(content, "3", ["clap", "t-clap", "slots", "equal"]) == (expected and expected | {"equal"})


def test_the_drafts_numbers_stand_under_its_name_as_printed(summary):
    ours, theirs = build("2", summary).split(NOT_OURS)
    assert "78.14" not in ours and "40.38" not in ours
    spanned = ["78.14", "49.7, 48.4", "25.8", "", "2.1", "3.7, 11.7"]
    spans = [1, 2, 1, 4, 1, 1]
    expected = [rf"\multicolumn{{{n}}}{{c}}{{{text}}}" for n, text in zip(spans, spanned, strict=True)]
    assert cells(theirs, "CLAP")[1:] == expected
    assert theirs.count(r"T-CLAP ($\alpha_\mathrm{cross} = 0$)") == 1 and "{--}" in theirs
    printed = ["99.34", "62.28", "69.89", "0.0259.71", "0.2563", "0.1593"]
    third = build("3", summary).split(NOT_OURS)[1]
    assert cells(third, "CLAP") == ["CLAP", *(rf"\multicolumn{{2}}{{c}}{{{text}}}" for text in printed)]
    row = cells(build("1", summary), r"\texttt{i can hear \{label\}}")
    assert row[1] == r"\score{93.2}{[91.7, 94.7]}" and row[4:] == ["5.0", "400", "0.786"]


def test_table_3_has_both_directions_intervals_and_chance(summary):
    assert "Clotho &" not in build("3", summary)
    way = {"R@1": 12.5, "R@5": 30.0, "R@10": 41.0, "mAP@10": 20.0, "median_rank": 14.0}
    back = way | {"n": 1045, "ci95": {"R@1": [40.0, 46.0]}, "chance": {"R@1": 0.222, "mAP@10": 1.0}}
    for model in ("clap", "t-clap"):
        found = {"text_to_audio": way | {"n": 5225}, "audio_to_text": back}
        summary["models"][model]["retrieval"]["clotho"] = found
    text = build("3", summary)
    values = ["30.0", "41.0", "20.0", "14.0"]
    expected = ["CLAP", "12.5", *values, r"\score{12.5}{[40.0, 46.0]}", *values, "5225 / 1045"]
    assert cells(text, "Clotho &")[1:] == expected
    assert cells(text, " & chance")[1:] == ["chance", *[""] * 5, "0.22", "", "", "1.0", "", ""]
    assert "AudioCaps &" not in text
    way = summary["models"]["clap"]["retrieval"]["ordered"]["audio_to_text"]
    assert cells(text, "ordered composites")[7] == f"{way['R@1']:.1f}"


def test_tables_4_and_5_have_a_row_per_control_and_change(summary):
    row = cells(build("4", summary), "three events: ``first")
    scores = [summary["controls"][model]["three"]["then"] for model in PLOTTED_MODELS[:4]]
    texts = [rf"\score{{{s['accuracy']:.1f}}}{{[{s['ci95'][0]:.1f}, {s['ci95'][1]:.1f}]}}" for s in scores]
    assert row[1:] == [*texts, f"{scores[0]['chance']:.1f}", str(scores[0]["n"])]
    text = build("5", summary)
    assert cells(text, r"parts: 35 \% alone")[1:] == [r"\score{92.0}{[90.5, 93.5]}"] * len(
        LABELS["slot_columns"]
    )
    assert text.count("base model: ") == 3 and cells(text, "$n$")[1] == "400"


def test_the_factorial_has_a_group_for_each_use_of_the_text_only_loss(summary):
    text = build("factorial", summary)
    groups = [cells(text, line)[0] for line in text.splitlines() if line.startswith(r"\multicolumn")]
    assert groups == [rf"\multicolumn{{8}}{{l}}{{\textit{{{group}}}}}" for group in LABELS["factorial"]]
    parts = text.split(r"\multicolumn")[1:]
    for part, model in zip(parts, ("t-clap-no-inversion", "t-clap-no-inversion-text-warm-up"), strict=False):
        values = [entry["accuracy"] for entry in summary["models"][model]["zste"].values()]
        row = cells(part, "no inversion")[1:]
        assert [re.search(r"[\d.]+", cell).group() for cell in row] == [
            f"{values[task]:.1f}" for task in (0, 5, 6, 3, 7, 8, 9)
        ]
    frame = tables.factorial_results(summary)
    assert frame.loc[("no text-only loss", "CLAP"), "1"].startswith(
        f"{made_up.ACCURACY['clap-no-text-loss'][0]:.1f} ["
    )
    assert cells(text, "chance")[1:] == ["5.0", "50.0", "50.0", "33.3", "33.3", "2.0", "0.13"]


def test_the_table_of_real_recordings_has_a_row_per_task(summary):
    row = cells(build("real", summary), "overlap (while)")
    assert [re.search(r"\d[\d.]*", cell).group() for cell in row[1:]] == [
        "49.6", "60.3", "10.5", "88.8", "33.3", "500",
    ]  # fmt: skip


def test_results_are_a_frame_and_an_aligned_text(summary):
    frame = tables.results(summary, ("t-clap", "clap"))
    assert list(frame.index) == ["t-clap", "clap", "chance", "n per seed"]
    assert frame.loc["t-clap", "3"] == "92.2 [90.7, 93.7]" and frame.loc["chance", "5"] == "0.13"
    controls = tables.control_results(summary)
    score = summary["controls"]["t-clap"]["three"]["then"]
    assert controls.loc["three: then", "t-clap"].startswith(f"{score['accuracy']:.1f} [")
    head, *lines = tables.text_table(summary).splitlines()
    assert "profile synthetic, base compact, 2 seeds (0, 1)" in head
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["model", *made_up.CHANCE]
    assert lines[1].split() == ["clap", *map(str, made_up.ACCURACY["clap"])]
    assert lines[2].split()[0] == "91.7-94.7"
    assert len(lines) == 1 + 2 * 4 + 2, "the four models with their intervals, chance and n"
    stamped = tables.text_table(summary | {"origin": {"random_weights": True}})
    assert stamped == "RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING\n" + tables.text_table(summary)
