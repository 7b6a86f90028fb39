from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from meanings import Meanings, Random

from tclap.data.captions import ORDERED, SEEN_WORDINGS, UNSEEN_ORDERED
from tclap.evaluation import controls
from tclap.evaluation.controls import (
    CONDITIONS,
    GROUPS,
    arrangements,
    build_items,
    control_rows,
    group_of,
    order_blind_rows,
)
from tclap.evaluation.statistics import summarise
from tclap.evaluation.tasks import item_of

LABELS = ["dog", "rain", "church bells", "hen", "siren"]
PER_CLASS = 4


def made():
    """Test clips of five labels, and every ordered pair of labels forward and reversed."""
    clips = pd.DataFrame(
        [
            {"clip_id": f"{x} {n}", "label": x, "source": f"s {x} {n}"}
            for x in LABELS
            for n in range(PER_CLASS)
        ]
    )
    rows = []
    for n, ((a, b), order) in enumerate(
        itertools.product(itertools.permutations(LABELS, 2), ("forward", "reversed"))
    ):
        row = {"pair_id": f"p{n}", "sigma": "preceding", "order": order}
        for end, label, take in (("i", a, n % PER_CLASS), ("j", b, n // 7 % PER_CLASS)):
            row |= {
                f"label_{end}": label,
                f"clip_{end}": f"{label} {take}",
                f"source_{end}": f"s {label} {take}",
            }
        rows.append(row)
    return clips, pd.DataFrame(rows)


def sounds_of(clips, pairs, seed=0) -> dict[str, tuple[str, ...]]:
    """The events of every sound that the controls use, in the order in which they are played."""
    sounds = {clip.clip_id: (clip.label,) for clip in clips.itertuples()}
    for index, pair in enumerate(pairs.to_dict("records")):
        ends = (pair["label_i"], pair["label_j"])
        played = ends if pair["order"] == "forward" else ends[::-1]
        sounds |= {f"{pair['pair_id']}/{name}": played for name in (pair["order"], *CONDITIONS)}
        third, order = controls._third(pair, clips, seed, index)
        sounds[f"{pair['pair_id']}/three"] = tuple((*ends, third["label"])[k] for k in order)
        sounds[f"{pair['pair_id']}/same"] = (pair["label_i"],)
        sounds[f"{pair['pair_id']}/periodic"] = ("while", *sorted(ends))
    return sounds


def reader(clips, pairs, takes=lambda events: events) -> Meanings:
    """A model that knows the events' order and reads captions by rules; ``takes`` is how it takes sounds."""
    weights = {}
    for name, events in sounds_of(clips, pairs).items():
        weights[name] = {(event,): 0.1 for event in events} | {takes(events): 1.0}
    return Meanings(weights, said)


def said(caption: str) -> tuple[str, ...] | None:
    """The events of a caption in the order that its words give them; None where they give none."""
    words = caption.removeprefix("this is a sound of ")
    forward = r"(.+?) before (.+) before (.+)|first (.+?), then (.+), then (.+)|(.+) before (.+)|"
    forward += r"(.+) followed by (.+)|first (.+), then (.+)|(.+), then (.+)|(.+) and then (.+)|"
    forward += r"(.+) precedes (.+)|(.+) prior to (.+)|after (.+), (.+)"
    backward = r"(.+) preceded by (.+)|(.+) follows (.+)|before (.+), (.+)|(.+) after (.+)"
    for pattern, turn in ((backward, -1), (forward, 1)):
        if found := re.fullmatch(pattern, words):
            events = tuple(x for x in found.groups() if x)[::turn]
            if set(events) <= set(LABELS):
                return events
    if " while " in words:
        return ("while", *sorted(words.split(" while ")))
    return (words,) if words in LABELS else None


@pytest.fixture(scope="module")
def asked():
    clips, pairs = made()
    return clips, pairs, build_items(clips, pairs, seed=0)


def accuracies(rows):
    return rows.groupby("task")["correct"].mean().mul(100).to_dict()


def test_unseen_wordings_are_not_trained_on():
    bare = {template.removeprefix("this is a sound of ") for template in ORDERED}
    assert not bare & set(UNSEEN_ORDERED)
    assert set(SEEN_WORDINGS) <= set(ORDERED)


def test_items_of_one_pair_by_hand():
    clips, pairs = made()
    reversed_pair = pairs[(pairs["label_i"] == "dog") & (pairs["label_j"] == "church bells")].iloc[[1]]
    name = reversed_pair["pair_id"].iloc[0]
    items = build_items(clips, reversed_pair, seed=0).set_index("task")
    before = ["this is a sound of dog before church bells", "this is a sound of church bells before dog"]
    expected = {
        "wording: {b} after {a}": ["church bells after dog", "dog after church bells"],
        "wording: before {b}, {a}": ["before church bells, dog", "before dog, church bells"],
        "words: swapped": [caption.replace("before", "after") for caption in before],
        "words: names only": ["dog church bells", "church bells dog"],
        "gap: -25%": before,
        "near: neither": before,
    }
    for task, candidates in expected.items():
        row = items.loc[task]
        assert row["candidates"] == candidates and row["answers"] == [1] and row["chance"] == 0.5
        assert row["audio"] == (f"{name}/{task}" if task in CONDITIONS else f"{name}/reversed")
    shuffled = items.loc["words: shuffled"]["candidates"]
    assert [sorted(c.split()) for c in shuffled] == [sorted(c.split()) for c in before]
    assert shuffled != before
    periodic = items.loc["periodic: overlap"]
    assert periodic["candidates"] == [*before, "this is a sound of dog while church bells"]
    assert (periodic["audio"], periodic["answers"]) == (f"{name}/periodic", [2])
    assert periodic["chance"] == pytest.approx(1 / 3)
    three = items.loc["three: then"]
    assert len(set(three["candidates"])) == 6 and three["chance"] == pytest.approx(1 / 6)
    single = items.loc["single: plain"].set_index("item").loc["hen 1"]
    (other,) = {w for c in single["candidates"][1:] for w in re.split(" before | while ", c[19:])} - {"hen"}
    assert single["candidates"] == [
        "this is a sound of hen",
        f"this is a sound of hen before {other}",
        f"this is a sound of {other} before hen",
        f"this is a sound of hen while {other}",
    ]
    assert single["answers"] == [0] and single["chance"] == 0.25


def test_every_task_belongs_to_a_documented_group(asked):
    assert {group_of(task) for task in asked[2]["task"]} == set(GROUPS) - {"baseline", "slots"}
    assert group_of("2way_before") is None and group_of("prompt: {}") is None
    for group in GROUPS:
        assert f"``{group}``" in controls.__doc__


def test_a_model_that_reads_order_is_correct_and_is_misled_by_swapped_words(asked):
    clips, pairs, items = asked
    found = accuracies(control_rows(reader(clips, pairs), items, pairs))
    always = [f"wording: {w}" for w in (*SEEN_WORDINGS, *UNSEEN_ORDERED)] + list(CONDITIONS)
    always += ["plain: before", "wording: seen", "wording: unseen", "periodic: overlap"]
    always += ["three: before", "three: then", "single: plain", "same: plain"]
    assert {task: found[task] for task in always} == dict.fromkeys(always, 100.0)
    # Names alone tie, and a tie is wrong. So do those of the sound.
    assert found["words: swapped"] == found["words: names only"] == found["baseline: audio only"] == 0
    assert found["baseline: always the first"] == 50


def test_a_model_that_takes_sounds_backwards_is_wrong(asked):
    clips, pairs, items = asked
    rows = control_rows(reader(clips, pairs, takes=lambda events: events[::-1]), items, pairs)
    found = accuracies(rows)
    assert all(found[task] == 0 for task in (*CONDITIONS, "wording: seen", "wording: unseen", "three: then"))
    assert found["words: swapped"] == 100
    summary = summarise(rows.assign(model="m", seed=0), resamples=20).set_index("task")
    assert summary.loc["wording: unseen", "n"] == len(pairs)
    assert summary.loc["three: then", "chance"] == pytest.approx(100 / 6)


def test_the_label_prior_by_brute_force():
    _, pairs = made()
    pairs = pairs.sample(15, random_state=1).reset_index(drop=True)
    expected = []
    for one in pairs.itertuples():
        shares = []
        for label in (one.label_i, one.label_j):
            led = followed = 0
            for other in pairs.itertuples():
                if {one.source_i, one.source_j} & {other.source_i, other.source_j}:
                    continue
                ends = (other.label_i, other.label_j)
                lead, follow = ends if other.order == "forward" else ends[::-1]
                led, followed = led + (lead == label), followed + (follow == label)
            shares.append((led + 1) / (led + followed + 2))
        expected.append(shares)
    np.testing.assert_allclose(controls._label_prior(pairs), expected)
    assert len(np.unique(expected)) > 3


def test_the_captions_only_baseline_takes_the_mean_of_the_sounds_of_other_clips():
    _, pairs = made()
    pairs = pairs.sample(12, random_state=1).reset_index(drop=True)
    names = (pairs["pair_id"] + "/" + pairs["order"]).tolist()
    model = Random(names)
    rows = controls.baseline_rows(model, pairs)
    rows = rows[rows["task"] == "baseline: captions only"].set_index("item")
    sources = [{pair.source_i, pair.source_j} for pair in pairs.itertuples()]
    left_out = 0
    for pair, own in zip(pairs.itertuples(), sources, strict=True):
        others = [name for name, other in zip(names, sources, strict=True) if not own & other]
        left_out += len(names) - len(others)
        a, b = (pair.label_i, pair.label_j)[:: 1 if pair.order == "forward" else -1]
        right, wrong = model.captions([f"this is a sound of {x} before {y}" for x, y in ((a, b), (b, a))])
        margin = ((right - wrong).double() @ model.sounds(others).double().mean(0)).item()
        assert rows.loc[pair.pair_id, "margin"] == pytest.approx(margin, abs=1e-6)
    assert left_out > len(names)  # more than each one's own
    # Without another clip nothing is known, and that is wrong.
    alone = controls.baseline_rows(model, pairs.head(1)).set_index("task").loc["baseline: captions only"]
    assert alone["tied"] and not alone["correct"]


def test_wordings_are_pooled_by_composite():
    names = ("task", "item", "correct", "margin", "tied", "answer", "prediction", "source_a")
    asked = [("one", "p", 1.0, 0.5, False, "a", "a", "s"), ("one", "q", 0.0, -0.5, False, "c", "d", "t")]
    asked += [("two", "q", 0.0, 0.0, True, "e", "e", "t"), ("two", "p", 0.0, -0.2, False, "b", "z", "s")]
    found = controls.pooled(pd.DataFrame(asked, columns=names), "both")
    assert found.columns.tolist() == list(names) and len(found) == 2
    expected = ["both", "p", 0.5, pytest.approx(0.15), False, "a | b", "a | z", "s"]
    assert found.iloc[0].tolist() == expected
    assert found.iloc[1].tolist() == ["both", "q", 0.0, -0.25, True, "c | e", "d | e", "t"]


def test_the_order_blind_baseline_by_hand():
    model = Meanings({"both": {("dog",): 0.8, ("rain",): 0.6}, "hen": {("hen",): 1.0}}, said)

    def item(task, sound, *candidates):
        candidates = [f"this is a sound of {words}" for words in candidates]
        return item_of(task, f"{sound} {len(candidates)}", sound, candidates, [0], "a", "b")

    answer = "dog before rain"  # scores 0.7 of "both", as all captions of these two events
    items = [
        item("4", "both", answer, "dog before hen", "siren while hen"),  # 0.4 and 0
        item("4", "both", answer, "rain before dog", "rain while dog", "hen before dog"),
        item("4", "hen", answer, "siren before rain"),  # 0 and 0
        item("4", "hen", answer, "dog while hen", "rain before hen"),  # 0, and 0.5 twice
        item("3", "both", answer, "rain before dog", "dog while rain"),
    ]
    rows = order_blind_rows(model, pd.DataFrame(items), LABELS)
    found = rows[["task", "item", "correct"]].to_numpy().tolist()
    correct = [("both 3", 1), ("both 4", 1 / 3), ("hen 2", 1 / 2), ("hen 3", 0)]
    assert found == [["baseline: order-blind", name, pytest.approx(score)] for name, score in correct]
    assert order_blind_rows(model, pd.DataFrame(items[-1:]), LABELS).empty


def test_sounds_are_arranged_in_the_order_that_is_right(asked):
    clips, pairs, items = asked

    def tone(clip_id):
        return np.ones(4000, np.float32)

    tone.sample_rate = 1000
    sounds = arrangements(clips, pairs, tone, 2.0, seed=0)
    plain = {f"{pair}/{view}" for pair in pairs["pair_id"] for view in ("forward", "reversed")}
    assert set(sounds) == set(items["audio"]) - plain - set(clips["clip_id"])
    labels = clips.set_index("clip_id")["label"]
    of_pairs = pairs.set_index("pair_id")
    for pair in pairs.to_dict("records"):
        pair_id = pair["pair_id"]
        assert sounds[f"{pair_id}/periodic"] == (pair, "periodic")
        first, second = sounds[f"{pair_id}/same"].clip_ids
        assert first == of_pairs.loc[pair_id, "clip_i"] != second and labels[first] == labels[second]
    checked = items[items["audio"].isin(sounds) & ~items["task"].str.startswith(("same", "periodic"))]
    assert len(checked) == len(pairs) * (len(CONDITIONS) + 2)
    for item in checked.itertuples():
        played = tuple(labels[clip] for clip in sounds[item.audio].clip_ids)
        assert said(item.candidates[item.answers[0]]) == played


def test_items_are_the_seeds(asked):
    clips, pairs, items = asked
    pd.testing.assert_frame_equal(items, build_items(clips, pairs, seed=0))
    other = build_items(clips, pairs, seed=1)
    differ = items["candidates"] != other["candidates"]
    assert set(items["task"][differ]) == {
        "words: shuffled",
        "three: before",
        "three: then",
        "single: plain",
        "single: says first",
    }


def test_clips_without_labels_are_asked_about_two_events_only(asked):
    clips, pairs, _ = asked
    unlabelled = clips.assign(label=clips["clip_id"])
    named = pairs.assign(
        label_i=pairs["clip_i"], label_j=pairs["clip_j"], text_i="A dog barks", text_j="rain falls"
    )
    items = build_items(unlabelled, named, seed=0)
    expected = set(GROUPS) - {"baseline", "single", "same", "three", "slots"}
    assert {group_of(task) for task in items["task"]} == expected
    assert (
        "A dog barks, then rain falls"
        in items.set_index("task").loc["wording: {a}, then {b}"]["candidates"].iloc[0]
    )
