"""What a composite's slots hold, and captions with their events marked."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from artifact.notebook.slots import COLOURS, MARKS, figure_slots, marked_captions


def test_the_bars_are_the_cosines():
    rows = [
        {"view": view, "slot": slot, "event": event, "cosine": round(0.1 * v + 0.2 * s - 0.3 * e, 2)}
        for v, view in enumerate(("forward", "reversed"))
        for s, slot in enumerate(("whole", "first", "last"))
        for e, event in enumerate(("dog", "rain"))
    ]
    figure = figure_slots(pd.DataFrame(rows))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dog, then rain", "rain, then dog"]
    for v, axes in enumerate(figure.axes):
        heights = [round(bar.get_height(), 2) for bar in axes.patches]
        assert heights == [round(0.1 * v + 0.2 * s - 0.3 * e, 2) for e in (0, 1) for s in (0, 1, 2)]


def marks(page: str) -> list[tuple[str, str]]:
    """The words that are marked in the captions, with the slot of their colour."""
    names = {colour: slot for slot, colour in MARKS.items()}
    found = re.findall(r'<span style="background:(#\w+);[^"]*">([^<]*)</span>', page.partition("<ul>")[2])
    return [(names[colour], text) for colour, text in found]


@pytest.mark.parametrize(
    ("caption", "relation", "in_time", "expected"),
    [
        ("dog before rain", "forward", "dog \u2192 rain", [("first", "dog"), ("last", "rain")]),
        ("dog after rain", "backward", "rain \u2192 dog", [("last", "dog"), ("first", "rain")]),
        ("a rain & dog, then rain", "forward", "a rain & dog \u2192 rain",
         [("first", "a rain &amp; dog"), ("last", "rain")]),
        ("dog while rain", "together", "dog \u2192 rain", [("both", "dog"), ("both", "rain")]),
        ("the second sound is dog", "end", "dog", [("last", "dog")]),
        ("a then b then c", "forward", "a \u2192 b \u2192 c",
         [("first", "a"), ("between", "b"), ("last", "c")]),
        ("a dogged dog starts", "start", "dog", [("first", "dog")]),
        ("this is a sound of dog", "plain", "", []),
    ],
)  # fmt: skip
def test_events_are_marked_by_their_slot(caption, relation, in_time, expected):
    page = marked_captions(pd.DataFrame([{"caption": caption, "relation": relation, "in time": in_time}]))
    assert marks(page) == expected
    assert f"({relation})" in page
    assert MARKS["first"], MARKS["last"] == COLOURS
