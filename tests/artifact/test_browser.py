"""The browser of items: which items, what the page and the widgets show."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from artifact.notebook.browser import ItemBrowser
from artifact.notebook.sounds import Sound

MARGINS = {
    "clap": {"a": 0.02, "b": -0.01, "c": -0.03, "d": 0.04},
    "t-clap": {"a": 0.30, "b": 0.10, "c": -0.20, "d": -0.05},
}


@pytest.fixture
def results() -> pd.DataFrame:
    rows = [
        {"model": model, "task": "2way_before", "item": item, "correct": margin > 0, "margin": margin,
         "answer": "dog", "prediction": "dog" if margin > 0 else "rain"}
        for model, margins in MARGINS.items()
        for item, margin in margins.items()
    ]  # fmt: skip
    others = [
        {"model": model, "task": task, "item": "x", "correct": True, "margin": np.nan}
        for model, task in (("t-clap", "2a"), ("clap", "2a"), ("t-clap@full", "3"), ("t-clap", "gap: 5%"))
    ]
    return pd.DataFrame(rows + others)


@pytest.fixture
def browser(results, monkeypatch) -> ItemBrowser:
    asked = results.drop_duplicates(["task", "item"])[["task", "item"]].assign(audio="a")
    items = asked.assign(candidates=[["dog", "rain"]] * len(asked))
    run = SimpleNamespace(table=lambda name: items)

    def sound(self, task, item) -> Sound:
        mel = np.linspace(-80, 0, 16 * 20).reshape(16, 20)
        return Sound(f"sound {item}", np.sin(np.arange(800) / 5).astype(np.float32), 8000, mel, 0.005)

    monkeypatch.setattr(ItemBrowser, "sound", sound)
    return ItemBrowser(run, results, "t-clap")


@pytest.mark.parametrize(
    ("model", "outcome", "expected"),
    [
        ("t-clap", "all", "acbd"),
        ("t-clap", "right", "ab"),
        ("t-clap", "wrong", "cd"),
        ("t-clap", "gained", "b"),
        ("t-clap", "lost", "d"),
        ("clap", "gained", ""),  # over itself
        ("clap-slots", "all", ""),  # not asked
    ],
)
def test_items_by_outcome_the_surest_first(browser, model, outcome, expected):
    assert "".join(browser.items(model, "2way_before", outcome)) == expected


def test_only_tasks_and_models_that_can_be_shown_are_offered(browser, results):
    assert (browser.models, browser.tasks) == (["clap", "t-clap"], ["2a", "2way_before"])
    alone = ItemBrowser(browser.run, results[results["model"] == "t-clap"], "t-clap")
    assert "T-CLAP" in (card := alone.card("t-clap", "2way_before", "a")) and ">CLAP<" not in card


def test_the_page_has_a_few_items_with_players_pictures_and_answers(browser):
    page = browser.page()
    # Gained, failures from the surest on, and what is surely right.
    assert re.findall("<b>sound (.)</b>", page) == ["b", "c", "d", "a"]
    assert page.count("<audio") == page.count("<img") == 4
    assert "2-way (before), 2 candidates; right: dog" in page
    cells = re.findall("<t[hd]>(.*?)</t[hd]>", page.partition("</table>")[0])
    assert cells[-8:] == ["CLAP", "rain", "-0.01", "wrong", "T-CLAP", "dog", "0.10", "right"]


def test_names_are_text(browser):
    for rows in browser._rows.values():
        for column in rows.columns.intersection(["answer", "prediction"]):
            rows[column] = "<script>alert(1)</script>"
    page = browser.page()
    assert "<script" not in page and "right: &lt;script&gt;" in page


def test_a_batch_run_has_the_page_and_a_notebook_has_widgets_too(browser, monkeypatch):
    assert set(browser._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.delenv("TCLAP_BATCH")
    bundle = browser._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<audio" in bundle["text/html"]


def test_the_widgets_show_what_is_chosen(browser):
    widget = browser.widget
    model, task, outcome, number, _ = widget.children
    widget.update()
    assert "item 1 of 4" in widget.result.data and "sound a" in widget.result.data
    number.value = 9
    assert "item 4 of 4" in widget.result.data and "sound d" in widget.result.data
    model.value = "clap"
    outcome.value = "lost"
    assert "No item is like that" in widget.result.data
    outcome.value, task.value = "all", "2a"
    assert "sound x" in widget.result.data
