from __future__ import annotations

import collections
import re

import numpy as np
import pytest

from tclap.data.captions import UNSEEN_ORDERED
from tclap.slots import event_captions as made
from tclap.slots.event_captions import (
    ALL_WORDINGS,
    ASKED,
    RELATIONS,
    THREE_WORDINGS,
    WORDINGS,
    clauses_of,
    closed_class,
    draw_caption,
    drawn_event,
    filled,
    words_of,
)

ESC50 = """dog, rooster, pig, cow, frog, cat, hen, insects, sheep, crow, rain, sea waves, crackling fire,
crickets, chirping birds, water drops, wind, pouring water, toilet flush, thunderstorm, crying
baby, sneezing, clapping, breathing, coughing, footsteps, laughing, brushing teeth, snoring,
drinking sipping, door wood knock, mouse click, keyboard typing, door wood creaks, can opening,
washing machine, vacuum cleaner, clock alarm, clock tick, glass breaking, helicopter, chainsaw,
siren, car horn, engine, train, church bells, airplane, fireworks, hand saw"""


def test_no_class_is_among_the_events():
    names = [" ".join(name.split()) for name in ESC50.split(",")]
    assert len(names) == 50
    lists = (*made.SOUNDS, *made.SUBJECTS, *made.ACTIONS, *made.PLACES)
    for name in names:
        found = [event for event in lists if re.search(rf"\b{name}s?\b", event)]
        assert not found, (name, found)


def test_what_the_evaluation_asks_is_kept_apart():
    assert {w for known in ASKED.values() for w in known} == set(UNSEEN_ORDERED)
    assert not {w for known in WORDINGS.values() for w in known} & set(UNSEEN_ORDERED)
    assert not {w for known in THREE_WORDINGS.values() for w in known} & set(UNSEEN_ORDERED)
    # Nor the words that only those have.
    apart = set(words_of(UNSEEN_ORDERED)) - set(closed_class(WORDINGS))
    assert apart == {"precedes", "preceded", "follows", "prior"}
    assert set(closed_class()) == set(closed_class(WORDINGS)) | apart


def test_every_wording_names_the_events_that_its_relation_needs():
    for relation, wordings in ALL_WORDINGS.items():
        assert relation in RELATIONS
        for wording in wordings:
            names = sorted(re.findall(r"\{([abc])\}", wording))
            if relation == "plain":
                assert names and names == sorted(set(names)), wording
            else:
                assert names == (["a"] if relation in ("start", "end") else ["a", "b"]), wording
    for wordings in THREE_WORDINGS.values():
        assert all(sorted(re.findall(r"\{([abc])\}", w)) == ["a", "b", "c"] for w in wordings)


def test_a_relation_says_whether_the_naming_is_in_time():
    """In WORDINGS {a} sounds first: it is named first in forward wordings and last in backward ones."""
    for relation, wordings in [*ALL_WORDINGS.items(), *THREE_WORDINGS.items()]:
        if relation in ("forward", "backward"):
            for wording in wordings:
                named = re.findall(r"\{([abc])\}", wording)
                assert named == sorted(named, reverse=relation == "backward"), wording


def test_filled_says_where_events_stand():
    text, spans = filled("before {b} there is {a}", {"a": "a bell", "b": "hail", "c": "no"})
    assert text == "before hail there is a bell"
    assert [text[s:e] for s, e in spans] == ["hail", "a bell"]


def test_captions_by_chance():
    generator = np.random.default_rng(0)
    drawn = [draw_caption(generator) for _ in range(2000)]
    again = np.random.default_rng(0)
    assert drawn == [draw_caption(again) for _ in range(2000)]
    counts = collections.Counter(c.relation for c in drawn)
    for relation, share in zip(RELATIONS, made.SHARES, strict=True):
        assert counts[relation] / 2000 == pytest.approx(share, abs=0.04)
    assert {len(c.events) for c in drawn if c.relation == "forward"} == {2, 3}
    for caption in drawn:
        assert all(event == event.strip() and event for event in caption.events)
        rest = "".join(
            part for n, part in enumerate(re.split("|".join(map(re.escape, caption.events)), caption.text))
        )
        assert "{" not in rest
    assert len({c.text for c in drawn}) > 1900


def test_events_of_any_words_and_of_clauses():
    generator = np.random.default_rng(1)
    events = [drawn_event(generator, words=["lamp"], clauses=["rain falls"]) for _ in range(400)]
    assert 0.4 < np.mean(["lamp" in e for e in events]) < 0.6
    assert 0.15 < np.mean([e == "rain falls" for e in events]) < 0.35
    assert not any("lamp" in drawn_event(generator) for _ in range(100))


def test_clauses_of_real_captions():
    captions = ["A dog barks loudly while people talk, and then a car passes.", "Rain", "Wind blows as {x} y"]
    assert clauses_of(captions) == ["a car passes", "a dog barks loudly", "people talk", "wind blows"]
    assert clauses_of([]) == []
    assert clauses_of(["one two three four five six seven eight nine"]) == []
