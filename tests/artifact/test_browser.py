"""The browser of items: which items, which candidates, what the figure and the page show, the widgets."""

from __future__ import annotations

import base64
import html
import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile

from artifact.notebook.browser import ItemBrowser, common_start, figure_item, shown_candidates
from artifact.notebook.listening import AskedItem
from artifact.notebook.sounds import Sound
from figures.style import MODELS

CAPTIONS = ["this is a sound of dog before rain", "this is a sound of rain before dog"]
MARGINS = {
    "clap": {"a": 0.02, "b": -0.01, "c": -0.03, "d": 0.04},
    "t-clap": {"a": 0.30, "b": 0.10, "c": -0.20, "d": -0.05},
}


def asked(
    cosines: dict[str, list[float]], candidates=CAPTIONS, right=(0,), title="dog, then rain"
) -> AskedItem:
    waveform = np.sin(np.arange(800) / 5).astype(np.float32)
    mel = np.linspace(-80, 0, 16 * 20).reshape(16, 20)
    sound = Sound(title, waveform, 8000, mel, 0.005, (0.05,), ("dog", "rain"))
    return AskedItem(sound, list(candidates), list(right), {m: np.array(c) for m, c in cosines.items()})


@pytest.fixture
def results() -> pd.DataFrame:
    rows = [
        {"model": model, "task": "2way_before", "item": item, "correct": margin > 0, "margin": margin}
        for model, margins in MARGINS.items()
        for item, margin in margins.items()
    ]
    others = [
        {"model": model, "task": task, "item": "x", "correct": True, "margin": np.nan}
        for model, task in (("t-clap", "2a"), ("clap", "2a"), ("t-clap@full", "3"), ("t-clap", "gap: 5%"))
    ]
    return pd.DataFrame(rows + others)


@pytest.fixture
def read():
    """Answers as the margins say, and remembers what was asked."""

    def read(task, item, models):
        read.asked.append((task, item, tuple(models)))
        return asked({m: [MARGINS[m].get(item, 0.1), 0.0] for m in models}, title=f"sound {item}")

    read.asked = []
    return read


@pytest.fixture
def browser(results, read) -> ItemBrowser:
    return ItemBrowser(results, read)


@pytest.mark.parametrize(
    ("outcome", "ascending", "expected"),
    [
        ("all", False, "abdc"),
        ("all", True, "cdba"),
        ("right", False, "ab"),
        ("wrong", True, "cd"),
        ("gained", False, "b"),
        ("lost", False, "d"),
    ],
)
def test_items_by_outcome_and_margin(browser, outcome, ascending, expected):
    assert "".join(browser.items("t-clap", "2way_before", outcome, ascending)) == expected


def test_of_the_model_itself_nothing_is_gained_or_lost(browser):
    assert (
        browser.items("clap", "2way_before", "gained") == browser.items("clap", "2way_before", "lost") == []
    )
    assert browser.compared("clap") == ["clap"]
    assert browser.compared("t-clap") == ["clap", "t-clap"]


def test_only_tasks_and_models_that_can_be_shown_are_offered(browser):
    assert browser.models == ["clap", "t-clap"]
    assert browser.tasks == ["2a", "2way_before"]


@pytest.mark.parametrize("options", [{"model": "t-clap-half"}, {"task": "4"}])
def test_what_the_results_lack_is_named(results, read, options):
    ((what, value),) = options.items()
    with pytest.raises(ValueError, match=f"the results have no {what} '{value}', only"):
        ItemBrowser(results, read, **options)


def test_a_run_without_the_model_beside_shows_the_model_alone(results, read):
    alone = ItemBrowser(results[results["model"] == "t-clap"], read)
    assert alone.compared("t-clap") == ["t-clap"]
    assert "t-clap" not in alone.heading(asked({"t-clap": [1, 0]}), "t-clap", "2way_before", "a")


def test_of_many_candidates_the_right_ones_and_the_preferred_are_shown():
    first, second = np.zeros(30), np.zeros(30)
    first[[3, 5, 7]] = 0.9, 0.8, 0.7
    second[[11, 13, 17]] = 0.5, 0.6, 0.4
    first[20] = -1  # right, and last
    names = [f"the sound {n}" for n in range(30)]
    item = asked({"clap": first, "t-clap": second}, names, [20])
    # The right one, then each model's first, second, ..., by the larger similarity.
    assert shown_candidates(item, ["clap", "t-clap"], 5) == [20, 3, 5, 13, 11]
    assert shown_candidates(item, ["clap"], 3) == [20, 3, 5]
    assert shown_candidates(item, ["clap"], 30) == list(range(30))


def test_the_words_that_all_captions_share():
    assert common_start(CAPTIONS) == "this is a sound of"
    assert common_start(["the first sound is dog", "the first sound is door"]) == "the first sound is"
    assert common_start(["dog", "rain"]) == common_start(["dog"]) == ""


def test_the_figures_bars_are_the_similarities_and_the_chosen_are_framed():
    item = asked({"clap": [0.1, 0.2], "t-clap": [0.4, -0.1]})
    spectrogram, bars = figure_item(item, ["clap", "t-clap"]).axes
    found = {(p.get_facecolor(), round(p.get_width(), 3)): p.get_edgecolor() for p in bars.patches}
    from matplotlib.colors import to_rgba

    colours = {model: to_rgba(MODELS[model].colour) for model in ("clap", "t-clap")}
    assert {(c, w) for c, w in found} == {
        (colours["clap"], 0.1), (colours["clap"], 0.2), (colours["t-clap"], 0.4), (colours["t-clap"], -0.1),
    }  # fmt: skip
    black = to_rgba("black")
    framed = {key for key, edge in found.items() if edge == black}
    assert framed == {(colours["clap"], 0.2), (colours["t-clap"], 0.4)}
    assert [label.get_text() for label in bars.get_yticklabels()] == ["dog before rain", "rain before dog"]
    assert [label.get_fontweight() for label in bars.get_yticklabels()] == ["bold", "normal"]
    assert bars.yaxis_inverted()
    assert [text.get_text() for text in spectrogram.texts] == ["dog", "rain"]


def test_of_two_right_answers_both_are_named(browser):
    both = asked(
        {"clap": [1, 0, 0.5], "t-clap": [1, 0, 0.5]}, ["first <dog>", "first rain", "second rain"], (0, 2)
    )
    heading = browser.heading(both, "t-clap", "2a", "x")
    assert "right: \u201cfirst &lt;dog&gt;\u201d and \u201csecond rain\u201d<br>" in heading
    assert "margin" not in heading


def test_the_page_has_a_few_items_with_players_and_pictures(browser, read):
    page = browser.page()
    # Gained, failures from the worst on, and what is surely right.
    assert [item for _, item, _ in read.asked] == ["b", "c", "d", "a"]
    assert page.count("<audio") == page.count("<img") == 4
    (first, *_) = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(first)))
    assert rate == 8000
    np.testing.assert_allclose(samples, np.sin(np.arange(800) / 5), atol=1e-4)
    text = html.unescape(re.sub("<[^>]+>", "", page))
    assert "CLAP: wrong (margin −0.010) · T-CLAP: right (margin +0.100)" in text
    assert "right: “this is a sound of dog before rain”" in text


def test_a_batch_run_has_the_page_and_a_notebook_has_widgets_too(browser, monkeypatch):
    assert set(browser._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.delenv("TCLAP_BATCH")
    bundle = browser._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<audio" in bundle["text/html"]


def test_the_widgets_show_what_is_chosen(browser, read):
    assert browser.widget is browser.widget
    choices, shown, at = browser.choices, browser.shown, browser.position
    assert browser.count.value == "1 of 4" and "sound a" in shown.value
    at.value = 3
    assert browser.count.value == "4 of 4" and "sound c" in shown.value
    choices["outcome"].value = "wrong"
    assert (browser.count.value, at.value, at.max) == ("1 of 2", 0, 1) and "sound d" in shown.value
    choices["order"].value = True
    assert "sound c" in shown.value
    choices["model"].value = "clap"
    assert browser.count.value == "1 of 2" and "sound c" in shown.value
    choices["outcome"].value = "lost"
    assert browser.count.value == "none" and "No item is like that" in shown.value
    choices["outcome"].value, choices["task"].value = "all", "2a"
    assert browser.items("clap", "5") == [], "not asked of this model"
    assert read.asked[-1] == ("2a", "x", ("clap",)) and browser.count.value == "1 of 1"


def test_the_arrows_stop_at_the_ends(browser):
    left, _, right, _ = browser.widget.children[2].children
    left.click()
    assert browser.position.value == 0
    for _ in range(9):
        right.click()
    assert browser.position.value == 3
