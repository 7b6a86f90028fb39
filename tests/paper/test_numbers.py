import re
import shutil

import made_up
import pytest

from paper import latex, numbers


@pytest.mark.parametrize(
    ("key", "text"),
    {
        "t-clap/3": "92.2",
        "t-clap/3/ci95": "[90.7, 93.7]",
        "chance/5": "0.13",
        "clap/prompts/lowest": "89.2",
        "t-clap/ordered/text_to_audio/R@1": "45.0",
        "windows/msclap/t-clap/3": "59.4",
        "readouts/mean/2way_before": "51.0",
        "slots/parts: 35 alone/boundary: 15": "92.0",
        "slots/reader: oracle, halves, whole/4": "65.0",
        "errors/wording: unseen/recognition": "6",
        "run/classes": "20",
        "clips/post": "800",
        "t-clap over clap/3/verdict": "significantly above",
        "t-clap over clap/1/verdict": "equivalent to",
        "t-clap over clap/2b/verdict": "neither significantly different from nor equivalent to",
        "t-clap over clap/1/clause": r"equivalent to the base model (difference \ensuremath{+0.6} points, "
        r"90\,\% interval [\ensuremath{-0.4}, \ensuremath{+1.6}], \ensuremath{p = 0.400})",
        "t-clap over clap/3/clause": r"significantly above the base model "
        r"(difference \ensuremath{+73.7} points, 95\,\% interval "
        r"[\ensuremath{+71.7}, \ensuremath{+75.7}], \ensuremath{p < 0.001})",
        "t-clap over clap/better": "task 2a, task 3, task 3$'$, two-way before, two-way after, "
        "overlap, task 4 and task 5",
        "t-clap over clap/worse": "none",
        "clap-slots over clap/3/clause": "not compared with the base model",
        "t-clap/clotho/text_to_audio/R@1": "--",
        "readouts/published/3": "--",
        "hold-out/40/classes": "8",
        "hold-out/40/one seen": "65.0",
        "hold-out/40/none seen, named/ci95": "[61.0, 69.0]",
        "hold-out/20/none seen/n": "300",
    }.items(),
)
def test_keys_are_looked_up_in_the_summary(summary, key, text):
    assert numbers.lookup(summary, key) == text


def test_a_key_may_name_the_run_on_real_recordings(summary, tmp_path):
    real = made_up.summary() | {"rotations": [{"fold": 1}, {"fold": 1}, {"fold": 4}]}
    real["models"]["t-clap"]["zste"]["3"] = made_up.entry(71.0, 33.3)
    beside = {"esc50": real}
    assert numbers.lookup(summary, "esc50: t-clap/3", beside) == "71.0"
    assert numbers.lookup(summary, "esc50-fold4: t-clap/3", beside) == "--"
    assert numbers.lookup(summary, "t-clap/3", beside) == "92.2"
    assert numbers.lookup(summary, "esc50: run/folds", beside) == "2"
    assert numbers.lookup(summary, "esc50: t-clap over clap/3/verdict", beside) == "significantly above"
    assert numbers.lookup(summary, "esc50: t-clap/3") == "--"
    (tmp_path / "sections").mkdir()
    (tmp_path / "main.tex").write_text(r"\res{esc50: t-clap/3}")
    for run, lines in ((beside, (r"\realtrue", "71.0")), ({}, (r"\realfalse", "--"))):
        text = numbers.numbers_tex(summary, tmp_path, run)
        assert lines[0] in text and rf"\setres{{esc50: t-clap/3}}{{{lines[1]}}}" in text


def test_controls_are_looked_up_by_group_and_condition(summary):
    score = summary["controls"]["t-clap"]["boundary"]["15%"]
    assert numbers.lookup(summary, "t-clap/boundary: 15") == f"{score['accuracy']:.1f}"
    assert numbers.lookup(summary | {"controls": {}}, "t-clap/boundary: 15") == "--"


@pytest.mark.parametrize("key", ["t-clap over clap/33/verdict", "clap over t-clap/3/clause"])
def test_a_comparison_that_is_not_made_is_refused(summary, key):
    with pytest.raises(ValueError, match=key):
        numbers.lookup(summary, key)


def test_numbers_tex_has_what_the_text_uses(summary, tmp_path):
    (tmp_path / "sections").mkdir()
    shutil.copy(numbers.PAPER / "main.tex", tmp_path)
    (tmp_path / "sections" / "a.tex").write_text("\\res{t-clap/3} and \\res{hold-out/20/none\nseen}")
    lines = numbers.numbers_tex(summary, tmp_path).splitlines()
    assert r"\setres{hold-out/20/none seen}{40.0}" in lines and r"\newif\ifholdout\holdouttrue" in lines
    assert r"\setres{t-clap/3}{92.2}" in lines
    assert r"\newif\ifslots\slotsfalse" in lines and r"\newif\ifcontrols\controlstrue" in lines
    assert len(re.findall(r"^\\setres", "\n".join(lines), re.M)) == 2 + 5, "those of the foot of each page"


def test_a_worse_model_is_called_so_by_the_adjusted_p(summary):
    summary["models"]["t-clap"]["zste"]["3"]["accuracy"] = 1.0
    assert numbers.lookup(summary, "t-clap over clap/3/verdict") == "significantly below"
    assert numbers.lookup(summary, "t-clap over clap/worse") == "task 3"
    summary["comparisons"][3]["equivalent"] = True
    found = numbers.lookup(summary, "t-clap over clap/3/verdict")
    assert found == "significantly by less than 2 points below"
    summary["comparisons"][3] |= {"p": 0.01, "holm_p": 0.06, "equivalent": False}
    assert numbers.lookup(summary, "t-clap over clap/3/verdict").startswith("neither significantly")
    assert numbers.lookup(summary, "t-clap over clap/3/clause").endswith(r"\ensuremath{p = 0.060})")


def test_wordings_are_misread_in_seeds(summary):
    wordings = summary["controls"]["t-clap"]["wording"]
    for entry in wordings.values():
        entry["per_seed"] = [45.0, 99.0]
    assert numbers.lookup(summary, "t-clap/misread") == "none"
    wordings["{b} follows {a}"]["per_seed"] = [0.5, 24.9]
    wordings["before {b}, {a}"]["per_seed"] = [3.0, 100.0]
    wordings["unseen"]["per_seed"] = [0.5, 3.0]
    found = numbers.lookup(summary, "t-clap/misread").split(" and ")
    assert set(found) == {"``B follows A'' (in 2 of 2 seeds)", "``before B, A'' (in 1 of 2 seeds)"}


@pytest.mark.parametrize("origin", [{"random_weights": True}, {"random_weights": False}, None])
def test_the_paper_warns_of_random_weights(origin):
    text = numbers.numbers_tex(made_up.summary() | {"origin": origin})
    random = bool(origin and origin["random_weights"])
    warning = r"\textbf{random weights: these numbers mean nothing}" if random else ""
    assert rf"\setres{{run/warning}}{{{warning}}}" in text.splitlines()


def test_numbers_as_latex_writes_them():
    assert latex.escape("50% a_b & {c} ~ \\") == r"50\% a\_b \& \{c\} \textasciitilde{} \textbackslash{}"
    assert latex.number(float("nan")) == latex.number(None) == latex.interval(None) == "--"
    assert latex.interval([1.0, None]) == "[1.0, --]"
    assert (latex.chance(0.526), latex.chance(33.333)) == ("0.53", "33.3")
    assert (latex.plain(0.005), latex.plain(450), latex.plain(1234567)) == ("0.005", "450", r"1\,234\,567")
    assert latex.signed(-0.04) == latex.signed(0.0) == r"\ensuremath{+0.0}"
    assert (latex.signed(-3.25), latex.signed(None)) == (r"\ensuremath{-3.3}", "--")
    halves = (95.25, 98.75, 98.35, 100 * (1 - 0.0165), 95.2499, 98.35 - 1e-6)
    assert [latex.number(half) for half in halves] == ["95.3", "98.8", "98.4", "98.4", "95.2", "98.3"]
    assert (latex.number(400, 0), latex.number(0.5, 0), latex.chance(0.125)) == ("400", "1", "0.13")
    assert (latex.p_value(1e-9), latex.p_value(0.0123)) == (
        r"\ensuremath{p < 0.001}",
        r"\ensuremath{p = 0.012}",
    )
    found = [latex.enumeration(texts) for texts in ([], ["a"], ["a", "b"], ["a", "b", "c"])]
    assert found == ["--", "a", "a and b", "a, b and c"]
