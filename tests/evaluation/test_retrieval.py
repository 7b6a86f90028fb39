from __future__ import annotations

import numpy as np
import pytest

from tclap.evaluation.retrieval import median_rank, query_rows, ranks, recall


def brute_force_ranks(scores, relevant):
    found = []
    for row, hits in zip(scores, relevant, strict=True):
        # False sorts before True: among equals, all irrelevant items come first.
        order = sorted(range(len(row)), key=lambda i: (-row[i], bool(hits[i])))
        found.append(1 + next(place for place, i in enumerate(order) if hits[i]))
    return found


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_against_sorting_with_many_and_few_ties(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (60, 25)) / levels - 0.5
    relevant = rng.random((60, 25)) < 0.15
    relevant[np.arange(60), rng.integers(0, 25, 60)] = True
    got = ranks(scores, relevant)
    assert got.tolist() == brute_force_ranks(scores, relevant)
    assert np.issubdtype(got.dtype, np.integer)


def test_ties_by_hand():
    scores = np.array([[3.0, 2, 2, 2, 1]])
    for hit, expected in [([1], 4), ([1, 2], 3), ([0], 1), ([4], 5), ([1, 2, 3], 2), ([0, 4], 1)]:
        assert ranks(scores, np.isin(np.arange(5), hit)[None]).tolist() == [expected]


def test_perfect_worst_and_constant_scores():
    relevant = np.eye(12, dtype=bool)
    perfect = ranks(np.eye(12), relevant)
    assert perfect.tolist() == [1] * 12
    assert recall(perfect) == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0}
    for bad in (-np.eye(12), np.zeros((12, 12)), np.full((12, 12), -np.inf)):
        assert ranks(bad, relevant).tolist() == [12] * 12
    assert recall(ranks(np.zeros((12, 12)), relevant)) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0}


def test_random_scores_are_at_chance():
    rng = np.random.default_rng(0)
    relevant = np.zeros((4000, 20), dtype=bool)
    relevant[:, 3] = True
    got = ranks(rng.random((4000, 20)), relevant)
    # Standard error at R@5: 100 * sqrt(0.25 * 0.75 / 4000) = 0.7.
    assert recall(got)["R@5"] == pytest.approx(25, abs=2.5)
    assert median_rank(got) == pytest.approx(10.5, abs=1)


def test_tolerance_makes_near_ties_count_against_the_model():
    scores = np.array([[0.5, 0.5 - 1e-8, 0.4]])
    relevant = np.array([[True, False, False]])
    assert ranks(scores, relevant).tolist() == [1]
    assert ranks(scores, relevant, tolerance=1e-6).tolist() == [2]


def test_recall_and_median_by_hand():
    assert recall([1, 2, 5, 6, 11], ks=(1, 2, 5, 10)) == pytest.approx(
        {"R@1": 20, "R@2": 40, "R@5": 60, "R@10": 80}
    )
    assert median_rank([1, 2, 5, 6, 11]) == 5
    assert median_rank([4, 1]) == 2.5


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        (np.zeros((2, 3)), np.array([[1, 0, 0], [0, 0, 0]]), "1 queries .* the first is query 1"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "2 queries have no relevant item"),
        (np.zeros((2, 3)), np.ones((3, 2)), "expected"),
        (np.zeros(3), np.ones(3), "expected"),
        (np.array([[np.nan, 1.0]]), np.array([[1, 0]]), "NaN for 1 of 1 queries"),
    ],
)
def test_refusals(scores, relevant, message):
    with pytest.raises(ValueError, match=message):
        ranks(scores, relevant)


def test_recall_refuses_what_are_no_ranks():
    for wrong in ([], [0, 1], [[1, 2]]):
        with pytest.raises(ValueError, match="ranks of shape"):
            recall(wrong)


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_query_rows_against_loops():
    rng = np.random.default_rng(1)
    text, audio = unit(rng, 15, 6), unit(rng, 9, 6)
    text_events, audio_events = np.arange(15) % 4, np.arange(9) % 4
    rows = query_rows(
        text,
        audio,
        text_events,
        audio_events,
        gallery="singles",
        audio_sources=[f"clip{i}" for i in range(9)],
    )
    expected = ["gallery", "direction", "query", "source_a", "source_b", "rank", "relevant", "gallery_size"]
    assert rows.columns.tolist() == expected
    assert (rows["gallery"] == "singles").all()
    forth, back = (rows[rows["direction"] == name] for name in ("text_to_audio", "audio_to_text"))
    assert len(forth) + len(back) == len(rows)
    scores = [[float(np.dot(t, a)) for a in audio.astype(np.float64)] for t in text.astype(np.float64)]
    hits = [[a == b for b in audio_events] for a in text_events]
    assert forth["rank"].tolist() == brute_force_ranks(scores, hits)
    assert forth["relevant"].tolist() == np.sum(hits, axis=1).tolist()
    assert (forth["gallery_size"] == np.shape(hits)[1]).all()
    assert back["rank"].tolist() == brute_force_ranks(np.transpose(scores), np.transpose(hits))
    assert forth["query"].tolist() == list(range(15))
    assert back["query"].tolist() == list(range(9))
    assert back["source_a"].tolist() == [f"clip{i}" for i in range(9)]
    assert forth["source_a"].isna().all()
    assert rows["source_b"].isna().all()


def test_order_blind_audio_does_not_find_the_order():
    """Forward and reversed clips embed alike: each is the other's tie, so no query is a hit at 1."""
    rng = np.random.default_rng(2)
    text, half = unit(rng, 8, 5), unit(rng, 4, 5).astype(np.float64)
    audio = np.concatenate([half, half + 1e-7 * unit(rng, 4, 5)])
    sources = [["a", "b"], ["c", "d"], ["e", "f"], ["g", None]] * 2
    rows = query_rows(
        text,
        audio,
        range(8),
        range(8),
        gallery="ordered",
        text_sources=sources,
        audio_sources=np.array(sources, dtype=object),
    )
    assert (rows.loc[rows["direction"] == "text_to_audio", "rank"] >= 2).all()
    assert rows["source_a"].tolist() == ["a", "c", "e", "g"] * 4
    assert rows["source_b"].tolist() == ["b", "d", "f", None] * 4


def test_tensors_give_what_arrays_give():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    text, audio = unit(rng, 5, 4), unit(rng, 5, 4)
    expected = query_rows(text, audio, range(5), range(5), gallery="g")
    tensors = torch.tensor(text, requires_grad=True), torch.tensor(audio)
    assert query_rows(*tensors, torch.arange(5), range(5), gallery="g").equals(expected)
    half = [tensor.bfloat16() for tensor in tensors]
    assert len(query_rows(*half, range(5), range(5), gallery="g")) == 10


def test_query_rows_refuses_mismatches():
    x = np.eye(3)
    cases = [
        ((x, x[:, :2], range(3), range(3)), {}, "3-, audio embeddings 2-dimensional"),
        ((x, x, range(2), range(3)), {}, "text_events has shape"),
        ((x[0], x, range(3), range(3)), {}, "text embeddings have shape"),
        ((x, x, range(3), range(3)), {"text_sources": ["a"]}, "sources of text_to_audio"),
        ((x, x, [0, 1, 2], [0, 1, 1]), {}, "no relevant item"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            query_rows(*arguments, gallery="g", **options)
