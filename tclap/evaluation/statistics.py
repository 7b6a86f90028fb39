"""Intervals and tests for accuracies whose items share source clips, and what a set could detect.

Two composites that use the same clip are not independent, so items are not what is resampled:
source clips are. A source is the same source in whichever position of a composite it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.sparse import csr_matrix
from scipy.stats import beta, binom, binomtest, norm

ROW_COLUMNS = ("model", "seed", "task", "item", "source_a", "correct", "chance")
Method = Literal["bca", "percentile"]
_CHUNK_ELEMENTS = 2_000_000


def bootstrap_interval(
    scores: Sequence[float] | np.ndarray,
    sources: Sequence | np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> tuple[float, float]:
    """Bootstrap interval of the mean of ``scores``, resampling source clips.

    ``scores``: [n] floats, 0/1 or averages over seeds. ``sources``: [n] or [n, k] ids of the source
    clips of each item; None or NaN where an item has fewer. The result has the unit of the scores.

    Each resample draws as many sources as there are, with replacement. An item weighs the product
    of the counts of its distinct sources, and the resampled statistic is the weighted mean
    (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1(2); with one pool of sources for all
    positions as in Davezies et al. 2021, Ann. Statist. 49(2)). With one source an item this is the
    cluster bootstrap; with two it is conservative: where the sources explain none of the variance
    the interval is up to sqrt(3) times too wide. Resamples in which no item keeps a weight are
    ignored. If all scores are equal the interval is that point.

    ``method``: "percentile", or "bca", which corrects for bias (ties count half) and acceleration (Efron
    1987, JASA 82(397)), the latter by a jackknife that leaves out a source with all its items, where
    that leaves any. A bias without resamples on both sides of the mean, or an acceleration without
    variation of the jackknife, counts as zero. The percentile is the default because its coverage of
    400 clips or composites is nearer to nominal and not below it; bca is better for many items on few
    clips, and where a set may be without errors neither does (``benchmarks/interval_coverage.py``).

    Raises ValueError for wrong shapes, scores not finite, an item without a source, or a single source.
    """
    scores, codes, n_sources = _checked(scores, sources)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level={level}, resamples={resamples}; expected 0 < level < 1 and resamples >= 1")
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}; expected one of {', '.join(get_args(Method))}")

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
    quantiles = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        bias, acceleration = _bias(means, scores), _acceleration(scores, codes, n_sources)
        # Not norm.ppf of the upper quantile, which rounds to one and infinity at extreme levels.
        shifted = bias + norm.ppf(quantiles[0]) * np.array([1, -1])
        # From the pole of the correction on, the end is the outermost resample.
        quantiles = norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-9))
    low, high = np.quantile(means, quantiles)
    return float(low), float(high)


def _bias(means: np.ndarray, scores: np.ndarray) -> float:
    """Efron's z0."""
    # Equal fractions of averages over seeds differ by rounding errors, which must not break a tie.
    tied = np.isclose(means, scores.mean(), rtol=0, atol=1e-12 * np.ptp(scores))
    below = np.mean((means < scores.mean()) & ~tied) + np.mean(tied) / 2
    return float(norm.ppf(below)) if 0 < below < 1 else 0.0


def _acceleration(scores: np.ndarray, codes: np.ndarray, n_sources: int) -> float:
    """Efron's a, with the jackknife over sources for the influence."""
    items, positions = np.nonzero(codes >= 0)
    using = codes[items, positions]
    centred = scores - scores.mean()
    sums = np.bincount(using, centred[items], n_sources)
    left = len(scores) - np.bincount(using, minlength=n_sources)
    without = (centred.sum() - sums[left > 0]) / left[left > 0]
    influence = without.mean() - without if len(without) else np.zeros(1)
    largest = np.abs(influence).max()
    if largest <= 1e-12 * np.ptp(scores):
        return 0.0
    influence /= largest
    return float(np.sum(influence**3) / (6 * np.sum(influence**2) ** 1.5))


def _checked(scores: Sequence[float], sources: Sequence) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores [n], source codes [n, k] and the number of sources."""
    scores = np.asarray(scores, dtype=np.float64)
    codes, n_sources = _source_codes(sources)
    if scores.ndim != 1 or len(scores) != len(codes):
        raise ValueError(f"scores of shape {scores.shape} do not match the sources of {len(codes)} item(s)")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.sum(~np.isfinite(scores))} of {len(scores)} scores are NaN or infinite")
    if n_sources < 2:
        raise ValueError(f"{n_sources} source clip(s) cannot be resampled; expected at least two")
    return scores, codes, n_sources


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
    method: Method = "percentile",
) -> tuple[float, float, float]:
    """Mean of ``b - a`` over the same items (positive where ``b`` scores higher), and its interval.

    Arguments, interval and errors as in ``bootstrap_interval``; returns (difference, low, high).
    """
    a, b = _paired(a, b)
    low, high = bootstrap_interval(b - a, sources, level=level, resamples=resamples, seed=seed, method=method)
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


def design_effect(scores: Sequence[float] | np.ndarray, sources: Sequence | np.ndarray) -> float:
    """How many times fewer independent items would give the mean of ``scores`` its variance.

    The variance robust to items that share any source (Aronow, Samii and Assenova 2015, Polit. Anal.
    23(4)) over that of independent items; unlike the bootstrap it is not conservative for two sources.
    At least 1; NaN where all scores are equal. Arguments and errors as in ``bootstrap_interval``.
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


def detectable_accuracy(
    n: int, chance: float, *, power: float = 0.8, level: float = 0.95, design_effect: float = 1.0
) -> float:
    """The smallest accuracy that ``n`` items show to be above ``chance`` with probability ``power``.

    To show it is to be right more often than chance with a two-sided exact binomial test of
    p <= 1 - level. ``chance`` and the result are fractions. ``design_effect``, at least 1, divides
    ``n`` for items that share clips. NaN where not even all items right would show it.
    Raises ValueError for arguments out of range and for less than one independent item.
    """
    n = _independent_items(n, power, level, design_effect)
    if not 0 < chance < 1:
        raise ValueError(f"chance={chance}; expected a fraction between 0 and 1")
    right = range(int(n * chance) + 1, n + 1)
    fewest = next((k for k in right if binomtest(k, n, chance).pvalue <= 1 - level), nan)
    # P(at least k of n right | accuracy) is the distribution function of Beta(k, n - k + 1).
    return float(beta.ppf(power, fewest, n - fewest + 1))


def detectable_difference(
    n: int, discordance: float, *, power: float = 0.8, level: float = 0.95, design_effect: float = 1.0
) -> float:
    """The smallest difference in accuracy of two models that ``n`` items show with probability ``power``.

    A share ``discordance`` of the items is right for one model and wrong for the other; to show the
    difference is to have p <= 1 - level by ``mcnemar_exact``, in the right direction. The power is
    exact and unconditional (Duffy 1984, Biometrics 40(4)). ``discordance`` and the result are
    fractions. NaN where not even a difference of the whole discordance would show. Otherwise as
    ``detectable_accuracy``.
    """
    n = _independent_items(n, power, level, design_effect)
    if not 0 < discordance <= 1:
        raise ValueError(f"discordance={discordance}; expected a fraction above 0 and at most 1")
    discordant = np.arange(n + 1)
    probability = binom.pmf(discordant, n, discordance)
    # The most wins that do not show it: twice the tail above them is at most 1 - level.
    most = binom.isf((1 - level) / 2, discordant, 0.5)

    def shortfall(difference: float) -> float:
        return power - probability @ binom.sf(most, discordant, (1 + difference / discordance) / 2)

    return float(brentq(shortfall, 0, discordance)) if shortfall(discordance) <= 0 else nan


def _independent_items(n: int, power: float, level: float, design_effect: float) -> int:
    if not 0 < level < 1 or not 1 - level < power < 1:
        raise ValueError(f"power={power}, level={level}; expected 0 < level < 1 and 1 - level < power < 1")
    if not design_effect >= 1 or n < design_effect:
        raise ValueError(f"n={n}, design_effect={design_effect}; expected n >= design_effect >= 1")
    return int(n / design_effect)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm-adjusted p-values [m] of m tests, in their order (Holm 1979, Scand. J. Stat. 6(2)).

    Rejecting those up to 0.05 keeps the chance of any false rejection at 5 %, however the tests depend
    on each other. Raises ValueError for another shape and for values that are not in [0, 1].
    """
    # Takes longer to import than all that evaluation needs of scipy.
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values are {p_values.tolist()}; expected [m] numbers from 0 to 1")
    return multipletests(p_values, method="holm")[1] if len(p_values) else p_values


def seed_spread(per_seed: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and sample standard deviation (ddof=1; None for one seed) of a number over seeds, in its unit.

    Raises ValueError for no seed, another shape, or values that are not finite.
    """
    per_seed = np.asarray(per_seed, dtype=np.float64)
    if per_seed.ndim != 1 or not len(per_seed) or not np.isfinite(per_seed).all():
        raise ValueError(f"values per seed are {per_seed.tolist()}; expected one finite number a seed")
    return float(per_seed.mean()), float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None


def summarise(
    rows: pd.DataFrame,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> pd.DataFrame:
    """One row a (model, task), in order of first appearance, from tidy rows of one item each.

    ``rows``: columns ``ROW_COLUMNS`` and, for composites, ``source_b``; ``correct`` is a boolean and
    ``chance`` a fraction. The result has model, task, accuracy (mean over seeds), low, high
    (interval of the seed-averaged item scores), chance, n (items a seed), per_seed (list, by
    ascending seed) and spread (their standard deviation, NaN for one seed); all but n in percent.
    The options are those of ``bootstrap_interval``.

    Raises ValueError for missing columns, values or rows, and where seeds differ in their items.
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
            method=method,
        )
        per_seed = 100 * by_seed.mean(axis=0).to_numpy()
        accuracy, spread = seed_spread(per_seed)
        summaries.append(
            {
                "model": model,
                "task": task,
                "accuracy": accuracy,
                "low": 100 * low,
                "high": 100 * high,
                "chance": 100 * float(group["chance"].mean()),
                "n": len(by_seed),
                "per_seed": per_seed.tolist(),
                "spread": nan if spread is None else spread,
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
