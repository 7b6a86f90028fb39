import numpy as np
import pandas as pd
import pytest
import torch
from meanings import Meanings, clips_of, no_order, pairs_of, played

from tclap.data.composites import VIEWS
from tclap.evaluation.retrieval import (
    Found,
    chance,
    chance_precision,
    hit_rows,
    measures,
    retrieval_rows,
    search,
)
from tclap.evaluation.statistics import summarise

LABELS = ["dog", "rain", "hen", "siren"]
CLIPS = clips_of(LABELS)
# Two pairs mean the same order, one is the inverse of another, and two have the same overlap.
PAIRS = pairs_of(LABELS).iloc[[0, 1, 6, 18]]  # dog and rain twice, rain and dog, siren and dog
PAIRS = PAIRS.assign(sigma=["preceding", "succeeding", "preceding", "succeeding"])


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def set_constants(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setattr(f"tclap.evaluation.retrieval.{name}", value)


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


@pytest.mark.parametrize("block", [(1, 1), (7, 16), (1024, 1024)])
@pytest.mark.parametrize("events", [1, 4, 30])
def test_search_in_blocks_against_sorting(monkeypatch, block, events):
    set_constants(monkeypatch, ROWS=block[0], COLUMNS=block[1], DEPTH=6, TIE_TOLERANCE=0.5)
    rng = np.random.default_rng(events)
    # Small whole numbers: many exact ties, and dot products without rounding.
    queries, gallery = rng.integers(-2, 3, (50, 3)), rng.integers(-2, 3, (40, 3))
    query_events = rng.integers(events, size=50)
    gallery_events = np.concatenate([np.arange(events), rng.integers(events, size=40 - events)])
    got = search(queries, gallery, query_events, gallery_events)
    expected = brute_force_search(queries, gallery, query_events, gallery_events, 6, 0.5)
    assert got.rank.tolist() == expected.rank.tolist()
    assert got.relevant.tolist() == expected.relevant.tolist()
    np.testing.assert_allclose(got.average_precision, expected.average_precision, rtol=1e-12)


def test_scores_that_are_equal_in_float32_are_ranked_in_float64(monkeypatch):
    set_constants(monkeypatch, TIE_TOLERANCE=0.0, ROWS=2, COLUMNS=16)
    rng = np.random.default_rng(5)
    # Each query is ten times as long as the one before, and so is its scores' rounding error.
    queries = unit(rng, 6, 8).astype(np.float64) * 10.0 ** np.arange(6)[:, None]
    gallery = queries[:1] + 1e-9 * rng.normal(size=(40, 8))
    events = np.arange(40) % 6
    got = search(queries, gallery, range(6), events)
    expected = brute_force_search(queries, gallery, range(6), events, 10, 0.0)
    assert got.rank.tolist() == expected.rank.tolist()
    np.testing.assert_allclose(got.average_precision, expected.average_precision, rtol=1e-12)


def test_average_precision_by_hand(monkeypatch):
    gallery = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    # Relevant at ranks 1, 3 and 5: (1 + 2/3 + 3/5) / 3; at depth 4 the third counts nothing.
    for depth, expected in ((10, (1 + 2 / 3 + 3 / 5) / 3), (4, (1 + 2 / 3) / 3), (2, 1 / 2), (1, 1.0)):
        set_constants(monkeypatch, DEPTH=depth)
        found = search(np.ones((1, 1)), gallery, ["x"], list("xyxyx"))
        assert found.average_precision.tolist() == pytest.approx([expected])


def test_ties_count_against_the_model():
    tied = search(torch.ones(1, 1, requires_grad=True), np.ones((5, 1)), ["x"], list("xyxyx"))
    # The two others are ahead of all.
    assert (tied.rank.tolist(), tied.relevant.tolist()) == ([3], [3])
    assert tied.average_precision.tolist() == pytest.approx([(1 / 3 + 2 / 4 + 3 / 5) / 3])


def test_search_of_random_embeddings_is_at_chance():
    rng = np.random.default_rng(4)
    found = search(unit(rng, 3000, 8), unit(rng, 20, 8), rng.integers(20, size=3000), np.arange(20))
    # One relevant in 20: rank uniform, and AP@10 is 1/rank up to 10: (1 + 1/2 + ... + 1/10) / 20.
    assert np.mean(found.rank <= 5) == pytest.approx(chance(20, 1, 5), abs=0.025)
    expected = sum(1 / n for n in range(1, 11)) / 20
    assert found.average_precision.mean() == pytest.approx(expected, abs=0.015)
    assert chance_precision(20, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("queries", "gallery", "events", "word"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "ab", "expected .Q, d."),
        (np.zeros(3), np.zeros((2, 3)), "ab", "expected .Q, d."),
        (np.zeros((2, 3)), np.zeros((2, 3)), "abc", "expected .Q, d."),
        (np.zeros((2, 3)), np.zeros((2, 3)), "ac", "no relevant item, first 1"),
        (np.array([[0.0], [np.nan]]), np.zeros((2, 1)), "ab", "finite"),
        (np.zeros((2, 1)), np.array([[np.inf], [0.0]]), "ab", "finite"),
    ],
)
def test_unusable_queries_and_galleries_are_refused(monkeypatch, queries, gallery, events, word):
    set_constants(monkeypatch, ROWS=1)
    with pytest.raises(ValueError, match=word):
        search(queries, gallery, list("ab"), list(events))


# Galleries of the test clips and pairs


def rows_of(takes=lambda events: events) -> pd.DataFrame:
    """Rows by a model that knows everything; ``takes`` is how it takes events."""
    sounds = {clip.clip_id: (clip.label,) for clip in CLIPS.itertuples()}
    for pair in PAIRS.to_dict("records"):
        sounds |= {f"{pair['pair_id']}/{view}": played(pair, view) for view in VIEWS}
    return retrieval_rows(Meanings(sounds, takes=takes), CLIPS, PAIRS)


@pytest.fixture(scope="module")
def rows():
    return rows_of()


def part(rows, gallery, direction):
    return rows[(rows["gallery"] == gallery) & (rows["direction"] == direction)].reset_index(drop=True)


@pytest.mark.parametrize(
    ("gallery", "direction", "size", "relevant"),
    [
        ("singles", "text_to_audio", 8, [2, 2, 2, 2]),
        ("singles", "audio_to_text", 4, [1] * 8),
        # "dog and rain" is the caption of three overlaps, "dog and siren" of one.
        ("overlaps", "text_to_audio", 4, [3, 1]),
        ("overlaps", "audio_to_text", 2, [1, 1, 1, 1]),
        # p0 words dog > rain with "before", p1 with "after"; p2's captions of order are p0's; p2 has its own
        # wording of the overlap.
        ("ordered", "text_to_audio", 12, [3, 3, 3, 3, 3, 3, 1, 1, 1]),
        ("ordered", "audio_to_text", 9, [2] * 9 + [1] * 3),
    ],
)
def test_galleries_by_hand(rows, gallery, direction, size, relevant):
    found = part(rows, gallery, direction)
    assert (found["rank"] == 1).all() and (found["gallery_size"] == size).all()
    assert found["relevant"].tolist() == relevant
    views = {"singles": 0, "overlaps": 1, "ordered": 3}[gallery]
    sources = [np.repeat(PAIRS[f"source_{end}"], views).tolist() for end in "ij"]
    if direction == "text_to_audio":  # has no source clip
        sources = [[None] * len(found)] * 2
    elif gallery == "singles":
        sources = [CLIPS["source"].tolist(), [None] * len(found)]
    assert [found["source_a"].tolist(), found["source_b"].tolist()] == sources


def test_a_model_without_order_fails_in_the_ordered_gallery_alone():
    found = rows_of(no_order)
    for gallery in ("singles", "overlaps"):
        assert (found["rank"][found["gallery"] == gallery] == 1).all()
    # Two true captions of dog > rain tie with two of its inverse; p3 has one of each.
    assert part(found, "ordered", "audio_to_text")["rank"].tolist() == [3, 3, 1] * 3 + [2, 2, 1]


def test_measures_and_their_chance_as_item_rows(rows):
    queries = part(rows, "singles", "text_to_audio").assign(rank=[1, 2, 6, 11], average_precision=0.25)
    found = {name: (scores.mean(), chances.mean()) for name, (scores, chances) in measures(queries).items()}
    # Of 8 clips 2 are relevant; five at random leave both out in C(6, 5) of C(8, 5) cases.
    assert found["R@1"] == (0.25, pytest.approx(1 / 4)) and found["R@5"] == (0.5, pytest.approx(1 - 3 / 28))
    assert found["R@10"] == (0.75, 1) and found["mAP@10"] == (0.25, pytest.approx(chance_precision(8, 2)))
    items = hit_rows(queries).assign(model="m", seed=0)
    summary = summarise(items, resamples=20).set_index("task")
    assert list(summary.index) == [f"retrieval: singles, text to audio, {name}" for name in found]
    assert summary["accuracy"].tolist() == pytest.approx([100 * score for score, _ in found.values()])
    assert items["source_a"].nunique() == 4
