from __future__ import annotations

import numpy as np
import pytest

from tclap.evaluation.retrieval import Found, median_rank, query_rows, ranks, recall, search


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
    expected = ["gallery", "direction", "query", "source_a", "source_b", "rank"]
    expected += ["average_precision", "relevant", "gallery_size"]
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
        ((x, x[:, :2], range(3), range(3)), {}, "3-, gallery items 2-dimensional"),
        ((x, x, range(2), range(3)), {}, "query events have shape"),
        ((x[0], x, range(3), range(3)), {}, "query embeddings have shape"),
        ((x, x, range(3), range(3)), {"text_sources": ["a"]}, "sources of text_to_audio"),
        ((x, x, [0, 1, 2], [0, 1, 1]), {}, "no relevant item"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            query_rows(*arguments, gallery="g", **options)


def brute_force_search(queries, gallery, query_events, gallery_events, depth, tolerance) -> Found:
    """One query at a time: sort the gallery, each irrelevant item lifted over what it ties with."""
    found = []
    for query, event in zip(queries, query_events, strict=True):
        scored = [
            (-float(np.dot(query, item)) - (0 if other == event else tolerance), other == event)
            for item, other in zip(gallery, gallery_events, strict=True)
        ]
        hits = [hit for _, hit in sorted(scored)]
        precisions = [sum(hits[:n]) / n for n in range(1, min(depth, len(hits)) + 1) if hits[n - 1]]
        found.append((1 + hits.index(True), sum(precisions) / min(depth, sum(hits)), sum(hits)))
    return Found(*(np.array(column) for column in zip(*found, strict=True)))


@pytest.mark.parametrize("blocks", [(1, 1), (7, 5), (64, 3), (1000, 1000)])
@pytest.mark.parametrize("events", [1, 4, 30])
def test_search_in_blocks_against_sorting(blocks, events):
    rng = np.random.default_rng(events)
    # Small whole numbers: many exact ties, and dot products without rounding.
    queries, gallery = rng.integers(-2, 3, (50, 3)), rng.integers(-2, 3, (40, 3))
    query_events = rng.integers(events, size=50)
    gallery_events = np.concatenate([np.arange(events), rng.integers(events, size=40 - events)])
    got = search(queries, gallery, query_events, gallery_events, depth=6, tolerance=0.5, blocks=blocks)
    expected = brute_force_search(queries, gallery, query_events, gallery_events, 6, 0.5)
    assert got.rank.tolist() == expected.rank.tolist()
    assert got.relevant.tolist() == expected.relevant.tolist()
    np.testing.assert_allclose(got.average_precision, expected.average_precision, rtol=1e-12)


def test_average_precision_by_hand():
    gallery = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    # Relevant at ranks 1, 3 and 5: (1 + 2/3 + 3/5) / 3; at depth 4 the third counts nothing.
    for depth, expected in ((10, (1 + 2 / 3 + 3 / 5) / 3), (4, (1 + 2 / 3) / 3), (2, 1 / 2), (1, 1.0)):
        found = search(np.ones((1, 1)), gallery, ["x"], list("xyxyx"), depth=depth)
        assert found.average_precision.tolist() == pytest.approx([expected])
    # All alike: the two others are ahead.
    tied = search(np.ones((1, 1)), np.ones((5, 1)), ["x"], list("xyxyx"))
    assert (tied.rank.tolist(), tied.relevant.tolist()) == ([3], [3])
    assert tied.average_precision.tolist() == pytest.approx([(1 / 3 + 2 / 4 + 3 / 5) / 3])


def test_search_of_random_embeddings_is_at_chance():
    rng = np.random.default_rng(4)
    found = search(unit(rng, 3000, 8), unit(rng, 20, 8), rng.integers(20, size=3000), np.arange(20))
    # One relevant in 20: rank uniform, and AP@10 is 1/rank up to 10: (1 + 1/2 + ... + 1/10) / 20.
    assert recall(found.rank)["R@5"] == pytest.approx(25, abs=2.5)
    assert found.average_precision.mean() == pytest.approx(sum(1 / n for n in range(1, 11)) / 20, abs=0.015)


@pytest.mark.parametrize(
    ("queries", "gallery", "events", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "ab", "3-, gallery items 4-dimensional"),
        (np.zeros(3), np.zeros((2, 3)), "ab", r"query embeddings have shape \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "abc", r"gallery events have shape \(3,\); expected \(2,\)"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "ac", "1 queries have no relevant item, the first is query 1"),
        (np.array([[0.0], [np.nan]]), np.zeros((2, 1)), "ab", r"query .* not finite in 1 row\(s\), first 1"),
        (
            np.zeros((2, 1)),
            np.array([[np.inf], [0.0]]),
            "ab",
            r"gallery .* not finite in 1 row\(s\), first 0",
        ),
    ],
)
def test_search_refusals(queries, gallery, events, message):
    with pytest.raises(ValueError, match=message):
        search(queries, gallery, list("ab"), list(events))
