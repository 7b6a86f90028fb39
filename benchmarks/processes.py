"""What do several processes that fine-tune together share, and what does each of them do again?

On 1, 2 and 4 processes of one thread each, by rank: waveforms and captions through the frozen trunks. In
processor seconds of all processes together: the audio trunk, what surrounds it (sounds are read and placed by
each process, rendered and exchanged), the text trunk, and the training steps with one validation. The model
is sfx, on synthesised sounds, without a store. docs/library.md makes a law of cost of it.

    python benchmarks/processes.py [--processes 1 2 4] [--pairs 48]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from tclap import load_clips, load_model
from tclap.data.composites import ClipAudio
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.distributed import current
from tclap.training.features import AudioFeatures, TextFeatures
from tclap.training.pool import WaveformSource, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.variants import variant

LABELS = ["dog", "rain", "siren", "clock tick", "engine", "church bells", "crow"]
CLIPS = {"base": 1, "post": 8, "validation": 4, "test": 1}
BATCH, STEPS = 16, 10


class Watched(nn.Module):
    """A trunk with the number of items that went through it, and the processor seconds that they took."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.items, self.seconds = trunk, 0, 0.0

    def forward(self, batch):
        began = time.process_time()
        found = self.trunk(batch)
        self.items, self.seconds = self.items + len(batch), self.seconds + time.process_time() - began
        return found


def work(pairs: int, folder: Path) -> None:
    """One process's part; what it took goes into a file of its own."""
    torch.set_num_threads(1)
    processes = current()
    clips = processes.on_main(lambda: load_clips("synthetic", labels=LABELS, clips_per_class=CLIPS))
    torch.manual_seed(0)
    model = load_model("sfx", device="cpu")
    model.audio_trunk, model.text_trunk = Watched(model.audio_trunk), Watched(model.text_trunk)
    reduced, reduce = [], torch.distributed.all_reduce

    def counted(tensor, *arguments, **options):
        reduced.append(tensor.nbytes)
        return reduce(tensor, *arguments, **options)

    torch.distributed.all_reduce = counted
    times = [time.process_time()]
    source = WaveformSource(
        AudioFeatures(model, ClipAudio(clips, model.sample_rate), processes=processes), clips
    )
    sizes = {"post": (pairs, pairs), "validation": (8, BATCH)}
    pools = [make_pool(source, pairs=n, base_items=m, seed=0, stage=s) for s, (n, m) in sizes.items()]
    captions = pools[0].vocabulary | pools[1].vocabulary
    text = TextFeatures(model.text_trunk, captions, processes=processes)
    times.append(time.process_time())
    reduced.clear()
    schedule, embedding = Schedule(STEPS, 1e-3), BatchEmbedder(processes)
    options = {"batch": BATCH, "replay_batch": BATCH, "seed": 0, "embedding": embedding}
    post_pretrain(model, variant("t-clap"), text, *pools, schedule, **options)
    times.append(time.process_time())
    trunk, pool, steps = model.audio_trunk.seconds, times[1] - times[0], times[2] - times[1]
    found = {
        "waveforms": model.audio_trunk.items,
        "captions": model.text_trunk.items,
        "audio trunk, s": trunk,
        "around it, s": pool - trunk - model.text_trunk.seconds,
        "text trunk, s": model.text_trunk.seconds,
        "steps, s": steps,
        "reduced a step, MB": sum(reduced) / STEPS / 1e6,
        "trunk outputs, MB": sum(i.features.nbytes for p in pools for i in (p.composites, p.base)) / 1e6,
    }
    (folder / f"{processes.rank}.json").write_text(json.dumps(found))


def measure(count: int, pairs: int) -> pd.DataFrame:
    """What each of ``count`` processes did, a row each, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command = [sys.executable, *launcher, __file__, "--pairs", str(pairs), "--folder", folder]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "TCLAP_BATCH": "1"})
        files = sorted(Path(folder).glob("*.json"))
        return pd.DataFrame([json.loads(file.read_text()) for file in files])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--pairs", type=int, default=48, help="composites, and as many base-type items")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        work(options.pairs, options.folder)
        return
    found = {count: measure(count, options.pairs) for count in options.processes}
    rows = []
    for count, ranks in found.items():
        row = {"processes": count}
        row |= {f"{name} by rank": " ".join(map(str, ranks[name])) for name in ("waveforms", "captions")}
        row |= {name: ranks[name].sum() for name in ranks if name.endswith(", s")}
        rows.append(row | {name: ranks[name].max() for name in ranks if name.endswith("MB")})
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    one = next(iter(found.values())).sum()
    for name in ("audio trunk", "around it"):
        print(f"{name}: {1000 * one[f'{name}, s'] / one['waveforms']:.3g} ms a waveform")
    print(
        f"a step of {BATCH} composites and {BATCH} base-type items: {1000 * one['steps, s'] / STEPS:.3g} ms"
    )


if __name__ == "__main__":
    main()
