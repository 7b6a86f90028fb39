from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from meanings import Meanings, Random
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

LABELS = ["chainsaw", "clock tick", "dog", "rain", "rooster", "sea waves", "sneezing", "helicopter"]


def make_clips(labels, per_class=2):
    rows = [
        {"clip_id": f"{x}-{n}", "label": x, "source": f"s-{x}-{n}"} for x in labels for n in range(per_class)
    ]
    return pd.DataFrame(rows)


def make_pairs(labels, copies=1):
    rows = []
    for n, ((a, b), order, _) in enumerate(
        itertools.product(itertools.permutations(labels, 2), ("forward", "reversed"), range(copies))
    ):
        sigma = ("preceding", "succeeding")[n // 2 % 2]
        rows.append({"pair_id": f"p{n}", "label_i": a, "label_j": b, "sigma": sigma, "order": order})
        rows[-1] |= {"source_i": f"s-{a}-0", "source_j": f"s-{b}-1"}
    return pd.DataFrame(rows)


def make_items(labels=LABELS, seed=0):
    return build_items(make_clips(labels), make_pairs(labels), labels, seed=seed)


@pytest.fixture(scope="module")
def items():
    return make_items()


def meaning(caption):
    """What a caption says: ("single", X), ("order", X, Y), ("both", X, Y) or ("slot", n, X)."""
    if found := re.fullmatch(r"In this concatenated sound, the (first|second) sound is (.+)", caption):
        return ("slot", *found.groups())
    words = re.fullmatch(r"this is a sound of (.+)", caption).group(1)
    found = re.fullmatch(r"(.+) (before|after|while) (.+)", words)
    if not found:
        return ("single", words)
    x, relation, y = found.groups()
    if relation == "while":
        return ("both", *sorted((x, y)))
    return ("order", x, y) if relation == "before" else ("order", y, x)


def said(items, pairs):
    """What each audio of the items says, with the weight of each statement."""
    sounds = {}
    for name in items["audio"].unique():
        if "/" not in name:
            sounds[name] = {("single", name.rsplit("-", 1)[0]): 1.0}
            continue
        pair_id, view = name.split("/")
        a, b = pairs.set_index("pair_id").loc[pair_id, ["label_i", "label_j"]]
        x, y = (a, b) if view == "forward" else (b, a)
        sounds[name] = {("single", a): 0.5, ("single", b): 0.5}
        if view == "overlap":
            sounds[name][("both", *sorted((a, b)))] = 1.0
        else:
            sounds[name] |= {("order", x, y): 1.0, ("slot", "first", x): 1, ("slot", "second", y): 1}
    return sounds


def answer(items, sounds, reads=lambda statement: statement):
    """Scores where ``reads`` is how a model takes a statement."""
    sounds = {name: {reads(s): weight for s, weight in x.items()} for name, x in sounds.items()}
    return score_items(items, Meanings(sounds, lambda caption: reads(meaning(caption))))


def accuracies(rows):
    return rows.groupby("task")["correct"].mean().mul(100).to_dict()


# Items


@pytest.mark.parametrize("count", [3, 7])
def test_chance_by_enumerating_all_answers(count):
    items = make_items(LABELS[:count])
    formulas = dict.fromkeys(("3", "3_after", "overlap"), 1 / 3) | dict.fromkeys(
        ("2way_before", "2way_after"), 1 / 2
    )
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
    pair = make_pairs(labels).query(f"label_i == 'rain' and label_j == 'dog' and order == '{order}'")
    name = pair["pair_id"].iloc[0]
    items = build_items(make_clips(labels, 1), pair, labels, seed=0).set_index("task")
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
        assert (row["source_a"], row["source_b"]) == ("s-rain-0", "s-dog-1")
    single = items.loc[["1"]]
    assert single["answers"].tolist() == [[0], [1], [2]]
    assert (
        single["source_a"].tolist() == ["s-dog-0", "s-rain-0", "s-hen-0"] and single["source_b"].isna().all()
    )
    assert single["candidates"].iloc[0] == [sound + x for x in labels]


@pytest.mark.parametrize("count", [7, 8])
def test_task_4_candidates(count):
    items = make_items(LABELS[:count])
    places, others, whiles = set(), set(), 0
    for item in items[items["task"] == "4"].itertuples():
        assert item.audio.endswith("/forward")
        assert len(item.candidates) == len(set(item.candidates)) == 50
        pattern = r"this is a sound of (.+) (before|while) (.+)"
        words = [re.fullmatch(pattern, c).groups() for c in item.candidates]
        assert all(x != y for x, _, y in words) and len({x for w in words for x in (w[0], w[2])}) == 7
        ((a, relation, b),) = [words[k] for k in item.answers]
        assert (item.source_a, item.source_b, relation) == (f"s-{a}-0", f"s-{b}-1", "before")
        assert {(a, "before", b), (b, "before", a), (a, "while", b)} <= set(words)
        whiles += sum(r == "while" for _, r, _ in words)
        places |= {*item.answers}
        others |= {w[0] for w in words} - {a, b}
    # The correct answer has no place of its own, and the rest is drawn evenly: 41 of the 81 are "while".
    asked = int((items["task"] == "4").sum())
    assert others == set(LABELS[:count])
    assert len(places) > 35 and binomtest(whiles - asked, 47 * asked, 41 / 81).pvalue > 0.001


def test_items_are_the_seeds_and_survive_parquet(items, tmp_path):
    pd.testing.assert_frame_equal(items, make_items())
    differs = items["candidates"] != make_items(seed=1)["candidates"]
    assert set(items["task"][differs]) == {"4"} and differs[items["task"] == "4"].mean() > 0.95
    items.to_parquet(tmp_path / "items.parquet", index=False)
    sounds = said(items, make_pairs(LABELS))
    back = answer(pd.read_parquet(tmp_path / "items.parquet"), sounds)
    pd.testing.assert_frame_equal(answer(items, sounds), back)


def test_labels_outside_the_classes_are_refused():
    for clips, pairs in (([*LABELS, "hen"], LABELS), (LABELS, [*LABELS, "hen"])):
        with pytest.raises(ValueError, match="hen"):
            build_items(make_clips(clips), make_pairs(pairs), LABELS, seed=0)


def test_every_clip_in_every_prompt():
    assert sorted(p.format("dog") for p in PROMPTS) == sorted(s.format(a="dog") for s in SINGLE)
    items = prompt_items(make_clips(["sea waves", "dog"], 1), ("dog", "sea waves"))
    assert list(items.columns) == list(ITEM_COLUMNS)
    assert items["task"].tolist() == [f"prompt: {p}" for p in PROMPTS for _ in range(2)]
    for task, group in items.groupby("task"):
        words = task.removeprefix("prompt: ")
        assert group["candidates"].tolist() == [[words.format("dog"), words.format("sea waves")]] * 2
        assert group["answers"].tolist() == [[1], [0]] and (group["chance"] == 0.5).all()
        assert group["audio"].tolist() == group["item"].tolist() == ["sea waves-0", "dog-0"]


# Answers


def test_a_model_that_knows_everything_is_always_correct(items):
    rows = answer(items, said(items, make_pairs(LABELS)))
    assert list(rows.columns) == list(ROW_COLUMNS)
    assert accuracies(rows) == dict.fromkeys(TASKS, 100.0)
    assert rows["answer"].equals(rows["prediction"])
    one = rows["task"].isin(("1", "3", "3_after", "2way_before", "2way_after", "overlap", "4"))
    assert (rows["margin"][one] > 0).all() and rows["margin"][~one].isna().all()


def blind(statement):
    """The order of events is ignored."""
    if statement[0] == "order":
        return ("order", *sorted(statement[1:]))
    return ("slot", "any", statement[2]) if statement[0] == "slot" else statement


@pytest.mark.parametrize("kind", ["blind", "inverted"])
def test_a_model_without_order_or_of_inverted_sounds_fails_where_order_matters(items, kind):
    pairs = make_pairs(LABELS)
    if kind == "inverted":
        pairs = pairs.rename(columns={"label_i": "label_j", "label_j": "label_i"})
    rows = answer(items, said(items, pairs), *([blind] if kind == "blind" else []))
    scored = accuracies(rows)
    assert all(scored[task] == 0 for task in ("3", "3_after", "2way_before", "2way_after", "4", "5"))
    assert all(scored[task] == 100 for task in ("1", "2a", "2b", "overlap"))
    two_way = rows[rows["task"] == "2way_before"]
    assert two_way["tied"].all() if kind == "blind" else (two_way["margin"] < 0).all()


def test_random_embeddings_are_at_chance():
    items = build_items(make_clips(LABELS, 60), make_pairs(LABELS, copies=8), LABELS, seed=0)
    rows = score_items(items, Random(items["audio"].unique()))
    for task, group in rows.groupby("task"):
        test = binomtest(int(group["correct"].sum()), len(group), group["chance"].iloc[0])
        assert test.pvalue > 0.001, (task, group["correct"].mean())


class Given(Embeddings):
    """Captions with these embeddings, by caption."""

    def __init__(self, names, audio, text):
        self.given = text
        super().__init__(names, torch.tensor(audio))

    def embed_captions(self, captions):
        return torch.tensor([self.given[caption] for caption in captions])


def test_scores_closer_than_single_precision_can_tell_are_a_tie():
    item = classification_items(make_clips(["a"], 1), list("abcd"), "{}", "2a")[0] | {"answers": [0, 2]}
    axes = dict(zip("abcd", torch.eye(4).tolist(), strict=True))
    for scores, correct in (((0.9, 0.1, 0.5, 0.4), True), ((0.9, 0.1, 0.5, 0.4999999), False)):
        (row,) = score_items(pd.DataFrame([item]), Given(["a-0"], [scores], axes)).to_dict("records")
        assert (row["correct"], row["tied"], row["prediction"]) == (correct, not correct, "a | c")


def test_scores_against_a_naive_loop(items):
    generator = np.random.default_rng(0)
    names = list(items["audio"].unique())
    captions = sorted({c for candidates in items["candidates"] for c in candidates})
    # Few levels, so that there are ties.
    audio = dict(zip(names, generator.integers(-2, 3, (len(names), 4)).astype(float).tolist(), strict=True))
    text = dict(
        zip(captions, generator.integers(-2, 3, (len(captions), 4)).astype(float).tolist(), strict=True)
    )
    rows = score_items(items, Given(names, list(audio.values()), text))
    for item, row in zip(items.itertuples(), rows.itertuples(), strict=True):
        scores = [
            sum(p * q for p, q in zip(audio[item.audio], text[c], strict=True)) for c in item.candidates
        ]
        right = [scores[k] for k in item.answers]
        wrong = [s for k, s in enumerate(scores) if k not in item.answers]
        assert row.correct == (min(right) > max(wrong))
        assert row.tied == (min(right) == max(wrong))
        assert np.isnan(row.margin) if len(right) > 1 else row.margin == pytest.approx(right[0] - max(wrong))
        assert row.answer == " | ".join(item.candidates[k] for k in sorted(item.answers))
        predicted = [scores[item.candidates.index(c)] for c in row.prediction.split(" | ")]
        assert sorted(predicted, reverse=True) == sorted(scores, reverse=True)[: len(right)]
        same = ("task", "item", "source_a", "source_b", "chance")
        assert all(getattr(row, column) == getattr(item, column) or column == "source_b" for column in same)
    assert (rows.groupby("task")["correct"].nunique() == 2).sum() > 5
