from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tclap import audio
from tclap.evaluation.formats import CHANCE, evaluate, margins, read_items
from tclap.evaluation.statistics import summarise


@pytest.fixture
def benchmark(tmp_path):
    """A csv of two pairs and a triplet, and their sounds: constants, by which a toy model knows them."""
    rows = [
        ("ab.wav", "a then b", "ba.wav", "b then a", "", ""),
        ("cd.wav", "c then d", "dc.wav", "d then c", "c+d.wav", "c amidst d"),
        ("ab.wav", "a then b", "aa.wav", "a then a", "", ""),
    ]
    columns = ["pair_file", "pair_caption", "reversed_pair_file", "reversed_pair_caption"]
    table = pd.DataFrame(rows, columns=[*columns, "triplet_file", "triplet_caption"])
    table.to_csv(tmp_path / "order.csv", index=False)
    for n, name in enumerate(["ab", "ba", "cd", "dc", "c+d", "aa"]):
        audio.write_wav(tmp_path / f"{name}.wav", np.full(800, 0.1 * (n + 1), np.float32), 8000)
    return tmp_path


class Table:
    """Knows which caption goes with which sound; ``confused`` ones are all the same to it."""

    KNOWN = {"a then b": 0, "b then a": 1, "c then d": 2, "d then c": 3, "c amidst d": 4, "a then a": 5}

    def __init__(self, confused=()):
        self.confused, self.asked = set(confused), []

    def axis(self, n):
        return torch.eye(6)[0 if n in self.confused else n]

    def encode_text(self, captions):
        self.asked += list(captions)
        return torch.stack([3 * self.axis(self.KNOWN[c]) for c in captions])

    def encode_audio(self, paths):
        self.asked += list(paths)
        return torch.stack([self.axis(round(float(audio.read(p)[0]) * 10) - 1) for p in paths]).numpy()


def test_items_of_two_and_of_three(benchmark):
    items = read_items(benchmark / "order.csv", benchmark)
    assert items["captions"].tolist() == [
        ["a then b", "b then a"],
        ["c then d", "d then c", "c amidst d"],
        ["a then b", "a then a"],
    ]
    assert items["files"][1] == [str(benchmark / name) for name in ("cd.wav", "dc.wav", "c+d.wav")]
    # CompA-attribute has no third.
    table = pd.read_csv(benchmark / "order.csv").drop(columns=["triplet_file", "triplet_caption"])
    table.to_csv(benchmark / "attribute.csv", index=False)
    assert read_items(benchmark / "attribute.csv", benchmark)["files"].map(len).tolist() == [2, 2, 2]


def test_a_model_that_knows_is_correct_and_encodes_once(benchmark):
    items, model = read_items(benchmark / "order.csv", benchmark), Table()
    rows = evaluate(model, items, name="knows", seed=4)
    assert rows["correct"].all() and not rows["tied"].any() and (rows["margin"] == 1).all()
    assert len(model.asked) == len(set(model.asked)) == 12
    assert rows[rows["item"] == "1"].set_index("task")["chance"].to_dict() == pytest.approx(
        {"compa text": 1 / 27, "compa audio": 1 / 27, "compa group": 1 / 60}
    )
    summary = summarise(rows, resamples=50)
    assert summary["n"].tolist() == [3, 3, 3] and (summary["accuracy"] == 100).all()


def test_ties_are_wrong_and_said(benchmark):
    rows = evaluate(Table(confused=[0, 1]), read_items(benchmark / "order.csv", benchmark))
    correct = rows.groupby("item")["correct"].agg(["any", "all"])
    assert not correct.loc["0", "any"] and correct.loc["1", "all"]
    assert rows[rows["item"] == "0"]["tied"].all()


def test_which_side_prefers_which(benchmark):
    """Caption 1 is nearer to sound 0 than to its own, yet each sound is nearest to its own caption."""
    degrees = {"a then b": 0, "ab": 10, "b then a": 30, "ba": 60}

    class Angles:
        def encode_text(self, names):
            angles = np.radians([degrees[Path(name).stem] for name in names])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)

        encode_audio = encode_text

    rows = evaluate(Angles(), read_items(benchmark / "order.csv", benchmark).head(1))
    assert rows["correct"].tolist() == [True, False, False]


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
    ],
)
def test_margins_by_hand(scores, text, audio):
    found = margins(np.array([scores]))
    assert [bool(margin[0] > 0) for margin in found] == [text, audio]


@pytest.mark.parametrize("k", [2, 3])
def test_against_the_definition_and_chance_by_all_orders(k):
    orders = np.array(list(itertools.permutations(range(k * k)))).reshape(-1, k, k)
    text, audio = margins(orders)
    found = [(text > 0).mean(), (audio > 0).mean(), (np.minimum(text, audio) > 0).mean()]
    assert found == pytest.approx(CHANCE[k], abs=1e-12)
    others = [(i, j) for i in range(k) for j in range(k) if i != j]
    for n in np.random.default_rng(0).integers(len(orders), size=200):
        s = orders[n]
        assert text[n] == min(s[j, j] - s[i, j] for i, j in others)
        assert audio[n] == min(s[i, i] - s[i, j] for i, j in others)


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda table: table.drop(columns="pair_caption"), "pair_caption"),
        (lambda table: table.assign(pair_caption=["a", "", "b"]), "pair_caption.*line 3"),
        (lambda table: table.assign(triplet_caption=""), "triplet_caption.*line 3"),
    ],
)
def test_a_broken_csv_is_refused(benchmark, edit, word):
    csv = benchmark / "order.csv"
    edit(pd.read_csv(csv, dtype=str, keep_default_na=False)).to_csv(csv, index=False)
    with pytest.raises(ValueError, match=word):
        read_items(csv, benchmark)


def test_missing_items_and_files_are_named(benchmark):
    with pytest.raises(ValueError, match="no items"):
        evaluate(Table(), pd.DataFrame(columns=["item", "files", "captions"]))
    with pytest.raises(FileNotFoundError, match="nope.csv"):
        read_items(benchmark / "nope.csv", benchmark)
    (benchmark / "dc.wav").unlink()
    with pytest.raises(FileNotFoundError, match="dc.wav"):
        read_items(benchmark / "order.csv", benchmark)
