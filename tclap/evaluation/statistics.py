"""Intervals and tests for accuracies whose items share source clips.

Two composites that use the same clip are not independent, so source clips are resampled, not items. A
source is the same source in whichever position of a composite it stands.
"""

from collections.abc import Iterator
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student

NEEDED = ("model", "seed", "task", "item", "source_a", "correct", "chance")
LEVEL = 0.95  # of intervals
MARGIN = 0.02  # of equivalence, a fraction
CHUNK = 2_000_000  # numbers held at a time while resampling


def bootstrap_interval(
    scores: ArrayLike, sources: ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> tuple[Any, Any]:
    """95 % percentile bootstrap interval of the mean of ``scores``, resampling source clips.

    An item weighs the product of the resampled counts of its distinct sources (Owen 2007, "The pigeonhole
    bootstrap", Ann. Appl. Stat. 1(2); with one pool of sources for all positions as in Davezies et al. 2021,
    Ann. Statist. 49(2)). With one source per item this is the cluster bootstrap; with two it is conservative,
    at most sqrt(3) times too wide (``benchmarks/interval_coverage.py``). Resamples in which no item keeps a
    weight are ignored.

    Where all scores are equal, as at 100 %, so are all resamples. The interval is then Clopper and Pearson's
    (1934, Biometrika 26(4)) for the rate of other scores, none of which occurred in the items that share no
    source with one another and so are independent: with two sources per item, at most half as many as there
    are sources. It may be wider than where a few scores differ, which the bootstrap takes at their word.

    Args:
        scores: ``[n]`` between 0 and 1, answers or averages over seeds; ``[n, k]`` for k means at once.
        sources: ``[n]`` or ``[n, m]`` ids of each item's source clips; None or NaN where it has fewer.
        resamples, seed: of the bootstrap.

    Returns:
        Both ends, in the unit of the scores; two arrays ``[k]`` for k means.

    Raises:
        ValueError: on wrong shapes, scores out of range, an item without a source, or one source.
    """
    scores, codes, n_sources = _checked(scores, sources)
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(f"scores lie between {scores.min()} and {scores.max()}; expected 0 to 1")
    means = _resampled_means(scores, codes, n_sources, resamples, seed)
    # A weighted mean may leave the range of the scores by a rounding error.
    means = np.clip(means, scores.min(axis=0), scores.max(axis=0))
    ends = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    others, equal = _rate_of_others(_disjoint_items(codes), LEVEL), scores[0]
    around = np.stack([equal * (1 - others), equal + others * (1 - equal)])
    low, high = np.where(np.ptp(scores, axis=0) == 0, around, ends)
    return low, high


def _resampled_means(
    scores: np.ndarray, codes: np.ndarray, n_sources: int, resamples: int, seed: int
) -> np.ndarray:
    """Weighted means of ``scores`` ``[n, ...]`` in every resample of the sources that leaves an item."""
    rng, equal, means = np.random.default_rng(seed), np.full(n_sources, 1 / n_sources), []
    chunk = max(1, CHUNK // max(len(scores), n_sources))
    for start in range(0, resamples, chunk):
        counts = rng.multinomial(n_sources, equal, size=min(chunk, resamples - start))
        # The code -1 of an absent source reads this last column: a factor of one.
        counts = np.concatenate([counts.astype(np.float64), np.ones((len(counts), 1))], axis=1)
        weights = counts[:, codes[:, 0]]
        for column in codes.T[1:]:
            weights *= counts[:, column]
        total = weights.sum(axis=1)
        means.append(((weights @ scores)[total > 0].T / total[total > 0]).T)
    means = np.concatenate(means)
    if not len(means):
        raise ValueError(f"all {resamples} resamples left every item without a source; use more resamples")
    return means


def _disjoint_items(codes: np.ndarray) -> int:
    """How many items there are of which no two share a source, by greedy choice, rarer sources first."""
    taken: set[int] = set()
    uses, count = np.append(np.bincount(codes[codes >= 0]), 0), 0
    for item in codes[np.argsort(uses[codes].sum(axis=1), kind="stable")].tolist():
        own = set(item) - {-1}
        if taken.isdisjoint(own):
            taken |= own
            count += 1
    return count


def _rate_of_others(n: int, level: float) -> float:
    """Clopper and Pearson's upper bound of the rate of what occurs in none of ``n`` independent items."""
    return 1 - ((1 - level) / 2) ** (1 / n)


def _checked(scores: ArrayLike, sources: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores ``[n, ...]``, codes of the sources ``[n, m]`` (-1: absent or repeated), number of sources."""
    scores, table = np.asarray(scores, dtype=np.float64), np.asarray(sources, dtype=object)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size or scores.shape[:1] != table.shape[:1]:
        raise ValueError(f"scores have shape {scores.shape}, sources {table.shape}; expected [n] and [n, m]")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.sum(~np.isfinite(scores))} of {scores.size} scores are not finite")
    flat, distinct = pd.factorize(table.ravel())
    codes = flat.reshape(table.shape)
    for position in range(1, codes.shape[1]):
        repeated = (codes[:, :position] == codes[:, [position]]).any(axis=1)
        codes[repeated, position] = -1
    if (codes < 0).all(axis=1).any() or len(distinct) < 2:
        raise ValueError(f"{len(distinct)} source clip(s); expected one per item and at least two in all")
    return scores, codes, len(distinct)


class Comparison(NamedTuple):
    """The mean of second minus first with its intervals, fractions; arrays ``[k]`` for k pairs of models.

    ``p`` is two-sided and below 0.05 where ``ci95`` excludes 0; ``equivalent`` says whether two one-sided
    tests at 5 % show a difference of less than the margin.
    """

    difference: Any
    ci95: tuple[Any, Any]
    ci90: tuple[Any, Any]
    p: Any
    equivalent: Any


def compare(
    first: ArrayLike, second: ArrayLike, sources: ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare two models on the same items, over clips and training seeds that could have been others.

    The variance of the difference is that of its average over seeds, from the resampled clips of
    :func:`bootstrap_interval`, plus the variance between the seeds' differences over their number: two-way
    clustering (Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29(2)) without the subtraction of what
    is in both, so that it is conservative. Resampling a few seeds would understate theirs: of three by a
    third, before the tails. Intervals and p are therefore Student's, with Satterthwaite's (1946, Biometrics
    Bull. 2(6)) degrees of freedom: near two where three seeds differ widely, near the number of clips where
    they agree (coverage: ``benchmarks/interval_coverage.py``). One seed has no variance to add, and the
    comparison then holds for the two trained models alone.

    Equivalence is by two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15(6)): the 90 %
    interval lies within ``MARGIN``. It takes as many items without a shared source as would show it if no
    answer differed, 149 for 0.02. Where all items differ alike, or none does, there is no variance to
    estimate, and the bounds are those of :func:`bootstrap_interval` for equal scores.

    Args:
        first, second: scores between 0 and 1, ``[n, seeds]``, or ``[n, k, seeds]`` for k pairs of models.
        sources, resamples, seed: as in :func:`bootstrap_interval`.

    Raises:
        ValueError: on shapes that differ, and as :func:`bootstrap_interval`.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise ValueError(f"scores have shapes {first.shape} and {second.shape}; expected [n, seeds] twice")
    differences, codes, n_sources = _checked(second - first, sources)
    items, by_seed = differences.mean(axis=-1), differences.mean(axis=0)
    mean, seeds = items.mean(axis=0), by_seed.shape[-1]
    of_seeds = by_seed.var(axis=-1, ddof=1) / seeds if seeds > 1 else np.zeros(mean.shape)
    of_clips = _resampled_means(items, codes, n_sources, resamples, seed).var(axis=0, ddof=1)
    equal, independent = (np.ptp(items, axis=0) == 0) & (of_seeds == 0), _disjoint_items(codes)
    # Where nothing varies, 1 stands for what is not used.
    of_clips = np.where(equal, 1, of_clips)
    error = np.sqrt(of_clips + of_seeds)
    freedom = error**4 / (of_clips**2 / (n_sources - 1) + of_seeds**2 / max(seeds - 1, 1))

    def interval(level: float) -> tuple[np.ndarray, np.ndarray]:
        half, others = student.ppf((1 + level) / 2, freedom) * error, _rate_of_others(independent, level)
        low = np.where(equal, mean - others * (1 + mean), mean - half)
        high = np.where(equal, mean + others * (1 - mean), mean + half)
        return np.maximum(low, -1), np.minimum(high, 1)

    ci90, ci95 = interval(0.9), interval(LEVEL)
    p = np.where(equal, 2 * (1 + np.abs(mean)) ** -independent, 2 * student.sf(np.abs(mean) / error, freedom))
    equivalent = (ci90[0] >= -MARGIN) & (ci90[1] <= MARGIN) & (_rate_of_others(independent, 0.9) <= MARGIN)
    return Comparison(mean, ci95, ci90, np.minimum(p, 1), equivalent)


def holm(p: ArrayLike) -> np.ndarray:
    """p-values ``[m]`` of one family adjusted by Holm's procedure (1979, Scand. J. Stat. 6(2))."""
    p = np.asarray(p, dtype=np.float64)
    order, adjusted = np.argsort(p), np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


class Scores(NamedTuple):
    """One model's scores in one task: ``[items, seeds]``, sorted by item and seed; sources ``[items, 2]``."""

    model: str
    task: str
    values: np.ndarray
    sources: np.ndarray
    chance: np.ndarray


def scores_by_seed(rows: pd.DataFrame) -> Iterator[Scores]:
    """Tidy rows by model and task in order of first appearance; rows and errors as of :func:`summarise`."""
    missing = [column for column in NEEDED if column not in rows.columns]
    if missing or rows.empty:
        raise ValueError(f"{len(rows)} item rows lack the column(s) {missing}; expected rows with {NEEDED}")
    if "source_b" not in rows.columns:
        rows = rows.assign(source_b=None)
    # pandas 3 has NaN where pandas 2 has None, and NaN differs from itself.
    sources = rows[["source_a", "source_b"]].to_numpy(dtype=object, na_value=None)
    correct, chance = (
        rows[column].to_numpy(dtype=np.float64, na_value=nan) for column in ("correct", "chance")
    )
    incomplete = rows[["seed", "item"]].isna().any(axis=1).to_numpy() | np.isnan(correct) | np.isnan(chance)
    of = rows.groupby(["model", "task"], sort=False, dropna=False).ngroup().to_numpy()
    seed, item = (pd.factorize(rows[column], sort=True)[0] for column in ("seed", "item"))
    asked = np.column_stack([item, *(pd.factorize(column)[0] for column in sources.T)])
    order = np.lexsort((item, seed, of))
    for block in np.split(order, np.flatnonzero(np.diff(of[order])) + 1):
        model, task = rows["model"].iat[block[0]], rows["task"].iat[block[0]]
        name = f"model {model!r}, task {task!r}"
        if incomplete[block].any():
            raise ValueError(f"{name}: seed, item, correct or chance has a missing value")
        if ((np.diff(seed[block]) == 0) & (np.diff(item[block]) == 0)).any():
            raise ValueError(f"{name}: an item occurs more than once in a seed")
        n_seeds = len(np.unique(seed[block]))
        first = block[: len(block) // n_seeds]
        if len(block) % n_seeds or (asked[block] != np.tile(asked[first], (n_seeds, 1))).any():
            raise ValueError(f"{name}: the seeds differ in their items or in the items' source clips")
        yield Scores(model, task, correct[block].reshape(n_seeds, -1).T, sources[first], chance[first])


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
    summaries = []
    alike: dict[Any, Any] = {}
    for scores in scores_by_seed(rows):
        per_seed = 100 * scores.values.mean(axis=0)
        summary = {
            "model": scores.model,
            "task": scores.task,
            "accuracy": float(per_seed.mean()),
            "low": nan,
            "high": nan,
            "chance": 100 * float(scores.chance.mean()),
            "n": len(scores.values),
            "per_seed": per_seed.tolist(),
            "spread": float(per_seed.std(ddof=1)) if len(per_seed) > 1 else nan,
        }
        summaries.append(summary)
        # Items of the same sources in the same order have the same resamples.
        same = alike.setdefault(tuple(scores.sources.ravel().tolist()), (scores.sources, [], []))
        same[1].append(scores.values.mean(axis=1))
        same[2].append(summary)
    for sources, means, members in alike.values():
        for summary, low, high in zip(
            members, *bootstrap_interval(np.stack(means, axis=1), sources, **options), strict=True
        ):
            summary |= {"low": 100 * low, "high": 100 * high}
    return pd.DataFrame(summaries)
