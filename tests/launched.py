"""One step of post-pretraining, for one process or for several started by ``accelerate launch``.

``accelerate launch --multi_gpu --num_processes 2 launched.py FOLDER`` writes what the main process found,
a file a case, and how many processes there were. See ``test_several_processes.py``.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tclap.models.base import AudioTextModel, Tokens
from tclap.models.registry import load_model
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.checkpoints import Checkpoints
from tclap.training.distributed import Processes, current
from tclap.training.pool import Pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import variant

LABELS = ["bell", "crow", "dog", "rain"]
FRAMES, WIDTH = 7, 8


@dataclass(frozen=True)
class Case:
    """What a step is made of; in float64 unless the lesson, which is float32, is part of it."""

    name: str = "t-clap"
    batch: int = 8
    replay_batch: int = 5
    text_loss_batch: int = 0
    micro_batch: int | None = None
    chunk_size: int | None = None
    steps: int = 1


CASES = {
    "even": Case(),
    "uneven": Case(batch=7, replay_batch=9, chunk_size=2),
    "fewer than processes": Case(batch=3, replay_batch=1),
    "alpha 0": Case("t-clap-no-time", batch=5),
    "no overlap": Case("t-clap-no-overlap", batch=6, micro_batch=1),
    "control": Case("clap-continued", batch=3),
    "lesson": Case(text_loss_batch=2, micro_batch=2),
    "steps": Case(steps=4),
}


class Words:
    """A fixed random vector a word."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, captions: list[str]) -> Tokens:
        rows = [
            torch.stack([self.vector(word) for word in caption.replace(",", "").split()])
            for caption in captions
        ]
        lengths = torch.tensor([len(row) for row in rows])
        return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths)

    def vector(self, word: str) -> Tensor:
        rng = np.random.default_rng(zlib.crc32(word.encode()))
        return torch.from_numpy(rng.standard_normal(384)).to(self.dtype)


def made_pool(size: int, dtype: torch.dtype, seed: int) -> Pool:
    """Random trunk outputs under captions of few labels, so that many mean the same."""
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(LABELS, 2, replace=False) for _ in range(size)]
    singles = list(rng.choice(LABELS, 2 * size))

    def values(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).to(dtype)

    return Pool(
        values(size, 3, FRAMES, WIDTH),
        [[f"{a} before {b}", f"{a} after {b}", f"{a} while {b}"] for a, b in pairs],
        [[f"{a}>{b}", f"{b}>{a}", "+".join(sorted((a, b)))] for a, b in pairs],
        values(2 * size, FRAMES, WIDTH),
        singles,
        singles,
        None,
    )


def compute(case: Case, processes: Processes, checkpoints: Checkpoints | None = None) -> dict[str, Tensor]:
    """Losses of all steps, the last gradients and the final weights of a training."""
    dtype = torch.float32 if case.text_loss_batch else torch.float64
    torch.manual_seed(0)
    sizes = {"window": 0.5, "sample_rate": 8000, "n_fft": 256, "hop": 80, "mels": 16}
    model: AudioTextModel = load_model("compact", **sizes, width=WIDTH, hidden=8, dim=12).to(dtype)
    with torch.no_grad():  # the main process's weights are what counts
        for parameter in model.head_parameters():
            parameter += 0.1 * processes.rank
    text = Words(dtype)
    history = post_pretrain(
        model,
        variant(case.name),
        text,
        made_pool(12, dtype, 1),
        made_pool(6, dtype, 2),
        Schedule(case.steps, 0.01, clip_norm=1e9),
        batch=case.batch,
        replay_batch=case.replay_batch,
        text_loss=TextOnlyLoss(model, text, LABELS, 0) if case.text_loss_batch else None,
        text_loss_batch=case.text_loss_batch,
        seed=3,
        chunk_size=case.chunk_size,
        embedding=BatchEmbedder(processes, case.micro_batch),
        checkpoints=checkpoints,
    )
    found = {
        f"gradient.{n}": p.grad for n, p in zip(model.head_names(), model.head_parameters(), strict=True)
    }
    found |= {f"history.{name}": torch.from_numpy(history[name].to_numpy()) for name in history}
    return found | model.own_state()


def main() -> None:
    """Compute every case, in the processes that were launched."""
    torch.set_num_threads(1)
    folder, processes = Path(sys.argv[1]), current()
    if processes.is_main:
        (folder / "count").write_text(str(processes.count))
    for name, case in CASES.items():
        checkpoints = Checkpoints(folder / "checkpoints", "here") if name == "steps" else None
        found = compute(case, processes, checkpoints)
        if processes.is_main:
            save_file(
                {key: value.contiguous() for key, value in found.items()}, folder / f"{name}.safetensors"
            )
        # Each process has the same weights.
        for key, value in found.items():
            if not key.startswith("history"):
                same = processes.sum(value.double()) == processes.count * value.double()
                assert same.all(), f"{key} differs between processes"


if __name__ == "__main__":
    main()
