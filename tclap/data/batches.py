"""Training batches composed from cached mel power.

Mel power of every clip is computed once (:class:`SegmentBank`); a composite's is two segments one after the
other, an overlap's their sum. Embeddings agree with those of composed waveforms (cosine ≥ 0.99, tested);
evaluation always composes waveforms. Augmentation is drawn from a generator that the caller seeds by (seed,
step): each segment is cut from another part of its clip, rolled in time and changed in level, and bands
of the log-mel are blanked (SpecAugment, Park et al., arXiv 1904.08779).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap import audio
from tclap.data.captions import CONJUNCTION, SINGLE, conjunction_events, view_captions, view_events
from tclap.data.composites import VIEWS, ClipAudio, clip_text, cut_event, render_single
from tclap.progress import progress

Mel = Callable[[Tensor], Tensor]
GAIN_DB = 6.0
LONGEST = 4  # segments of a clip that are kept, around its most energetic part
MASKED_FRAMES, MASKED_BANDS = 0.1, 0.15  # largest fraction of the axis that SpecAugment blanks
BASE_VIEWS = {"single": "first", "overlap": "overlap", "sequence": "forward"}
# Proportions of the kinds of items that a base model is trained on: one sound, two at once, two in any order.
BASE_MIX = {"single": 0.30, "overlap": 0.35, "sequence": 0.35}


class SegmentBank:
    """Mel power of every clip, from which training cuts segments of half a ``window`` (seconds), at one RMS.

    ``mel`` turns waveforms ``[N, samples]`` into mel power ``[N, frames, mels]``. ``power [clips, frames,
    mels]`` are the segments that the evaluation plays (the most energetic). With augmentation a segment may
    lie anywhere in the clip where it has at least ``crop_energy`` (in (0, 1]) times that one's energy.
    """

    def __init__(
        self, clips: pd.DataFrame, clip_audio: ClipAudio, mel: Mel, window: float, crop_energy: float = 1.0
    ) -> None:
        self.clips = clips.reset_index(drop=True)
        self._row = {clip_id: n for n, clip_id in enumerate(self.clips["clip_id"])}
        half = round(window * clip_audio.sample_rate) // 2
        wholes, segments = [], []
        with torch.inference_mode():
            for clip_id in progress(self.clips["clip_id"], "mel power of clips", quiet=len(clips) < 512):
                clip = clip_audio(clip_id)
                segment = render_single(clip, window, clip_audio.sample_rate)[:half]
                longest = min(max(len(clip), half), LONGEST * half)
                whole = cut_event(clip, audio.most_energetic_start(clip, longest), longest)
                for waveform, kept in ((segment, segments), (whole, wholes)):
                    kept.append(mel(torch.from_numpy(waveform)[None])[0])
        self.power = torch.stack(segments).clone()
        frames = self.power.shape[1]
        self._starts = [_loud_starts(whole.sum(1).double().numpy(), frames, crop_energy) for whole in wholes]
        self._whole = torch.nn.utils.rnn.pad_sequence(wholes, batch_first=True).clone()

    def rows(self, clip_ids: Sequence[str]) -> Tensor:
        """Positions of clips in the bank."""
        return torch.tensor([self._row[clip_id] for clip_id in clip_ids])

    def segments(self, rows: Tensor, generator: np.random.Generator | None) -> Tensor:
        """Mel power ``[N, frames, mels]`` of segments; with a generator cut, rolled and scaled at random."""
        reference = self.power[rows]
        if generator is None:
            return reference
        size, frames, mels = reference.shape
        draws = generator.random(size)
        starts = [self._starts[row] for row in rows]
        start = [found[int(draw * len(found))] for found, draw in zip(starts, draws, strict=True)]
        shift = torch.from_numpy(generator.integers(frames, size=size))
        order = torch.tensor(start)[:, None] + (torch.arange(frames) + shift[:, None]) % frames
        power = self._whole[rows].gather(1, order[..., None].expand(-1, -1, mels))
        gain = 10 ** (generator.uniform(-GAIN_DB, GAIN_DB, size=size) / 10)
        # Silence has no level to restore.
        level = reference.sum((1, 2)) / power.sum((1, 2)).clamp_min(1e-30)
        return power * (level * torch.from_numpy(gain).float())[:, None, None]


def _loud_starts(energy: np.ndarray, frames: int, fraction: float) -> np.ndarray:
    """Starts of the segments of ``frames`` with at least ``fraction`` of the loudest one's energy."""
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    window = sums[frames:] - sums[:-frames]
    return np.flatnonzero(window >= fraction * window.max())


def compose_power(first: Tensor, second: Tensor, view: str) -> Tensor:
    """Mel power of a view (one of ``VIEWS``, or "first") of two events' segments ``[N, frames, mels]``."""
    # The sum of two independent signals has the sum of their powers; half of it has one event's RMS.
    mixed = (first + second) / 2
    halves = {"forward": (first, second), "reversed": (second, first), "overlap": (mixed, mixed)}
    return torch.cat((halves | {"first": (first, first)})[view], dim=1)


def mask_bands(log_mel: Tensor, generator: np.random.Generator) -> Tensor:
    """SpecAugment: blank one range of frames and one of bands in each item ``[N, frames, mels]``."""
    masked = log_mel.clone()
    size = len(masked)
    for axis, fraction in ((1, MASKED_FRAMES), (2, MASKED_BANDS)):
        length = masked.shape[axis]
        width = generator.integers(int(fraction * length) + 1, size=size)
        start = generator.integers(length - width + 1)
        position = np.arange(length)
        blank = (position >= start[:, None]) & (position < (start + width)[:, None])
        masked.masked_fill_(torch.from_numpy(blank).unsqueeze(3 - axis), 0.0)
    return masked


@dataclass
class Batch:
    """``log_mel [N, frames, mels]`` with each item's caption and canonical events."""

    log_mel: Tensor
    captions: list[str]
    events: list[str]


def draw_base_items(
    clips: pd.DataFrame, size: int, generator: np.random.Generator, mix: Mapping[str, float] = BASE_MIX
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds (in the proportions ``mix``) and the two clips' rows of ``size`` items that a CLAP is trained on.

    Raises ValueError when all clips have one label.
    """
    labels = clips["label"].to_numpy()
    if len(set(labels)) < 2:
        raise ValueError(f"two sounds need two labels; the clips have only {labels[0]!r}.")
    kinds = generator.choice(list(mix), size=size, p=list(mix.values()))
    first = generator.integers(len(labels), size=size)
    # A second clip of another label: draw until it differs.
    second = generator.integers(len(labels), size=size)
    while (same := labels[first] == labels[second]).any():
        second[same] = generator.integers(len(labels), size=same.sum())
    return kinds, first, second


def base_captions(
    clips: pd.DataFrame,
    kinds: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    generator: np.random.Generator,
) -> tuple[list[str], list[str]]:
    """Captions and events of base items: a single sound's name, or "X and Y" in either order."""
    labels = clips["label"].to_numpy()
    captions, events = [], []
    for kind, i, j in zip(kinds, first, second, strict=True):
        names = {row: clip_text(clips, row, generator) for row in (i, j)}
        a, b = (i, j) if generator.random() < 0.5 else (j, i)
        is_single = kind == "single"
        templates = SINGLE if is_single else CONJUNCTION
        template = templates[generator.integers(len(templates))]
        captions.append(template.format(a=names[i if is_single else a], b=names[b]))
        events.append(labels[i] if is_single else conjunction_events(labels[a], labels[b]))
    return captions, events


def base_batch(
    bank: SegmentBank,
    size: int,
    log: Mel,
    generator: np.random.Generator,
    augment: bool = True,
    mix: Mapping[str, float] = BASE_MIX,
) -> Batch:
    """Items a CLAP is trained on: single sounds, and two sounds captioned "X and Y".

    Of two sounds some overlap and some follow each other, in either order, under the same captions: these
    batches carry no order information. Raises ValueError when all clips have one label.
    """
    kinds, first, second = draw_base_items(bank.clips, size, generator, mix)
    noise = generator if augment else None
    segments = [bank.segments(torch.from_numpy(rows), noise) for rows in (first, second)]
    power = torch.empty(size, 2 * bank.power.shape[1], bank.power.shape[2])
    for kind, view in BASE_VIEWS.items():
        chosen = torch.from_numpy(kinds == kind)
        power[chosen] = compose_power(segments[0][chosen], segments[1][chosen], view)
    captions, events = base_captions(bank.clips, kinds, first, second, generator)
    log_mel = log(power)
    return Batch(mask_bands(log_mel, generator) if augment else log_mel, captions, events)


def composite_batch(
    bank: SegmentBank, pairs: pd.DataFrame, log: Mel, generator: np.random.Generator | None
) -> Batch:
    """N pairs as 3 N items: all forward, all reversed, all overlap; augmented where there is a generator."""
    first, second = (bank.segments(bank.rows(pairs[c]), generator) for c in ("clip_i", "clip_j"))
    log_mel = log(torch.cat([compose_power(first, second, view) for view in VIEWS]))
    if generator is not None:
        log_mel = mask_bands(log_mel, generator)
    return Batch(log_mel, sum(view_captions(pairs, generator), []), sum(view_events(pairs), []))
