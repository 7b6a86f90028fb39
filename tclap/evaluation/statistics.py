"""Intervals and tests for accuracies whose items share source clips.

Two composites that use the same clip are not independent, so items are not what is resampled:
source clips are. A source is the same source in whichever position of a composite it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

ROW_COLUMNS = ("model", "seed", "task", "item", "source_a", "correct", "chance")
_CHUNK_ELEMENTS = 2_000_000


def bootstrap_interval(
    scores: Sequence[float] | np.ndarray,
    sources: Sequence | np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``scores``, resampling source clips.

    ``scores``: [n] floats, 0/1 or averages over seeds. ``sources``: [n] or [n, k] ids of the source
    clips of each item; None or NaN where an item has fewer. The result has the unit of the scores.

    Each resample draws as many sources as there are, with replacement. An item weighs the product
    of the counts of its distinct sources, and the resampled statistic is the weighted mean
    (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1(2); with one pool of sources for all
    positions as in Davezies et al. 2021, Ann. Statist. 49(2)). With one source an item this is the
    cluster bootstrap; with two it is conservative: where the sources explain none of the variance
    the interval is up to sqrt(3) times too wide. Resamples in which no item keeps a weight are
    ignored. If all scores are equal the interval is that point.

    Raises ValueError for wrong shapes, NaN scores, an item without a source, or a single source.
    """
    scores = np.asarray(scores, dtype=np.float64)
    codes, n_sources = _source_codes(sources)
    if scores.ndim != 1 or len(scores) != len(codes):
        raise ValueError(f"scores of shape {scores.shape} do not match the sources of {len(codes)} item(s)")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level={level}, resamples={resamples}; expected 0 < level < 1 and resamples >= 1")
    if n_sources < 2:
        raise ValueError(f"{n_sources} source clip(s) cannot be resampled; expected at least two")

    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // max(len(scores), n_sources))
    means = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = rng.multinomial(n_sources, np.full(n_sources, 1 / n_sources), size=size)
        # The code -1 of an absent source reads this last column: a factor of one.
        counts = np.concatenate([counts.astype(np.float64), np.ones((size, 1))], axis=1)
        weights = counts[:, codes[:, 0]]
        for column in codes.T[1:]:
            weights *= counts[:, column]
        total = weights.sum(axis=1)
        means.append((weights @ scores)[total > 0] / total[total > 0])
    means = np.concatenate(means)
    if not len(means):
        raise ValueError(f"all {resamples} resamples left every item without a source; use more resamples")
    # A weighted mean may leave the range of the scores by a rounding error.
    means = np.clip(means, scores.min(), scores.max())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _source_codes(sources: Sequence | np.ndarray) -> tuple[np.ndarray, int]:
    """Integer codes [n, k] of the source ids, -1 where absent or repeated in the item; their number."""
    table = np.asarray(sources, dtype=object)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or not table.size:
        raise ValueError(f"sources have shape {table.shape}; expected [n] or [n, k] with n, k >= 1")
    flat, distinct = pd.factorize(table.ravel())
    codes = flat.reshape(table.shape)
    for position in range(1, codes.shape[1]):
        repeated = (codes[:, :position] == codes[:, [position]]).any(axis=1)
        codes[repeated, position] = -1
    without = int((codes < 0).all(axis=1).sum())
    if without:
        raise ValueError(f"{without} of {len(codes)} items have no source clip")
    return codes, len(distinct)


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    sources: Sequence | np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of ``b - a`` over the same items (positive where ``b`` scores higher), and its interval.

    Arguments, interval and errors as in ``bootstrap_interval``; returns (difference, low, high).
    """
    a, b = _paired(a, b)
    low, high = bootstrap_interval(b - a, sources, level=level, resamples=resamples, seed=seed)
    return float(np.mean(b - a)), low, high


def mcnemar_exact(a: Sequence[bool] | np.ndarray, b: Sequence[bool] | np.ndarray) -> float:
    """Two-sided exact McNemar test that two models are right equally often on the same items.

    ``a``, ``b``: [n] booleans or 0/1. Returns the p-value, 1.0 when no item tells the two apart.
    It takes items as independent (McNemar 1947, Psychometrika 12(2)); for items that share clips
    read it beside ``paired_difference``. Raises ValueError for other lengths or values.
    """
    a, b = _paired(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test takes one right or wrong (True/False, 1/0) an item and model")
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _paired(a: Sequence | np.ndarray, b: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"paired scores have shapes {a.shape} and {b.shape}; expected [n] twice")
    return a, b


def summarise(
    rows: pd.DataFrame, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """One row a (model, task), in order of first appearance, from tidy rows of one item each.

    ``rows``: columns ``ROW_COLUMNS`` and, for composites, ``source_b``; ``correct`` is a boolean and
    ``chance`` a fraction. The result has model, task, accuracy (mean over seeds), low, high
    (interval of the seed-averaged item scores), chance, n (items a seed) and per_seed (list, by
    ascending seed); all but n in percent.

    Raises ValueError for missing columns or values, for no rows, and where the seeds of a model and
    task differ in their items.
    """
    missing = [column for column in ROW_COLUMNS if column not in rows.columns]
    if missing:
        raise ValueError(f"item rows lack the column(s) {', '.join(missing)}")
    if rows.empty:
        raise ValueError("item rows are empty; expected one row an item, model, task and seed")
    if "source_b" not in rows.columns:
        rows = rows.assign(source_b=None)
    summaries = []
    for (model, task), group in rows.groupby(["model", "task"], sort=False, dropna=False):
        by_seed = _by_seed(group, f"model {model!r}, task {task!r}")
        items = group.drop_duplicates("item").set_index("item").loc[by_seed.index]
        low, high = bootstrap_interval(
            by_seed.mean(axis=1),
            items[["source_a", "source_b"]].to_numpy(dtype=object),
            level=level,
            resamples=resamples,
            seed=seed,
        )
        summaries.append(
            {
                "model": model,
                "task": task,
                "accuracy": 100 * float(by_seed.to_numpy().mean()),
                "low": 100 * low,
                "high": 100 * high,
                "chance": 100 * float(group["chance"].mean()),
                "n": len(by_seed),
                "per_seed": [100 * float(value) for value in by_seed.mean(axis=0)],
            }
        )
    return pd.DataFrame(summaries)


def _by_seed(group: pd.DataFrame, name: str) -> pd.DataFrame:
    """Scores [items, seeds] of one model and task."""
    if group[["seed", "item", "correct", "chance"]].isna().any(axis=None):
        raise ValueError(f"{name}: seed, item, correct or chance has a missing value")
    if group.duplicated(["seed", "item"]).any():
        raise ValueError(f"{name}: an item occurs more than once in a seed")
    scores = group.assign(correct=group["correct"].astype(float))
    scores = scores.pivot(index="item", columns="seed", values="correct")
    same_sources = group.groupby("item")[["source_a", "source_b"]].nunique(dropna=False) == 1
    if scores.isna().any(axis=None) or not same_sources.all(axis=None):
        raise ValueError(f"{name}: the seeds differ in their items or in the items' source clips")
    return scores
