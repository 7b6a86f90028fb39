"""What does an exact search among many items cost, and does it find what brute force finds?

Embeddings are made so that a query's own item is often, not always, the nearest. `search` over the whole
against brute force on the first queries, with all their scores at once and sorted, and against the bare
matrix products in single precision, at the best rate that this machine reached in the same run. With
`--captions 5` the whole suite `retrieval` is measured instead, on as many clips of five captions each. Times
are of the CPU, all threads together, so that what else runs on the machine matters less.

    python benchmarks/retrieval.py [--items 20000] [--width 512] [--sample 500] [--captions 0]
"""

import argparse
import re
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tclap import audio
from tclap.evaluation.benchmark import evaluate
from tclap.evaluation.retrieval import COLUMNS, ROWS, search
from tclap.evaluation.statistics import summarise
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
        start = time.process_time()
        left @ right.T
        seconds.append(time.process_time() - start)
    return min(seconds)


class Made:
    """A model whose n-th sound is ``gallery[n]``, and whose captions are near the sound that they number."""

    sample_rate, window = 16_000, 0.1

    def __init__(self, gallery: torch.Tensor) -> None:
        self.gallery, self.given = gallery, 0
        self.generator = torch.Generator().manual_seed(1)  # 0 is the gallery's

    def encode_audio(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """Embeddings of the next sounds; after the clips come composites, which are the first clips again."""
        numbers = torch.arange(self.given, self.given + len(waveforms)) % len(self.gallery)
        self.given += len(waveforms)
        return self.gallery[numbers]

    def encode_text(self, captions: Sequence[str]) -> torch.Tensor:
        """Embeddings of captions, of which the first number is that of a sound."""
        width = self.gallery.shape[1]
        found = torch.randn(len(captions), width, generator=self.generator).mul_(NOISE / width**0.5)
        for row, caption in enumerate(captions):
            found[row] += self.gallery[int(re.search(r"\d+", caption)[0])]
        return found


def captioned(items: int, captions: int, width: int) -> None:
    """Measure the suite on ``items`` clips, which all have the same audio file, and print."""
    model = Made(embeddings(items, width)[1])
    names = [f"clip {n}" for n in range(items)]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "noise.wav")
        audio.write_wav(path, np.random.default_rng(0).uniform(-0.5, 0.5, 1600), model.sample_rate)
        clips = pd.DataFrame({"clip_id": names, "path": path, "label": names, "source": names})
        clips["captions"] = [[f"{name}, caption {k}" for k in range(captions)] for name in names]
        start = time.process_time()
        rows = evaluate(model, clips.assign(split="test"), "retrieval")
        asked = time.process_time() - start
    table = summarise(rows)
    seconds = time.process_time() - start
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB
    print(f"{items} clips of {captions} captions, d = {width}, {torch.get_num_threads()} threads")
    print(f"{asked:.0f} s of CPU for {len(rows)} rows, with intervals {seconds:.0f} s; {peak:.1f} GB at most")
    print(table[["task", "accuracy", "low", "high", "chance", "n"]].round(2).to_string(index=False))


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--sample", type=int, default=500, help="queries of brute force")
    parser.add_argument("--captions", type=int, default=0, help="of each clip; 0: the bare search")
    options = parser.parse_args()
    if options.captions:
        return captioned(options.items, options.captions, options.width)
    queries, gallery = embeddings(options.items, options.width)
    ids, sample = np.arange(options.items), min(options.sample, options.items)
    product = best_product(options.width) * options.items / (ROWS * COLUMNS)
    start = time.process_time()
    found = search(queries, gallery, ids, ids)
    searched = time.process_time() - start
    start = time.process_time()
    expected = brute_force(queries[:sample], gallery)
    brute = time.process_time() - start
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
    print(f"the search reaches {product * options.items / searched:.2f} of the best rate of bare products")
    print(f"{equal} of {sample} ranks are equal; all scores at once would take {whole:.1f} GB")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
