"""The class hold-out: which classes are seen, what is asked, and what is counted, by hand."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from meanings import Meanings

from artifact import hold_out as module
from artifact.config import load_config
from artifact.hold_out import answers, curve, events_of, hold_out, seen_classes, splits_of
from tclap.evaluation.tasks import build_items

LABELS = ["dog", "hen", "rain"]
TEN = [f"class {n}" for n in range(10)]


@pytest.mark.parametrize(("fraction", "times"), [(0.2, 1), (0.8, 4)])
def test_every_class_is_seen_in_as_many_splits(fraction, times):
    splits = [seen_classes(TEN, fraction, split, 5, seed=3) for split in range(5)]
    assert Counter(label for seen in splits for label in seen) == dict.fromkeys(TEN, times)
    assert all(len(seen) == round(10 * fraction) and seen == sorted(seen) for seen in splits)


def test_seen_classes_grow_with_the_fraction_and_are_drawn_from_the_seed():
    few, more = (set(seen_classes(TEN, fraction, 1, 5, seed=3)) for fraction in (0.2, 0.6))
    assert few < more
    assert seen_classes(TEN[::-1], 0.6, 1, 5, seed=3) == sorted(more) != seen_classes(TEN, 0.6, 1, 5, seed=4)
    assert len(seen_classes(TEN, 0.01, 0, 5, seed=0)) == 2, "a pair needs two"


def test_each_split_is_trained_in_one_seed():
    config = load_config("synthetic").model_copy(update={"seeds": [7, 8, 9]})
    dealt = [list(splits_of(config, seed)) for seed in config.seeds]
    assert dealt == [[0, 3], [1, 4], [2]]


def manifest() -> pd.DataFrame:
    pairs = [("dog", "rain", "forward"), ("rain", "hen", "reversed"), ("hen", "dog", "forward")]
    rows = [
        {"pair_id": f"p-{n}", "label_i": i, "label_j": j, "order": order, "source_i": f"{i} {n}",
         "source_j": f"{j} {n}", "length_i": 30, "length_j": 80, "gap": -10}
        for n, (i, j, order) in enumerate(pairs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_an_event_is_the_part_of_the_composite_in_which_it_sounds():
    first, second = list(events_of(manifest().head(1)).values())
    assert (first.start, first.end, second.start, second.end) == (0, 0.3, 0.2, 1)
    assert first.sound[1] == second.sound[1] == "forward"
    row = manifest().assign(gap=90).head(1)
    assert [(e.start, e.end) for e in events_of(row).values()] == [(0, 0.15), (0.6, 1)]


def test_a_composite_counts_once_and_is_named_by_both_events():
    pairs = manifest()
    items = build_items(pd.DataFrame(columns=["clip_id", "label", "source"]), pairs, LABELS, seed=0)
    items = items[items["task"].isin(["2way_before", "2way_after"])]
    sound = "this is a sound of {}".format
    heard = {
        "p-0/forward": sound("dog before rain"),  # right with "before", tied with "after"
        "p-1/reversed": sound("rain before hen"),  # its inversion
        "p-2/forward": sound("dog after hen"),
        "p-0/i": sound("dog"), "p-0/j": sound("rain"),
        "p-1/i": sound("rain"), "p-1/j": sound("dog"),
        "p-2/i": sound("dog"), "p-2/j": sound("dog"),
    }  # fmt: skip
    model = Meanings({name: {caption: 1.0} for name, caption in heard.items()}, str)
    found = answers(model, items, pairs, LABELS).set_index("item")
    assert found["correct"].to_dict() == {"p-0": 0.5, "p-1": 0, "p-2": 0.5}
    assert found["named"].to_dict() == {"p-0": True, "p-1": False, "p-2": False}
    assert found.loc["p-1", ["source_a", "source_b"]].tolist() == ["rain 1", "hen 1"]


def rows(correct: dict[tuple[int, int], list[float]], **where) -> list[dict]:
    """A row per answer of a split and a number of seen classes; every second pair is named."""
    return [
        {"item": f"{seen}-{n}", "source_a": f"a{seen}{n}", "source_b": f"b{seen}{n}", "correct": value,
         "named": n % 2 == 0, "seen": seen, "split": split} | where
        for (split, seen), values in correct.items() for n, value in enumerate(values)
    ]  # fmt: skip


def test_the_curve_by_hand():
    trained = {(0, 0): [0, 0.5, 0, 0.5] * 5, (1, 0): [1] * 20, (0, 2): [1, 1, 0.5, 1]}
    base = {(-1, 0): [0.5] * 4}
    table = rows(trained, classes=4, fraction=0.2, seed=0) + rows(base, classes=0, fraction=0.0, seed=0)
    found = curve(pd.DataFrame(table))
    assert found.keys() == {"20%"} and (found["20%"]["classes"], found["20%"]["splits"]) == (4, 2)
    scores = {name: (s["accuracy"], s["n"]) for name, s in found["20%"].items() if isinstance(s, dict)}
    assert scores == {
        "none seen": (62.5, 40),
        "none seen, named": (50, 20),
        "both seen": (87.5, 4),
        "both seen, named": (75, 2),
    }
    low, high = found["20%"]["none seen"]["ci95"]
    assert low < 30 and high == 100, "either split alone may be drawn"
    equal = pd.DataFrame(rows({(split, 0): [1] * 30 for split in (0, 1)}, classes=4, fraction=0.2, seed=0))
    low, _ = curve(equal)["20%"]["none seen"]["ci95"]
    assert low > 80, "two splits that are alike say more than two clips"


def test_slots_are_asked_about_all_pairs_in_every_seed():
    table = [row for seed in (0, 1) for row in rows({(-1, 0): [0] * 4}, classes=0, fraction=0.0, seed=seed)]
    right = {(0, "2way_before"): 1, (0, "2way_after"): 1, (1, "2way_before"): 1, (1, "2way_after"): 0}
    asked = [
        {"seed": seed, "task": task, "item": f"0-{n}", "correct": bool(correct and n)}
        for (seed, task), correct in (right | {(0, "4"): 0}).items() for n in range(4)
    ]  # fmt: skip
    found = curve(pd.DataFrame(table), pd.DataFrame(asked))
    assert found.keys() == {"slots", "slots, named"}
    assert (found["slots"]["accuracy"], found["slots"]["n"]) == (56.25, 8)
    assert (found["slots, named"]["accuracy"], found["slots, named"]["n"]) == (37.5, 4), "pairs 0 and 2"


def test_composites_are_of_seen_classes_and_replay_of_all(experiment, monkeypatch):
    used = []
    monkeypatch.setattr(module, "train_variant", lambda *given, **_: used.append(given))
    found = hold_out(experiment, 0)
    trained = found[found["split"] == 0]
    (given,) = used
    seen, (pool, validation), post = seen_classes(experiment.labels, 0.6, 0, 1, 0), given[4], given[5]
    for composites in (pool.composites, validation.composites):
        assert {name for event in composites.events for name in event[0].split(" > ")} == set(seen)
    replayed = {name for event in pool.base.events for name in event[0].split(" + ")}
    assert len(seen) == 2 and replayed == set(experiment.labels)
    assert (post.steps, post.pool_pairs) == (2, 12)
    pairs = experiment.table("data/pairs-test.parquet").set_index("pair_id").loc[trained["item"]]
    assert trained["seen"].tolist() == [
        (i in seen) + (j in seen) for i, j in zip(pairs["label_i"], pairs["label_j"], strict=True)
    ]
    assert np.unique(found.loc[found["classes"] == 0, "seen"]).tolist() == [0]
    # Nothing was trained here, so that all models are the base model.
    assert trained["correct"].tolist() == found.loc[found["classes"] == 0, "correct"].tolist()
    hold_out(experiment, 0)
    assert len(used) == 1, "made already"
