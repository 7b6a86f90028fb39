"""What do slots in time cost: embedding sounds and captions with them, against the model without?

Sounds by waveform and by trunk, captions without and with time words, of the compact model; with
--base msclap-2022 of that one (random stand-ins for the weights take as long; wants TCLAP_HUB).

    python benchmarks/slots.py [--base msclap-2022] [--threads 1]
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

import tclap
from benchmarks import random_weights
from tclap.models.base import AudioTextModel

ITEMS = 32


def milliseconds(work: Callable) -> float:
    """Of an item, in the median of the runs of a second, after one to warm up."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return 1000 * timer.blocked_autorange(min_run_time=1).median / ITEMS


def measure(model: AudioTextModel) -> pd.DataFrame:
    """Milliseconds of an item without and with slots."""
    slots, by_trunk = tclap.add_slots(model), tclap.add_slots(model, source="trunk")
    samples = round(model.window * model.sample_rate)
    waveforms = np.random.default_rng(0).standard_normal((ITEMS, samples)).astype(np.float32)
    plain = [f"this is the sound of thing {n}" for n in range(ITEMS)]
    timed = [f"thing {n} before a lamp" for n in range(ITEMS)]
    rows = {
        f"a sound, {len(slots.spans)} parts of the waveform": (slots, lambda m: m.encode_audio(waveforms)),
        "a sound, parts of the trunk's outputs": (by_trunk, lambda m: m.encode_audio(waveforms)),
        "a caption without time": (slots, lambda m: m.encode_text(plain)),
        "a caption with time": (slots, lambda m: m.encode_text(timed)),
    }
    found = {
        what: (milliseconds(lambda w=work: w(model)), milliseconds(lambda w=work, m=slotted: w(m)))
        for what, (slotted, work) in rows.items()
    }
    table = pd.DataFrame.from_dict(found, orient="index", columns=["without, ms", "with slots, ms"])
    table["times as long"] = table["with slots, ms"] / table["without, ms"]
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", choices=("compact", *random_weights.CLASSES), default="compact")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.base == "compact":
        table = measure(tclap.load_model("compact"))
    elif not os.environ.get("TCLAP_HUB"):
        parser.error("TCLAP_HUB must be set, to a folder with the tokenizers")
    else:
        with tempfile.TemporaryDirectory() as folder:
            weights = random_weights.write(options.base, Path(folder) / "weights.pth")
            table = measure(tclap.load_model(options.base, weights))
    print(f"{options.base}, threads: {options.threads}, {ITEMS} items at a time")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
