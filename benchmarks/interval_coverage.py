"""Do 95 % intervals contain the true accuracy, or difference of two, in 95 % of all test sets?

The first table is of accuracies: test sets are simulated again and again, and each row says how often the
percentile interval contains the true accuracy and how wide it is on average, beside Wilson's interval, which
takes all items as independent. The last column is the larger Monte-Carlo standard error of the row's
coverages. The settings are items with one clip each; five items per clip with an intraclass correlation of
0.3 (beta-binomial); and composites of two different clips from a pool of as many clips as composites, or of a
fifth as many, in a probit model in which each clip explains a quarter of the latent variance. The true
accuracy is that of all possible clips, in closed form: the mean of the beta distribution, and Phi of the
probit model's intercept as its latent variance is one.

The second table is of two models with three seeds each on 400 items: coverage of the interval of ``compare``,
beside the percentile interval over clips alone, and how often it calls the models equivalent (at most 5 % are
right to be where they differ by the margin, 2 points). In the probit model each clip of an item explains a
fifth of the latent variance, half of it in both models alike, and each model's seed has an effect of its own.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from tclap.evaluation.statistics import bootstrap_interval, compare

ITEMS, ACCURACIES, RESAMPLES = (80, 400), (0.5, 0.9, 0.98), 1000
ITEMS_PER_CLIP, INTRACLASS = 5, 0.3
CLIP_VARIANCE = 0.25
PAIRS, SEED_DEVIATIONS, SEEDS = ((0.5, 0.55), (0.94, 0.96), (0.98, 0.98)), (0.0, 0.05, 0.15, 0.5), 3
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


def composites(pool: float) -> Callable[[np.random.Generator, int, float], Drawn]:
    """Scores ``[n]`` and sources ``[n, 2]`` of pairs of different clips from a pool of ``pool * n``."""

    def draw(rng: np.random.Generator, n: int, accuracy: float) -> Drawn:
        clips = round(pool * n)
        first = rng.integers(clips, size=n)
        second = (first + rng.integers(1, clips, size=n)) % clips
        effect = np.sqrt(CLIP_VARIANCE) * rng.normal(size=clips)
        noise = np.sqrt(1 - 2 * CLIP_VARIANCE) * rng.normal(size=n)
        latent = norm.ppf(accuracy) + effect[first] + effect[second] + noise
        return latent > 0, np.stack([first, second], axis=1)

    return draw


SETTINGS = {
    "own clip": independent,
    f"{ITEMS_PER_CLIP} items per clip": clustered,
    "pairs, n clips": composites(1.0),
    "pairs, n/5 clips": composites(0.2),
}


def row(setting: str, n: int, accuracy: float, simulations: int, seed: list[int]) -> dict:
    """Coverage and mean width of both intervals in one setting."""
    rng = np.random.default_rng(seed)
    ends, sources_seen = [], []
    for simulation in range(simulations):
        right, sources = SETTINGS[setting](rng, n, accuracy)
        percentile = bootstrap_interval(right, sources, resamples=RESAMPLES, seed=simulation)
        ends.append([percentile, proportion_confint(right.sum(), n, method="wilson")])
        sources_seen.append(len(np.unique(sources)))
    about = {"setting": setting, "n": n, "sources": round(np.mean(sources_seen)), "accuracy": accuracy}
    return about | coverage(np.array(ends), accuracy, ("percentile", "Wilson"))


def coverage(ends: np.ndarray, true: float, names: tuple[str, ...]) -> dict:
    """How often intervals ``[simulations, kinds, 2]`` contain the truth, and their mean widths."""
    low, high = np.moveaxis(ends, 2, 0)
    # An end may equal a true accuracy such as 0.5 but for rounding.
    found = ((low <= true + 1e-12) & (high >= true - 1e-12)).mean(axis=0)
    widths = {f"width {name}": value for name, value in zip(names, (high - low).mean(axis=0), strict=True)}
    error = np.sqrt(found * (1 - found) / len(ends)).max()
    return dict(zip(names, found, strict=True)) | widths | {"s.e.": error}


def compared(clips: int, pair: tuple[float, float], deviation: float, simulations: int) -> dict:
    """Coverage of a difference's intervals: ``clips`` per item, two accuracies, deviation of the seeds."""
    rng, n = (
        np.random.default_rng([clips, *(round(1000 * value) for value in (*pair, deviation))]),
        max(ITEMS),
    )
    ends, equivalent = [], []
    for simulation in range(simulations):
        sources = np.stack([np.arange(n), (np.arange(n) + rng.integers(1, n, size=n)) % n], axis=1)[:, :clips]
        shared, scores = rng.normal(size=n), []
        for accuracy in pair:
            effect = np.sqrt(0.1) * (shared + rng.normal(size=n))[sources].sum(axis=1)
            noise = np.sqrt(1 - 0.2 * clips - deviation**2) * rng.normal(size=(n, SEEDS))
            latent = effect[:, None] + deviation * rng.normal(size=SEEDS) + noise
            scores.append((norm.ppf(accuracy) + latent > 0).astype(float))
        found = compare(*scores, sources, resamples=RESAMPLES, seed=simulation)
        halved = (1 + scores[1] - scores[0]).mean(axis=1) / 2  # a score between 0 and 1
        alone = bootstrap_interval(halved, sources, resamples=RESAMPLES, seed=simulation)
        ends.append([found.ci95, [2 * end - 1 for end in alone]])
        equivalent.append(found.equivalent)
    about = {"clips per item": clips, "accuracies": pair, "seeds' deviation": deviation}
    about |= coverage(np.array(ends), pair[1] - pair[0], ("compare", "clips alone"))
    return about | {"equivalent": np.mean(equivalent)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals by simulation.")
    parser.add_argument("--simulations", type=int, default=1000, help="test sets a row")
    simulations = parser.parse_args().simulations
    rows = [
        row(setting, n, accuracy, simulations, [index, n, round(1000 * accuracy)])
        for index, setting in enumerate(SETTINGS)
        for n in ITEMS
        for accuracy in ACCURACIES
    ]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    asked = itertools.product((1, 2), PAIRS, SEED_DEVIATIONS)
    print(
        pd.DataFrame([compared(*setting, simulations) for setting in asked]).round(3).to_string(index=False)
    )


if __name__ == "__main__":
    main()
