"""What do slots in time cost: adding them, and embedding against the model without?

Sounds and captions of the compact model, plain captions and ones about time, by waveform and by trunk; with
--base msclap-2022 of that one (random stand-ins for the weights take as long; wants TCLAP_HUB):

    python benchmarks/slots.py [--base msclap-2022] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import tclap
from benchmarks import random_weights
from tclap.models import minilm
from tclap.models.base import AudioTextModel

REPEATS = 3


def seconds(work: Callable) -> float:
    """The fastest of a few runs."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def measure(model: AudioTextModel, sounds: int, captions: int) -> str:
    """The table."""
    minilm.load()  # the reader's encoder, which a run has anyway
    start = time.perf_counter()
    slots = tclap.add_slots(model)
    adding = time.perf_counter() - start
    by_trunk = tclap.add_slots(model, source="trunk")
    samples = round(model.window * model.sample_rate)
    waveforms = np.random.default_rng(0).standard_normal((sounds, samples)).astype(np.float32)
    plain = [f"this is the sound of thing {n}" for n in range(captions)]
    timed = [f"thing {n} before a lamp" for n in range(captions)]
    rows = [
        (f"{sounds} sounds, by waveform", slots, lambda m: m.encode_audio(waveforms)),
        (f"{sounds} sounds, by trunk", by_trunk, lambda m: m.encode_audio(waveforms)),
        (f"{captions} plain captions", slots, lambda m: m.encode_text(plain)),
        (f"{captions} of time", slots, lambda m: m.encode_text(timed)),
    ]
    lines = [
        f"{model.name}: slots added in {adding:.1f} s; {len(slots.spans)} embeddings a sound",
        f"dimensions {model.dim} and {slots.dim}",
        f"{'':28}{'without, s':>12}{'slots, s':>12}{'ratio':>8}",
    ]
    for what, slotted, work in rows:
        base, ours = seconds(lambda w=work: w(model)), seconds(lambda w=work, m=slotted: w(m))
        lines.append(f"{what:28}{base:12.3f}{ours:12.3f}{ours / base:8.2f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", choices=("compact", *random_weights.CLASSES), default="compact")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.base == "compact":
        sys.stdout.write(measure(tclap.load_model("compact"), 256, 1024))
    elif not os.environ.get("TCLAP_HUB"):
        sys.stdout.write("Left out: TCLAP_HUB must be set, to the tokenizers.\n")
    else:
        with tempfile.TemporaryDirectory() as folder:
            weights = random_weights.write(options.base, Path(folder) / "weights.pth")
            sys.stdout.write(measure(tclap.load_model(options.base, weights), 32, 128))


if __name__ == "__main__":
    main()
