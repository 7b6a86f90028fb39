"""How much faster is the whole suite of tasks than item by item, the way research scripts do it?

Item by item: write the composite, let msclap's wrapper embed it, let it embed the item's candidates (each
padded to 100 tokens), compare. Ours: every distinct sound and caption once, captions of like length
together. Some items of each task are timed and scaled; on these the predictions are compared. Wants
ESC-50 (ESC50_ROOT) and the tokenizers (TCLAP_HUB); random stand-ins for the weights take as long:

    python benchmarks/suite.py [--weights CLAP_weights_2022.pth] [--pairs 400] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from published_models import timed, wrapper
from torch.nn.functional import normalize

from benchmarks import random_weights
from tclap import audio, load_clips, load_model
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio, draw_pairs, place, render, render_single
from tclap.evaluation import tasks
from tclap.evaluation.benchmark import evaluate

TIMED = {"1": 2, "2a": 1, "2b": 1, "3": 2, "3_after": 1, "2way_before": 2, "2way_after": 1, "overlap": 1}
TIMED |= {"4": 2, "5": 2}


class Watched:
    """A model whose two methods' seconds are added up."""

    def __init__(self, model) -> None:
        self.model, self.sample_rate, self.window = model, model.sample_rate, model.window
        self.audio = self.text = 0.0

    def encode_audio(self, waveforms) -> torch.Tensor:
        """As the model's."""
        seconds, found = timed(lambda: self.model.encode_audio(waveforms))
        self.audio += seconds
        return found

    def encode_text(self, captions) -> torch.Tensor:
        """As the model's."""
        seconds, found = timed(lambda: self.model.encode_text(captions))
        self.text += seconds
        return found


def item_by_item(items: pd.DataFrame, theirs, waveforms: dict[str, np.ndarray], rate: int) -> pd.DataFrame:
    """Seconds of sound and text of each item, and its prediction, one item after the other."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "composite.wav")
        for item in items.to_dict("records"):
            start = time.perf_counter()
            audio.write_wav(path, waveforms[item["audio"]], rate, "FLOAT")
            sound = theirs.get_audio_embeddings([path])
            heard = time.perf_counter()
            words = theirs.get_text_embeddings(list(item["candidates"]))
            read = time.perf_counter()
            cosines = (normalize(words, dim=1).double() @ normalize(sound, dim=1).double()[0]).numpy()
            top = sorted(np.argsort(-cosines, kind="stable")[: len(item["answers"])])
            prediction = " | ".join(item["candidates"][k] for k in top)
            rows.append({"task": item["task"], "item": item["item"], "theirs": prediction})
            rows[-1] |= {"audio": heard - start, "text": read - heard}
    return pd.DataFrame(rows)


def measure(weights: str, pairs: int, threads: int) -> str:
    """Time both ways and say how they compare."""
    clips = load_clips("esc50", classes="all")
    model = load_model("msclap-2022", weights)
    test = for_stage(clips, "test")
    clip_audio = ClipAudio(test, model.sample_rate)
    manifest = place(draw_pairs(test, "test", pairs, seed=0), clip_audio, model.window)
    items = tasks.build_items(test, manifest, sorted(test["label"].unique()), seed=0)
    counts = items["task"].value_counts()
    some = pd.concat([items[items["task"] == task].iloc[3 : 3 + n] for task, n in TIMED.items()])
    rows = {row["pair_id"]: row for row in manifest.to_dict("records")}

    def waveform(name: str) -> np.ndarray:
        pair, _, view = name.rpartition("/")
        if pair in rows:
            return render(rows[pair], view, clip_audio)
        return render_single(clip_audio(name), model.window, model.sample_rate)

    with wrapper("2022", weights) as theirs:
        slow = item_by_item(some, theirs, {n: waveform(n) for n in some["audio"]}, model.sample_rate)
    means = slow.groupby("task")[["audio", "text"]].mean().mul(counts, axis=0).sum()
    watched = Watched(model)
    seconds, answers = timed(lambda: evaluate(watched, clips, "tasks", pairs=pairs))
    both = slow.merge(answers, on=["task", "item"], how="left", validate="one_to_one")
    same = int((both["theirs"] == both["prediction"]).sum())
    lines = [
        f"msclap-2022, {threads} threads, {test['label'].nunique()} classes, {len(test)} clips, "
        f"{pairs} pairs, {len(items)} items; {len(some)} timed item by item and scaled",
        f"{'':10}{'item by item, s':>18}{'tclap, s':>12}{'times faster':>14}",
    ]
    ours = {"text": watched.text, "audio": watched.audio, "in all": seconds}
    theirs_seconds = {"text": means["text"], "audio": means["audio"], "in all": means.sum()}
    for what, value in ours.items():
        other = theirs_seconds[what]
        lines.append(f"{what:10}{other:18.1f}{value:12.1f}{other / value:14.1f}")
    lines.append(f"same prediction in {same} of {len(some)} items")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a checkpoint in the official format; random stand-ins without")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    missing = [name for name in ("ESC50_ROOT", "TCLAP_HUB") if not os.environ.get(name)]
    if missing:
        sys.stdout.write(f"Left out: {' and '.join(missing)} must be set, to real clips and tokenizers.\n")
        return
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or str(random_weights.write("msclap-2022", Path(folder) / "weights.pth"))
        sys.stdout.write(measure(weights, options.pairs, options.threads))


if __name__ == "__main__":
    main()
