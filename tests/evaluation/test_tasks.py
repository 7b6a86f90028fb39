import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from meanings import LABELS, Meanings, Random, clips_of, no_order, pairs_of, played
from scipy.stats import binomtest

from tclap.data.captions import SINGLE
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.tasks import (
    ITEM_COLUMNS,
    PROMPTS,
    ROW_COLUMNS,
    TASKS,
    build_items,
    classification_items,
    prompt_items,
    score_items,
)


def items_of(labels, seed=0):
    return build_items(clips_of(labels), pairs_of(labels), labels, seed=seed)


@pytest.fixture(scope="module")
def items():
    return items_of(LABELS)


# Items


@pytest.mark.parametrize("count", [3, 7])
def test_chance_by_enumerating_all_answers(count):
    items = items_of(LABELS[:count])
    formulas = dict.fromkeys(("3", "3_after", "overlap"), 1 / 3)
    formulas |= dict.fromkeys(("2way_before", "2way_after"), 1 / 2)
    formulas |= dict.fromkeys(("2a", "2b"), 2 / (count * (count - 1)))
    formulas |= {"1": 1 / count, "4": 1 / 50, "5": 1 / (count * (2 * count - 1))}
    for task, group in items.groupby("task"):
        first = group.iloc[0]
        guesses = list(itertools.combinations(range(len(first["candidates"])), len(first["answers"])))
        hits = sum(sorted(first["answers"]) == list(guess) for guess in guesses)
        assert group["chance"].unique() == pytest.approx([hits / len(guesses)])
        assert group["chance"].unique() == pytest.approx([formulas[task]])
    # Task 4 needs seven classes.
    assert set(items["task"]) == set(TASKS) - (set() if count >= 7 else {"4"})


@pytest.mark.parametrize(("order", "right"), [("forward", 0), ("reversed", 1)])
def test_items_of_one_pair_by_hand(order, right):
    labels = ["dog", "rain", "hen"]
    pair = pairs_of(labels).query(f"label_i == 'rain' and label_j == 'dog' and order == '{order}'")
    ((name, *sources),) = pair[["pair_id", "source_i", "source_j"]].to_numpy().tolist()
    items = build_items(clips_of(labels, 1), pair, labels, seed=0).set_index("task")
    sound = "this is a sound of "
    before = [sound + "rain before dog", sound + "dog before rain", sound + "rain while dog"]
    after = [sound + "dog after rain", sound + "rain after dog", sound + "rain while dog"]
    slots = [f"In this concatenated sound, the {n} sound is {x}" for n in ("first", "second") for x in labels]
    expected = {
        "2a": (order, [sound + x for x in labels], [0, 1]),
        "2b": ("overlap", [sound + x for x in labels], [0, 1]),
        "3": (order, before, [right]),
        "3_after": (order, after, [right]),
        "2way_before": (order, before[:2], [right]),
        "2way_after": (order, after[:2], [right]),
        "overlap": ("overlap", before, [2]),
        # The first sound is rain (1), the second is dog (3 + 0), whatever the drawn order.
        "5": ("forward", slots, [1, 3]),
    }
    assert set(items.index) == {"1", *expected}
    for task, (view, candidates, answers) in expected.items():
        row = items.loc[task]
        assert (row["item"], row["audio"]) == (name, f"{name}/{view}")
        assert (row["candidates"], sorted(row["answers"])) == (candidates, answers)
        assert [row["source_a"], row["source_b"]] == sources
    single = items.loc[["1"]]
    assert single["answers"].tolist() == [[0], [1], [2]] and single["source_b"].isna().all()
    assert single["source_a"].tolist() == ["s-dog-0", "s-rain-0", "s-hen-0"]
    assert single["candidates"].iloc[0] == [sound + x for x in labels]


@pytest.mark.parametrize("count", [7, 8])
def test_task_4_candidates(count):
    items, labels = items_of(LABELS[:count]), pairs_of(LABELS[:count]).set_index("pair_id")
    places, others, whiles = set(), set(), 0
    for item in items[items["task"] == "4"].itertuples():
        assert item.audio.endswith("/forward")
        assert len(item.candidates) == len(set(item.candidates)) == 50
        pattern = r"this is a sound of (.+) (before|while) (.+)"
        words = [re.fullmatch(pattern, c).groups() for c in item.candidates]
        assert all(x != y for x, _, y in words) and len({x for w in words for x in (w[0], w[2])}) == 7
        ((a, relation, b),) = [words[k] for k in item.answers]
        assert [a, b] == labels.loc[item.item, ["label_i", "label_j"]].tolist() and relation == "before"
        assert {(a, "before", b), (b, "before", a), (a, "while", b)} <= set(words)
        whiles += sum(r == "while" for _, r, _ in words)
        places |= {*item.answers}
        others |= {w[0] for w in words} - {a, b}
    # The correct answer has no place of its own, and the rest is drawn evenly: 41 of the 81 are "while".
    asked = int((items["task"] == "4").sum())
    assert others == set(LABELS[:count])
    assert len(places) > 35 and binomtest(whiles - asked, 47 * asked, 41 / 81).pvalue > 0.001


def test_items_are_the_seeds_and_survive_parquet(items, tmp_path):
    pd.testing.assert_frame_equal(items, items_of(LABELS))
    differs = items["candidates"] != items_of(LABELS, seed=1)["candidates"]
    assert set(items["task"][differs]) == {"4"} and differs[items["task"] == "4"].mean() > 0.95
    items.to_parquet(tmp_path / "items.parquet", index=False)
    model = Meanings(sounds_of(items))
    back = score_items(pd.read_parquet(tmp_path / "items.parquet"), model)
    pd.testing.assert_frame_equal(score_items(items, model), back)


def test_every_clip_in_every_prompt():
    assert sorted(p.format("dog") for p in PROMPTS) == sorted(s.format(a="dog") for s in SINGLE)
    items = prompt_items(clips_of(["sea waves", "dog"], 1), ("dog", "sea waves"))
    assert list(items.columns) == list(ITEM_COLUMNS)
    assert items["task"].tolist() == [f"prompt: {p}" for p in PROMPTS for _ in range(2)]
    for task, group in items.groupby("task"):
        words = task.removeprefix("prompt: ")
        assert group["candidates"].tolist() == [[words.format("dog"), words.format("sea waves")]] * 2
        assert group["answers"].tolist() == [[1], [0]] and (group["chance"] == 0.5).all()
        assert group["audio"].tolist() == group["item"].tolist() == ["sea waves-0", "dog-0"]


# Answers


def sounds_of(items, turned=False):
    """The events of the items' sounds; ``turned``: of their inversions."""
    pairs = {pair["pair_id"]: pair for pair in pairs_of(LABELS).to_dict("records")}
    sounds = {}
    for name in items["audio"].unique():
        pair, _, view = name.partition("/")
        events = played(pairs[pair], view) if view else (name.rsplit("-", 1)[0],)
        sounds[name] = events[::-1] if turned and events[0] != "while" else events
    return sounds


@pytest.mark.parametrize("kind", ["perfect", "blind", "inverted"])
def test_models_that_know_order_or_not(items, kind):
    takes = {"takes": no_order} if kind == "blind" else {}
    rows = score_items(items, Meanings(sounds_of(items, kind == "inverted"), **takes))
    assert list(rows.columns) == list(ROW_COLUMNS)
    scored = rows.groupby("task")["correct"].mean().to_dict()
    ordered = dict.fromkeys(("3", "3_after", "2way_before", "2way_after", "4", "5"), float(kind == "perfect"))
    assert scored == dict.fromkeys(("1", "2a", "2b", "overlap"), 1.0) | ordered
    two_way, two = rows[rows["task"] == "2way_before"], rows["task"].isin(("2a", "2b", "5"))
    assert rows["margin"][two].isna().all() and (two_way["tied"] == (kind == "blind")).all()
    if kind == "perfect":
        assert (rows["margin"][~two] > 0).all() and rows["answer"].equals(rows["prediction"])


def test_random_embeddings_are_at_chance():
    items = build_items(clips_of(LABELS, 60), pairs_of(LABELS, copies=8), LABELS, seed=0)
    rows = score_items(items, Random(items["audio"].unique()))
    for task, group in rows.groupby("task"):
        test = binomtest(int(group["correct"].sum()), len(group), group["chance"].iloc[0])
        assert test.pvalue > 0.001, (task, group["correct"].mean())


class Given(Embeddings):
    """Captions with these embeddings, by caption."""

    def __init__(self, audio, text):
        self.given = text
        super().__init__(audio, torch.tensor(list(audio.values())))

    def embed_captions(self, captions):
        return torch.tensor([self.given[caption] for caption in captions])


def test_scores_closer_than_single_precision_can_tell_are_a_tie():
    item = classification_items(clips_of(["a"], 1), list("abcd"), "{}", "2a")[0] | {"answers": [0, 2]}
    axes = dict(zip("abcd", torch.eye(4).tolist(), strict=True))
    for scores, correct in (((0.9, 0.1, 0.5, 0.4), True), ((0.9, 0.1, 0.5, 0.4999999), False)):
        (row,) = score_items(pd.DataFrame([item]), Given({"a-0": scores}, axes)).to_dict("records")
        assert (row["correct"], row["tied"], row["prediction"]) == (correct, not correct, "a | c")


def test_scores_against_a_naive_loop(items):
    generator = np.random.default_rng(0)
    # Few levels, so that there are ties.
    audio, text = (
        {name: generator.integers(-2, 3, 4).astype(float).tolist() for name in sorted(names)}
        for names in (set(items["audio"]), set(items["candidates"].explode()))
    )
    rows = score_items(items, Given(audio, text))
    for item, row in zip(items.itertuples(), rows.itertuples(), strict=True):
        scores = [float(np.dot(audio[item.audio], text[caption])) for caption in item.candidates]
        right = [scores[k] for k in item.answers]
        wrong = [s for k, s in enumerate(scores) if k not in item.answers]
        assert row.correct == (min(right) > max(wrong)) and row.tied == (min(right) == max(wrong))
        assert np.isnan(row.margin) if len(right) > 1 else row.margin == pytest.approx(right[0] - max(wrong))
        assert row.answer == " | ".join(item.candidates[k] for k in sorted(item.answers))
        predicted = [scores[item.candidates.index(c)] for c in row.prediction.split(" | ")]
        assert sorted(predicted, reverse=True) == sorted(scores, reverse=True)[: len(right)]
    same = ["task", "item", "source_a", "source_b", "chance"]
    pd.testing.assert_frame_equal(rows[same], items[same])
    assert (rows.groupby("task")["correct"].nunique() == 2).sum() > 5
