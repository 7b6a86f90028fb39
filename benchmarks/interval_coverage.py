"""Do 95 % intervals contain the true accuracy, or difference of two, in 95 % of all test sets?

Test sets are simulated again and again; a row says how often the interval contains the truth, and how wide
it is on average, beside what is simpler: for an accuracy Wilson's interval, which takes all items as
independent, for a difference of two models with three seeds each the percentile interval over clips alone.
The settings are items with one clip each; five items per clip with an intraclass correlation of 0.3
(beta-binomial); and composites of two different clips from a fifth as many clips as composites, in a probit
model in which each clip explains a quarter of the latent variance. Of differences, each of an item's two
clips explains a fifth of the latent variance, half of it in both models alike, and each model's seed has an
effect of its own. The true accuracy is that of all possible clips, in closed form: the mean of the beta
distribution, and Phi of the probit model's intercept as its latent variance is one.

    python benchmarks/interval_coverage.py [--simulations 100] [--items 400]
"""

import argparse
import itertools

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from tclap.evaluation.statistics import bootstrap_interval, compare

ACCURACIES, RESAMPLES = (0.5, 0.98), 500
ITEMS_PER_CLIP, INTRACLASS = 5, 0.3
CLIP_VARIANCE, POOL = 0.25, 5  # composites per clip
PAIRS, SEED_DEVIATIONS, SEEDS = ((0.5, 0.55), (0.94, 0.96)), (0.0, 0.15), 3
Drawn = tuple[np.ndarray, np.ndarray]


def independent(rng: np.random.Generator, n: int, accuracy: float) -> Drawn:
    """Scores ``[n]`` and sources ``[n]``; each item has a clip of its own."""
    return rng.random(n) < accuracy, np.arange(n)


def clustered(rng: np.random.Generator, n: int, accuracy: float) -> Drawn:
    """Scores ``[n]`` and sources ``[n]``; the items of a clip are correct with the clip's own probability."""
    clip = np.arange(n) // ITEMS_PER_CLIP
    concentration = (1 - INTRACLASS) / INTRACLASS
    right = rng.beta(accuracy * concentration, (1 - accuracy) * concentration, size=n // ITEMS_PER_CLIP)
    return rng.random(n) < right[clip], clip


def composites(rng: np.random.Generator, n: int, accuracy: float) -> Drawn:
    """Scores ``[n]`` and sources ``[n, 2]`` of pairs of different clips."""
    clips = n // POOL
    first = rng.integers(clips, size=n)
    second = (first + rng.integers(1, clips, size=n)) % clips
    effect = np.sqrt(CLIP_VARIANCE) * rng.normal(size=clips)
    noise = np.sqrt(1 - 2 * CLIP_VARIANCE) * rng.normal(size=n)
    latent = norm.ppf(accuracy) + effect[first] + effect[second] + noise
    return latent > 0, np.stack([first, second], axis=1)


SETTINGS = {"own clip": independent, "5 items per clip": clustered, "pairs of n/5 clips": composites}


def accuracy_of(setting: str, accuracy: float, n: int, simulations: int) -> dict:
    """Coverage and mean width of both intervals of an accuracy."""
    rng, ends = np.random.default_rng([n, round(1000 * accuracy), *map(ord, setting)]), []
    for simulation in range(simulations):
        right, sources = SETTINGS[setting](rng, n, accuracy)
        percentile = bootstrap_interval(right, sources, resamples=RESAMPLES, seed=simulation)
        ends.append([percentile, proportion_confint(right.sum(), n, method="wilson")])
    about = {"interval of": "an accuracy", "setting": setting, "truth": f"{100 * accuracy:g} %"}
    return about | coverage(np.array(ends), accuracy)


def difference_of(pair: tuple[float, float], deviation: float, n: int, simulations: int) -> dict:
    """Coverage and mean width of both intervals of a difference."""
    rng, ends = np.random.default_rng([n, *(round(1000 * value) for value in (*pair, deviation))]), []
    for simulation in range(simulations):
        sources = np.stack([np.arange(n), (np.arange(n) + rng.integers(1, n, size=n)) % n], axis=1)
        common, scores = rng.normal(size=n), []
        for accuracy in pair:
            effect = np.sqrt(0.1) * (common + rng.normal(size=n))[sources].sum(axis=1)
            noise = np.sqrt(1 - 0.4 - deviation**2) * rng.normal(size=(n, SEEDS))
            latent = effect[:, None] + deviation * rng.normal(size=SEEDS) + noise
            scores.append((norm.ppf(accuracy) + latent > 0).astype(float))
        found = compare(*scores, sources, resamples=RESAMPLES, seed=simulation)
        halved = (1 + scores[1] - scores[0]).mean(axis=1) / 2  # a score between 0 and 1
        alone = bootstrap_interval(halved, sources, resamples=RESAMPLES, seed=simulation)
        ends.append([found.ci95, [2 * end - 1 for end in alone]])
    setting = f"{100 * pair[0]:g} and {100 * pair[1]:g} %, seeds' deviation {deviation:g}"
    about = {
        "interval of": "a difference",
        "setting": setting,
        "truth": f"{100 * (pair[1] - pair[0]):g} points",
    }
    return about | coverage(np.array(ends), pair[1] - pair[0])


def coverage(ends: np.ndarray, true: float) -> dict:
    """How often intervals ``[simulations, ours or simpler, ends]`` contain the truth, and mean widths."""
    low, high = np.moveaxis(ends, 2, 0)
    # An end may equal a true accuracy such as 0.5 but for rounding.
    found = 100 * ((low <= true + 1e-12) & (high >= true - 1e-12)).mean(axis=0)
    widths = 100 * (high - low).mean(axis=0)
    names = ("ours", "simpler")
    return {f"{name}, covers %": value for name, value in zip(names, found, strict=True)} | {
        f"{name}, width": value for name, value in zip(names, widths, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals by simulation.")
    parser.add_argument("--simulations", type=int, default=100, help="test sets a row")
    parser.add_argument("--items", type=int, default=400, help="of a test set")
    options = parser.parse_args()
    size = options.items, options.simulations
    rows = [accuracy_of(*setting, *size) for setting in itertools.product(SETTINGS, ACCURACIES)]
    rows += [difference_of(*setting, *size) for setting in itertools.product(PAIRS, SEED_DEVIATIONS)]
    error = 100 * np.sqrt(0.95 * 0.05 / options.simulations)
    print(f"{options.items} items, {options.simulations} test sets; s.e. of a coverage of 95: {error:.1f}")
    print(pd.DataFrame(rows).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
