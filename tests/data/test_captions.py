from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from tclap.data.batches import base_captions, draw_base_items
from tclap.data.captions import event_ids, view_captions, view_events, vocabulary
from tclap.evaluation import tasks

LABELS = ["clock tick", "dog", "door wood knock", "rain", "rooster", "sea waves", "sneezing", "helicopter"]


@pytest.fixture
def pairs():
    rows = [
        {"pair_id": f"{i}-{j}-{sigma}", "label_i": i, "label_j": j, "sigma": sigma, "order": order}
        | {"source_i": i, "source_j": j}
        for i, j in permutations(LABELS, 2)
        for sigma, order in (("preceding", "forward"), ("succeeding", "reversed"))
    ]
    return pd.DataFrame(rows)


def test_vocabulary_of_two_labels_by_hand():
    assert vocabulary(LABELS) == vocabulary(LABELS[::-1])
    sound = "this is a sound of {}"
    slot = "In this concatenated sound, the {} sound is {}"
    expected = {slot.format(n, x) for n in ("first", "second") for x in ("dog", "rain")}
    for x in ("dog", "rain"):
        expected |= {f"i can hear {x}", f"this is an audio of {x}", x, f"this is {x}", sound.format(x)}
    for a, b in (("dog", "rain"), ("rain", "dog")):
        for words in (f"{a} before {b}", f"{a} after {b}", f"{a} while {b}", f"{a} and {b}"):
            expected |= {words, sound.format(words)}
        expected |= {f"{a} followed by {b}", f"first {a}, then {b}"}
    assert vocabulary(["dog", "rain"]) == sorted(expected)


def test_vocabulary_has_what_training_asks_for(pairs):
    known = set(vocabulary(LABELS))
    for generator in (None, *(np.random.default_rng(seed) for seed in range(5))):
        assert {c for view in view_captions(pairs, generator) for c in view} <= known
    clips = pd.DataFrame({"label": LABELS * 3, "captions": [[label] for label in LABELS * 3]})
    generator = np.random.default_rng(0)
    captions, _ = base_captions(clips, *draw_base_items(clips, 5000, generator), generator)
    # Five wordings of a label, two of an ordered pair: all of them come up.
    assert set(captions) <= known and len(set(captions)) == 5 * 8 + 2 * 56


def test_vocabulary_has_what_the_evaluation_asks_for(pairs):
    clips = pd.DataFrame({"clip_id": LABELS, "label": LABELS, "source": LABELS})
    items = pd.concat([tasks.build_items(clips, pairs, LABELS, seed=0), tasks.prompt_items(clips, LABELS)])
    assert set(items["task"]) == {*tasks.TASKS, *(tasks.PROMPT_PREFIX + p for p in tasks.PROMPTS)}
    assert {c for candidates in items["candidates"] for c in candidates} <= set(vocabulary(LABELS))


def test_captions_use_the_clips_texts_and_events_their_labels():
    pairs = pd.DataFrame(
        {"label_i": ["c7", "c7"], "label_j": ["c2"] * 2, "sigma": ["preceding", "succeeding"]}
    )
    sound = "this is a sound of "
    assert view_captions(pairs)[0] == [sound + "c7 before c2", sound + "c2 after c7"]
    pairs["text_i"], pairs["text_j"] = ["A dog barks", "Dogs"], ["rain falls", "it rains"]
    assert view_captions(pairs) == [
        [sound + "A dog barks before rain falls", sound + "it rains after Dogs"],
        [sound + "rain falls before A dog barks", sound + "Dogs after it rains"],
        [sound + "A dog barks while rain falls", sound + "Dogs while it rains"],
    ]
    assert view_events(pairs) == [["c7 > c2"] * 2, ["c2 > c7"] * 2, ["c2 & c7"] * 2]


def test_prompted_or_bare_is_drawn_for_a_pair_and_alike_in_its_views(pairs):
    views = view_captions(pairs, np.random.default_rng(0))
    is_prompted = np.array([[c.startswith("this is a sound of ") for c in view] for view in views])
    assert (is_prompted == is_prompted[0]).all()
    assert 0.3 < is_prompted[0].mean() < 0.7
    assert views == view_captions(pairs, np.random.default_rng(0))
    assert views != view_captions(pairs, np.random.default_rng(1))


def test_event_ids_are_equal_exactly_where_the_events_are():
    events = ["b > a", "a > b", "b > a", "a & b", "a", "a > b", "a > b longer than the others"]
    ids = event_ids(events)
    assert ids.dtype == np.int64 and ids.shape == (7,)
    same = np.array([[x == y for y in events] for x in events])
    assert ((ids[:, None] == ids[None, :]) == same).all()
