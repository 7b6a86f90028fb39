"""What does the loss over large batches cost, with and without the matrix of its logits?

Peak memory beyond the inputs, and time, of value and gradient of T-CLAP's loss with the 3N × 3N logits at
once (dense) and in blocks of rows (chunked), each measurement in a process of its own. Beside them what
theory predicts: the dense form holds 4 such matrices and a mask of bytes, the chunked one 2 blocks and
the mask of one, and both hold the gradients of the embeddings. A dense form that would not fit is
left out. On a GPU where there is one; without, the seconds are those of processor time.

    python benchmarks/chunked_loss.py [--sizes 256 512 1024 2048] [--chunk 512]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from tclap.losses import temporal_nce

MB = 1e6
WIDTH = 512
FORMS = ("dense", "chunked")
RUNS = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def predicted(form: str, size: int, chunk: int) -> float:
    """MB beyond the inputs, in float32."""
    candidates = 3 * size
    matrices = 4.25 * candidates**2 if form == "dense" else 2.25 * min(chunk, size) * candidates
    return 4 * (matrices + 2 * candidates * WIDTH) / MB


def available() -> float:
    """MB that a process may still take."""
    if DEVICE == "cuda":
        return torch.cuda.mem_get_info()[0] / MB
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB


def measure(form: str, size: int, chunk: int) -> tuple[float, float]:
    """Peak MB beyond the inputs and seconds of one form at one size, in this process."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def batch(items: int) -> dict:
        embeddings = torch.randn(2, 3, items, WIDTH, device=DEVICE, generator=generator)
        embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        audio, text = (x.clone().requires_grad_() for x in embeddings)
        ids = torch.randint(items, (3, items), device=DEVICE, generator=generator)
        scale = torch.tensor(1 / 0.07, device=DEVICE, requires_grad=True)
        return {"audio": audio, "text": text, "logit_scale": scale, "events": ids}

    def value_and_gradient(inputs: dict) -> float:
        for name in ("audio", "text", "logit_scale"):
            inputs[name].grad = None
        loss = temporal_nce(**inputs, chunk_size=None if form == "dense" else chunk)
        loss.backward()
        return loss.item()  # waits for the GPU

    value_and_gradient(batch(8))  # what the libraries load when first used is not the loss's
    inputs = batch(size)
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    times = []
    for _ in range(RUNS):
        started = clock()
        value_and_gradient(inputs)
        times.append(clock() - started)
    if DEVICE == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / MB, min(times)


def row(size: int, chunk: int) -> dict:
    """Both forms at one size, each in a fresh process."""
    found: dict = {"N": size}
    for form in FORMS:
        memory = seconds = float("nan")
        if predicted(form, size, chunk) < 0.7 * available():
            command = [sys.executable, __file__, "--measure", json.dumps([form, size, chunk])]
            memory, seconds = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        found |= {f"{form}, MB": memory, f"{form}, predicted": predicted(form, size, chunk)}
        found[f"{form}, s"] = seconds
    found["times less memory"] = found["dense, MB"] / found["chunked, MB"]
    found["times as long"] = found["chunked, s"] / found["dense, s"]
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048], help="pairs N")
    parser.add_argument("--chunk", type=int, default=512, help="anchors in a block")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    table = pd.DataFrame([row(size, options.chunk) for size in options.sizes])
    print(f"{DEVICE}, one thread, d = {WIDTH}, blocks of {options.chunk} rows, float32")
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="-"))


if __name__ == "__main__":
    main()
