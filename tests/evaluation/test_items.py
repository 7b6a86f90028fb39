"""Scores of items by their definition, and baselines that find the leaks planted in items made here."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tclap.evaluation.items import (
    BASELINES,
    CHANCE,
    ITEM_COLUMNS,
    evaluate_items,
    item_of,
    leaks,
    order_gap,
    report_items,
)
from tclap.evaluation.statistics import compare, summarise
from tclap.slots.reader import Reading, load_reader

# Cosines of a sound and the events that it is made of.
SALIENCE = {"dog": 0.8, "rain": 0.5, "hen": 0.2}
AXES = {name: axis for name, axis in zip([*SALIENCE, "order", "and", "else"], np.eye(6), strict=True)}


class Model:
    """Hears events and, unless ``deaf``, their order; reads "a then b", and the word "and"."""

    def __init__(self, deaf=False):
        self.deaf, self.asked = deaf, []

    def encode_audio(self, paths):
        """Of files named "dog rain 1": what sounds first, then what sounds second."""
        self.asked += paths
        return np.stack([self.heard(*path.split()[:2]) for path in paths])

    def encode_text(self, captions):
        self.asked += captions
        return np.stack([self.read(caption) for caption in captions])

    def heard(self, a, b):
        events = sum((SALIENCE[name] * AXES[name] for name in (a, b)), 0 * AXES["else"])
        return events + (0 if self.deaf else (1 if a < b else -1)) * AXES["order"]

    def read(self, caption):
        names = [word for word in caption.split() if word in SALIENCE]
        said = sum((AXES[name] for name in names), 0.1 * AXES["else"])
        if "then" in caption:
            said = said + (1 if names[0] < names[1] else -1) * AXES["order"]
        return said + 4 * ("and" in caption) * AXES["and"]


class Words:
    """Reads the captions of these items."""

    def read(self, captions):
        events = [tuple(word for word in caption.split() if word in SALIENCE) for caption in captions]
        return [
            Reading("forward", names) if " then " in c else Reading("plain")
            for c, names in zip(captions, events, strict=True)
        ]


@pytest.fixture(autouse=True)
def words_are_read(monkeypatch):
    monkeypatch.setattr("tclap.evaluation.items.load_reader", Words)


def made(*items):
    """Items of one sound, from its name and the captions, of which the first is its own."""
    belongs = [[0] + [-1] * (len(captions) - 1) for _, *captions in items]
    found = [item_of("made", f"{n}", [s], c, belongs[n]) for n, (s, *c) in enumerate(items)]
    return pd.DataFrame(found, columns=list(ITEM_COLUMNS))


def correct(rows):
    """``correct`` by what answered, in the order of the items."""
    rows = rows.assign(by=rows["model"].str.extract(r"\((.+)\)", expand=False).fillna("model"))
    return rows.groupby("by")["correct"].agg(list).to_dict()


PAIRS = [
    ("dog rain 1", "dog then rain", "rain then dog"),
    ("rain dog 2", "rain then dog", "dog then rain"),
    ("hen rain 3", "hen then rain", "rain then hen"),
]


def test_a_model_that_hears_order_and_baselines_that_do_not():
    model = Model()
    rows = evaluate_items(model, made(*PAIRS), name="m")
    assert len(model.asked) == len(set(model.asked))
    assert list(rows.columns[:4]) == ["model", "seed", "task", "item"] and (rows["chance"] == 0.5).all()
    assert set(rows["model"]) == {"m", *(f"m ({baseline})" for baseline in BASELINES)}
    found = correct(rows)
    assert found["model"] == [1, 1, 1] and found["order-blind"] == [0.5, 0.5, 0.5]
    # The dog is louder than the rain, which is louder than the hen: right where the louder comes first.
    assert found["sound only"] == [1, 0, 0]
    assert correct(evaluate_items(Model(deaf=True), made(*PAIRS)))["model"] == [0, 0, 0]


def test_the_order_blind_baseline_catches_what_does_not_sound():
    leaky = [(sound, own, own.replace("rain", "hen")) for sound, own, _ in PAIRS[:2]]
    rows = evaluate_items(Model(), made(*leaky, PAIRS[2]))
    assert correct(rows)["order-blind"] == [1, 1, 0.5]
    found = leaks(rows)
    assert found[found["model"] == "model (order-blind)"]["item"].tolist() == ["0", "1"]
    assert "model (order-blind) answers 2 of 3 items of made: 0, 1" in report_items(rows).splitlines()


def test_the_text_only_baseline_learns_the_form_of_wrong_captions_from_other_sounds():
    leaky = [(sound, own, wrong + " and") for sound, own, wrong in PAIRS]
    assert correct(evaluate_items(Model(), made(*leaky)))["text only"] == [1, 1, 1]
    # Of one sound, or of several tasks, there is no other item to learn from.
    same = made(*(("dog rain 1", *captions) for _, *captions in leaky))
    tasks = made(*leaky).assign(task=["a", "b", "c"])
    for items in (same, tasks):
        assert correct(evaluate_items(Model(), items))["text only"] == [0.5, 0.5, 0.5]


def test_captions_that_the_reader_makes_nothing_of_are_bags_of_words(monkeypatch):
    rows = evaluate_items(Model(), made(("dog rain 1", "Dog rain", "rain dog"), *PAIRS[:1]))
    assert correct(rows)["order-blind"][0] == 0.5
    # The reader of the package.
    monkeypatch.setattr("tclap.evaluation.items.load_reader", load_reader)
    words = [f"{a} before {b}" for a, b in (("a dog barks", "rain falls"), ("rain falls", "a dog barks"))]
    words.append("a hen clucks before rain falls")
    rows = evaluate_items(Model(), made(("dog rain 1", *words), *PAIRS[:1]))
    assert correct(rows)["order-blind"] == [0.5, 0.5]


def by_scores(scores):
    """Answers to an item of as many sounds as captions whose similarities (captions, sounds) are these."""
    table = np.asarray(scores, float)
    k, unit = len(table), np.abs(table).max() * 2 * len(table)

    class Given:
        def encode_text(self, captions):
            rows = [table[int(c)] / unit if c.isdigit() else 0 * table[0] for c in captions]
            return [[*row, np.sqrt(1 - row @ row)] for row in rows]

        def encode_audio(self, paths):
            return np.eye(k + 1)[[int(path) for path in paths]]

    names = [f"{n}" for n in range(k)]
    items = pd.DataFrame([item_of("compa", "i", names, names, list(range(k)), [("x",)] * k)])
    return evaluate_items(Given(), items).query("model == 'model'").set_index("task")


@pytest.mark.parametrize(
    ("scores", "text", "audio"),
    [
        # Rows are captions, columns sounds.
        ([[0.9, 0.8], [0.1, 0.9]], True, True),
        # Sound 1 prefers caption 0, yet each caption its own sound.
        ([[0.9, 0.8], [0.1, 0.7]], False, True),
        # Caption 1 prefers sound 0, yet each sound its own caption.
        ([[0.9, 0.1], [0.8, 0.7]], True, False),
        ([[0.1, 0.9], [0.8, 0.2]], False, False),
        ([[0.5, 0.5], [0.1, 0.9]], True, False),
        ([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]], True, True),
        ([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.2, 0.15]], True, False),
    ],
)
def test_items_of_several_sounds(scores, text, audio):
    found = by_scores(scores)
    assert found["correct"].tolist() == [text, audio, text and audio]
    assert found["chance"].tolist() == list(CHANCE[len(scores)])
    assert found["tied"].any() == (scores[0][0] == scores[0][1])


@pytest.mark.parametrize("k", [2, 3])
def test_chance_by_all_orders(k):
    orders = np.array(list(itertools.permutations(range(k * k)))).reshape(-1, k, k)
    own = np.einsum("nii->ni", orders)
    text, audio = ((own == orders.max(axis=axis)).all(axis=1) for axis in (1, 2))
    assert [text.mean(), audio.mean(), (text & audio).mean()] == pytest.approx(CHANCE[k], abs=1e-12)


def test_the_order_gap_is_the_paired_comparison():
    rows = pd.concat([evaluate_items(Model(), made(*PAIRS)).assign(seed=seed) for seed in (0, 1)])
    (gap,) = order_gap(rows, "model").to_dict("records")
    low, high = compare(np.full((3, 2), 0.5), np.ones((3, 2)), ["a", "b", "c"]).ci95
    found = [gap[key] for key in ("task", "first", "second", "difference", "low", "high", "n")]
    assert found == ["made", 50, 100, 50, 100 * low, 100 * high, 3]
    assert summarise(rows)["n"].tolist() == [3] * 4
    lines = [line.split() for line in report_items(rows).splitlines()]
    assert lines[0][:3] == ["model", "task", "accuracy"]
    assert ["made", "50.0", "100.0", "50.0"] in [line[:4] for line in lines]


def test_no_items_are_refused():
    with pytest.raises(ValueError, match="no items"):
        evaluate_items(Model(), made())
