"""Retrieval between texts and audio clips: ranks, recall at k, median rank, mean average precision.

A query's rank is that of its best hit. Ties count against the model, so that one which gives
everything the same score cannot look good by the order of the gallery. Any number of captions may
belong to a clip and of clips to a caption; the matrix of all similarities is never held.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

DIRECTIONS = ("text_to_audio", "audio_to_text")
# Cosines closer than single precision can tell apart are ties.
TIE_TOLERANCE = 1e-6
DEPTH = 10  # of average precision, mAP@10
QUERY_BLOCK, GALLERY_BLOCK = 1024, 8192


class Found(NamedTuple):
    """What :func:`search` finds for each query: arrays ``[queries]``."""

    rank: np.ndarray
    average_precision: np.ndarray
    relevant: np.ndarray


def search(
    queries: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    query_events: Sequence | np.ndarray,
    gallery_events: Sequence | np.ndarray,
    *,
    depth: int = DEPTH,
    tolerance: float = TIE_TOLERANCE,
    blocks: tuple[int, int] = (QUERY_BLOCK, GALLERY_BLOCK),
) -> Found:
    """Search a gallery exactly, in blocks: memory is that of the embeddings and of one block of scores.

    Scores are dot products in float64. All irrelevant items that score at least as high (less
    ``tolerance``) as a relevant one are ahead of it.

    Args:
        queries: ``[Q, d]``.
        gallery: ``[G, d]``.
        query_events: ``[Q]`` ids; a query's relevant items are those with its id.
        gallery_events: ``[G]`` ids.
        depth: k of average precision at k: the mean, over a query's ``min(k, relevant)`` best relevant
            items, of the precision at their ranks, 0 for those beyond rank k.
        tolerance: scores that differ by no more are ties.
        blocks: number of queries and of gallery items whose scores are held at a time.

    Returns:
        The rank from 1 of the best relevant item, average precision in [0, 1] and the number of relevant
        items, of each query.

    Raises:
        ValueError: for wrong shapes, embeddings that are not finite, or a query without a relevant item.
    """
    queries, gallery = _matrix(queries, "query"), _matrix(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries are {queries.shape[1]}-, gallery items {gallery.shape[1]}-dimensional embeddings."
        )
    if depth < 1 or min(blocks) < 1:
        raise ValueError(f"depth={depth}, blocks={blocks}; expected at least 1.")
    query_codes, gallery_codes = _event_codes(query_events, gallery_events, len(queries), len(gallery))
    # In the order of events, what is relevant to a block of queries lies side by side.
    query_order, order = (np.argsort(codes, kind="stable") for codes in (query_codes, gallery_codes))
    codes = torch.from_numpy(gallery_codes[order])
    start = np.searchsorted(gallery_codes[order], query_codes[query_order], side="left")
    stop = np.searchsorted(gallery_codes[order], query_codes[query_order], side="right")
    rank, precision = np.empty(len(queries), np.int64), np.empty(len(queries))
    for first in range(0, len(queries), blocks[0]):
        rows = query_order[first : first + blocks[0]]
        block, wanted = queries[rows].double(), torch.from_numpy(query_codes[rows])[:, None]

        def scores(low: int, high: int, relevant: bool, block=block, wanted=wanted) -> Tensor:
            found = block @ gallery[order[low:high]].double().T
            return found.masked_fill_((codes[None, low:high] == wanted) != relevant, -torch.inf)

        near = range(int(start[first]), int(stop[first : first + blocks[0]].max()), blocks[1])
        hits = block.new_empty(len(rows), 0)
        for low in near:
            hits = _best(hits, scores(low, min(low + blocks[1], near.stop), relevant=True), depth)
        bound = hits[:, :1] - tolerance
        ahead, misses = torch.zeros(len(rows), dtype=torch.int64), block.new_empty(len(rows), 0)
        for low in range(0, len(gallery), blocks[1]):
            others = scores(low, low + blocks[1], relevant=False)
            ahead += (others >= bound).sum(dim=1)
            misses = _best(misses, others, depth)
        rank[rows] = 1 + ahead.numpy()
        precision[rows] = _average_precision(hits, misses, depth, tolerance).numpy()
    relevant = np.empty(len(queries), np.int64)
    relevant[query_order] = stop - start
    return Found(rank, precision, relevant)


def _best(kept: Tensor, scores: Tensor, depth: int) -> Tensor:
    """The ``depth`` highest of both ``[n, ...]``, descending."""
    joined = torch.cat([kept, scores.topk(min(depth, scores.shape[1])).values], dim=1)
    return joined.topk(min(depth, joined.shape[1])).values


def _average_precision(hits: Tensor, misses: Tensor, depth: int, tolerance: float) -> Tensor:
    """Average precision ``[n]`` from the best relevant and irrelevant scores, -inf where there are fewer."""
    place = torch.arange(1, hits.shape[1] + 1)
    absent = hits.isneginf()
    ranks = place + (misses[:, None, :] >= (hits - tolerance)[:, :, None]).sum(dim=2)
    gains = (place.double() / ranks).masked_fill(absent | (ranks > depth), 0)
    return gains.sum(dim=1) / (~absent).sum(dim=1)


def _event_codes(
    query_events: Sequence | np.ndarray, gallery_events: Sequence | np.ndarray, queries: int, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """Integers, equal where the ids are equal."""
    ids = [np.asarray(events, dtype=object) for events in (query_events, gallery_events)]
    for events, count, name in zip(ids, (queries, gallery), ("query", "gallery"), strict=True):
        if events.shape != (count,):
            raise ValueError(f"{name} events have shape {events.shape}; expected ({count},)")
    codes = pd.factorize(np.concatenate(ids))[0]
    hopeless = np.flatnonzero(~np.isin(codes[:queries], codes[queries:]))
    if len(hopeless):
        raise ValueError(f"{len(hopeless)} queries have no relevant item, the first is query {hopeless[0]}")
    return codes[:queries], codes[queries:]


def _matrix(embeddings: np.ndarray | Tensor, name: str) -> Tensor:
    matrix = torch.as_tensor(embeddings).detach().cpu()
    if matrix.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {tuple(matrix.shape)}; expected [n, d]")
    broken = torch.nonzero(~matrix.isfinite().all(dim=1))
    if len(broken):
        raise ValueError(f"{name} embeddings are not finite in {len(broken)} row(s), first {int(broken[0])}")
    return matrix


def ranks(scores: np.ndarray, relevant: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Rank of the best relevant item for each query from any scores, which need be no dot products.

    ``scores`` [queries, gallery], higher is better; ``relevant`` booleans of that shape; the result
    counts from 1, int [queries]. All irrelevant items that score at least as high (less
    ``tolerance``) as the best relevant one are ahead of it. Raises ValueError for wrong shapes, NaN,
    or a query without a relevant item.
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant, dtype=bool)
    if scores.ndim != 2 or scores.shape != relevant.shape:
        raise ValueError(
            f"scores {scores.shape} and relevant {relevant.shape}; expected [queries, gallery] twice"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores hold NaN for {np.isnan(scores).any(axis=1).sum()} of {len(scores)} queries")
    hopeless = np.flatnonzero(~relevant.any(axis=1))
    if len(hopeless):
        raise ValueError(f"{len(hopeless)} queries have no relevant item, the first is query {hopeless[0]}")
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + np.sum(~relevant & (scores >= best - tolerance), axis=1)


def recall(ranks: Sequence[int] | np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Percent of queries with a hit among the first k, as ``{"R@1": ..., ...}``."""
    ranks = _checked(ranks)
    return {f"R@{k}": 100 * float(np.mean(ranks <= k)) for k in ks}


def chance(gallery: int, relevant: int, k: int) -> float:
    """Probability that k items drawn at random from a gallery hold one of the ``relevant``."""
    return 1 - comb(int(gallery - relevant), k) / comb(int(gallery), k) if k < gallery else 1.0


def chance_precision(gallery: int, relevant: int, depth: int = DEPTH) -> float:
    """Expected average precision at ``depth`` of a random order.

    The item at rank i is relevant with probability R / G, and then (i - 1)(R - 1) / (G - 1) of those
    ahead of it are.
    """
    ranks = np.arange(1, min(depth, gallery) + 1)
    before = (ranks - 1) * (relevant - 1) / max(gallery - 1, 1)
    return float(np.sum(relevant / gallery * (1 + before) / ranks) / min(depth, relevant))


def median_rank(ranks: Sequence[int] | np.ndarray) -> float:
    """Median over queries of the rank of the best hit (from 1)."""
    return float(np.median(_checked(ranks)))


def _checked(ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or not len(ranks) or ranks.min() < 1:
        raise ValueError(f"ranks of shape {ranks.shape}; expected [queries], at least one, from 1")
    return ranks


def query_rows(
    text_embeddings: np.ndarray | Tensor,
    audio_embeddings: np.ndarray | Tensor,
    text_events: Sequence | np.ndarray,
    audio_events: Sequence | np.ndarray,
    *,
    gallery: str,
    text_sources: Sequence | np.ndarray | None = None,
    audio_sources: Sequence | np.ndarray | None = None,
) -> pd.DataFrame:
    """One tidy row a query, both directions: gallery, direction, query, source_a, source_b, rank,
    average_precision (at :data:`DEPTH`), relevant (number of relevant items) and gallery_size.

    ``text_embeddings`` [T, d] and ``audio_embeddings`` [A, d], L2-normalised; ``text_events`` [T]
    and ``audio_events`` [A] ids of the events (equal ids are relevant to each other); ``gallery`` a
    name for the rows. ``text_sources`` and ``audio_sources``: the source clips of each item, [n] or
    [n, 2] with None where there is none. ``query`` is the index in its own modality. Scores closer
    than ``TIE_TOLERANCE`` are ties. Raises ValueError for wrong shapes or a query without a
    relevant item.
    """
    parts = []
    text, audio = (text_embeddings, text_events), (audio_embeddings, audio_events)
    for direction, (queries, events), (items, item_events), sources in (
        (DIRECTIONS[0], text, audio, text_sources),
        (DIRECTIONS[1], audio, text, audio_sources),
    ):
        found = search(queries, items, events, item_events)
        pairs = _source_pairs(sources, len(queries), direction)
        parts.append(
            pd.DataFrame(
                {
                    "gallery": gallery,
                    "direction": direction,
                    "query": np.arange(len(queries)),
                    "source_a": pd.Series(pairs[:, 0], dtype=object),
                    "source_b": pd.Series(pairs[:, 1], dtype=object),
                    "rank": found.rank,
                    "average_precision": found.average_precision,
                    "relevant": found.relevant,
                    "gallery_size": len(items),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _source_pairs(sources: Sequence | np.ndarray | None, n: int, direction: str) -> np.ndarray:
    pairs = np.full((n, 2), None, dtype=object)
    if sources is None:
        return pairs
    sources = np.asarray(sources, dtype=object)
    if sources.ndim == 1:
        sources = sources[:, None]
    if sources.ndim != 2 or len(sources) != n or sources.shape[1] not in (1, 2):
        raise ValueError(
            f"sources of {direction} queries have shape {sources.shape}; expected [{n}] or [{n}, 2]"
        )
    pairs[:, : sources.shape[1]] = sources
    return pairs
