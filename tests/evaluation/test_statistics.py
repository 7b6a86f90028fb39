from __future__ import annotations

import tracemalloc
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tclap.evaluation.statistics import bootstrap_interval, mcnemar_exact, paired_difference, summarise


def two_source_items(rng, n_sources=30, n=200):
    pairs = np.array([rng.choice(n_sources, 2, replace=False) for _ in range(n)])
    return np.array([f"clip{i}" for i in range(n_sources)], dtype=object)[pairs]


def test_own_source_for_every_item_is_the_ordinary_bootstrap():
    scores = np.random.default_rng(0).normal(size=80)
    ours = bootstrap_interval(scores, np.arange(80), resamples=20000)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_equal_clusters_are_the_ordinary_bootstrap_of_cluster_means():
    rng = np.random.default_rng(2)
    cluster_means = rng.normal(size=40)
    scores = (cluster_means[:, None] + np.array([-1.0, 0.0, 1.0])).ravel()
    ours = bootstrap_interval(scores, np.repeat(np.arange(40), 3), resamples=20000)
    theirs = stats.bootstrap(
        (cluster_means,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))


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
    ours = bootstrap_interval(scores, sources, level=0.8, resamples=40000)
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


def simulated_coverage(two_sources):
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
        low, high = bootstrap_interval(scores, pairs, level=0.9, resamples=300, seed=trial)
        hits += low <= 0 <= high
    return hits / 300


def test_coverage_with_shared_sources():
    # Sampling error of 300 trials at 0.9: 0.017; two sources an item are conservative.
    assert 0.83 <= simulated_coverage(two_sources=False) <= 0.95
    assert 0.86 <= simulated_coverage(two_sources=True) <= 0.99


def test_ignoring_shared_sources_would_be_overconfident():
    rng = np.random.default_rng(9)
    sources = np.repeat(np.arange(20), 10)
    scores = rng.normal(size=20)[sources]
    clustered, naive = bootstrap_interval(scores, sources), bootstrap_interval(scores, np.arange(200))
    assert np.ptp(clustered) > 2.5 * np.ptp(naive)


def test_equal_scores_give_a_point():
    sources = two_source_items(np.random.default_rng(10))
    assert bootstrap_interval(np.ones(200), sources) == (1.0, 1.0)
    assert bootstrap_interval(np.zeros(200), sources) == (0.0, 0.0)
    assert bootstrap_interval(np.full(200, 2 / 3), sources) == (2 / 3, 2 / 3)


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
    assert (low, high) == bootstrap_interval(b - a, sources)
    with pytest.raises(ValueError, match="paired scores"):
        paired_difference(a, b[:-1], sources)


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


def test_mcnemar_against_statsmodels():
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    a, b = np.random.default_rng(14).random((2, 60)) < np.array([[0.5], [0.7]])
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    assert mcnemar_exact(a, b) == pytest.approx(contingency.mcnemar(table, exact=True).pvalue)


def test_mcnemar_refuses_other_lengths_and_values():
    with pytest.raises(ValueError, match="paired scores"):
        mcnemar_exact([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="one right or wrong"):
        mcnemar_exact([0.5, 1.0], [0.0, 1.0])


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
        *("model", "task", "accuracy", "low", "high", "chance", "n", "per_seed")
    ]
    assert summary["model"].tolist() == ["t-clap", "clap"]
    first, second = summary.to_dict("records")
    assert first["accuracy"] == pytest.approx(62.5)
    assert first["per_seed"] == pytest.approx([50, 75])
    assert first["chance"] == pytest.approx(100 / 3)
    assert first["n"] == 4
    assert (second["accuracy"], second["low"], second["high"]) == (100, 100, 100)


def test_summary_interval_is_that_of_the_seed_averaged_scores():
    correct = np.random.default_rng(16).random((3, 40)) < 0.6
    summary = summarise(item_rows(correct)).iloc[0]
    expected = bootstrap_interval(correct.mean(axis=0), [[f"c{i}", f"c{i + 1}"] for i in range(40)])
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
