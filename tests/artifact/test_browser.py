"""The browser of items: which items, which candidates, what the figure and the page show, the widgets."""

from __future__ import annotations

import html
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from artifact.notebook.browser import AskedItem, ItemBrowser, figure_item
from artifact.notebook.sounds import Sound
from figures.style import MODELS

CAPTIONS = ["this is a sound of dog before rain", "this is a sound of rain before dog"]
MARGINS = {
    "clap": {"a": 0.02, "b": -0.01, "c": -0.03, "d": 0.04},
    "t-clap": {"a": 0.30, "b": 0.10, "c": -0.20, "d": -0.05},
}


def asked(cosines: dict, candidates=CAPTIONS, right=(0,), title="dog, then rain") -> AskedItem:
    waveform, mel = np.sin(np.arange(800) / 5), np.linspace(-80, 0, 16 * 20).reshape(16, 20)
    sound = Sound(title, waveform.astype(np.float32), 8000, mel, 0.005, (0.05,), ("dog", "rain"))
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
    ("model", "outcome", "ascending", "expected"),
    [
        ("t-clap", "all", False, "abdc"),
        ("t-clap", "all", True, "cdba"),
        ("t-clap", "right", False, "ab"),
        ("t-clap", "wrong", True, "cd"),
        ("t-clap", "gained", False, "b"),
        ("t-clap", "lost", False, "d"),
        ("clap", "gained", False, ""),  # over itself
        ("clap", "lost", False, ""),
        ("clap-slots", "all", False, ""),  # not asked
    ],
)
def test_items_by_outcome_and_margin(browser, model, outcome, ascending, expected):
    assert "".join(browser.items(model, "2way_before", outcome, ascending)) == expected


def test_only_tasks_and_models_that_can_be_shown_are_offered(browser, results, read):
    assert (browser.models, browser.tasks) == (["clap", "t-clap"], ["2a", "2way_before"])
    ItemBrowser(results[results["model"] == "t-clap"], read).card("t-clap", "2way_before", "a")
    assert read.asked == [("2way_before", "a", ("t-clap",))], "without the model beside it is shown alone"


def labels(item: AskedItem) -> list[str]:
    return [label.get_text() for label in figure_item(item, list(item.cosines)).axes[1].get_yticklabels()]


def test_of_many_candidates_the_right_ones_and_the_preferred_are_shown():
    first, second = np.zeros(30), np.zeros(30)
    first[[3, 5, 7, 9]] = 0.9, 0.8, 0.7, 0.6
    second[[11, 13, 17]] = 0.05, 0.06, 0.04
    first[20] = -1  # right, and last
    names = [f"the sound {n}" for n in range(30)]
    # The right one, then each model's first, second, ..., without the words that all share.
    shown = labels(asked({"clap": first, "t-clap": second}, names, [20]))
    assert shown == ["20", "3", "13", "5", "11", "7", "17", "0"]
    assert labels(asked({"clap": first[:4]}, names[:4])) == ["0", "1", "2", "3"]
    assert labels(asked({"clap": [1, 0]}, ["dog", "rain"])) == ["dog", "rain"]


def test_the_figures_bars_are_the_similarities_and_the_chosen_are_framed():
    item = asked({"clap": [0.1, 0.2], "t-clap": [0.4, -0.1]})
    spectrogram, bars = figure_item(item, ["clap", "t-clap"]).axes
    found = {
        (p.get_facecolor(), round(p.get_width(), 3)): p.get_edgecolor() == to_rgba("black")
        for p in bars.patches
    }
    clap, ours = (to_rgba(MODELS[model].colour) for model in ("clap", "t-clap"))
    assert found == {(clap, 0.1): False, (clap, 0.2): True, (ours, 0.4): True, (ours, -0.1): False}
    assert [label.get_text() for label in bars.get_yticklabels()] == ["dog before rain", "rain before dog"]
    assert [label.get_fontweight() for label in bars.get_yticklabels()] == ["bold", "normal"]
    assert bars.yaxis_inverted() and [text.get_text() for text in spectrogram.texts] == ["dog", "rain"]


def test_the_page_has_a_few_items_with_players_and_pictures(browser, read):
    page = browser.page().data
    # Gained, failures from the worst on, and what is surely right.
    assert [item for _, item, _ in read.asked] == ["b", "c", "d", "a"]
    assert page.count("<audio") == page.count("<img") == 4
    text = html.unescape(re.sub("<[^>]+>", "", page))
    assert "CLAP: wrong (margin −0.010) · T-CLAP: right (margin +0.100)" in text
    assert "right: “this is a sound of dog before rain”" in text


def test_a_batch_run_has_the_page_and_a_notebook_has_widgets_too(browser, monkeypatch):
    kept = browser._repr_mimebundle_()
    assert set(kept) == {"text/plain", "text/html"}
    assert kept["text/plain"] == "2-way (before), 4 items: b, c, d, a", "what a log has"
    monkeypatch.delenv("TCLAP_BATCH")
    bundle = browser._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<audio" in bundle["text/html"]


def test_the_widgets_show_what_is_chosen(browser, read):
    assert browser.widget is browser.widget
    choices, shown, at = browser.choices, browser.shown, browser.position
    assert (at.value, at.max, browser.count.value) == (1, 4, "of 4") and "sound a" in shown.value
    at.value = 9
    assert at.value == 4 and "sound c" in shown.value
    choices["outcome"].value = "wrong"
    assert (at.value, at.max) == (1, 2) and "sound d" in shown.value
    choices["order"].value = True
    assert "sound c" in shown.value
    choices["model"].value = "clap"
    assert browser.count.value == "of 2" and "sound c" in shown.value
    choices["outcome"].value = "lost"
    assert browser.count.value == "of 0" and "No item is like that" in shown.value
    choices["outcome"].value, choices["task"].value = "all", "2a"
    assert read.asked[-1] == ("2a", "x", ("clap",)) and browser.count.value == "of 1"
