"""What a composite's slots hold, and captions with their events marked."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from artifact.notebook.slots import MARKS, figure_slots, marked_captions


def test_the_bars_are_the_cosines():
    cosines = {
        (view, slot, event): round(0.1 * v + 0.2 * s - 0.3 * e, 2)
        for v, view in enumerate(("forward", "reversed"))
        for s, slot in enumerate(("whole", "first", "last"))
        for e, event in enumerate(("dog", "rain"))
    }
    rows = pd.Series(cosines, name="cosine").rename_axis(["view", "slot", "event"]).reset_index()
    figure = figure_slots(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dog, then rain", "rain, then dog"]
    for axes, view in zip(figure.axes, ("forward", "reversed"), strict=True):
        heights = [round(bar.get_height(), 2) for bar in axes.patches]
        assert heights == [cosines[view, s, e] for e in ("dog", "rain") for s in ("whole", "first", "last")]


@pytest.mark.parametrize(
    ("caption", "relation", "in_time", "expected"),
    [
        ("dog before rain", "forward", "dog \u2192 rain", [("first", "dog"), ("last", "rain")]),
        ("dog after rain", "backward", "rain \u2192 dog", [("last", "dog"), ("first", "rain")]),
        ("a rain & dog, then rain", "forward", "a rain & dog \u2192 rain",
         [("first", "a rain &amp; dog"), ("last", "rain")]),
        ("dog while rain", "together", "dog \u2192 rain", [("both", "dog"), ("both", "rain")]),
        ("while hail, dog before rain", "forward", "dog \u2192 rain + hail",
         [("both", "hail"), ("first", "dog"), ("last", "rain")]),
        ("the second sound is dog", "end", "dog", [("last", "dog")]),
        ("a then b then c", "forward", "a \u2192 b \u2192 c",
         [("first", "a"), ("between", "b"), ("last", "c")]),
        ("a dogged dog starts", "start", "dog", [("first", "dog")]),
        ("this is a sound of dog", "plain", "", []),
    ],
)  # fmt: skip
def test_events_are_marked_by_their_slot(caption, relation, in_time, expected):
    in_time, _, throughout = in_time.partition(" + ")
    row = {"caption": caption, "relation": relation, "in time": in_time, "throughout": throughout}
    shown = marked_captions(pd.DataFrame([row]))
    page = shown.data
    assert caption in repr(shown) and "<" not in repr(shown), "what a log has"
    names = {colour: slot for slot, colour in MARKS.items()}
    found = re.findall(r'<span style="background:(#\w+);[^"]*">([^<]*)</span>', page.partition("<ul>")[2])
    assert [(names[colour], text) for colour, text in found] == expected
    assert f"({relation})" in page
