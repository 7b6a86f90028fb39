from __future__ import annotations

import tracemalloc
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from tclap.evaluation.statistics import (
    bootstrap_interval,
    design_effect,
    detectable_accuracy,
    detectable_difference,
    holm,
    mcnemar_exact,
    paired_difference,
    seed_spread,
    summarise,
)


def two_source_items(rng, n_sources=30, n=200):
    pairs = np.array([rng.choice(n_sources, 2, replace=False) for _ in range(n)])
    return np.array([f"clip{i}" for i in range(n_sources)], dtype=object)[pairs]


def test_own_source_for_every_item_is_the_ordinary_bootstrap():
    scores = np.random.default_rng(0).normal(size=80)
    ours = bootstrap_interval(scores, np.arange(80), resamples=20000, method="percentile")
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_equal_clusters_are_the_ordinary_bootstrap_of_cluster_means():
    rng = np.random.default_rng(2)
    cluster_means = rng.normal(size=40)
    scores = (cluster_means[:, None] + np.array([-1.0, 0.0, 1.0])).ravel()
    for method in ("percentile", "bca"):
        ours = bootstrap_interval(scores, np.repeat(np.arange(40), 3), resamples=20000, method=method)
        theirs = stats.bootstrap(
            (cluster_means,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(3)
        ).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))


def skewed_scores():
    rng = np.random.default_rng(20)
    return {
        "lognormal": rng.lognormal(size=60),
        "negative": -rng.gamma(0.5, size=100),
        "normal": rng.normal(size=30),
        "right or wrong": (np.arange(120) >= 9).astype(float),
        "average of three seeds": rng.binomial(3, 0.8, size=50) / 3,
    }


@pytest.mark.parametrize("name", skewed_scores())
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_bca_of_own_sources_is_that_of_scipy(name, level):
    scores = skewed_scores()[name]
    n = len(scores)
    ours = bootstrap_interval(scores, np.arange(n), level=level, resamples=20000, method="bca")
    theirs = stats.bootstrap(
        (scores,), np.mean, confidence_level=level, n_resamples=20000, rng=np.random.default_rng(1)
    ).confidence_interval
    # Near ties move z0 and the ends of averages over seeds or items by whole steps of 1 / (3 n).
    step = 1.01 / (3 * n) if name == "average of three seeds" else 1.01 / n if name == "right or wrong" else 0
    assert ours == pytest.approx((theirs.low, theirs.high), abs=max(0.03 * np.ptp(theirs), step))


@pytest.mark.parametrize("seed", range(4))
def test_bca_of_pairs_is_the_corrected_quantile_of_the_percentile_method(seed):
    rng = np.random.default_rng(seed)
    sources = two_source_items(rng, n_sources=6, n=14)
    sources[3, 1] = None
    # One clip in most of the items: how many items its leaving leaves matters.
    sources[5:, 0] = "often"
    scores = rng.gamma(0.5, size=14)

    def quantile(q):
        level = max(abs(1 - 2 * q), 1e-9)
        return bootstrap_interval(scores, sources, level=level, method="percentile")[int(q > 0.5)]

    z0 = stats.norm.ppf(optimize.brentq(lambda q: quantile(q) - scores.mean(), 0.01, 0.99))
    names = {name for name in sources.ravel() if name is not None}
    left = np.array([scores[(sources != name).all(axis=1)].mean() for name in names])
    d = left.mean() - left
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = z0 + stats.norm.ppf([0.1, 0.9])
    expected = [quantile(q) for q in stats.norm.cdf(z0 + z / (1 - a * z))]
    # z0 is known to half a resample of the 2000.
    ours = bootstrap_interval(scores, sources, level=0.8, method="bca")
    assert ours == pytest.approx(expected, abs=0.004 * np.ptp(ours))
    assert abs(z0) > 0.01 and abs(a) > 0.01


def test_bca_of_symmetric_scores_is_near_the_percentile_interval_and_mirrors():
    scores = np.concatenate([np.arange(1, 41), -np.arange(1, 41)]) / 40
    percentile, bca = (
        bootstrap_interval(scores, np.arange(80), resamples=20000, method=m) for m in ("percentile", "bca")
    )
    assert bca == pytest.approx(percentile, abs=0.05 * np.ptp(percentile))
    # Few right or wrong items have many ties, which mirror only where they count half.
    for skewed in (np.random.default_rng(22).gamma(0.5, size=80), np.arange(14) < 4.0):
        low, high = bootstrap_interval(skewed, np.arange(len(skewed)), method="bca")
        mirrored = bootstrap_interval(-1.0 * skewed, np.arange(len(skewed)), method="bca")
        assert mirrored == pytest.approx((-high, -low))


def test_bca_beyond_the_pole_is_the_outermost_resample():
    scores = (np.arange(40) == 0).astype(float)
    for level in (1 - 1e-12, np.nextafter(1, 0)):
        bca, percentile = (
            bootstrap_interval(scores, np.arange(40), level=level, method=m) for m in ("bca", "percentile")
        )
        assert bca[1] == pytest.approx(percentile[1])


def test_bca_where_bias_or_acceleration_is_undefined():
    # All items use both clips: no jackknife, and every resample is the mean itself.
    both = [["a", "b"]] * 3
    assert bootstrap_interval([0.0, 0.5, 1.0], both, method="bca") == pytest.approx((0.5, 0.5))
    # Both clips have the same mean: the jackknife does not vary.
    same = bootstrap_interval([0.0, 1.0, 0.0, 1.0], list("aabb"), method="bca")
    assert same == pytest.approx((0.5, 0.5))
    # Clip a is in all items, so leaving it out leaves none; one resample is on one side of the mean.
    star = [["a", name] for name in "bcdef"]
    scores = [0.0, 0.0, 0.0, 0.0, 1.0]
    assert np.isfinite(bootstrap_interval(scores, star, method="bca")).all()
    one, other = (bootstrap_interval(scores, star, resamples=1, method=m) for m in ("bca", "percentile"))
    assert one == other


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999999])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_bca_is_within_the_scores_and_never_nan(level, scale):
    rng = np.random.default_rng(23)
    for n in (2, 3, 10, 40):
        for sources in (np.arange(n), two_source_items(rng, n_sources=4, n=n), np.arange(n) % 2):
            scores = scale * (rng.random(n) < 0.9)
            low, high = bootstrap_interval(scores, sources, level=level, resamples=50, method="bca")
            assert scores.min() <= low <= high <= scores.max()


def test_two_sources_against_loops_over_explicit_multisets():
    """Every resample as a list of drawn sources, every item as often as its pairs of draws."""
    rng = np.random.default_rng(4)
    sources = two_source_items(rng, n_sources=5, n=8)
    sources[2, 1] = None
    sources[5, 1] = sources[5, 0]
    scores = rng.random(8)
    names = sorted({name for name in sources.ravel() if name is not None})
    means = []
    for _ in range(6000):
        drawn = rng.choice(names, len(names)).tolist()
        copies = []
        for score, item in zip(scores, sources, strict=True):
            times = 1
            for name in {name for name in item if name is not None}:
                times *= drawn.count(name)
            copies += [score] * times
        if copies:
            means.append(np.mean(copies))
    low, high = np.quantile(means, [0.1, 0.9])
    ours = bootstrap_interval(scores, sources, level=0.8, resamples=40000, method="percentile")
    assert ours == pytest.approx((low, high), abs=0.02)


def test_a_clip_is_one_source_whichever_its_position():
    rng = np.random.default_rng(5)
    sources, scores = two_source_items(rng), rng.random(200)
    swap = rng.random(200) < 0.5
    swapped = np.where(swap[:, None], sources[:, ::-1], sources)
    # Codes follow the order of appearance, so the resamples differ and only their spread agrees.
    a, b = (bootstrap_interval(scores, s, resamples=20000) for s in (sources, swapped))
    assert a == pytest.approx(b, abs=0.05 * (a[1] - a[0]))


def test_one_source_in_both_positions_counts_once():
    scores = np.random.default_rng(6).random(50)
    twice = np.stack([np.arange(50)] * 2, axis=1)
    assert bootstrap_interval(scores, twice) == bootstrap_interval(scores, np.arange(50))


def test_absent_second_sources_are_single_clips():
    scores = np.random.default_rng(7).random(50)
    expected = bootstrap_interval(scores, np.arange(50))
    for absent in (None, np.nan):
        sources = np.array([[i, absent] for i in range(50)], dtype=object)
        assert bootstrap_interval(scores, sources) == expected


def simulated_coverage(two_sources, method):
    rng = np.random.default_rng(8)
    hits = 0
    for trial in range(300):
        effects = rng.normal(size=40)
        if two_sources:
            pairs = np.array([rng.choice(40, 2, replace=False) for _ in range(150)])
            scores = effects[pairs].sum(axis=1) + rng.normal(size=150)
        else:
            pairs = np.repeat(np.arange(40), 4)
            scores = effects[pairs] + rng.normal(size=160)
        low, high = bootstrap_interval(scores, pairs, level=0.9, resamples=300, seed=trial, method=method)
        hits += low <= 0 <= high
    return hits / 300


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_coverage_with_shared_sources(method):
    # Sampling error of 300 trials at 0.9: 0.017; two sources an item are conservative.
    assert 0.83 <= simulated_coverage(False, method) <= 0.95
    assert 0.86 <= simulated_coverage(True, method) <= 0.99


def test_ignoring_shared_sources_would_be_overconfident():
    rng = np.random.default_rng(9)
    sources = np.repeat(np.arange(20), 10)
    scores = rng.normal(size=20)[sources]
    clustered, naive = bootstrap_interval(scores, sources), bootstrap_interval(scores, np.arange(200))
    assert np.ptp(clustered) > 2.5 * np.ptp(naive)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("score", [0.0, 1.0, 2 / 3])
def test_equal_scores_give_a_point(score, method):
    sources = two_source_items(np.random.default_rng(10))
    assert bootstrap_interval(np.full(200, score), sources, method=method) == (score, score)


def test_seeded_and_nested_in_level():
    rng = np.random.default_rng(11)
    sources, scores = two_source_items(rng), rng.random(200)
    interval = bootstrap_interval(scores, sources)
    assert interval == bootstrap_interval(scores, sources)
    assert interval != bootstrap_interval(scores, sources, seed=1)
    inner = bootstrap_interval(scores, sources, level=0.5)
    assert interval[0] < inner[0] < scores.mean() < inner[1] < interval[1]


def test_memory_is_bounded():
    n = 20000
    sources = np.arange(2 * n).reshape(n, 2) % 500
    scores = np.random.default_rng(12).random(n)
    tracemalloc.start()
    bootstrap_interval(scores, sources, resamples=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All 500 resamples at once would take 80 MB for the weights alone, and as much for each factor.
    assert peak < 70e6


def test_resamples_without_any_item_are_ignored():
    # Of the four outcomes of two draws only (a, b) and (b, a) give the item a weight.
    assert bootstrap_interval([0.25], [["a", "b"]], resamples=50) == (0.25, 0.25)
    with pytest.raises(ValueError, match="use more resamples"):
        bootstrap_interval([0.25], [list("abcdefghij")], resamples=1)


@pytest.mark.parametrize(
    ("scores", "sources", "options", "message"),
    [
        ([1, 0], ["a", "a"], {}, r"1 source clip\(s\) cannot be resampled"),
        ([1], [["a", None]], {}, r"1 source clip\(s\) cannot be resampled"),
        ([1, 0, 1], ["a", "b"], {}, r"shape \(3,\) do not match the sources of 2"),
        ([1, np.nan], ["a", "b"], {}, "1 of 2 scores are NaN"),
        ([1, 0, 1], ["a", "b", None], {}, "1 of 3 items have no source clip"),
        ([], [], {}, "sources have shape"),
        ([1, 0], ["a", "b"], {"level": 95}, "level=95"),
        ([1, 0], ["a", "b"], {"resamples": 0}, "resamples=0"),
        ([1, np.inf], ["a", "b"], {}, "1 of 2 scores are NaN or infinite"),
        ([1, 0], ["a", "b"], {"method": "BCa"}, "method='BCa'; expected one of bca, percentile"),
    ],
)
def test_refusals(scores, sources, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(scores, sources, **options)


def test_paired_difference_is_b_minus_a_and_pairs():
    rng = np.random.default_rng(13)
    sources = two_source_items(rng)
    a = rng.random(200)
    assert paired_difference(a, a + 0.25, sources) == pytest.approx((0.25, 0.25, 0.25))
    b = a + rng.normal(0.1, 0.05, 200)
    difference, low, high = paired_difference(a, b, sources)
    assert difference == pytest.approx(np.mean(b) - np.mean(a))
    assert 0 < low < difference < high
    assert high - low < 0.3 * np.ptp(bootstrap_interval(b, sources))
    for method in ("percentile", "bca"):
        expected = bootstrap_interval(b - a, sources, method=method)
        assert paired_difference(a, b, sources, method=method)[1:] == expected
    with pytest.raises(ValueError, match="paired scores"):
        paired_difference(a, b[:-1], sources)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_paired_difference_of_own_sources_is_scipys_paired_bootstrap(method):
    rng = np.random.default_rng(24)
    a = rng.gamma(0.5, size=70)
    b = a + rng.gamma(0.3, size=70)
    ours = paired_difference(a, b, np.arange(70), resamples=20000, method=method)
    theirs = stats.bootstrap(
        (a, b),
        lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20000,
        method=method,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours[0] == pytest.approx(b.mean() - a.mean())
    assert ours[1:] == pytest.approx((theirs.low, theirs.high), abs=0.03 * np.ptp(theirs))


def discordant(only_a, only_b, both=3, neither=2):
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return np.array(a, dtype=bool), np.array(b, dtype=bool)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 2**5),
        (6, 0, 2 / 2**6),
        (2, 10, 2 * (1 + 12 + comb(12, 2)) / 2**12),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    a, b = discordant(only_a, only_b)
    assert mcnemar_exact(a, b) == pytest.approx(p)
    assert mcnemar_exact(b, a) == pytest.approx(p)


@pytest.mark.parametrize(("n", "better"), [(60, 0.7), (60, 0.5), (13, 0.9), (400, 0.55)])
def test_mcnemar_against_statsmodels(n, better):
    a, b = np.random.default_rng(14).random((2, n)) < np.array([[0.5], [better]])
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    assert mcnemar_exact(a, b) == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_mcnemar_refuses_other_lengths_and_values():
    with pytest.raises(ValueError, match="paired scores"):
        mcnemar_exact([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="one right or wrong"):
        mcnemar_exact([0.5, 1.0], [0.0, 1.0])


def test_design_effect_of_copies_is_their_number():
    scores = np.random.default_rng(30).random(40)
    own = np.arange(40)
    pairs = np.stack([own, own + 40], axis=1).astype(object)
    mixed = pairs.copy()
    mixed[::2, 1] = None
    for sources in (own, pairs, mixed):
        for copies in (1, 2, 5):
            repeated = np.repeat(sources, copies, axis=0)
            assert design_effect(np.repeat(scores, copies), repeated) == pytest.approx(copies)


def test_design_effect_by_hand():
    # Residuals 3/5, -2/5, ...; items share clip b, clip c, and the third and fourth both of theirs.
    scores, sources = [1, 0, 0, 1, 0], [["a", "b"], ["b", "c"], ["c", "d"], ["d", "c"], ["e", None]]
    r = np.array([3, -2, -2, 3, -2]) / 5
    together = 2 * (r[0] * r[1] + r[1] * r[2] + r[1] * r[3] + r[2] * r[3])
    assert (r @ r + together) / (r @ r) < 1
    assert design_effect(scores, sources) == 1
    # The first three items have the clips a or b in common.
    scores, sources = (
        [1, 1, 1, 0, 0, 0],
        [["a", "b"], ["b", "a"], ["a", None], ["c", "d"], ["e", "f"], ["g", "h"]],
    )
    assert design_effect(scores, sources) == pytest.approx((6 + 6) / 6)


def test_design_effect_is_the_ratio_of_bootstrap_variances():
    rng = np.random.default_rng(31)
    sources = np.repeat(np.arange(60), rng.integers(1, 8, size=60))
    scores = rng.normal(size=60)[sources] + rng.normal(size=len(sources))
    # A normal interval's width is in proportion to the standard error.
    clustered, naive = (
        np.ptp(bootstrap_interval(scores, s, level=0.68, resamples=20000, method="percentile"))
        for s in (sources, np.arange(len(sources)))
    )
    assert design_effect(scores, sources) == pytest.approx((clustered / naive) ** 2, rel=0.06)


def test_design_effect_without_effect_or_variation():
    rng = np.random.default_rng(32)
    sources = two_source_items(rng, n_sources=100, n=300)
    effects = [design_effect(rng.normal(size=300), sources) for _ in range(100)]
    assert 1 <= np.mean(effects) < 1.15 and np.median(effects) < 1.1
    assert np.isnan(design_effect(np.ones(300), sources))
    with pytest.raises(ValueError, match="cannot be resampled"):
        design_effect([1, 0], ["a", "a"])


def test_detectable_accuracy_by_hand():
    # Of six coins only six heads have p = 2 / 64 <= 0.05: accuracy^6 = 0.8. Of five none do.
    assert detectable_accuracy(6, 0.5) == pytest.approx(0.8 ** (1 / 6))
    assert np.isnan(detectable_accuracy(5, 0.5))
    assert detectable_accuracy(12, 0.5, design_effect=2) == detectable_accuracy(6, 0.5)
    assert detectable_accuracy(13, 0.5, design_effect=2) == detectable_accuracy(6, 0.5)
    # Of three items at chance 1/4: p(3 right) = 1/64, p(2 right) = 10/64; at least 2 right at 80 % level.
    assert detectable_accuracy(3, 0.25) == pytest.approx(0.8 ** (1 / 3))
    x = detectable_accuracy(3, 0.25, level=0.8)
    assert 3 * x**2 * (1 - x) + x**3 == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "chance", "power"), [(40, 0.5, 0.8), (100, 1 / 3, 0.9), (400, 0.02, 0.5)])
def test_simulated_power_at_the_detectable_accuracy(n, chance, power):
    accuracy = detectable_accuracy(n, chance, power=power)
    right = np.random.default_rng(33).binomial(n, accuracy, size=4000)
    shown = {int(k): k > n * chance and stats.binomtest(int(k), n, chance).pvalue <= 0.05 for k in set(right)}
    # Three standard errors of 4000 simulations at a power of 0.5 are 0.024.
    assert np.mean([shown[int(k)] for k in right]) == pytest.approx(power, abs=0.024)


def test_detectable_difference_by_hand():
    # All six items differ; only six wins have p <= 0.05: ((1 + d) / 2)^6 = 0.8. Five items never do.
    assert detectable_difference(6, 1.0) == pytest.approx(2 * 0.8 ** (1 / 6) - 1)
    assert np.isnan(detectable_difference(5, 1.0))
    assert detectable_difference(12, 1.0, design_effect=2) == detectable_difference(6, 1.0)
    # Of ten items in a hundred, too few are sure to differ for a power above P(at least 6 | 100, 0.05).
    reach = stats.binom.sf(5, 100, 0.05)
    assert np.isnan(detectable_difference(100, 0.05, power=reach + 0.01))
    assert detectable_difference(100, 0.05, power=reach - 1e-9) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(("n", "discordance", "power"), [(100, 0.3, 0.8), (400, 0.1, 0.9)])
def test_simulated_power_at_the_detectable_difference(n, discordance, power):
    difference = detectable_difference(n, discordance, power=power)
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    counts = np.random.default_rng(34).multinomial(n, shares, size=3000)[:, :2]
    p = {
        (wins, losses): mcnemar_exact([0] * wins + [1] * losses, [1] * wins + [0] * losses)
        for wins, losses in set(map(tuple, counts.tolist()))
    }
    shown = [wins > losses and p[wins, losses] <= 0.05 for wins, losses in counts.tolist()]
    # Three standard errors of 3000 simulations at a power of 0.8 are 0.022.
    assert np.mean(shown) == pytest.approx(power, abs=0.022)


def test_detectable_difference_is_near_connors_approximation():
    # Connor 1987: n = (z_level sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2, a little optimistic.
    psi, d = 0.2, 0.05
    n = int((1.959964 * np.sqrt(psi) + 0.841621 * np.sqrt(psi - d**2)) ** 2 / d**2)
    assert d < detectable_difference(n, psi) < 1.05 * d


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detectable_accuracy(10, 1.0), "chance=1.0"),
        (lambda: detectable_accuracy(10, 0.5, power=0.05), "1 - level < power < 1"),
        (lambda: detectable_accuracy(10, 0.5, level=95), "level=95"),
        (lambda: detectable_accuracy(0, 0.5), "n=0"),
        (lambda: detectable_accuracy(10, 0.5, design_effect=0.9), "design_effect=0.9"),
        (lambda: detectable_difference(10, 0.5, design_effect=np.nan), "design_effect=nan"),
        (lambda: detectable_difference(10, 0.5, design_effect=11), "n >= design_effect >= 1"),
        (lambda: detectable_difference(10, 0), "discordance=0"),
    ],
)
def test_power_refuses_what_is_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_holm_by_hand():
    # Holm 1979: ascending 0.01 x 4, 0.02 x 3 = 0.06, 0.03 x 2 = 0.06, 0.5 x 1; never below the one before.
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.02, 0.021]) == pytest.approx([0.04, 0.04])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([0.3]) == pytest.approx([0.3])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p_values", [[0.1, 1.2], [-0.1], [np.nan, 0.5], [[0.1, 0.2]], 0.1])
def test_holm_refuses_what_are_no_p_values(p_values):
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        holm(p_values)


def test_seed_spread_by_hand():
    assert seed_spread([50, 75]) == pytest.approx((62.5, 12.5 * np.sqrt(2)))
    assert seed_spread([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx((5, np.sqrt(32 / 7)))
    assert seed_spread([70.0]) == (70.0, None)
    for wrong in ([], [1, np.nan], [[1, 2]]):
        with pytest.raises(ValueError, match="one finite number a seed"):
            seed_spread(wrong)


def item_rows(correct, model="clap", task="3", chance=1 / 3):
    """Rows from an array [seeds, items]; item i is made of the clips i and i + 1."""
    return pd.DataFrame(
        [
            (model, seed, task, item, f"c{item}", f"c{item + 1}", bool(value), chance)
            for seed, row in enumerate(correct)
            for item, value in enumerate(row)
        ],
        columns=["model", "seed", "task", "item", "source_a", "source_b", "correct", "chance"],
    )


def test_summary_by_hand():
    correct = np.array([[1, 1, 0, 0], [1, 1, 1, 0]])
    rows = pd.concat([item_rows(correct, "t-clap"), item_rows(np.ones((2, 4)), "clap", chance=0.5)])
    summary = summarise(rows)
    assert summary.columns.tolist() == [
        *("model", "task", "accuracy", "low", "high", "chance", "n", "per_seed", "spread")
    ]
    assert summary["model"].tolist() == ["t-clap", "clap"]
    first, second = summary.to_dict("records")
    assert first["accuracy"] == pytest.approx(62.5)
    assert first["per_seed"] == pytest.approx([50, 75])
    assert first["chance"] == pytest.approx(100 / 3)
    assert first["n"] == 4
    assert first["spread"] == pytest.approx(12.5 * np.sqrt(2))
    assert (second["accuracy"], second["low"], second["high"]) == (100, 100, 100)


def test_summary_interval_is_that_of_the_seed_averaged_scores():
    correct = np.random.default_rng(16).random((3, 40)) < 0.6
    sources = [[f"c{i}", f"c{i + 1}"] for i in range(40)]
    for options in ({}, {"method": "bca"}, {"method": "percentile", "level": 0.8, "seed": 3}):
        summary = summarise(item_rows(correct), **options).iloc[0]
        expected = bootstrap_interval(correct.mean(axis=0), sources, **options)
        assert (summary["low"] / 100, summary["high"] / 100) == pytest.approx(expected)


def test_summary_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(15)
    rows = item_rows(rng.random((2, 30)) < 0.6)
    shuffled = rows.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(summarise(rows), summarise(shuffled))


def test_summary_of_single_clips():
    rows = item_rows(np.array([[1, 0, 1]]))
    with_none, without = summarise(rows.assign(source_b=None)), summarise(rows.drop(columns="source_b"))
    pd.testing.assert_frame_equal(with_none, without)
    expected = bootstrap_interval([1, 0, 1], ["c0", "c1", "c2"])
    assert (without["low"][0] / 100, without["high"][0] / 100) == pytest.approx(expected)
    # One seed has no spread, in a column of numbers.
    assert without["spread"].dtype == np.float64 and without["spread"].isna().all()


def test_summary_refuses_what_cannot_be_averaged():
    rows = item_rows(np.ones((2, 3)))
    with pytest.raises(ValueError, match="model 'clap', task '3': the seeds differ in their items"):
        summarise(rows.iloc[:-1])
    other_source = rows.copy()
    other_source.loc[5, "source_b"] = "other"
    with pytest.raises(ValueError, match="source clips"):
        summarise(other_source)
    with pytest.raises(ValueError, match="more than once in a seed"):
        summarise(pd.concat([rows, rows.iloc[:1]]))
    with pytest.raises(ValueError, match="missing value"):
        summarise(rows.assign(correct=[True, None, True, True, True, True]))
    with pytest.raises(ValueError, match=r"lack the column\(s\) task, chance"):
        summarise(rows.drop(columns=["task", "chance"]))
    with pytest.raises(ValueError, match="empty"):
        summarise(rows.iloc[:0])
