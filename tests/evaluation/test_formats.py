from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from tclap import audio
from tclap.evaluation import formats as compa
from tclap.evaluation.formats import CHANCE, evaluate, margins, read_items, score_items
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


def test_embeddings_of_two_spaces_are_refused(benchmark):
    class Narrow(Table):
        def encode_text(self, captions):
            return super().encode_text(captions)[:, :5]

    with pytest.raises(ValueError, match="encode_audio gave 6 dimensions and encode_text 5"):
        evaluate(Narrow(), read_items(benchmark / "order.csv", benchmark))


def by_score(rows):
    return rows.pivot(index="item", columns="task", values="correct").astype(int)


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


def test_a_model_that_knows_is_right_and_encodes_once(benchmark):
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
    assert by_score(rows).loc["0"].sum() == 0 and by_score(rows).loc["1"].all()
    assert rows[rows["item"] == "0"]["tied"].all()


@pytest.mark.parametrize(
    ("scores", "text", "audio"),
    [
        # Rows are captions, columns sounds.
        ([[0.9, 0.1], [0.2, 0.8]], True, True),
        ([[0.9, 0.8], [0.1, 0.9]], True, True),
        # Sound 1 prefers caption 0, yet each caption its own sound.
        ([[0.9, 0.8], [0.1, 0.7]], False, True),
        # Caption 1 prefers sound 0, yet each sound its own caption.
        ([[0.9, 0.1], [0.8, 0.7]], True, False),
        ([[0.1, 0.9], [0.8, 0.2]], False, False),
        ([[0.5, 0.5], [0.1, 0.9]], True, False),
    ],
)
def test_outcomes_by_hand(scores, text, audio):
    found = score_items(np.array([scores]))
    assert {name: bool(value[0]) for name, value in found.items()} == {
        "text": text,
        "audio": audio,
        "group": text and audio,
    }


@pytest.mark.parametrize("k", [2, 3])
def test_against_the_definition_and_chance_by_all_orders(k):
    orders = np.array(list(itertools.islice(itertools.permutations(range(k * k)), None)))
    orders = orders.reshape(-1, k, k)
    found = score_items(orders)
    for name, chance in zip(compa.SCORES, CHANCE[k], strict=True):
        assert found[name].mean() == pytest.approx(chance, abs=1e-12)
    text, audio = margins(orders)
    for n in np.random.default_rng(0).integers(len(orders), size=200):
        s = orders[n]
        others = [(i, j) for i in range(k) for j in range(k) if i != j]
        assert text[n] == min(s[j, j] - s[i, j] for i, j in others)
        assert audio[n] == min(s[i, i] - s[i, j] for i, j in others)


def test_random_embeddings_are_at_chance():
    generator = np.random.default_rng(0)
    words, sounds = (generator.standard_normal((4000, 2, 64)) for _ in range(2))
    found = score_items(np.einsum("nid,njd->nij", words, sounds))
    for name, chance in zip(compa.SCORES, CHANCE[2], strict=True):
        assert binomtest(int(found[name].sum()), 4000, chance).pvalue > 0.001


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 3), (3, 1, 1)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \[items, k, k\] with k of at least 2"):
        score_items(np.zeros(shape))


def test_what_is_missing_or_broken_is_named(benchmark, tmp_path):
    with pytest.raises(ValueError, match="1 items are not finite"):
        score_items(np.array([[[0.1, np.nan], [0.2, 0.3]]]))
    with pytest.raises(ValueError, match="there are no items"):
        evaluate(Table(), pd.DataFrame(columns=["item", "files", "captions"]))
    with pytest.raises(FileNotFoundError, match=r"nope.csv does not exist; expected the csv of CompA"):
        read_items(tmp_path / "nope.csv", tmp_path)
    csv = benchmark / "order.csv"
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    table.drop(columns="pair_caption").to_csv(tmp_path / "lacks.csv", index=False)
    with pytest.raises(ValueError, match=r"lacks.csv lacks the column\(s\) pair_caption"):
        read_items(tmp_path / "lacks.csv", benchmark)
    table.assign(pair_caption=["a", "", "b"]).to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(ValueError, match=r"empty.csv has in column pair_caption '' \(line 3\)"):
        read_items(tmp_path / "empty.csv", benchmark)
    table.assign(triplet_caption="").to_csv(tmp_path / "third.csv", index=False)
    with pytest.raises(ValueError, match=r"third.csv has in column triplet_caption '' \(line 3\)"):
        read_items(tmp_path / "third.csv", benchmark)
    (benchmark / "dc.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"names sounds that are not there: .*dc.wav"):
        read_items(csv, benchmark)
