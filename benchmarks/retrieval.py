"""What does an exact search among many items cost, and does it find what brute force finds?

Embeddings are made so that a query's own item is often, not always, the nearest. `search` over the whole
against brute force on the first queries, with all their scores at once and sorted, and against the bare
matrix products in single precision, at the best rate that this machine reached in the same run.

    python benchmarks/retrieval.py [--items 20000] [--width 512] [--sample 500]
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from tclap.evaluation.retrieval import COLUMNS, ROWS, search
from tclap.evaluation.tasks import TIE_TOLERANCE

GB = 1e9
NOISE = 4.0
STEP = 100  # queries whose scores brute force holds at once


def embeddings(items: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and gallery ``[items, width]``, float32, L2-normalised."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.nn.functional.normalize(torch.randn(items, width, generator=generator), dim=1)
    queries = torch.randn(items, width, generator=generator).mul_(NOISE / width**0.5).add_(gallery)
    return torch.nn.functional.normalize(queries, dim=1), gallery


def brute_force(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """Ranks of the item of a query's own number, from sorted scores."""
    found = []
    for start in range(0, len(queries), STEP):
        scores = (queries[start : start + STEP].double() @ gallery.double().T).numpy()
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))]
        # How many scores are at least as high, the own one among them.
        found += [
            len(s) - np.searchsorted(np.sort(s), o) for s, o in zip(scores, own - TIE_TOLERANCE, strict=True)
        ]
    return np.array(found)


def best_product(width: int) -> float:
    """Seconds that a product of one block of the search's size takes at best, in single precision."""
    left, right, seconds = torch.rand(ROWS, width), torch.rand(COLUMNS, width), []
    for _ in range(100):
        start = time.perf_counter()
        left @ right.T
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--sample", type=int, default=500, help="queries of brute force")
    options = parser.parse_args()
    queries, gallery = embeddings(options.items, options.width)
    ids, sample = np.arange(options.items), min(options.sample, options.items)
    product = best_product(options.width) * options.items / (ROWS * COLUMNS)
    start = time.perf_counter()
    found = search(queries, gallery, ids, ids)
    searched = time.perf_counter() - start
    start = time.perf_counter()
    expected = brute_force(queries[:sample], gallery)
    brute = time.perf_counter() - start
    table = pd.DataFrame(
        {
            "queries": [sample, options.items, options.items],
            "ms a query": [1000 * brute / sample, 1000 * searched / options.items, 1000 * product],
        },
        index=["brute force, sorted", "search", "bare products, at best"],
    )
    table["times faster"] = table["ms a query"].iloc[0] / table["ms a query"]
    equal, whole = int((found.rank[:sample] == expected).sum()), 8 * options.items**2 / GB
    print(f"{options.items} items, d = {options.width}, {torch.get_num_threads()} threads")
    print(f"{equal} of {sample} ranks are equal; all scores at once would take {whole:.1f} GB")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
