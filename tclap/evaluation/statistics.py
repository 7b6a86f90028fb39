"""Intervals and tests for accuracies whose items share source clips.

Two composites that use the same clip are not independent, so source clips are resampled, not items. A
source is the same source in whichever position of a composite it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.sparse import csr_matrix
from scipy.stats import binom, binomtest

NEEDED = ("model", "seed", "task", "item", "source_a", "correct", "chance")
CHUNK = 2_000_000  # numbers held at a time while resampling


def bootstrap_interval(
    scores: ArrayLike,
    sources: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``scores``, resampling source clips.

    An item weighs the product of the resampled counts of its distinct sources (Owen 2007, "The pigeonhole
    bootstrap", Ann. Appl. Stat. 1(2); with one pool of sources for all positions as in Davezies et al. 2021,
    Ann. Statist. 49(2)). With one source per item this is the cluster bootstrap; with two it is conservative,
    at most sqrt(3) times too wide (``benchmarks/interval_coverage.py``). Resamples in which no item keeps a
    weight are ignored.

    Args:
        scores: ``[n]`` floats, 0/1 or averages over seeds.
        sources: ``[n]`` or ``[n, k]`` ids of each item's source clips; None or NaN where it has fewer.
        level, resamples, seed: of the interval.

    Returns:
        Both ends, in the unit of the scores.

    Raises:
        ValueError: on wrong shapes, scores that are not finite, an item without a source, or one source.
    """
    scores, codes, n_sources = _checked(scores, sources)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level={level}, resamples={resamples}; expected 0 < level < 1 and resamples >= 1")
    means = []
    for counts in _counts(n_sources, resamples, seed, max(1, CHUNK // max(len(scores), n_sources))):
        # The code -1 of an absent source reads this last column: a factor of one.
        counts = np.concatenate([counts.astype(np.float64), np.ones((len(counts), 1))], axis=1)
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


def _counts(n_sources: int, resamples: int, seed: int, chunk: int) -> Iterator[np.ndarray]:
    """How often each source occurs in each resample, a chunk of resamples at a time."""
    if n_sources * resamples <= CHUNK:
        drawn = _drawn(n_sources, resamples, seed)
        yield from (drawn[start : start + chunk] for start in range(0, resamples, chunk))
        return
    rng, equal = np.random.default_rng(seed), np.full(n_sources, 1 / n_sources)
    for start in range(0, resamples, chunk):
        yield rng.multinomial(n_sources, equal, size=min(chunk, resamples - start))


@lru_cache(maxsize=32)
def _drawn(n_sources: int, resamples: int, seed: int) -> np.ndarray:
    # All intervals of a table resample the same number of clips, and drawing takes most of their time.
    equal = np.full(n_sources, 1 / n_sources)
    return np.random.default_rng(seed).multinomial(n_sources, equal, size=resamples).astype(np.int32)


def _checked(scores: ArrayLike, sources: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores ``[n]``, codes of the sources ``[n, k]`` (-1 where absent or repeated), number of sources."""
    scores, table = np.asarray(scores, dtype=np.float64), np.asarray(sources, dtype=object)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size or scores.shape != table.shape[:1]:
        raise ValueError(f"scores have shape {scores.shape}, sources {table.shape}; expected [n] and [n, k]")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.sum(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    flat, distinct = pd.factorize(table.ravel())
    codes = flat.reshape(table.shape)
    for position in range(1, codes.shape[1]):
        repeated = (codes[:, :position] == codes[:, [position]]).any(axis=1)
        codes[repeated, position] = -1
    if (codes < 0).all(axis=1).any() or len(distinct) < 2:
        raise ValueError(f"{len(distinct)} source clip(s); expected one per item and at least two in all")
    return scores, codes, len(distinct)


def paired_difference(
    a: ArrayLike, b: ArrayLike, sources: ArrayLike, **options: Any
) -> tuple[float, float, float]:
    """Mean of ``b - a`` over the same items ``[n]``, and the ends of its interval.

    Sources, options and errors as of :func:`bootstrap_interval`.
    """
    a, b = _paired(a, b)
    return float(np.mean(b - a)), *bootstrap_interval(b - a, sources, **options)


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of McNemar's exact test that two models are correct equally often.

    It takes items as independent: where they share clips, read it beside :func:`paired_difference`.

    Args:
        a, b: ``[n]`` booleans or 0/1 on the same items.

    Raises:
        ValueError: on other lengths or values.
    """
    a, b = _paired(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test takes one True or False (1 or 0) per item and model")
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"paired scores have shapes {a.shape} and {b.shape}; expected [n] twice")
    return a, b


def design_effect(scores: ArrayLike, sources: ArrayLike) -> float:
    """The variance of the mean of ``scores`` over that of as many independent items.

    Robust to items that share any source (Aronow, Samii and Assenova 2015, Polit. Anal. 23(4)). At least 1;
    NaN where all scores are equal. Arguments and errors as of :func:`bootstrap_interval`.
    """
    scores, codes, n_sources = _checked(scores, sources)
    if np.ptp(scores) == 0:
        return nan
    items, positions = np.nonzero(codes >= 0)
    uses = csr_matrix((np.ones(len(items)), (items, codes[items, positions])), shape=(len(scores), n_sources))
    shared = uses @ uses.T
    shared.data[:] = 1
    residuals = scores - scores.mean()
    return max(1.0, float(residuals @ (shared @ residuals) / (residuals @ residuals)))


def detectable_difference(
    n: int, discordance: float, *, power: float = 0.8, design_effect: float = 1.0
) -> float:
    """The smallest difference in accuracy that ``n`` items show with a given power, as a fraction.

    To show it is p <= 0.05 by :func:`mcnemar_exact`, in the right direction; the power is exact and
    unconditional (Duffy 1984, Biometrics 40(4)). NaN where no difference would show.

    Args:
        n: number of items.
        discordance: fraction of the items on which one model alone is correct.
        power: between 0.05 and 1.
        design_effect: divides ``n`` for items that share clips.

    Raises:
        ValueError: on arguments out of range, and for less than one independent item.
    """
    if not 0.05 < power < 1 or not 0 < discordance <= 1:
        raise ValueError(f"power={power}, discordance={discordance}; expected fractions above 0.05 and 0")
    if not 1 <= design_effect <= n:
        raise ValueError(f"n={n}, design_effect={design_effect}; expected n >= design_effect >= 1")
    discordant = np.arange(int(n / design_effect) + 1)
    probability = binom.pmf(discordant, discordant[-1], discordance)
    # The most wins that do not show it: twice the tail above them is at most 0.05.
    most = binom.isf((1 - 0.95) / 2, discordant, 0.5)

    def shortfall(difference: float) -> float:
        return power - probability @ binom.sf(most, discordant, (1 + difference / discordance) / 2)

    return float(brentq(shortfall, 0, discordance)) if shortfall(discordance) <= 0 else nan


def summarise(rows: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """One row per (model, task), in order of first appearance, from tidy rows of one item each.

    Args:
        rows: with the columns ``NEEDED`` and, for composites, ``source_b``; ``correct`` is a boolean or a
            score between 0 and 1, ``chance`` a fraction.
        options: of :func:`bootstrap_interval`.

    Returns:
        ``model, task, accuracy`` (mean over seeds), ``low, high`` (interval of seed-averaged scores),
        ``chance, n`` (items per seed), ``per_seed`` (by ascending seed), ``spread`` (its standard
        deviation, NaN for one seed); all but n in percent.

    Raises:
        ValueError: on missing columns, values or rows, and where seeds differ in their items.
    """
    missing = [column for column in NEEDED if column not in rows.columns]
    if missing or rows.empty:
        raise ValueError(f"{len(rows)} item rows lack the column(s) {missing}; expected rows with {NEEDED}")
    if "source_b" not in rows.columns:
        rows = rows.assign(source_b=None)
    summaries = []
    for (model, task), group in rows.groupby(["model", "task"], sort=False, dropna=False):
        by_seed = _by_seed(group, f"model {model!r}, task {task!r}")
        items = group.drop_duplicates("item").set_index("item").loc[by_seed.index]
        sources = items[["source_a", "source_b"]].to_numpy(dtype=object)
        low, high = bootstrap_interval(by_seed.mean(axis=1), sources, **options)
        per_seed = 100 * by_seed.mean(axis=0).to_numpy()
        summaries.append(
            {
                "model": model,
                "task": task,
                "accuracy": float(per_seed.mean()),
                "low": 100 * low,
                "high": 100 * high,
                "chance": 100 * float(group["chance"].mean()),
                "n": len(by_seed),
                "per_seed": per_seed.tolist(),
                "spread": float(per_seed.std(ddof=1)) if len(per_seed) > 1 else nan,
            }
        )
    return pd.DataFrame(summaries)


def _by_seed(group: pd.DataFrame, name: str) -> pd.DataFrame:
    """Scores ``[items, seeds]`` of one model and task."""
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
