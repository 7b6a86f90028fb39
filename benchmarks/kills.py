"""Does a training that is killed at random end in the same bits as one that is not?

A compact model is post-pretrained on synthesised sounds in a process of its own, which is killed (SIGKILL)
at a random moment and started again, until it ends; then its weights and its history are compared with
those of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from artifact.notebook.setup import set_up
from tclap import files, load_clips, load_model
from tclap.data.batches import SegmentBank
from tclap.data.captions import vocabulary
from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio
from tclap.training.checkpoints import Checkpoints
from tclap.training.features import TextFeatures
from tclap.training.pool import MelSource, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import variant

LABELS = ["dog", "rain", "siren", "clock tick"]


class Training:
    """One training, the same every time it is run."""

    def __init__(self, steps: int, every: int) -> None:
        clips = load_clips(
            "synthetic", labels=LABELS, clips_per_class={"base": 2, "post": 8, "validation": 4, "test": 2}
        )
        torch.manual_seed(0)
        self.start = load_model("compact").state_dict()
        model = self.model()
        audio = ClipAudio(clips, model.sample_rate)
        self.pools = [
            make_pool(
                MelSource(
                    model, SegmentBank(for_stage(clips, stage), audio, model.audio_trunk.mel, model.window)
                ),
                pairs=pairs,
                base_items=2 * pairs,
                seed=0,
                stage=stage,
            )
            for stage, pairs in (("post", 96), ("validation", 32))
        ]
        self.text = TextFeatures(model.text_trunk, vocabulary(LABELS))
        self.schedule = Schedule(steps, 3e-3, validate_every=every)

    def model(self) -> torch.nn.Module:
        """The model before the training."""
        model = load_model("compact")
        model.load_state_dict(self.start)
        return model

    def run(self, folder: Path) -> str:
        """Train, going on from what lies in a folder, and return the hash of all that came of it."""
        model = self.model()
        history = post_pretrain(
            model,
            variant("t-clap"),
            self.text,
            *self.pools,
            self.schedule,
            batch=16,
            replay_batch=16,
            text_loss=TextOnlyLoss(model, self.text, LABELS, 0),
            text_loss_batch=4,
            seed=0,
            checkpoints=Checkpoints(folder, "kills"),
        )
        columns = history.drop(columns="items_per_second")
        rows = {name: torch.from_numpy(columns[name].to_numpy()) for name in columns}
        return files.hash_state(model.own_state() | rows)

    def run_apart(self, folder: Path, seconds: float | None) -> bool:
        """Train in a forked process, killed after some seconds; whether it came to its end."""
        child = os.fork()
        if child == 0:
            # os._exit, because the parent's handlers are not the child's to run.
            try:
                (folder.parent / "hash").write_text(self.run(folder))
                os._exit(0)
            except BaseException:
                os._exit(1)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError(f"the training in {folder} failed by itself.")
        return os.WIFEXITED(status)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=2, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    set_up(threads=1)
    logging.getLogger().setLevel(logging.WARNING)
    rng, rows = np.random.default_rng(options.seed), []
    with tempfile.TemporaryDirectory() as temporary:
        training = Training(options.steps, options.every)
        began = time.perf_counter()
        expected = training.run(Path(temporary) / "whole" / "checkpoints")
        whole = time.perf_counter() - began
        while len(rows) < options.kills:
            folder = Path(temporary) / str(rng.integers(2**62)) / "checkpoints"
            # Anywhere from before the first step to after the last.
            moment = rng.uniform(0, whole)
            if training.run_apart(folder, moment):
                continue  # it was faster this time
            kept = sorted(path.name for path in folder.glob("step-*"))
            training.run_apart(folder, None)
            same = (folder.parent / "hash").read_text() == expected
            last = kept[-1] if kept else "none"
            rows.append({"killed after s": f"{moment:.2f}", "last checkpoint": last, "same bits": same})
    table = pd.DataFrame(rows)
    print(f"{options.steps} steps in {whole:.1f} s, a checkpoint every {options.every} steps")
    print(table.to_string(index=False))
    print(f"{table['same bits'].sum()} of {len(table)} runs end in the same bits")


if __name__ == "__main__":
    main()
