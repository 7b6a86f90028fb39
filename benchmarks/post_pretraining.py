"""What does keeping trunk outputs do for a whole post-pretraining?

One run of the variant t-clap as the profile ``synthetic`` makes it, everything included (mel power of the
clips, pool of trunk outputs, outputs for the captions, all steps and validations), against the
straightforward loop in the same process: every step renders its waveforms, runs the whole audio tower and
the whole text tower, and keeps nothing but the decoded clips. Both augment in the same way and share the
losses, the optimiser and the number of threads; decoding the clips is counted in neither. The loop's time
is that of a few steps, scaled, and it is spared the validations.

    python benchmarks/post_pretraining.py [--threads 2] [--slow-steps 6]
    python benchmarks/post_pretraining.py --profile    # where one of our steps spends its time
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from artifact.config import Config, load_config
from tclap import audio, load_clips, load_model
from tclap.data.batches import (
    BASE_VIEWS,
    GAIN_DB,
    SegmentBank,
    base_captions,
    composite_batch,
    draw_base_items,
    mask_bands,
)
from tclap.data.captions import event_ids, view_captions, view_events, vocabulary
from tclap.data.clips import for_stage
from tclap.data.composites import TARGET_RMS, VIEWS, ClipAudio, draw_pairs
from tclap.losses import clip_loss, temporal_nce
from tclap.models.base import AudioTextModel
from tclap.training import post_pretraining
from tclap.training import text_loss as language
from tclap.training.features import TextFeatures
from tclap.training.loop import optimise
from tclap.training.pool import MelSource, Pool, batch_rows, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import variant

PROFILE, VARIANT, SEED = "synthetic", "t-clap", 0
STAGES = ("post", "validation")
PROFILED_STEPS = 80
LOSS_TOLERANCE = 0.02  # relative, of one batch composed from waveforms and from mel power
FIRST_STEP_RATIO = 2.0  # most by which the first step's losses may differ: other augmentation, other items


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class Waveforms:
    """Trunk outputs of composites and base items rendered from clips, which alone are kept.

    Augmentation is that of :class:`SegmentBank`, on waveforms.
    """

    def __init__(
        self, clips: pd.DataFrame, clip_audio: ClipAudio, model: AudioTextModel, crop_energy: float
    ) -> None:
        self.clips, self._clip_audio, self._trunk = clips, clip_audio, model.audio_trunk
        self._half = round(model.window * model.sample_rate) // 2
        self._starts = {
            clip_id: self._loud_starts(clip_audio(clip_id), crop_energy) for clip_id in clips["clip_id"]
        }

    def _loud_starts(self, clip: np.ndarray, share: float) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
        energy = total[self._half :] - total[: -self._half]
        return np.flatnonzero(energy >= share * energy.max())

    def segment(self, clip_id: str, generator: np.random.Generator | None) -> np.ndarray:
        """Half a window of a clip; with a generator cut, rolled and scaled at random."""
        clip = self._clip_audio(clip_id)
        if generator is None:
            return audio.scale_to_rms(
                audio.crop(clip, audio.most_energetic_start(clip, self._half), self._half), TARGET_RMS
            )
        cut = audio.crop(clip, int(generator.choice(self._starts[clip_id])), self._half)
        gain = np.float32(10 ** (generator.uniform(-GAIN_DB, GAIN_DB) / 20))
        return np.roll(audio.scale_to_rms(cut, TARGET_RMS), int(generator.integers(self._half))) * gain

    def composites(self, pairs: pd.DataFrame, generator: np.random.Generator | None) -> torch.Tensor:
        """Trunk outputs ``[3 N, T, D]`` of the three views."""
        segments = [
            (self.segment(i, generator), self.segment(j, generator))
            for i, j in zip(pairs["clip_i"], pairs["clip_j"], strict=True)
        ]
        return self._outputs([joined(i, j, view) for view in VIEWS for i, j in segments], generator)

    def base_items(
        self, size: int, generator: np.random.Generator
    ) -> tuple[torch.Tensor, list[str], list[str]]:
        """Trunk outputs, captions and events of base-type items."""
        drawn = draw_base_items(self.clips, size, generator)
        ids = self.clips["clip_id"].to_numpy()
        rendered = [
            joined(self.segment(ids[i], generator), self.segment(ids[j], generator), BASE_VIEWS[kind])
            for kind, i, j in zip(*drawn, strict=True)
        ]
        return self._outputs(rendered, generator), *base_captions(self.clips, *drawn, generator)

    @torch.no_grad()
    def _outputs(self, rendered: list[np.ndarray], generator: np.random.Generator | None) -> torch.Tensor:
        log_mel = self._trunk.mel.log(self._trunk.mel(torch.from_numpy(np.stack(rendered))))
        return self._trunk.from_log_mel(log_mel if generator is None else mask_bands(log_mel, generator))


def joined(first: np.ndarray, second: np.ndarray, view: str) -> np.ndarray:
    """The waveform of a view, whose mel power :func:`tclap.data.batches.compose_power` approximates."""
    if view == "first":
        return audio.repeat_to(first, 2 * len(first))
    if view == "overlap":
        return audio.repeat_to((first + second) * np.float32(np.sqrt(0.5)), 2 * len(first))
    return audio.concatenate(first, second) if view == "forward" else audio.concatenate(second, first)


def straightforward(
    model: AudioTextModel, waveforms: Waveforms, manifest: pd.DataFrame, config: Config, steps: int
) -> pd.DataFrame:
    """The history of a few steps of the loop that computes everything in every step."""
    post, settings = config.post_pretraining, variant(VARIANT)
    text_loss = TextOnlyLoss(model, model.text_trunk, sorted(waveforms.clips["label"].unique()), SEED)

    def losses(step: int) -> dict[str, torch.Tensor]:
        generator = np.random.default_rng([SEED, step])
        pairs = manifest.iloc[batch_rows(len(manifest), post.batch, step, SEED)]
        sounds = model.embed_audio(waveforms.composites(pairs, generator))
        words = model.embed_text(model.text_trunk(sum(view_captions(pairs, generator), [])))
        ids = torch.from_numpy(event_ids(sum(view_events(pairs), []))).reshape(3, -1)
        # The weights of t-clap are the loss's defaults.
        views = (x.unflatten(0, (3, -1)) for x in (sounds, words))
        terms = {"loss_temporal": temporal_nce(*views, model.logit_scale, events=ids)}

        features, captions, events = waveforms.base_items(post.replay_batch, generator)
        words = model.embed_text(model.text_trunk(captions))
        ids = torch.from_numpy(event_ids(events))
        terms["loss_replay"] = clip_loss(model.embed_audio(features), words, model.logit_scale, ids)
        terms["loss_text"] = sum(text_loss.losses(step, post.text_loss_batch).values())
        return terms | {"loss": sum(terms.values()) + (settings.replay - 1) * terms["loss_replay"]}

    schedule = dataclasses.replace(schedule_of(config), steps=steps)
    return optimise(
        model.head_parameters(),
        losses,
        schedule,
        "straightforward",
        after_step=model.clamp_scale,
        items=items_of(config),
    )


def items_of(config: Config) -> int:
    """Items a step."""
    return 3 * config.post_pretraining.batch + config.post_pretraining.replay_batch


def schedule_of(config: Config) -> Schedule:
    """The profile's schedule."""
    post = config.post_pretraining
    return Schedule.of(post.preset, post.steps, post.lr, validate_every=post.validate_every)


@dataclasses.dataclass
class Prepared:
    """What all variants of a run share, and the seconds that each part of it took."""

    banks: dict[str, SegmentBank]
    pools: dict[str, Pool]
    text: TextFeatures
    labels: list[str]
    seconds: dict[str, float]


def prepare(model: AudioTextModel, clips: pd.DataFrame, clip_audio: ClipAudio, config: Config) -> Prepared:
    """Bank, pools and captions, as :func:`artifact.training.train_variants` makes them."""
    post = config.post_pretraining
    sizes = {
        "post": {"pairs": post.pool_pairs, "base_items": post.pool_items},
        "validation": {"pairs": config.validation_pairs, "base_items": items_of(config)},
    }

    def make_banks() -> dict[str, SegmentBank]:
        mel, window = model.audio_trunk.mel, model.window
        return {
            stage: SegmentBank(for_stage(clips, stage), clip_audio, mel, window, config.crop_energy)
            for stage in STAGES
        }

    bank_seconds, banks = timed(make_banks)
    pool_seconds, pools = timed(
        lambda: {
            stage: make_pool(
                MelSource(model, banks[stage], augment=stage == "post"),
                stage=stage,
                seed=SEED,
                **sizes[stage],
            )
            for stage in STAGES
        }
    )
    labels = sorted(clips["label"].unique())
    text_seconds, text = timed(lambda: TextFeatures(model.text_trunk, vocabulary(labels)))
    seconds = {"bank": bank_seconds, "pool": pool_seconds, "captions": text_seconds}
    return Prepared(banks, pools, text, labels, seconds)


def train(model: AudioTextModel, prepared: Prepared, config: Config, steps: int) -> pd.DataFrame:
    """The history of our steps."""
    post, text = config.post_pretraining, prepared.text
    return post_pretrain(
        model,
        variant(VARIANT),
        text,
        *prepared.pools.values(),
        dataclasses.replace(schedule_of(config), steps=steps),
        batch=post.batch,
        replay_batch=post.replay_batch,
        seed=SEED,
        text_loss=TextOnlyLoss(model, text, prepared.labels, SEED),
        text_loss_batch=post.text_loss_batch,
        what=VARIANT,
    )


def compare(
    model: AudioTextModel, clips: pd.DataFrame, clip_audio: ClipAudio, config: Config, slow_steps: int
) -> None:
    """Run both and write the table and the checks."""
    post = config.post_pretraining
    prepared = prepare(model, clips, clip_audio, config)
    seconds = dict(prepared.seconds)
    seconds["steps"], ours = timed(lambda: train(model.with_own_heads(), prepared, config, post.steps))
    own = for_stage(clips, "post")
    ready, (waveforms, manifest) = timed(
        lambda: (
            Waveforms(own, clip_audio, model, config.crop_energy),
            draw_pairs(own, "post", post.pool_pairs, seed=SEED),
        )
    )
    slow = straightforward(model.with_own_heads(), waveforms, manifest, config, slow_steps + 1)
    step = float((items_of(config) / slow["items_per_second"].iloc[1:]).mean())

    pools = len({variant(name).distinct for name in config.variants})
    shared = (seconds["bank"] + seconds["captions"] + pools * seconds["pool"]) / len(config.variants)
    totals = {
        "straightforward": ready + post.steps * step,
        "ours, one variant": sum(seconds.values()),
        f"ours, one of {len(config.variants)} variants": shared + seconds["steps"],
    }
    items = post.steps * items_of(config)
    table = pd.DataFrame({"s in all": totals})
    table["items/s"] = items / table["s in all"]
    table["times faster"] = table["s in all"].iloc[0] / table["s in all"]
    write(f"{VARIANT}, {post.steps} steps of {items_of(config)} items, threads: {torch.get_num_threads()}")
    write(table.round(1).to_string())
    parts = ", ".join(f"{part} {value:.1f}" for part, value in seconds.items())
    write(f"ours in s: {parts} ({1000 * seconds['steps'] / post.steps:.0f} ms a step, validations included)")
    write(
        f"straightforward: {slow_steps} of {post.steps} steps timed after one to warm up "
        f"({1000 * step:.0f} ms a step), scaled; no validations"
    )
    write(
        f"one of {len(config.variants)}: bank and captions made once, {pools} pools "
        "(pairs drawn freely, and of distinct classes)"
    )
    check_first_step(ours, slow)
    check_batch(model, prepared, waveforms, manifest.head(post.batch))


def check_first_step(ours: pd.DataFrame, slow: pd.DataFrame) -> None:
    """Both learn the same thing: the same model's losses are of a size before the first update."""
    names = [name for name in ours if name.startswith("loss_")]
    first = pd.DataFrame({"ours": ours[names].iloc[0], "straightforward": slow[names].iloc[0]})
    write(
        "losses of the first step: " + "; ".join(f"{n} {a:.3f} and {b:.3f}" for n, a, b in first.itertuples())
    )
    ratio = float((first.max(axis=1) / first.min(axis=1)).max())
    if not ratio <= FIRST_STEP_RATIO:
        sys.exit(
            f"The losses of the first step differ {ratio:.2f}-fold, expected {FIRST_STEP_RATIO} at most."
        )


@torch.no_grad()
def check_batch(model: AudioTextModel, prepared: Prepared, waveforms: Waveforms, pairs: pd.DataFrame) -> None:
    """Without augmentation, the same pairs agree between the two compositions."""
    mel_power = composite_batch(prepared.banks["post"], pairs, model.audio_trunk.mel.log, None)
    words = model.embed_text(prepared.text(mel_power.captions)).unflatten(0, (3, -1))
    ids = torch.from_numpy(event_ids(mel_power.events)).reshape(3, -1)
    sounds = [
        model.embed_audio(features).unflatten(0, (3, -1))
        for features in (waveforms.composites(pairs, None), model.audio_trunk.from_log_mel(mel_power.log_mel))
    ]
    losses = [float(temporal_nce(x, words, model.logit_scale, events=ids)) for x in sounds]
    cosine = (sounds[0] * sounds[1]).sum(-1).amin(1)
    difference = abs(losses[0] - losses[1]) / losses[0]
    write(
        f"without augmentation: loss {losses[0]:.4f} of waveforms, {losses[1]:.4f} of mel power, "
        f"{100 * difference:.2f} % apart (tolerance {100 * LOSS_TOLERANCE:g} %); smallest cosine "
        + ", ".join(f"{view} {value:.4f}" for view, value in zip(VIEWS, cosine.tolist(), strict=True))
    )
    if not difference <= LOSS_TOLERANCE:
        sys.exit("The losses of the two compositions are further apart than that.")


class Stopwatch:
    """Seconds in parts of a training step; a part within a part counts for itself alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.seconds: Counter[str] = Counter()
        self._model = model
        self._open: list[list] = []  # name, and seconds of the parts within

    def wrap(self, name: str, function: Callable) -> Callable:
        """The function, timed."""

        def timed_function(*args: Any, **options: Any) -> Any:
            self._open.append([name, 0.0])
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                total = time.perf_counter() - start
                _, within = self._open.pop()
                if self._open:
                    self._open[-1][1] += total
                # Validation, in evaluation mode, is told apart by what the history leaves out.
                if self._model.training:
                    in_text_loss = any(outer == "text loss" for outer, _ in self._open)
                    self.seconds[f"text loss: {name}" if in_text_loss else name] += total - within

        return timed_function


class TimedRows:
    """Rows of a pool, timed."""

    def __init__(self, rows: torch.Tensor, stopwatch: Stopwatch) -> None:
        self.shape = rows.shape
        self._get = stopwatch.wrap("gather trunk outputs", rows.__getitem__)

    def __getitem__(self, index: np.ndarray) -> torch.Tensor:
        return self._get(index)


@contextmanager
def step_listener(stopwatch: Stopwatch, model: AudioTextModel) -> Iterator[None]:
    """The parts of a step that are functions, timed."""
    parts = [
        (post_pretraining, "batch_rows", "draw rows"),
        (post_pretraining, "event_ids", "event ids"),
        (post_pretraining, "temporal_nce", "temporal loss"),
        (post_pretraining, "clip_loss", "replay loss"),
        (language, "temporal_nce", "temporal loss"),
        (TextOnlyLoss, "losses", "text loss"),
        (model, "embed_audio", "audio head"),
        (model, "embed_text", "text head"),
        (torch.Tensor, "backward", "backward"),
        (torch.nn.utils, "clip_grad_norm_", "clip gradient"),
        (torch.optim.AdamW, "step", "optimiser"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in parts:
            replaced = stopwatch.wrap(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, replaced))
        yield


def profile(model: AudioTextModel, prepared: Prepared, config: Config) -> pd.Series:
    """Milliseconds a step by part, largest first."""
    model = model.with_own_heads()
    stopwatch = Stopwatch(model)
    post = copy.deepcopy(prepared.pools["post"])
    for items in (post.composites, post.base):
        items.features = TimedRows(items.features, stopwatch)
    prepared = dataclasses.replace(
        prepared,
        pools=prepared.pools | {"post": post},
        text=stopwatch.wrap("pad text features", prepared.text),
    )
    with step_listener(stopwatch, model):
        total, history = timed(lambda: train(model, prepared, config, PROFILED_STEPS))
    in_steps = float((items_of(config) / history["items_per_second"]).sum())
    parts = pd.Series(stopwatch.seconds).sort_values(ascending=False)
    parts["rest of the step"] = in_steps - parts.sum()
    parts["validation, a step's share"] = total - in_steps
    parts["in all"] = total
    return 1000 * parts / PROFILED_STEPS


def write(line: str) -> None:
    """A line of the report."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slow-steps", type=int, default=6, help="steps of the straightforward loop to time")
    parser.add_argument("--profile", action="store_true", help="only the parts of one of our steps")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(PROFILE)
    counts = config.dataset_options["clips_per_class"]
    clips = load_clips(config.dataset, clips_per_class={stage: counts[stage] for stage in STAGES})
    torch.manual_seed(SEED)
    model = load_model("compact", **config.model_options("compact"))
    clip_audio = ClipAudio(clips, model.sample_rate, keep=len(clips))
    for clip_id in clips["clip_id"]:
        clip_audio(clip_id)
    model.text_trunk(["loads the weights"])
    if not options.profile:
        compare(model, clips, clip_audio, config, options.slow_steps)
        return
    prepared, columns = prepare(model, clips, clip_audio, config), {}
    for threads in sorted({1, options.threads}):
        torch.set_num_threads(threads)
        columns[f"ms, threads: {threads}"] = profile(model, prepared, config)
    table = pd.DataFrame(columns).reindex(next(iter(columns.values())).index)
    write(f"{VARIANT}, a step of {items_of(config)} items")
    write(table.round(2).to_string())


if __name__ == "__main__":
    main()
