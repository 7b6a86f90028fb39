"""Do 95 % bootstrap intervals of an accuracy contain the true accuracy in 95 % of all test sets?

One table: test sets are simulated again and again, and each row says how often the percentile interval
contains the true accuracy and how wide it is on average, beside Wilson's interval, which takes all items as
independent. The last column is the larger Monte-Carlo standard error of the row's coverages. The settings are
items with one clip each; five items per clip with an intraclass correlation of 0.3 (beta-binomial); and
composites of two different clips from a pool of as many clips as composites, or of a fifth as many, in a
probit model in which each clip explains a quarter of the latent variance. The true accuracy is that of all
possible clips, in closed form: the mean of the beta distribution, and Phi of the probit model's intercept as
its latent variance is one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from tclap.evaluation.statistics import bootstrap_interval

ITEMS, ACCURACIES, RESAMPLES = (80, 400), (0.5, 0.9, 0.98), 1000
ITEMS_PER_CLIP, INTRACLASS = 5, 0.3
CLIP_VARIANCE = 0.25
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
    low, high = np.moveaxis(np.array(ends), 2, 0)
    # An end may equal a true accuracy such as 0.5 but for rounding.
    coverage = ((low <= accuracy + 1e-12) & (high >= accuracy - 1e-12)).mean(axis=0)
    names = ("percentile", "Wilson")
    width = (high - low).mean(axis=0)
    return (
        {"setting": setting, "n": n, "sources": round(np.mean(sources_seen)), "accuracy": accuracy}
        | dict(zip(names, coverage, strict=True))
        | {f"width {name}": value for name, value in zip(names, width, strict=True)}
        | {"s.e.": np.sqrt(coverage * (1 - coverage) / simulations).max()}
    )


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


if __name__ == "__main__":
    main()
