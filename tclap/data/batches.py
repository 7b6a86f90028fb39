"""Training batches composed from cached mel power.

Training hears each clip many times. The mel power of every clip's segment is computed once and
kept in a :class:`SegmentBank`; a composite's mel power is then two segments one after the other,
an overlap's is their sum. Embeddings agree with those of composed waveforms (cosine ≥ 0.99,
tested). Evaluation always composes waveforms.

Augmentation is drawn from a generator that the caller seeds by (seed, step): each segment is cut
from another part of its clip, rolled in time and changed in level, and bands of the log-mel are
blanked (SpecAugment, Park et al., arXiv 1904.08779).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap import audio
from tclap.data.captions import (
    CONJUNCTION,
    SINGLE,
    conjunction_events,
    view_captions,
    view_events,
)
from tclap.data.composites import ClipAudio, clip_text, render_single
from tclap.progress import progress

GAIN_DB = 6.0
LONGEST = 4  # segments of a clip that are kept, around its most energetic part
MASKED_FRAMES, MASKED_BANDS = 0.1, 0.15  # largest share of the axis that SpecAugment blanks
BASE_VIEWS = {"single": "first", "overlap": "overlap", "sequence": "forward"}
BASE_MIX = {"single": 0.30, "overlap": 0.35, "sequence": 0.35}
"""Shares of what a base model's training hears: one sound, two at once, two in any order."""


class SegmentBank:
    """Mel power of every clip, from which training cuts segments of half a window, at one RMS.

    ``power [clips, frames, mels]`` are the segments that the evaluation plays (the most energetic).
    With augmentation a segment may lie anywhere in the clip where it has at least ``crop_energy``
    times that one's energy, so that training hears more of a clip than its loudest part.

    Args:
        clips: the clips table (of one stage).
        clip_audio: reads them.
        mel: waveforms ``[N, samples]`` to mel power ``[N, frames, mels]``.
        window: the model's window in seconds; a segment is half of it.
        crop_energy: in (0, 1]; 1 keeps to the most energetic segment.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        clip_audio: ClipAudio,
        mel: Callable[[Tensor], Tensor],
        window: float,
        crop_energy: float = 1.0,
    ) -> None:
        self.clips = clips.reset_index(drop=True)
        self.row = {clip_id: n for n, clip_id in enumerate(self.clips["clip_id"])}
        half = round(window * clip_audio.sample_rate) // 2
        wholes, segments = [], []
        with torch.inference_mode():
            for clip_id in progress(self.clips["clip_id"], "mel power of clips", quiet=len(clips) < 512):
                clip = clip_audio(clip_id)
                segment = render_single(clip, window, clip_audio.sample_rate)[:half]
                segments.append(mel(torch.from_numpy(segment)[None])[0])
                longest = min(max(len(clip), half), LONGEST * half)
                start = audio.most_energetic_start(clip, longest)
                whole = (
                    audio.repeat_to(clip, longest)
                    if len(clip) < longest
                    else audio.crop(clip, start, longest)
                )
                wholes.append(mel(torch.from_numpy(whole)[None])[0])
        self.power = torch.stack(segments).clone()
        frames = self.power.shape[1]
        self._starts = [_loud_starts(whole.sum(1).double().numpy(), frames, crop_energy) for whole in wholes]
        self._whole = torch.nn.utils.rnn.pad_sequence(wholes, batch_first=True).clone()

    def rows(self, clip_ids: Sequence[str]) -> Tensor:
        """Positions of clips in the bank."""
        return torch.tensor([self.row[clip_id] for clip_id in clip_ids])

    def segments(self, rows: Tensor, generator: np.random.Generator | None) -> Tensor:
        """Mel power ``[N, frames, mels]`` of segments; with a generator cut, rolled and scaled at random."""
        reference = self.power[rows]
        if generator is None:
            return reference
        size, frames, mels = reference.shape
        draws = generator.random(size)
        start = [
            self._starts[row][int(draw * len(self._starts[row]))]
            for row, draw in zip(rows, draws, strict=True)
        ]
        shift = torch.from_numpy(generator.integers(frames, size=size))
        order = torch.tensor(start)[:, None] + (torch.arange(frames) + shift[:, None]) % frames
        power = self._whole[rows].gather(1, order[..., None].expand(-1, -1, mels))
        gain = 10 ** (generator.uniform(-GAIN_DB, GAIN_DB, size=size) / 10)
        # Silence has no level to restore.
        level = reference.sum((1, 2)) / power.sum((1, 2)).clamp_min(1e-30)
        return power * (level * torch.from_numpy(gain).float())[:, None, None]


def _loud_starts(energy: np.ndarray, frames: int, share: float) -> np.ndarray:
    """Starts of the segments of ``frames`` with at least ``share`` of the loudest one's energy."""
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    window = sums[frames:] - sums[:-frames]
    return np.flatnonzero(window >= share * window.max())


def compose_power(first: Tensor, second: Tensor, view: str) -> Tensor:
    """Mel power of a view, from two events' segments ``[N, frames, mels]``: twice as many frames.

    The sum of two independent signals has the sum of their powers; half of it has one event's RMS.
    """
    if view == "forward":
        return torch.cat([first, second], dim=1)
    if view == "reversed":
        return torch.cat([second, first], dim=1)
    if view == "overlap":
        return ((first + second) / 2).repeat(1, 2, 1)
    if view == "first":
        return first.repeat(1, 2, 1)
    raise ValueError(f"view must be forward, reversed, overlap or first, got {view!r}.")


def mask_bands(log_mel: Tensor, generator: np.random.Generator) -> Tensor:
    """SpecAugment: blank one range of frames and one of bands in each item ``[N, frames, mels]``."""
    masked = log_mel.clone()
    size = len(masked)
    for axis, share in ((1, MASKED_FRAMES), (2, MASKED_BANDS)):
        length = masked.shape[axis]
        width = generator.integers(int(share * length) + 1, size=size)
        start = generator.integers(length - width + 1)
        position = np.arange(length)
        blank = (position >= start[:, None]) & (position < (start + width)[:, None])
        masked.masked_fill_(torch.from_numpy(blank).unsqueeze(3 - axis), 0.0)
    return masked


@dataclass
class Batch:
    """Log-mel and what it is: ``log_mel [..., frames, mels]``, captions and events alike.

    Captions and events are flat lists in the order of the items; with three views the first N
    are forward, then reversed, then overlap.
    """

    log_mel: Tensor
    captions: list[str]
    events: list[str]


def draw_base_items(
    clips: pd.DataFrame, size: int, generator: np.random.Generator, mix: Mapping[str, float] = BASE_MIX
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds and the two clips' rows of ``size`` items a CLAP is trained on; ``mix`` has the kinds' shares.

    Raises:
        ValueError: when all clips have one label.
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
        templates = SINGLE if kind == "single" else CONJUNCTION
        template = templates[generator.integers(len(templates))]
        captions.append(template.format(a=names[i if kind == "single" else a], b=names[b]))
        events.append(labels[i] if kind == "single" else conjunction_events(labels[a], labels[b]))
    return captions, events


def base_batch(
    bank: SegmentBank,
    size: int,
    log: Callable[[Tensor], Tensor],
    generator: np.random.Generator,
    augment: bool = True,
    mix: Mapping[str, float] = BASE_MIX,
) -> Batch:
    """Items a CLAP is trained on: single sounds, and two sounds captioned "X and Y".

    Of two sounds some overlap and some follow each other, in either order; their caption is the
    same, so that nothing in these batches tells order.

    Raises:
        ValueError: when all clips have one label.
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
    bank: SegmentBank,
    pairs: pd.DataFrame,
    log: Callable[[Tensor], Tensor],
    generator: np.random.Generator | None,
) -> Batch:
    """The three views of drawn pairs, stacked: ``log_mel [3 N, frames, mels]``."""
    first, second = (bank.segments(bank.rows(pairs[c]), generator) for c in ("clip_i", "clip_j"))
    power = torch.cat([compose_power(first, second, v) for v in ("forward", "reversed", "overlap")])
    log_mel = log(power)
    if generator is not None:
        log_mel = mask_bands(log_mel, generator)
    captions, events = view_captions(pairs, generator), view_events(pairs)
    return Batch(log_mel, sum(captions, []), sum(events, []))
