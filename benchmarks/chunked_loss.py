"""What does the loss over large batches cost, with and without the matrix of its logits?

Peak memory beyond the inputs, and time, of value and gradient of T-CLAP's loss with the 3N × 3N logits at
once (dense) and in blocks of rows (chunked), each measurement in a process of its own. Beside them what
theory predicts: the dense form holds 4 such matrices and a mask of bytes, the chunked one 2 blocks and
the mask of one, and both hold the gradients of the embeddings. A dense form that would not fit is
estimated and left out. Where others use the machine too, the seconds of processor time tell more than
those of the clock. Writes a table to standard output and, if asked, a figure.

    python benchmarks/chunked_loss.py [--full] [--chunk 512] [--figure chunked_loss.png]

``--full`` goes up to N = 8192, with a GPU to 32768 in bfloat16.
"""

from __future__ import annotations

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
from matplotlib.figure import Figure

from figures import style
from tclap.losses import temporal_nce

MB = 1e6
LOOKS = {"dense": ("#DDAA33", "o"), "chunked": ("#004488", "D")}
SMALL = [256, 512, 1024, 2048]
FULL = [*SMALL, 4096, 8192]
ENOUGH_SECONDS, MOST_RUNS = 3.0, 5


def predicted(form: str, size: int, width: int, chunk: int, dtype: str) -> float:
    """MB beyond the inputs."""
    candidates = 3 * size
    matrices = 4.25 * candidates**2 if form == "dense" else 2.25 * min(chunk, size) * candidates
    # Gradients in the embeddings' type; half precision also has float32 copies.
    copies = 2 * 4 if dtype == "float32" else 2 * 2 + (4 * 4 if form == "dense" else 2 * 4)
    return (4 * matrices + copies * candidates * width) / MB


def available(device: str) -> float:
    """MB that a process may still take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / MB
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB


def measure(form: str, size: int, width: int, chunk: int, dtype: str, device: str) -> dict:
    """Memory and time of one form at one size, in this process."""
    generator = torch.Generator(device).manual_seed(0)

    def batch(items: int) -> dict:
        embeddings = []
        for _ in range(2):
            x = torch.empty(3, items, width, device=device).normal_(generator=generator)
            x /= torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            embeddings.append(x.to(getattr(torch, dtype)).requires_grad_())
        ids = torch.randint(items, (3, items), device=device, generator=generator)
        scale = torch.tensor(1 / 0.07, device=device, requires_grad=True)
        return {"audio": embeddings[0], "text": embeddings[1], "logit_scale": scale, "events": ids}

    def value_and_gradient(inputs: dict) -> float:
        for name in ("audio", "text", "logit_scale"):
            inputs[name].grad = None
        loss = temporal_nce(**inputs, chunk_size=None if form == "dense" else chunk)
        loss.backward()
        return loss.item()

    value_and_gradient(batch(8))  # what the libraries load when first used is not the loss's
    inputs = batch(size)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    times, work = [], []
    while not times or (sum(times) < ENOUGH_SECONDS and len(times) < MOST_RUNS):
        started, worked = time.perf_counter(), time.process_time()
        value = value_and_gradient(inputs)
        times.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "memory": (peak - before) / MB,
        "seconds": min(times),
        "processor seconds": min(work),
        "value": value,
    }


def rows(options: argparse.Namespace, device: str) -> list[dict]:
    """Both forms at all sizes, each in a fresh process."""
    sizes = [(size, "float32") for size in options.sizes or (FULL if options.full else SMALL)]
    if options.full and device == "cuda":
        sizes.append((32768, "bfloat16"))
    found = []
    for size, dtype in sizes:
        for form in LOOKS:
            row = {"form": form, "N": size, "dtype": dtype}
            row["predicted"] = predicted(form, size, options.width, options.chunk, dtype)
            if row["predicted"] < 0.7 * available(device):
                task = [form, size, options.width, options.chunk, dtype, device]
                command = [sys.executable, __file__, "--threads", str(options.threads), "--measure"]
                answer = subprocess.run(
                    [*command, json.dumps(task)], check=True, stdout=subprocess.PIPE, text=True
                )
                row |= json.loads(answer.stdout)
            else:
                sys.stdout.write(
                    f"Left out: {form} at N = {size}, which would take about {row['predicted']:.0f} MB "
                    f"of the {available(device):.0f} MB free.\n"
                )
            found.append(row)
    return found


def draw(table: pd.DataFrame) -> Figure:
    """Memory with its prediction, and time, over N."""
    table = table[table["dtype"] == "float32"]
    with style.styled():
        figure = Figure(figsize=(style.TEXT, 2.4))
        memory, seconds = figure.subplots(1, 2)
        for form, (colour, marker) in LOOKS.items():
            part = table[table["form"] == form]
            memory.plot(part["N"], part["predicted"], ":", color=colour)
            memory.plot(part["N"], part["memory"], marker, color=colour, label=form)
            seconds.plot(part["N"], part["seconds"], marker, linestyle="-", color=colour, label=form)
        memory.plot([], [], ":", color="0.5", label="predicted")
        for axes, label in ((memory, "peak memory beyond the inputs (MB)"), (seconds, "time (s)")):
            axes.set(xscale="log", yscale="log", xlabel="pairs in a batch, N", ylabel=label)
            axes.set_xticks(sizes := sorted(table["N"].unique()), labels=sizes)
            axes.minorticks_off()
        memory.legend()
    return figure


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="pairs N, instead of the usual ones")
    parser.add_argument("--full", action="store_true", help="large batches too, for minutes and gigabytes")
    parser.add_argument("--width", type=int, default=512, help="dimensions of an embedding")
    parser.add_argument("--chunk", type=int, default=512, help="anchors in a block")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        sys.stdout.write(json.dumps(measure(*json.loads(options.measure))))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = pd.DataFrame(rows(options, device))
    header = (
        f"{device}, {options.threads} threads, d = {options.width}, blocks of {options.chunk}; MB and s\n"
    )
    sys.stdout.write(header + table.to_string(index=False, float_format="{:.4g}".format, na_rep="-") + "\n")
    if options.figure is not None:
        style.save(draw(table), options.figure.stem, options.figure.parent)


if __name__ == "__main__":
    main()
