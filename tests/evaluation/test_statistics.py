from __future__ import annotations

import tracemalloc
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tclap.evaluation.statistics import (
    bootstrap_interval,
    design_effect,
    detectable_difference,
    mcnemar_exact,
    paired_difference,
    summarise,
)


def two_source_items(rng, n_sources=30, n=200):
    pairs = np.array([rng.choice(n_sources, 2, replace=False) for _ in range(n)])
    return np.array([f"clip{i}" for i in range(n_sources)], dtype=object)[pairs]


@pytest.mark.parametrize("copies", [1, 3])
def test_equal_clusters_are_the_ordinary_bootstrap_of_their_means(copies):
    means = np.random.default_rng(2).normal(size=40)
    scores = (means[:, None] + np.linspace(-1, 1, copies) * (copies > 1)).ravel()
    ours = bootstrap_interval(scores, np.repeat(np.arange(40), copies), resamples=20000)
    theirs = stats.bootstrap(
        (means,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(3)
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


@pytest.mark.parametrize("second", ["the same", None, np.nan])
def test_a_second_source_that_is_the_first_or_absent_changes_nothing(second):
    scores = np.random.default_rng(6).random(50)
    sources = np.array([[i, i if second == "the same" else second] for i in range(50)], dtype=object)
    assert bootstrap_interval(scores, sources) == bootstrap_interval(scores, np.arange(50))


@pytest.mark.parametrize("score", [0.0, 1.0, 2 / 3])
def test_equal_scores_give_a_point(score):
    sources = two_source_items(np.random.default_rng(10))
    assert bootstrap_interval(np.full(200, score), sources) == (score, score)


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
    ("scores", "sources", "options", "word"),
    [
        ([1, 0], ["a", "a"], {}, "at least two"),
        ([1], [["a", None]], {}, "at least two"),
        ([1, 0, 1], ["a", "b"], {}, "shape"),
        ([1, np.nan], ["a", "b"], {}, "1 of 2 scores"),
        ([1, 0, 1], ["a", "b", None], {}, "one per item"),
        ([], [], {}, "shape"),
        ([1, 0], ["a", "b"], {"level": 95}, "level=95"),
        ([1, 0], ["a", "b"], {"resamples": 0}, "resamples=0"),
    ],
)
def test_unusable_scores_and_sources_are_refused(scores, sources, options, word):
    with pytest.raises(ValueError, match=word):
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
    with pytest.raises(ValueError, match="shapes"):
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


def test_mcnemar_refuses_other_lengths_and_values():
    for a, b in (([1, 0], [1, 0, 1]), ([0.5, 1.0], [0.0, 1.0])):
        with pytest.raises(ValueError, match="expected|takes"):
            mcnemar_exact(a, b)


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


def test_design_effect_without_effect_or_variation():
    rng = np.random.default_rng(32)
    sources = two_source_items(rng, n_sources=100, n=300)
    effects = [design_effect(rng.normal(size=300), sources) for _ in range(100)]
    assert 1 <= np.mean(effects) < 1.15 and np.median(effects) < 1.1
    assert np.isnan(design_effect(np.ones(300), sources))
    with pytest.raises(ValueError, match="at least two"):
        design_effect([1, 0], ["a", "a"])


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


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"design_effect": np.nan}, "design_effect=nan"),
        ({"design_effect": 11}, "design_effect=11"),
        ({"discordance": 0}, "discordance=0"),
        ({"power": 0.05}, "power=0.05"),
    ],
)
def test_power_refuses_what_is_out_of_range(arguments, word):
    with pytest.raises(ValueError, match=word):
        detectable_difference(**{"n": 10, "discordance": 0.5} | arguments)


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
    for options in ({}, {"level": 0.8, "seed": 3}):
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
    other_source = rows.copy()
    other_source.loc[5, "source_b"] = "other"
    for wrong, word in (
        (rows.iloc[:-1], "model 'clap', task '3': the seeds differ"),
        (other_source, "source clips"),
        (pd.concat([rows, rows.iloc[:1]]), "more than once"),
        (rows.assign(correct=[True, None, True, True, True, True]), "missing value"),
        (rows.drop(columns=["task", "chance"]), "'task', 'chance'"),
        (rows.iloc[:0], "0 item rows"),
    ):
        with pytest.raises(ValueError, match=word):
            summarise(wrong)
