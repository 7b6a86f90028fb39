"""Retrieval between texts and audio clips: ranks, recall at k, median rank.

A query's rank is that of its best hit. Ties count against the model, so that one which gives
everything the same score cannot look good by the order of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import torch

DIRECTIONS = ("text_to_audio", "audio_to_text")
# Cosines closer than single precision can tell apart are ties.
TIE_TOLERANCE = 1e-6


def ranks(scores: np.ndarray, relevant: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Rank of the best relevant item for each query, from 1; int array [queries].

    ``scores`` [queries, gallery], higher is better; ``relevant`` booleans of that shape. All
    irrelevant items that score at least as high (less ``tolerance``) as the best relevant one are
    ahead of it. Raises ValueError for wrong shapes, NaN, or a query without a relevant item.
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


def median_rank(ranks: Sequence[int] | np.ndarray) -> float:
    """Median over queries of the rank of the best hit (from 1)."""
    return float(np.median(_checked(ranks)))


def _checked(ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or not len(ranks) or ranks.min() < 1:
        raise ValueError(f"ranks of shape {ranks.shape}; expected [queries], at least one, from 1")
    return ranks


def query_rows(
    text_embeddings: np.ndarray | torch.Tensor,
    audio_embeddings: np.ndarray | torch.Tensor,
    text_events: Sequence | np.ndarray,
    audio_events: Sequence | np.ndarray,
    *,
    gallery: str,
    text_sources: Sequence | np.ndarray | None = None,
    audio_sources: Sequence | np.ndarray | None = None,
) -> pd.DataFrame:
    """One tidy row a query, both directions: gallery, direction, query, source_a, source_b, rank,
    relevant (number of relevant items) and gallery_size.

    ``text_embeddings`` [T, d] and ``audio_embeddings`` [A, d], L2-normalised; ``text_events`` [T]
    and ``audio_events`` [A] ids of the events (equal ids are relevant to each other); ``gallery`` a
    name for the rows. ``text_sources`` and ``audio_sources``: the source clips of each item, [n] or
    [n, 2] with None where there is none. ``query`` is the index in its own modality. Scores closer
    than ``TIE_TOLERANCE`` are ties. Raises ValueError for wrong shapes or a query without a
    relevant item.
    """
    text, audio = _matrix(text_embeddings, "text"), _matrix(audio_embeddings, "audio")
    if text.shape[1] != audio.shape[1]:
        raise ValueError(
            f"text embeddings are {text.shape[1]}-, audio embeddings {audio.shape[1]}-dimensional"
        )
    text_events, audio_events = np.asarray(text_events), np.asarray(audio_events)
    for events, embeddings, name in ((text_events, text, "text"), (audio_events, audio, "audio")):
        if events.shape != (len(embeddings),):
            raise ValueError(f"{name}_events has shape {events.shape}; expected ({len(embeddings)},)")
    scores = text @ audio.T
    relevant = text_events[:, None] == audio_events[None, :]
    parts = []
    for direction, matrix, hits, sources in (
        (DIRECTIONS[0], scores, relevant, text_sources),
        (DIRECTIONS[1], scores.T, relevant.T, audio_sources),
    ):
        pairs = _source_pairs(sources, len(matrix), direction)
        parts.append(
            pd.DataFrame(
                {
                    "gallery": gallery,
                    "direction": direction,
                    "query": np.arange(len(matrix)),
                    "source_a": pd.Series(pairs[:, 0], dtype=object),
                    "source_b": pd.Series(pairs[:, 1], dtype=object),
                    "rank": ranks(matrix, hits, TIE_TOLERANCE),
                    "relevant": hits.sum(axis=1),
                    "gallery_size": hits.shape[1],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _matrix(embeddings: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    if hasattr(embeddings, "detach"):
        # numpy has no bfloat16, so the tensor is widened before it is handed over.
        embeddings = embeddings.detach().cpu().double().numpy()
    matrix = np.asarray(embeddings, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {matrix.shape}; expected [n, d]")
    return matrix


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
