"""What do slots in time cost: adding them, and embedding against the model without?

Sounds and captions of the compact model, plain captions and ones about time, by waveform and by trunk; with
--base msclap-2022 of that one (random stand-ins for the weights take as long; wants TCLAP_HUB). With
--weights of a trained compact model also: is the order of two sounds right at other lengths?

    python benchmarks/slots.py [--base msclap-2022] [--threads 2] [--weights FILE]
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
from tclap import audio
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio, draw_pairs
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


def by_length(model: AudioTextModel, pairs: int = 200, seed: int = 0) -> str:
    """2-way accuracy in percent of slots by the length of recordings of two synthetic test clips in a row."""
    clips = for_stage(tclap.load_clips("synthetic"), "test")
    drawn = draw_pairs(clips, "test", pairs, seed=seed).to_dict("records")
    waveforms = ClipAudio(clips, model.sample_rate)
    slots = tclap.add_slots(model)
    captions = [
        [f"{row['label_i']} before {row['label_j']}", f"{row['label_j']} before {row['label_i']}"]
        for row in drawn
    ]
    texts = slots.encode_text([caption for both in captions for caption in both]).unflatten(0, (-1, 2))
    lines = ["windows   2-way, %    n"]
    for windows in (0.6, 1, 2, 10):
        half = round(windows * model.window * model.sample_rate / 2)
        ends = ([audio.repeat_to(waveforms(row[f"clip_{end}"]), half) for end in "ij"] for row in drawn)
        sounds = torch.cat([slots.encode_audio([audio.concatenate(*both)]) for both in ends])
        right = (texts @ sounds[:, :, None]).squeeze(2)
        lines.append(f"{windows:7}{100 * (right[:, 0] > right[:, 1]).double().mean():11.1f}{len(drawn):5}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", choices=("compact", *random_weights.CLASSES), default="compact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", help="of a trained compact model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.weights:
        sys.stdout.write(by_length(tclap.load_model("compact", options.weights)))
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
