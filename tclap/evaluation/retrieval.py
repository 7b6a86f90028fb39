"""Retrieval between texts and audio clips: ranks, recall at k and mean average precision.

A query's rank is that of its best hit. Ties count against the model, so that one which gives everything the
same score cannot look good by the order of the gallery. Any number of captions may belong to a clip and of
clips to a caption; the matrix of all similarities is never held.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import starmap
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tclap.data.clips import has_labels
from tclap.data.composites import PROMPT, phrases
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.tasks import TIE_TOLERANCE, names_of

log = logging.getLogger(__name__)
KS = (1, 5, 10)  # of recall
DEPTH = 10  # of average precision, mAP@10
ROWS, COLUMNS = 1024, 1024  # of a block of scores, which stays in a processor's cache


class Found(NamedTuple):
    """What :func:`search` finds for each query: arrays ``[queries]``."""

    rank: np.ndarray
    average_precision: np.ndarray
    relevant: np.ndarray


def search(
    queries: ArrayLike | Tensor,
    gallery: ArrayLike | Tensor,
    query_events: Sequence | np.ndarray,
    gallery_events: Sequence | np.ndarray,
) -> Found:
    """Search a gallery exactly: ranks are those of dot products in float64.

    All irrelevant items that score at least as high (less ``TIE_TOLERANCE``) as a relevant one are ahead of
    it. Most are counted by scores in float32, a block at a time; what lies within these scores' rounding
    error of a relevant item's score is decided in float64.

    Args:
        queries, gallery: ``[Q, d]`` and ``[G, d]``.
        query_events, gallery_events: ``[Q]`` and ``[G]`` ids; equal ids are relevant to each other.

    Returns:
        For each query the rank (from 1) of its best relevant item, its average precision in [0, 1] and its
        number of relevant items. Average precision at k = :data:`DEPTH` is the mean, over a query's
        ``min(k, relevant)`` best relevant items, of the precision at their ranks, 0 for those beyond rank k.

    Raises:
        ValueError: on wrong shapes, embeddings that are not finite, or a query without a relevant item.
    """
    queries, gallery = (torch.as_tensor(x).detach().cpu() for x in (queries, gallery))
    shapes = [tuple(queries.shape), tuple(gallery.shape), len(query_events), len(gallery_events)]
    expected = [(len(queries), *gallery.shape[1:]), tuple(gallery.shape), len(queries), len(gallery)]
    if gallery.ndim != 2 or shapes != expected:
        raise ValueError(f"queries, gallery and their events are {shapes}; expected [Q, d], [G, d], Q and G")
    longest = _longest(gallery)
    if not np.isfinite([_longest(queries), longest]).all():
        raise ValueError("embeddings of queries or gallery are not finite")
    ids = [np.asarray(events, dtype=object) for events in (query_events, gallery_events)]
    codes = pd.factorize(np.concatenate(ids))[0]
    wanted, events = codes[: len(queries)], codes[len(queries) :]
    relevant = np.bincount(events, minlength=codes.max() + 1)
    if not relevant[wanted].all():
        unanswerable = np.flatnonzero(relevant[wanted] == 0)
        raise ValueError(f"{len(unanswerable)} queries have no relevant item, first {unanswerable[0]}")
    by_event = np.split(np.argsort(events, kind="stable"), np.cumsum(relevant)[:-1])
    single = gallery.float()
    # Bounds the error of d products in float32, each factor rounded once, summed in any order.
    unit = (gallery.shape[1] + 8) * 2.0**-24 * longest
    held = torch.empty(2, ROWS * COLUMNS)  # once, as new memory for every block takes time
    found = []
    for first in range(0, len(queries), ROWS):
        own = queries[first : first + ROWS].double()
        items = [by_event[event] for event in wanted[first : first + ROWS]]
        rows, columns = np.repeat(np.arange(len(own)), [len(i) for i in items]), np.concatenate(items)
        hits = _best_hits(own, gallery, items, rows, columns)
        bounds = (hits - TIE_TOLERANCE).masked_fill(hits.isneginf(), torch.inf)
        error = unit * own.norm(dim=1, keepdim=True)
        ahead, rough = torch.zeros(hits.shape, dtype=torch.int64), own.float()
        for start in range(0, len(gallery), COLUMNS):
            part = single[start : start + COLUMNS]
            scores, flags = held[:, : len(own) * len(part)].view(2, len(own), len(part))
            torch.mm(rough, part.T, out=scores)
            here = (columns >= start) & (columns < start + COLUMNS)
            scores[rows[here], columns[here] - start] = -torch.inf
            ahead += _count_above(scores, bounds, error, own, gallery[start : start + COLUMNS], flags)
        found.append((1 + ahead[:, 0], _average_precision(hits, ahead), [len(i) for i in items]))
    return Found(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _longest(vectors: Tensor) -> float:
    """The greatest norm of ``[n, d]`` in float64, in parts: a copy of all would take twice their memory."""
    return float(np.max([part.double().norm(dim=1).max().item() for part in vectors.split(ROWS)]))


def _best_hits(own: Tensor, gallery: Tensor, items: list, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """The best scores ``[n, k]`` of each query's relevant items, -inf where there are fewer than k."""
    place = np.concatenate([np.arange(len(i)) for i in items])
    hits = torch.full((len(own), place.max() + 1), -torch.inf, dtype=torch.float64)
    for first in range(0, len(rows), COLUMNS):  # a label may have any number of relevant items
        some = slice(first, first + COLUMNS)
        hits[rows[some], place[some]] = (own[rows[some]] * gallery[columns[some]].double()).sum(dim=1)
    return hits.topk(min(DEPTH, hits.shape[1])).values


def _count_above(
    scores: Tensor, bounds: Tensor, error: Tensor, own: Tensor, items: Tensor, flags: Tensor
) -> Tensor:
    """How many items of a block reach each bound ``[n, k]``; ``scores`` are exact to within ``error``.

    ``flags``: memory of the scores' shape, which is written to.
    """
    low, high, counts = (bounds - error).float(), (bounds + error).float(), []
    for k in range(bounds.shape[1]):
        # Sums of floats are several times faster than of booleans, and exact below 2^24.
        possible = torch.ge(scores, low[:, k : k + 1], out=flags).sum(dim=1)
        certain = torch.ge(scores, high[:, k : k + 1], out=flags).sum(dim=1)
        count = certain.long()
        if len(undecided := torch.nonzero(possible != certain)[:, 0]):
            doubt = scores[undecided]
            doubt = (doubt >= low[undecided, k : k + 1]) & (doubt < high[undecided, k : k + 1])
            columns = torch.nonzero(doubt.any(dim=0))[:, 0]
            exact = own[undecided] @ items[columns].double().T
            count[undecided] += ((exact >= bounds[undecided, k : k + 1]) & doubt[:, columns]).sum(dim=1)
        counts.append(count)
    return torch.stack(counts, dim=1)


def _average_precision(hits: Tensor, ahead: Tensor) -> Tensor:
    """Average precision ``[n]`` from the best hits and the numbers of irrelevant items ahead of each."""
    place = torch.arange(1, hits.shape[1] + 1)
    absent, ranks = hits.isneginf(), place + ahead
    gains = (place.double() / ranks).masked_fill(absent | (ranks > DEPTH), 0)
    return gains.sum(dim=1) / (~absent).sum(dim=1)


class Item(NamedTuple):
    """A caption or a sound of a gallery: items of equal events are relevant to each other."""

    name: str
    event: str
    source_a: str | None = None
    source_b: str | None = None


def query_rows(
    embeddings: Embeddings, gallery: str, captions: Iterable[Item], sounds: Iterable[Item]
) -> pd.DataFrame:
    """One tidy row per query of a gallery, in both directions.

    Returns:
        ``gallery, direction, query`` (the index in its own modality), ``source_a, source_b, rank,
        average_precision`` (at :data:`DEPTH`), ``relevant`` (number of relevant items), ``gallery_size``.

    Raises:
        ValueError: as :func:`search`.
    """
    written, played = (pd.DataFrame(list(items), dtype=object) for items in (captions, sounds))
    text = written, embeddings.captions(written["name"].tolist())
    audio = played, embeddings.sounds(played["name"])
    parts = []
    for direction, (asked, queries), (held, items) in (
        ("text_to_audio", text, audio),
        ("audio_to_text", audio, text),
    ):
        found = search(queries, items, asked["event"], held["event"])
        rows = {"gallery": gallery, "direction": direction, "query": np.arange(len(asked))}
        rows |= {"source_a": asked["source_a"], "source_b": asked["source_b"], **found._asdict()}
        parts.append(pd.DataFrame(rows | {"gallery_size": len(held)}))
    return pd.concat(parts, ignore_index=True)


def retrieval_rows(embeddings: Embeddings, clips: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`query_rows` for all galleries of the test clips and pairs.

    ``singles``: the clips and their labels' prompts. ``overlaps``: each pair's overlap and "X and Y"; left
    out, which is logged, where two labels make every one a hit. ``ordered``: :func:`ordered_items`. Of clips
    without labels there is :func:`caption_rows` instead of the first two.
    """
    if has_labels(clips):
        prompts = [Item(PROMPT.format(label), label) for label in sorted(clips["label"].unique())]
        singles = [Item(clip.clip_id, clip.label, clip.source) for clip in clips.itertuples()]
        parts = [query_rows(embeddings, "singles", prompts, singles)]
        captions, sounds = {}, []
        for pair in pairs.itertuples():
            a, b = sorted((pair.label_i, pair.label_j))
            captions[f"{a} & {b}"] = Item(PROMPT.format(f"{a} and {b}"), f"{a} & {b}")
            sounds.append(Item(f"{pair.pair_id}/overlap", f"{a} & {b}", pair.source_i, pair.source_j))
        if len(captions) > 1:
            parts.append(query_rows(embeddings, "overlaps", captions.values(), sounds))
        else:
            log.warning("one pair of labels is too few for the gallery of overlaps")
    else:
        parts = [caption_rows(embeddings, clips)]
    parts.append(query_rows(embeddings, "ordered", *ordered_items(pairs)))
    return pd.concat(parts, ignore_index=True)


def ordered_items(pairs: pd.DataFrame) -> tuple[list[Item], list[Item]]:
    """Captions and sounds of the hard test of order: the three views of all pairs in one gallery.

    A caption is no more than words, so that it has no source clip.
    """
    captions, sounds = {}, []
    for pair in pairs.to_dict("records"):
        worded = phrases(*names_of(pair), pair["sigma"])
        for view, meant in phrases(pair["label_i"], pair["label_j"], pair["sigma"]).items():
            captions[worded[view].text()] = meant.events
            sources = (pair["source_i"], pair["source_j"])
            sounds.append(Item(f"{pair['pair_id']}/{view}", meant.events, *sources))
    return list(starmap(Item, captions.items())), sounds


def caption_rows(embeddings: Embeddings, clips: pd.DataFrame, gallery: str = "captions") -> pd.DataFrame:
    """Rows of :func:`query_rows` for clips and their captions: each belongs to its own clip alone.

    A text query is a hit when its clip is found, an audio query when any of its captions is.
    """
    texts = clips[["captions", "clip_id", "source"]].explode("captions").to_numpy()
    sounds = clips[["clip_id", "clip_id", "source"]].to_numpy()
    return query_rows(embeddings, gallery, starmap(Item, texts), starmap(Item, sounds))


def measures(queries: pd.DataFrame) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Scores and their chance, both in [0, 1], by measure: ``R@1``, ``R@5``, ``R@10``, ``mAP@10``.

    ``queries``: from :func:`query_rows`; the scores have its index.
    """

    def expected(of: Callable[..., float], **options: int) -> pd.Series:
        sizes = zip(queries["gallery_size"], queries["relevant"], strict=True)
        return pd.Series([of(size, relevant, **options) for size, relevant in sizes], queries.index)

    recalls = {f"R@{k}": ((queries["rank"] <= k).astype(float), expected(chance, k=k)) for k in KS}
    return recalls | {f"mAP@{DEPTH}": (queries["average_precision"], expected(chance_precision))}


@cache
def chance(gallery: int, relevant: int, k: int) -> float:
    """Probability that k items drawn at random from a gallery hold one of the ``relevant``."""
    return 1 - comb(int(gallery - relevant), k) / comb(int(gallery), k) if k < gallery else 1.0


@cache
def chance_precision(gallery: int, relevant: int) -> float:
    """Expected average precision at :data:`DEPTH` of a random order.

    The item at rank i is relevant with probability R / G, and then (i - 1)(R - 1) / (G - 1) of those
    ahead of it are.
    """
    ranks = np.arange(1, min(DEPTH, gallery) + 1)
    before = (ranks - 1) * (relevant - 1) / max(gallery - 1, 1)
    return float(np.sum(relevant / gallery * (1 + before) / ranks) / min(DEPTH, relevant))


def hit_rows(queries: pd.DataFrame) -> pd.DataFrame:
    """Query rows as item rows, so that they can be summarised with all others.

    ``task`` is ``retrieval: <gallery>, <direction>, <measure>`` and ``correct`` the score of
    :func:`measures`. A text query has no source clip and is its own.
    """
    task = "retrieval: " + queries["gallery"] + ", " + queries["direction"].str.replace("_", " ") + ", "
    own = queries["gallery"] + " query " + queries["query"].astype(str)
    shared = {
        "item": queries["gallery"] + " " + queries["query"].astype(str),
        "source_a": queries["source_a"].where(queries["source_a"].notna(), own),
        "source_b": queries["source_b"],
    }
    parts = [
        pd.DataFrame({"task": task + measure, **shared, "correct": scores, "chance": chances})
        for measure, (scores, chances) in measures(queries).items()
    ]
    return pd.concat(parts, ignore_index=True)
