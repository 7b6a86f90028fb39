import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tclap.evaluation.statistics import bootstrap_interval, compare, holm, scores_by_seed, summarise


def two_source_items(rng, n_sources=30, n=200):
    pairs = np.array([rng.choice(n_sources, 2, replace=False) for _ in range(n)])
    return np.array([f"clip{i}" for i in range(n_sources)], dtype=object)[pairs]


def multiset_means(scores, sources, resamples):
    """Every resample as a list of drawn sources, every item as often as its pairs of draws."""
    rng = np.random.default_rng(4)
    names, means = sorted({name for name in sources.ravel() if name is not None}), []
    for _ in range(resamples):
        drawn = rng.choice(names, len(names)).tolist()
        copies = []
        for score, item in zip(scores, sources, strict=True):
            times = 1
            for name in {name for name in item if name is not None}:
                times *= drawn.count(name)
            copies += [score] * times
        if copies:
            means.append(np.mean(copies))
    return means


def test_two_sources_against_loops_over_explicit_multisets():
    rng = np.random.default_rng(4)
    sources = two_source_items(rng, n_sources=5, n=8)
    sources[2, 1] = None
    sources[5, 1] = sources[5, 0]
    scores = rng.random(8)
    low, high = np.quantile(multiset_means(scores, sources, 6000), [0.025, 0.975])
    ours = bootstrap_interval(scores, sources, resamples=40000)
    assert ours == pytest.approx((low, high), abs=0.02)


@pytest.mark.parametrize("second", ["the same", None, np.nan])
def test_a_second_source_that_is_the_first_or_absent_changes_nothing(second):
    scores = np.random.default_rng(6).random(50)
    sources = np.array([[i, i if second == "the same" else second] for i in range(50)], dtype=object)
    assert bootstrap_interval(scores, sources) == bootstrap_interval(scores, np.arange(50))


@pytest.mark.parametrize("score", [0, 0.75, 1])
def test_equal_scores_have_clopper_and_pearsons_interval(score):
    other = stats.binomtest(0, 40).proportion_ci().high
    found = bootstrap_interval(np.full(120, score), np.repeat(np.arange(40), 3))
    # As many may be 0 as may be 1.
    assert found == pytest.approx((score * (1 - other), score + (1 - score) * other))


@pytest.mark.parametrize(
    ("sources", "disjoint"),
    [
        ([["a", "b"], ["b", "c"], ["c", "d"]], 2),
        ([["b", "c"], ["a", "b"], ["c", "d"]], 2),  # also where the one in the middle stands first
        ([["a", "b"], ["a", "c"], ["a", "d"]], 1),
        ([["a", None], ["b", "a"], ["b", "b"], ["c", "d"]], 3),
    ],
)
def test_items_that_share_a_clip_count_once_at_the_edge(sources, disjoint):
    bound = stats.binomtest(0, disjoint).proportion_ci().high
    assert bootstrap_interval(np.ones(len(sources)), sources) == pytest.approx((1 - bound, 1))


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
    # Draws of two such as (a, a) leave no item; the others leave the first, the second or both.
    low, high = bootstrap_interval([0.25, 0.5], [["a", "b"], ["c", "d"]], resamples=500)
    assert (low, high) == (0.25, 0.5)
    with pytest.raises(ValueError, match="use more resamples"):
        bootstrap_interval([0.25], [list("abcdefghij")], resamples=1)


@pytest.mark.parametrize(
    ("scores", "sources", "word"),
    [
        ([1, 0], ["a", "a"], "at least two"),
        ([1], [["a", None]], "at least two"),
        ([1, 0, 1], ["a", "b"], "shape"),
        ([1, np.nan], ["a", "b"], "1 of 2 scores"),
        ([1, 1.5], ["a", "b"], "between 1.0 and 1.5"),
        ([1, 0, 1], ["a", "b", None], "one per item"),
        ([], [], "shape"),
    ],
)
def test_unusable_scores_and_sources_are_refused(scores, sources, word):
    with pytest.raises(ValueError, match=word):
        bootstrap_interval(scores, sources)


def test_seeds_alone_are_a_t_test_over_seeds():
    # Every item has its seed's difference, so that other clips would change nothing.
    by_seed = np.array([0.1, 0.2, 0.4])
    first = np.zeros((6, 3))
    found = compare(first, first + by_seed, np.arange(6))
    test = stats.ttest_1samp(by_seed, 0)
    assert found.difference == pytest.approx(by_seed.mean()) and found.p == pytest.approx(test.pvalue)
    for level, ends in ((0.9, found.ci90), (0.95, found.ci95)):
        assert ends == pytest.approx(tuple(test.confidence_interval(level)))


def test_comparison_against_loops_over_multisets_and_the_formula():
    rng = np.random.default_rng(5)
    sources = two_source_items(rng, n_sources=6, n=9)
    first, second = rng.random((9, 3)), rng.random((9, 3))
    differences = (second - first).mean(axis=1)
    by_seed = (second - first).mean(axis=0)
    clips = np.var(multiset_means(differences, sources, 6000), ddof=1)
    seeds = np.sum((by_seed - by_seed.mean()) ** 2) / (3 * 2)
    freedom = (clips + seeds) ** 2 / (clips**2 / (6 - 1) + seeds**2 / (3 - 1))
    error = np.sqrt(clips + seeds)
    found = compare(first, second, sources, resamples=40000)
    assert found.difference == pytest.approx(differences.mean())
    for level, ends in ((0.9, found.ci90), (0.95, found.ci95)):
        low, high = stats.t.interval(level, freedom, loc=differences.mean(), scale=error)
        assert ends == pytest.approx((low, high), abs=0.03 * (high - low))
    p = 2 * stats.t.sf(abs(differences.mean()) / error, freedom)
    assert found.p == pytest.approx(p, rel=0.05)
    # Both models in several pairs at once.
    pairs = compare(np.stack([first, second], 1), np.stack([second, first], 1), sources)
    assert pairs.difference == pytest.approx([differences.mean(), -differences.mean()])
    assert pairs.p[0] == pytest.approx(pairs.p[1]) == pytest.approx(compare(first, second, sources).p)


@pytest.mark.parametrize("difference", [0, 1, -1])
def test_equal_differences_have_the_bounds_of_the_binomial(difference):
    first = np.full((12, 3), float(difference < 0))
    found = compare(first, first + difference, np.arange(12))
    # Clopper and Pearson for none of 12 items that differ from the others.
    bound = stats.binomtest(0, 12).proportion_ci(0.95).high
    ends = {0: (-bound, bound), 1: (1 - 2 * bound, 1), -1: (-1, 2 * bound - 1)}[difference]
    assert found.ci95 == pytest.approx(ends)
    assert found.p == pytest.approx(2 / 2**12 if difference else 1)  # that of a sign test
    assert not found.equivalent


@pytest.mark.parametrize("copies", [1, 2])
def test_equivalence_takes_clips_enough_to_show_it(copies):
    same = np.ones((149 * copies, 2))
    sources = np.repeat(np.arange(149), copies)
    assert compare(same, same, sources).equivalent  # 0.98^149 < 0.05 < 0.98^148
    assert not compare(same[copies:], same[copies:], sources[copies:]).equivalent
    almost = same.copy()
    almost[0, 0] = 0
    assert compare(same, almost, sources).equivalent
    assert not compare(same[copies:], almost[:-copies], sources[copies:]).equivalent


def test_equivalence_is_by_the_ninety_percent_interval():
    first = np.zeros((1000, 3))
    for by_seed, equivalent in (((0.009, 0.01, 0.011), True), ((0.004, 0.01, 0.016), False)):
        found = compare(first, first + np.array(by_seed), np.arange(1000))
        assert found.equivalent == equivalent == (found.ci90[1] < 0.02)


def test_holm_against_statsmodels():
    p = np.random.default_rng(15).random(20) ** 4
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])


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
    # Of four items in a chain two share no clip.
    bound = stats.binomtest(2, 2).proportion_ci().low
    assert (second["accuracy"], second["low"], second["high"]) == pytest.approx((100, 100 * bound, 100))


def test_summary_interval_is_that_of_the_seed_averaged_scores():
    """Also where models, which are summarised together, have other seeds or items of other sources."""
    rng = np.random.default_rng(16)
    answers = {name: rng.random(size) < 0.6 for name, size in (("a", (3, 40)), ("b", (1, 40)), ("c", (2, 9)))}
    rows = pd.concat([item_rows(correct, model) for model, correct in answers.items()])
    for options in ({}, {"resamples": 500, "seed": 3}):
        summary = summarise(rows, **options).set_index("model")
        for model, correct in answers.items():
            sources = [[f"c{i}", f"c{i + 1}"] for i in range(correct.shape[1])]
            expected = bootstrap_interval(correct.mean(axis=0), sources, **options)
            assert summary.loc[model, ["low", "high"]].tolist() == pytest.approx(
                [100 * end for end in expected]
            )


def test_summary_of_single_clips_in_one_seed():
    rows = item_rows(np.array([[1, 0, 1]]))
    with_none, without = summarise(rows.assign(source_b=None)), summarise(rows.drop(columns="source_b"))
    pd.testing.assert_frame_equal(with_none, without)
    expected = bootstrap_interval([1, 0, 1], ["c0", "c1", "c2"])
    assert (without["low"][0] / 100, without["high"][0] / 100) == pytest.approx(expected)
    # The spread of one seed is missing in a column of numbers.
    assert without["spread"].dtype == np.float64 and without["spread"].isna().all()


@pytest.mark.parametrize("absent", [None, np.nan])
def test_an_absent_source_is_none_whatever_pandas_makes_of_it(absent):
    (scores,) = scores_by_seed(item_rows(np.ones((1, 3))).assign(source_b=absent))
    assert scores.sources.tolist() == [["c0", None], ["c1", None], ["c2", None]]


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
