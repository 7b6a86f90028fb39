import re

import numpy as np
import pandas as pd
import pytest
from meanings import LABELS as ALL_LABELS
from meanings import Meanings, Random, clips_of, pairs_of, played, said

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

LABELS = ALL_LABELS[:5]
CLIPS, PAIRS = clips_of(LABELS, 4), pairs_of(LABELS, 4)
SOUND = "this is a sound of "


class Tone:
    sample_rate = 1000

    def __call__(self, clip_id):
        return np.ones(4000, np.float32)


def sounds_of(takes=lambda events: events) -> dict[str, tuple[str, ...]]:
    """The events of all that the controls play, in order; ``takes`` is how a model takes sequences."""
    labels = CLIPS.set_index("clip_id")["label"]
    sounds = {clip: (label,) for clip, label in labels.items()}
    for pair in PAIRS.to_dict("records"):
        sounds[f"{pair['pair_id']}/{pair['order']}"] = takes(played(pair, pair["order"]))
    for name, sound in arrangements(CLIPS, PAIRS, Tone(), 2.0, seed=0).items():
        if name.endswith("/periodic"):
            sounds[name] = played(sound[0], "overlap")
        else:
            events = tuple(labels[clip] for clip in sound.clip_ids)
            sounds[name] = events[:1] if name.endswith("/same") else takes(events)
    return sounds


@pytest.fixture(scope="module")
def items():
    return build_items(CLIPS, PAIRS, seed=0)


def test_unseen_wordings_are_not_trained_on():
    bare = {template.removeprefix(SOUND) for template in ORDERED}
    assert not bare & set(UNSEEN_ORDERED)
    assert set(SEEN_WORDINGS) <= set(ORDERED)


def test_items_of_one_pair_by_hand():
    reversed_pair = PAIRS[(PAIRS["label_i"] == "dog") & (PAIRS["label_j"] == "church bells")].iloc[[1]]
    name = reversed_pair["pair_id"].iloc[0]
    items = build_items(CLIPS, reversed_pair, seed=0).set_index("task")
    before = [f"{SOUND}dog before church bells", f"{SOUND}church bells before dog"]
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
    assert periodic["candidates"] == [*before, f"{SOUND}dog while church bells"]
    assert (periodic["audio"], periodic["answers"]) == (f"{name}/periodic", [2])
    assert periodic["chance"] == pytest.approx(1 / 3)
    three = items.loc["three: then"]
    assert len(set(three["candidates"])) == 6 and three["chance"] == pytest.approx(1 / 6)
    single = items.loc["single: plain"].set_index("item").loc["hen-1"]
    (other,) = {w for c in single["candidates"][1:] for w in re.split(" before | while ", c[19:])} - {"hen"}
    worded = ["hen", f"hen before {other}", f"{other} before hen", f"hen while {other}"]
    assert single["candidates"] == [SOUND + words for words in worded]
    assert single["answers"] == [0] and single["chance"] == 0.25


@pytest.mark.parametrize("right", [True, False])
def test_a_model_that_hears_order_is_right_and_one_that_turns_it_is_wrong(items, right):
    sounds = sounds_of() if right else sounds_of(lambda events: events[::-1])
    rows = control_rows(Meanings(sounds), items, PAIRS)
    found = rows.groupby("task")["correct"].mean()
    wordings = [f"wording: {w}" for w in ("seen", "unseen", *SEEN_WORDINGS, *UNSEEN_ORDERED)]
    assert (found[[*wordings, *CONDITIONS, "plain: before", "three: before", "three: then"]] == right).all()
    assert (found[["periodic: overlap", "single: plain", "same: plain"]] == 1).all()
    # A model that reads the swapped relation is misled. Names alone, in captions or of sounds, tie: wrong.
    assert found["words: swapped"] == (not right)
    assert found["words: names only"] == found["baseline: audio only"] == 0
    assert found["baseline: always the first"] == 0.5
    summary = summarise(rows.assign(model="m", seed=0), resamples=20).set_index("task")
    assert summary.loc["wording: unseen", "n"] == len(PAIRS)


def test_baselines_know_the_pairs_of_other_clips_alone():
    pairs = PAIRS.sample(15, random_state=1).reset_index(drop=True)
    names = (pairs["pair_id"] + "/" + pairs["order"]).tolist()
    model = Random(names)
    margins = controls.baseline_rows(model, pairs).pivot(index="item", columns="task", values="margin")
    ends = {pair["pair_id"]: played(pair, pair["order"]) for pair in pairs.to_dict("records")}
    left_out, priors = 0, []
    for pair in pairs.itertuples():
        own = {pair.source_i, pair.source_j}
        others = [p for p in pairs.itertuples() if not own & {p.source_i, p.source_j}]
        left_out += len(pairs) - len(others)
        shares, captions = [], []
        for label, other in (ends[pair.pair_id], ends[pair.pair_id][::-1]):
            led, followed = (sum(ends[p.pair_id][n] == label for p in others) for n in (0, 1))
            shares.append((led + 1) / (led + followed + 2))
            captions.append(f"{SOUND}{label} before {other}")
        priors.append(shares[0] - shares[1])
        found = margins.loc[pair.pair_id]
        assert found["baseline: label prior"] == pytest.approx(priors[-1])
        sounds = model.sounds([f"{p.pair_id}/{p.order}" for p in others]).double()
        right, wrong = (model.captions(captions).double() @ sounds.mean(0)).tolist()
        assert found["baseline: captions only"] == pytest.approx(right - wrong, abs=1e-6)
    assert left_out > len(pairs) and len(np.unique(priors)) > 3  # more than each one's own
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
    model = Meanings({"both": {("dog",): 0.8, ("rain",): 0.6}, "hen": {("hen",): 1.0}})

    def item(task, sound, *candidates):
        candidates = [SOUND + words for words in candidates]
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


def test_sounds_are_arranged_in_the_order_that_is_right(items):
    sounds, played_by = arrangements(CLIPS, PAIRS, Tone(), 2.0, seed=0), sounds_of()
    plain = {f"{pair}/{view}" for pair in PAIRS["pair_id"] for view in ("forward", "reversed")}
    assert set(sounds) == set(items["audio"]) - plain - set(CLIPS["clip_id"])
    for pair in PAIRS.to_dict("records"):
        assert sounds[f"{pair['pair_id']}/periodic"] == (pair, "periodic")
        first, second = sounds[f"{pair['pair_id']}/same"].clip_ids
        assert first == pair["clip_i"] != second and first.split("-")[0] == second.split("-")[0]
    checked = items[items["audio"].isin(sounds) & ~items["task"].str.startswith("same")]
    assert len(checked) == len(PAIRS) * (len(CONDITIONS) + 3)
    for item in checked.itertuples():
        assert said(item.candidates[item.answers[0]]) == played_by[item.audio]


def test_items_are_the_seeds(items):
    pd.testing.assert_frame_equal(items, build_items(CLIPS, PAIRS, seed=0))
    differ = items["candidates"] != build_items(CLIPS, PAIRS, seed=1)["candidates"]
    drawn = {"words: shuffled", "three: before", "three: then", "single: plain", "single: says first"}
    assert set(items["task"][differ]) == drawn


def test_every_task_has_a_documented_group_and_clips_without_labels_those_of_two_events(items):
    groups = set(GROUPS) - {"baseline", "slots"}
    assert {group_of(task) for task in items["task"]} == groups
    assert group_of("2way_before") is None and group_of("prompt: {}") is None
    assert all(f"``{group}``" in controls.__doc__ for group in GROUPS)
    unlabelled = CLIPS.assign(label=CLIPS["clip_id"])
    ends = {"label_i": PAIRS["clip_i"], "label_j": PAIRS["clip_j"]}
    named = PAIRS.assign(**ends, text_i="A dog barks", text_j="rain falls")
    items = build_items(unlabelled, named, seed=0)
    assert {group_of(task) for task in items["task"]} == groups - {"single", "same", "three"}
    worded = items.set_index("task").loc["wording: {a}, then {b}"]["candidates"].iloc[0]
    assert "A dog barks, then rain falls" in worded
