"""What does an exact search among 100 000 items cost, and does it find what brute force finds?

Embeddings are made so that a query's own item is often, not always, the nearest. Time and peak memory
of `tclap.evaluation.retrieval.search` over the whole, also as a share of the speed of bare matrix products
in single precision in the same run; on the first queries, of brute force too, with all their scores at
once and sorted. Writes a table to standard output.

    python benchmarks/retrieval.py [--items 100000] [--width 512] [--sample 2000]
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from tclap.evaluation.retrieval import COLUMNS, KS, ROWS, search
from tclap.evaluation.tasks import TIE_TOLERANCE

GB = 1e9
NOISE = 4.0


def embeddings(items: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and gallery ``[items, width]``, float32, L2-normalised."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.nn.functional.normalize(torch.randn(items, width, generator=generator), dim=1)
    queries = torch.randn(items, width, generator=generator).mul_(NOISE / width**0.5).add_(gallery)
    return torch.nn.functional.normalize(queries, dim=1), gallery


def brute_force(queries: torch.Tensor, gallery: torch.Tensor, step: int = 100) -> np.ndarray:
    """Ranks of the item of a query's own number, from sorted scores."""
    found = []
    for start in range(0, len(queries), step):
        scores = (queries[start : start + step].double() @ gallery.double().T).numpy()
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))]
        # How many scores are at least as high, the own one among them.
        found += [
            len(s) - np.searchsorted(np.sort(s), o) for s, o in zip(scores, own - TIE_TOLERANCE, strict=True)
        ]
    return np.array(found)


def matrix_products_per_second(width: int, seconds: float = 2.0) -> float:
    """The machine's best rate of multiply-adds in products of single precision, of the search's blocks."""
    left, right = torch.rand(ROWS, width), torch.rand(width, COLUMNS)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return ROWS * COLUMNS * width / best


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--sample", type=int, default=2000)
    arguments = parser.parse_args()
    queries, gallery = embeddings(arguments.items, arguments.width)
    ids = np.arange(arguments.items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    fastest = matrix_products_per_second(arguments.width)
    start = time.perf_counter()
    found = search(queries, gallery, ids, ids)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sample = min(arguments.sample, arguments.items)
    start = time.perf_counter()
    expected = brute_force(queries[:sample], gallery)
    scaled = (time.perf_counter() - start) * arguments.items / sample
    held = 2 * queries.nbytes
    print(f"{arguments.items} queries x {arguments.items} items, d = {arguments.width}")
    print(f"torch threads             {torch.get_num_threads()}")
    print(f"embeddings                {held / GB:8.2f} GB")
    print(f"the matrix of scores      {8 * arguments.items**2 / GB:8.2f} GB in float64, never held")
    print(f"peak of the process       {peak / GB:8.2f} GB (before the search {before / GB:.2f})")
    print(f"search                    {seconds:8.1f} s")
    bare = arguments.items**2 * arguments.width / fastest
    print(f"bare matrix products      {bare:8.1f} s, {bare / seconds:.2f} of the search's time")
    print(f"brute force, scaled       {scaled:8.1f} s (from {sample} queries)")
    print(f"ranks equal brute force   {int((found.rank[:sample] == expected).sum())} of {sample}")
    print(" ".join(f"R@{k} {100 * (found.rank <= k).mean():.2f}" for k in KS))
    print(f"mAP@10 {100 * found.average_precision.mean():.2f}")


if __name__ == "__main__":
    main()
