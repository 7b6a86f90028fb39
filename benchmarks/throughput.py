"""How fast do the published models run here, and how near to what the machine can do?

Clips a second through the frozen audio trunk, and composites a second in a training step of the heads on
kept trunk outputs, in full and in half precision; the share of the rate of a plain matrix product in
the same precision; peak memory. On a GPU where there is one, else on the CPU.

    python benchmarks/throughput.py [--names msclap-2022 msclap-2023] [--batch 8] [--device cuda]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import random_weights
from tclap.losses import temporal_nce
from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model
from tclap.training.batch_embedding import PRECISIONS

REPEATS, SIZE = 3, 4096


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median duration of a few runs after one to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[REPEATS // 2]


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a plain product of two square matrices."""
    size = SIZE if device.type == "cuda" else SIZE // 2
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device)


def memory(device: torch.device) -> float:
    """Peak memory in GiB: the GPU's since the last reset, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rows_of(model: AudioTextModel, batch: int, precision: str) -> list[dict]:
    """Trunk and training step of one model in one precision."""
    device, dtype = model.log_scale.device, PRECISIONS[precision]
    peak = matrix_rate(device, dtype)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    waveforms = 0.05 * torch.randn(batch, round(model.window * model.sample_rate), device=device)
    optimiser = torch.optim.Adam(model.head_parameters(), lr=1e-6)
    captions = [f"this is a sound of {n} before rain" for n in range(3 * batch)]

    def autocast():
        return torch.autocast(device.type, dtype, enabled=precision != "fp32")

    def trunk() -> torch.Tensor:
        with torch.no_grad(), autocast():
            return model.audio_trunk(waveforms).float()

    features = trunk().repeat(3, 1, 1)
    with torch.no_grad():
        tokens = model.text_trunk(captions)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with autocast():
            sounds, words = model.embed_audio(features), model.embed_text(tokens)
        views = (x.float().unflatten(0, (3, -1)) for x in (sounds, words))
        temporal_nce(*views, model.logit_scale).backward()
        optimiser.step()

    found = []
    for what, work, count in (("audio trunk", trunk, batch), ("step of the heads", step, batch)):
        with FlopCounterMode(display=False) as counter:
            work()
        duration = seconds(work, device)
        share = counter.get_total_flops() / duration / peak
        found.append(
            {
                "model": model.name,
                "what": what,
                "precision": precision,
                "items a second": count / duration,
                "GFLOP an item": counter.get_total_flops() / count / 1e9,
                "share of a matrix product's rate": share,
                "peak memory, GiB": memory(device),
            }
        )
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--names", nargs="+", choices=random_weights.CLASSES, default=list(random_weights.CLASSES)
    )
    parser.add_argument("--batch", type=int, default=8, help="clips; a step takes three times as many")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if not os.environ.get("TCLAP_HUB"):
        print("Left out: TCLAP_HUB must be set, to a folder with BERT's and GPT-2's tokenizers.")
        return
    rows = []
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            weights = random_weights.write(name, Path(folder) / "weights.pth")
            model = load_model(name, weights, device=options.device)
        for precision in PRECISIONS:
            rows += rows_of(model, options.batch, precision)
    print(f"{options.device}, {torch.get_num_threads()} threads, batch {options.batch}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
