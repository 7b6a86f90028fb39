"""Can Cnn14 learn order behind its own mean + max over time, and with an order head beside it?

A Cnn14 trunk with random weights (so that nothing is known beforehand) stays frozen; the heads are
post-pretrained on composites of synthesised sounds with T-CLAP's loss, once with the published readout
and once with ``residual-segments``. The text tower is the compact model's, taught the words for order
first, so that the audio side alone is in question. Writes a table to standard output and a figure.

    python benchmarks/residual_readout.py [--pairs 32] [--seeds 1] [--figure residual_readout.png]
"""

import argparse
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from artifact import paths
from benchmarks import random_weights
from figures import style
from tclap import load_clips
from tclap.data.captions import vocabulary
from tclap.data.composites import ClipAudio
from tclap.models.compact import TextHead, TextTrunk
from tclap.models.msclap import Msclap2022
from tclap.training.base import warm_up_text
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.pool import WaveformSource, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import variant

READOUTS = {"published": ("as published", "#DDAA33", ":"), "residual-segments": ("residual", "#004488", "-")}
LABELS = ["dog", "rain", "siren", "clock tick", "engine", "church bells", "crow"]
CLIPS = {"base": 1, "post": 16, "validation": 8, "test": 1}


def train(model, seed: int, options: argparse.Namespace, clips: pd.DataFrame) -> pd.DataFrame:
    """Histories of both readouts, from one text head."""
    torch.manual_seed(seed)
    model.text_head = TextHead(64, model.dim)
    text = TextFeatures(model.text_trunk, vocabulary(LABELS))
    text_loss = TextOnlyLoss(model, text, LABELS, seed)
    warm_up_text(text_loss, Schedule(steps=250, lr=3e-3), batch=32)
    store = FeatureStore(paths.root() / "data" / "features")
    features = AudioFeatures(model, ClipAudio(clips, model.sample_rate), store)
    source = WaveformSource(features, clips)
    pool = make_pool(source, pairs=options.pairs, base_items=options.pairs, seed=0)
    validation = make_pool(
        source, pairs=options.validation, base_items=options.validation, seed=0, stage="validation"
    )
    schedule = Schedule(steps=options.steps, lr=1e-3, validate_every=10)
    histories = []
    for readout in READOUTS:
        torch.manual_seed(seed)
        history = post_pretrain(
            model.with_readout(readout),
            variant("t-clap"),
            text,
            pool,
            validation,
            schedule,
            batch=16,
            replay_batch=16,
            text_loss=text_loss,
            text_loss_batch=0,
            seed=seed,
            what=readout,
        )
        histories.append(history.assign(readout=readout, seed=seed))
    return pd.concat(histories)


def draw(history: pd.DataFrame) -> Figure:
    """2-way accuracy on validation composites over the steps, a line a seed."""
    with style.styled():
        figure = Figure(figsize=(style.COLUMN, 2.2))
        axes = figure.subplots()
        for (readout, seed), part in history.dropna(subset=["validation_two_way"]).groupby(
            ["readout", "seed"]
        ):
            label, colour, line = READOUTS[readout]
            label = label if seed == history["seed"].min() else None
            axes.plot(part["step"] + 1, part["validation_two_way"], line, color=colour, label=label)
        axes.axhline(50, color="0.5", linewidth=0.7)
        axes.set(xlabel="step", ylabel="2-way accuracy (%)", ylim=(40, 102))
        axes.legend(title="readout of a random Cnn14")
    return figure


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--validation", type=int, default=24, help="pairs, each in two orders")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--figure", type=Path, default=None)
    options = parser.parse_args()
    if not os.environ.get("TCLAP_HUB"):
        print("Left out: TCLAP_HUB must be set, to a folder with BERT's tokenizer.")
        return
    torch.set_num_threads(1)
    clips = load_clips("synthetic", labels=LABELS, clips_per_class=CLIPS)
    with tempfile.TemporaryDirectory() as folder:
        weights = random_weights.write("msclap-2022", Path(folder) / "weights.pth")
        model = Msclap2022.from_pretrained(weights)
    model.text_trunk = TextTrunk()
    history = pd.concat([train(model, seed, options, clips) for seed in range(options.seeds)])
    last = history.dropna(subset=["validation_two_way"]).groupby(["readout", "seed"]).tail(1)
    table = last.pivot(index="readout", columns="seed", values="validation_two_way")
    cosines = last.groupby("readout")["cosine_audio"].mean().rename("cosine(forward, reversed)")
    print(f"2-way accuracy in percent by seed, on {2 * options.validation} validation composites, chance 50")
    print(table.join(cosines).round(2).to_string())
    if options.figure is not None:
        style.save(draw(history), options.figure.stem, options.figure.parent)


if __name__ == "__main__":
    main()
