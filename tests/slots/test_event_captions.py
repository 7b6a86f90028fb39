"""Captions to learn from: their lists, and how they are drawn."""

from __future__ import annotations

import collections
import re

import numpy as np
import pytest

from tclap.data.captions import UNSEEN_ORDERED
from tclap.slots import event_captions as made
from tclap.slots.event_captions import ALL_WORDINGS, RELATIONS, THREE_WORDINGS, WORDINGS, closed_class

ESC50 = """
dog, rooster, pig, cow, frog, cat, hen, insects, sheep, crow, rain, sea waves, crackling fire, crickets,
chirping birds, water drops, wind, pouring water, toilet flush, thunderstorm, crying baby, sneezing,
clapping, breathing, coughing, footsteps, laughing, brushing teeth, snoring, drinking sipping, door wood
knock, mouse click, keyboard typing, door wood creaks, can opening, washing machine, vacuum cleaner, clock
alarm, clock tick, glass breaking, helicopter, chainsaw, siren, car horn, engine, train, church bells,
airplane, fireworks, hand saw"""


def test_no_class_of_esc50_is_among_the_events():
    names = [" ".join(name.split()) for name in ESC50.split(",")]
    assert len(names) == 50
    lists = (*made.SOUNDS, *made.SUBJECTS, *made.ACTIONS, *made.PLACES)
    for name in names:
        found = [event for event in lists if re.search(rf"\b{name}s?\b", event)]
        assert not found, (name, found)


def test_what_the_evaluation_asks_is_kept_apart():
    assert {w for known in made.ASKED.values() for w in known} == set(UNSEEN_ORDERED)
    learnt = (*WORDINGS.values(), *THREE_WORDINGS.values())
    assert not {w for known in learnt for w in known} & set(UNSEEN_ORDERED)
    # Nor the words that only those have.
    apart = set(made.words_of(UNSEEN_ORDERED)) - set(closed_class(WORDINGS))
    assert apart == {"precedes", "preceded", "follows", "prior"}
    assert set(closed_class()) == set(closed_class(WORDINGS)) | apart


def test_wordings_name_the_events_of_their_relation_in_its_order():
    """{a} sounds first: it is named first in forward wordings and last in backward ones."""
    assert tuple(ALL_WORDINGS) == RELATIONS
    for relation, wordings in [*ALL_WORDINGS.items(), *THREE_WORDINGS.items()]:
        count = 3 if wordings is THREE_WORDINGS.get(relation) else 2
        for wording in wordings:
            named = re.findall(r"\{([abc])\}", wording)
            if relation in ("forward", "backward"):
                assert named == sorted("abc"[:count], reverse=relation == "backward"), wording
            elif relation == "plain":
                assert named and named == sorted(set(named)), wording
            else:
                assert sorted(named) == (["a"] if relation in ("start", "end") else ["a", "b"]), wording


def test_filled_says_where_events_stand():
    text, spans = made.filled("before {b} there is {a}", {"a": "a bell", "b": "hail", "c": "no"})
    assert text == "before hail there is a bell"
    assert [text[s:e] for s, e in spans] == ["hail", "a bell"]


def test_captions_by_chance():
    generator, again = np.random.default_rng(0), np.random.default_rng(0)
    drawn = [made.draw_caption(generator) for _ in range(2000)]
    assert drawn == [made.draw_caption(again) for _ in range(2000)]
    counts = collections.Counter(c.relation for c in drawn)
    for relation, frequency in zip(RELATIONS, made.FREQUENCIES, strict=True):
        assert counts[relation] / 2000 == pytest.approx(frequency, abs=0.04)
    assert {len(c.spans) for c in drawn if c.relation == "forward"} == {2, 3}
    for caption in drawn:
        events = [caption.text[start:end] for start, end in caption.spans]
        assert all(event == event.strip() and event for event in events) and "{" not in caption.text
    assert len({c.text for c in drawn}) > 1900


def test_the_draw_is_the_one_that_the_reference_numbers_were_made_with():
    generator = np.random.default_rng(0)
    assert [made.draw_caption(generator, WORDINGS).text for _ in range(3)] == [
        "right before a man accelerates at the same level comes xylophone.",
        "this is in this recording, the second sound is a telephone speaks in short bursts",
        "this is a sound of violin takes over from coins",
    ]


def test_events_of_any_words_and_of_clauses():
    generator = np.random.default_rng(1)
    events = [made.drawn_event(generator, words=["lamp"], clauses=["rain falls"]) for _ in range(400)]
    assert 0.4 < np.mean(["lamp" in e for e in events]) < 0.6
    assert 0.15 < np.mean([e == "rain falls" for e in events]) < 0.35
    assert not any("lamp" in made.drawn_event(generator) for _ in range(100))


def test_clauses_of_real_captions():
    captions = ["A dog barks loudly while people talk, and then a car passes.", "Rain", "Wind blows as {x} y"]
    captions += ["one two three four five six seven eight nine"]
    assert made.clauses_of(captions) == ["a car passes", "a dog barks loudly", "people talk", "wind blows"]
