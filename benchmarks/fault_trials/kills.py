"""Kills: work that is killed once or several times in a row and started again gives the same bits.

The work is a function in a fork of a process that has imported everything; what users start is in
:mod:`benchmarks.fault_trials.launched`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import tclap
from artifact import paths
from artifact.experiment import Experiment
from artifact.summary import summarise_run
from artifact.training import train_base_models, train_variants
from benchmarks.fault_trials.killing import Case
from benchmarks.fault_trials.record import workshop
from benchmarks.fault_trials.runs import contents, from_prepared, without_summary
from tclap import audio, files
from tclap.data.clips import content_hash
from tclap.models.compact import Compact
from tclap.training.distributed import Processes
from tclap.training.dropout import ItemDropout
from tclap.training.features import FeatureStore
from tclap.training.loop import optimise
from tclap.training.schedule import Schedule

RATE = 8000
PITCHES = {"low hum": 200, "flute": 700, "whistle": 1900}


@cache
def clips() -> pd.DataFrame:
    """Ten tones of each of three pitches."""
    folder = workshop() / "recordings"
    rows = []
    for number, (label, pitch) in enumerate(PITCHES.items()):
        for n in range(10):
            rng = np.random.default_rng([number, n])
            tone = 0.2 * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * np.arange(3000) / RATE)
            audio.write_wav(folder / f"{label} {n}.wav", tone + 0.01 * rng.standard_normal(3000), RATE)
            rows.append({"file": f"{label} {n}.wav", "label": label})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return tclap.load_clips("folder", folder)


@cache
def model() -> Any:
    """A compact model of a few thousand weights; its text trunk is read once for all forks."""
    workshop()
    torch.manual_seed(0)
    sizes = {"window": 0.5, "sample_rate": RATE, "n_fft": 256, "hop": 80, "mels": 16}
    found = Compact(**sizes, width=8, hidden=8, dim=12)
    found.encode_text(["a flute"])
    return found


def looping(folder: Path) -> Any:
    """The loop of every training: 30 steps of a small network with dropout, its state kept ten times."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.Dropout(0.5), nn.Linear(128, 1))
    inputs = torch.randn(64, 64)

    def losses(step: int) -> dict[str, torch.Tensor]:
        network.train()
        with ItemDropout((8, step)):
            return {"loss": network(inputs[step : step + 8]).square().mean()}

    def validate() -> dict[str, float]:
        network.eval()
        return {"validation_loss": network(inputs).sub(1).square().mean().item()}

    options = {"module": network, "validate": validate, "checkpoint": folder / "state.pt"}
    schedule = Schedule(steps=30, lr=0.3, validate_every=3)
    history = optimise(network.parameters(), losses, schedule, "a loop", **options)
    return [files.hash_state(network.state_dict()), history.to_json()]


def training(root: Path) -> Any:
    """A run's base model, warm-up and all, and one variant, as notebooks 02 and 03 train them."""
    run = Experiment("smoke", "compact")
    train_base_models(run, 0, ["clap"])
    train_variants(run, 0, ["t-clap"])
    return contents(paths.root(), "seed0/*/weights.safetensors", "seed0/*/history.parquet")


def fine_tuning(folder: Path) -> Any:
    """``tclap.fine_tune`` with checkpoints and a store of trunk outputs."""
    options = {"epochs": 4, "batch": 8, "pairs": 24, "checkpoints": folder / "checkpoints"}
    options["store"] = FeatureStore(folder / "store", torch.float32)
    history = tclap.fine_tune(model(), clips(), **options)
    return [files.hash_state(model().own_state()), pd.util.hash_pandas_object(history).sum().item()]


def storing(folder: Path) -> Any:
    """A store of trunk outputs, 4 MB in eight files."""
    store, found = FeatureStore(folder, torch.float32), []
    for n in range(8):
        made = store.fetch([n], lambda n=n: rows(n), Processes())
        found.append(files.hash_state(made))
    return found


def rows(n: int) -> dict[str, torch.Tensor]:
    """What a trunk might have given."""
    return {"rows": torch.arange(1 << 17).reshape(64, -1) * (n + 0.5)}


def synthesising(folder: Path) -> Any:
    """Four synthetic clips of two classes."""
    options = {"clips_per_class": {"base": 1, "test": 1}, "labels": ["clock tick", "rain"]}
    return content_hash(tclap.load_clips("synthetic", folder, **options))


def evaluating(folder: Path) -> Any:
    """``tclap.evaluate`` with kept embeddings."""
    rows = tclap.evaluate(model(), clips(), ("tasks", "controls"), keep=folder, pairs=6)
    return rows.to_json()


def summarising(root: Path) -> Any:
    """The summary of a run's seeds."""
    summary = summarise_run("smoke", "compact")
    summary.pop("provenance")
    return files.hash_json(summary)


CASES = {
    "training loop": Case(404, looping),
    "feature store": Case(260, storing),
    "synthesis": Case(120, synthesising),
    "fine_tune": Case(90, fine_tuning),
    "evaluate, kept embeddings": Case(40, evaluating),
    "a run's models": Case(40, training, from_prepared),
    "a run's summary": Case(26, summarising, without_summary),
}
