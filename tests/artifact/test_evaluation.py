from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from artifact.evaluation import SIMILARITY_PAIRS, similarity_rows
from tclap.data.composites import PROMPT, phrases
from tclap.evaluation.galleries import retrieval_rows

LABELS = ["dog", "rain", "rooster", "waves"]
# Two pairs mean the same order, one is the inverse of another, and two have the same overlap.
PAIRS = [
    ("p0", "dog", "rain", "preceding"),
    ("p1", "dog", "rain", "succeeding"),
    ("p2", "rain", "dog", "preceding"),
    ("p3", "waves", "dog", "succeeding"),
]


def made():
    """Test clips and pairs without audio."""
    clips = pd.DataFrame(
        [{"clip_id": f"{x}-{n}", "label": x, "source": f"s-{x}-{n}"} for x in LABELS for n in range(2)]
    )
    rows = [
        {
            "pair_id": p,
            "label_i": a,
            "label_j": b,
            "sigma": sigma,
            "source_i": f"s-{a}-0",
            "source_j": f"s-{b}-1",
        }
        for p, a, b, sigma in PAIRS
    ]
    return SimpleNamespace(clips=clips, pairs=pd.DataFrame(rows))


class Oracle:
    """Stands for an encoded model: one axis a meaning; ``reads`` is how it takes one."""

    def __init__(self, test, reads=lambda meaning: meaning):
        self.experiment = SimpleNamespace(labels=LABELS)
        self._text = {PROMPT.format(x): x for x in LABELS}
        self._sound = dict(zip(test.clips["clip_id"], test.clips["label"], strict=True))
        for pair in test.pairs.itertuples():
            a, b = pair.label_i, pair.label_j
            for x, y in ((a, b), (b, a)):
                self._text[PROMPT.format(f"{x} and {y}")] = " & ".join(sorted((a, b)))
                self._text[PROMPT.format(f"{x} while {y}")] = " & ".join(sorted((a, b)))
                self._text[PROMPT.format(f"{x} before {y}")] = f"{x} > {y}"
                self._text[PROMPT.format(f"{y} after {x}")] = f"{x} > {y}"
            for view, words in phrases(a, b, "preceding").items():
                self._sound[f"{pair.pair_id}/{view}"] = words.events
        meanings = {*self._text.values(), *self._sound.values()}
        self._axis = {m: n for n, m in enumerate(sorted({reads(m) for m in meanings}))}
        self._reads = reads

    def _embed(self, meanings):
        return torch.eye(len(self._axis))[[self._axis[self._reads(m)] for m in meanings]]

    def captions(self, captions):
        return self._embed([self._text[c] for c in captions])

    def sounds(self, names):
        return self._embed([self._sound[n] for n in names])


def blind(meaning):
    """Order is not heard: "A > B" and "B > A" are one."""
    return " > ".join(sorted(meaning.split(" > ")))


@pytest.fixture(scope="module")
def rows():
    return retrieval_rows(Oracle(made()), made().clips, made().pairs)


def part(rows, gallery, direction):
    return rows[(rows["gallery"] == gallery) & (rows["direction"] == direction)].reset_index(drop=True)


def test_a_model_that_hears_everything_finds_everything(rows):
    assert (rows["rank"] == 1).all()
    assert list(rows["gallery"].unique()) == ["singles", "overlaps", "ordered"]


@pytest.mark.parametrize(
    ("gallery", "direction", "queries", "size", "relevant"),
    [
        ("singles", "text_to_audio", 4, 8, [2, 2, 2, 2]),
        ("singles", "audio_to_text", 8, 4, [1] * 8),
        # "dog and rain" is the caption of three overlaps, "dog and waves" of one.
        ("overlaps", "text_to_audio", 2, 4, [3, 1]),
        ("overlaps", "audio_to_text", 4, 2, [1, 1, 1, 1]),
        # p0 words dog > rain with "before", p1 with "after"; p2's captions of order are p0's; p2 has its own
        # wording of the overlap.
        ("ordered", "text_to_audio", 9, 12, [3, 3, 3, 3, 3, 3, 1, 1, 1]),
        ("ordered", "audio_to_text", 12, 9, [2] * 9 + [1] * 3),
    ],
)
def test_galleries_by_hand(rows, gallery, direction, queries, size, relevant):
    found = part(rows, gallery, direction)
    assert len(found) == queries and (found["gallery_size"] == size).all()
    assert found["relevant"].tolist() == relevant


def test_audio_queries_have_source_clips_and_text_queries_none(rows):
    text = rows["direction"] == "text_to_audio"
    assert rows["source_a"][text].isna().all() and rows["source_b"][text].isna().all()
    singles = part(rows, "singles", "audio_to_text")
    assert (
        singles["source_a"].tolist() == made().clips["source"].tolist() and singles["source_b"].isna().all()
    )
    pairs = made().pairs
    for gallery, views in (("overlaps", 1), ("ordered", 3)):
        found = part(rows, gallery, "audio_to_text")
        assert found["source_a"].tolist() == np.repeat(pairs["source_i"], views).tolist()
        assert found["source_b"].tolist() == np.repeat(pairs["source_j"], views).tolist()


def test_a_model_without_order_fails_in_the_ordered_gallery_alone():
    test = made()
    found = retrieval_rows(Oracle(test, blind), test.clips, test.pairs)
    for gallery in ("singles", "overlaps"):
        assert (found["rank"][found["gallery"] == gallery] == 1).all()
    ordered = part(found, "ordered", "audio_to_text")
    # Two true captions of dog > rain tie with two of its inverse; p3 has one of each.
    assert ordered["rank"].tolist() == [3, 3, 1] * 3 + [2, 2, 1]


def test_similarities_of_both_orders_side_by_side():
    test = made()
    found = similarity_rows(Oracle(test), test)
    # p1 repeats p0's labels: three pairs in two orders are left.
    matrix = found.pivot(index="row", columns="column", values="similarity").to_numpy()
    events = found.drop_duplicates("column")["column_event"].tolist()
    assert events == ["dog > rain", "rain > dog", "rain > dog", "dog > rain", "waves > dog", "dog > waves"]
    captions = found.drop_duplicates("row")["row_caption"].tolist()
    assert captions == [e.replace(">", "before") for e in events]
    same = np.array([[x == y for y in events] for x in events])
    np.testing.assert_array_equal(matrix, same.astype(float))


def test_similarities_show_a_few_pairs_only():
    test = made()
    many = [
        {"pair_id": f"{a}{b}", "label_i": a, "label_j": b, "sigma": "preceding"}
        for a in LABELS
        for b in LABELS
        if a != b
    ]
    test.pairs = pd.DataFrame(many)
    assert len(similarity_rows(Oracle(test), test)) == (2 * SIMILARITY_PAIRS) ** 2
