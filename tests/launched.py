"""Trainings, for one process or for several started by ``accelerate launch``.

``accelerate launch --multi_gpu --num_processes 2 launched.py FOLDER`` writes what each process found. See
``training/test_distributed.py``.
"""

import atexit
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import TinyPublished, WordVectors, write_clips
from torch import Tensor, nn

from tclap.data.composites import ClipAudio
from tclap.models.base import Tokens
from tclap.models.compact import Compact
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.distributed import Processes, current
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures
from tclap.training.pool import Items, Pool
from tclap.training.post_pretraining import fine_tune, post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import variant

LABELS = ["bell", "crow", "dog", "rain"]
FRAMES, WIDTH = 7, 8


@dataclass(frozen=True)
class Case:
    """What a training is made of; in float64 unless the text-only loss, which is float32, is part of it."""

    name: str = "t-clap"
    batch: int = 8
    replay_batch: int = 5
    text_loss_batch: int = 0
    micro_batch: int | None = None
    chunk_size: int | None = None
    steps: int = 1
    dropout: float = 0.0


CASES = {
    "even": Case(),
    "uneven": Case(batch=7, replay_batch=9, chunk_size=2),
    "fewer than processes": Case(batch=2, replay_batch=1),
    "forward alone": Case("clap-ordered", batch=5),
    "no overlap": Case("t-clap-no-overlap", batch=6, micro_batch=1),
    "control": Case("clap-continued", batch=3),
    "text loss": Case(text_loss_batch=2, micro_batch=2),
    "dropout": Case(batch=7, dropout=0.4, micro_batch=2),
    "steps": Case(steps=4),
}


def made_pool(size: int, dtype: torch.dtype, seed: int) -> Pool:
    """Random trunk outputs under captions of few labels, so that many mean the same."""
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(LABELS, 2, replace=False) for _ in range(size)]
    singles = [[label] for label in rng.choice(LABELS, 2 * size)]

    def values(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).to(dtype)

    captions = [[f"{a} before {b}", f"{a} after {b}", f"{a} while {b}"] for a, b in pairs]
    events = [[f"{a}>{b}", f"{b}>{a}", "+".join(sorted((a, b)))] for a, b in pairs]
    return Pool(
        Items(values(size, 3, FRAMES, WIDTH), captions, events),
        Items(values(2 * size, 1, FRAMES, WIDTH), singles, singles),
    )


def train(case: Case, processes: Processes, checkpoint: Path | None = None) -> dict[str, Tensor]:
    """Losses of all steps, the last gradients and the final weights of a training."""
    dtype = torch.float32 if case.text_loss_batch else torch.float64
    torch.manual_seed(0)
    sizes = {"window": 0.5, "sample_rate": 8000, "n_fft": 256, "hop": 80, "mels": 16}
    model = Compact(**sizes, width=WIDTH, hidden=8, dim=12).eval().to(dtype)
    model.audio_head.readout = torch.nn.Sequential(torch.nn.Dropout(case.dropout), model.audio_head.readout)
    with torch.no_grad():  # the main process's weights are what counts
        for parameter in model.head_parameters():
            parameter += 0.1 * processes.rank
    text = WordVectors(dtype)
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
        checkpoint=checkpoint,
    )
    heads = ("audio_head.", "text_head.", "log_scale")
    found = {f"gradient.{n}": p.grad for n, p in model.named_parameters() if n.startswith(heads)}
    found |= {f"history.{name}": torch.from_numpy(history[name].to_numpy(copy=True)) for name in history}
    return found | model.own_state()


class Mingling(nn.Module):
    """A trunk of which each output depends on all that shares its batch."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    @property
    def fingerprint(self) -> str:
        return self.trunk.fingerprint

    @property
    def seen(self) -> int:
        return self.trunk.seen

    def forward(self, batch: Tensor | list[str]) -> Tensor | Tokens:
        found = self.trunk(batch)
        if isinstance(found, Tensor):
            return found + found.mean()
        return found._replace(values=found.values + found.values.mean())


class FewAtOnce(TextFeatures):
    BATCH = 3


def share_features(here: Processes, folder: Path) -> dict[str, Any]:
    """Trunk outputs without and with a store, and how many items this process computed for them."""
    clips = here.on_main(lambda: write_clips(folder / "clips"))
    items, captions = list(clips["clip_id"][:26]), [f"{a} {b}" for a in LABELS for b in LABELS]
    stores = {"memory": None, "store": FeatureStore(folder / "store")}
    stores["kept"] = stores["store"]
    # One that the others have and the main process has not.
    stores["of others"] = FeatureStore(folder / f"store-of-{here.rank}")
    found: dict[str, Any] = {}
    for name, store in stores.items():
        model = TinyPublished()
        model.audio_trunk, model.text_trunk = Mingling(model.audio_trunk), Mingling(model.text_trunk)
        audio = ClipAudio(clips, model.sample_rate)
        if name == "of others" and not here.is_main:
            AudioFeatures(model, audio, store).outputs(items, name)
            FewAtOnce(model.text_trunk, captions, store)
        before = model.audio_trunk.seen, model.text_trunk.seen
        outputs = AudioFeatures(model, audio, store, here).outputs(items, name)
        text = FewAtOnce(model.text_trunk, captions, store, processes=here)
        computed = model.audio_trunk.seen - before[0], model.text_trunk.seen - before[1]
        found[name] = outputs, text(captions), computed
    model = TinyPublished()
    history = fine_tune(model, clips, epochs=2, batch=8, pairs=20)
    found["fine-tuned"] = torch.from_numpy(history["loss"].to_numpy(copy=True)), model.audio_trunk.seen
    return found


def fail(here: Processes, folder: Path) -> list[str]:
    """What is said of errors of the last process, of the main one and of a store that is not shared."""
    last = here.world_size - 1

    def work(number: int) -> int:
        if number == last:
            raise FileNotFoundError("dog.wav is not there")
        return number

    def write() -> None:
        raise OSError("no space left")

    said = []
    attempts = (
        lambda: list(here.share(2 * here.world_size, work)),
        lambda: here.on_main(write),
        lambda: FeatureStore(folder / f"own-{here.rank}").fetch([], lambda: {"rows": torch.ones(1)}, here),
    )
    for attempt in attempts:
        try:
            attempt()
        except OSError as error:
            said.append(f"{type(error).__name__}: {error}")
    return [*said, here.on_main(lambda: "goes on")]


def main() -> None:
    """Compute every case, in the processes that were launched."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    # Registered first, it runs last at exit.
    atexit.register(
        lambda: (folder / f"left{here.rank}").write_text(str(not torch.distributed.is_initialized()))
    )
    here = current()
    found: dict[str, Any] = {"who": (here.world_size, here.rank, here.is_main, str(here.device))}
    found["features"], found["failed"] = share_features(here, folder), fail(here, folder)
    for name, case in CASES.items():
        found[name] = train(case, here, folder / "state.pt" if name == "steps" else None)
    for _ in range(2):  # the second goes on from the state, which the main process alone has
        found["continued"] = train(CASES["steps"], here, folder / f"state-of-{here.rank}.pt")
    torch.save(found, folder / f"{here.rank}.pt")


if __name__ == "__main__":
    main()
