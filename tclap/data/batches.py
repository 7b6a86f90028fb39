"""Training batches composed from cached mel power.

Mel power of every clip is computed once (:class:`SegmentBank`); a composite's is two segments one after the
other, an overlap's the sum of two whole windows. Embeddings agree with those of composed waveforms (cosine ≥
0.99, tested); evaluation always composes waveforms. Augmentation is drawn from a generator that the caller
seeds by (seed, step): each segment is cut from another part of its clip, rolled in time and changed in
level, and bands of the log-mel are blanked (SpecAugment, Park et al., arXiv 1904.08779).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap import audio
from tclap.data.captions import CONJUNCTION, SINGLE, conjunction_events, view_captions, view_events
from tclap.data.composites import BOUNDARY, TARGET_RMS, ClipAudio, clip_text
from tclap.progress import progress

Mel = Callable[[Tensor], Tensor]
GAIN_DB = 6.0
LONGEST = 2  # windows of a clip that are kept, around its most energetic part
STEPS = 8  # of a frame, in which its most energetic segments are looked for
MASKED_FRAMES, MASKED_BANDS = 0.1, 0.15  # largest fraction of the axis that SpecAugment blanks
BASE_VIEWS = {"single": "first", "overlap": "overlap", "sequence": "forward"}
# Proportions of the kinds of items that a base model is trained on: one sound, two at once, two in any order.
BASE_MIX = {"single": 0.30, "overlap": 0.35, "sequence": 0.35}


class SegmentBank:
    """Mel power of every clip, from which training cuts segments of up to a ``window`` (seconds), at one RMS.

    ``mel`` turns waveforms ``[N, samples]`` into mel power ``[N, frames, mels]``; ``frames`` is a window's
    number of them. Without augmentation a segment is the most energetic one of its length, as the evaluation
    plays it; with it, it may lie wherever it has at least ``crop_energy`` (in (0, 1]) times that energy.
    """

    def __init__(
        self, clips: pd.DataFrame, clip_audio: ClipAudio, mel: Mel, window: float, crop_energy: float = 1.0
    ) -> None:
        self.clips, self.crop_energy = clips.reset_index(drop=True), crop_energy
        self._row = {clip_id: n for n, clip_id in enumerate(self.clips["clip_id"])}
        samples = round(window * clip_audio.sample_rate)
        self.frames = mel(torch.zeros(1, samples)).shape[1]
        powers, self._energy, self._sizes = [], [], []
        with torch.inference_mode():
            for clip_id in progress(self.clips["clip_id"], "mel power of clips", quiet=len(clips) < 512):
                clip = clip_audio(clip_id)
                longest = min(max(len(clip), samples), LONGEST * samples)
                kept = audio.crop(clip, audio.most_energetic_start(clip, longest), longest)
                powers.append(mel(torch.from_numpy(kept)[None])[0])
                frames = len(powers[-1])
                # Of the waveform, as the evaluation's crops and levels are: mel bands weigh frequencies.
                total = np.concatenate([[0.0], np.cumsum(np.square(kept, dtype=np.float64))])
                ends = np.linspace(0, longest, STEPS * frames + 1).round().astype(int)
                self._energy.append(total[ends] * frames / longest)
                self._sizes.append(min(len(clip), longest) * frames // longest)
        self._power = torch.nn.utils.rnn.pad_sequence(powers, batch_first=True).clone()

    def rows(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Positions of clips in the bank."""
        return np.array([self._row[clip_id] for clip_id in clip_ids])

    def segments(
        self, rows: np.ndarray, lengths: np.ndarray, generator: np.random.Generator | None
    ) -> Tensor:
        """Mel power ``[N, frames, mels]`` of segments of ``lengths`` frames, repeated to the whole window.

        With a generator they are cut, rolled and scaled at random.
        """
        size, at = len(rows), np.arange(self.frames) % lengths[:, None]
        draws = [None] * size if generator is None else generator.random(size)
        cuts = [self._cut(*drawn) for drawn in zip(rows, lengths, draws, strict=True)]
        start, level = map(np.array, zip(*cuts, strict=True))
        gain = TARGET_RMS**2 / np.maximum(level, 1e-30)  # silence has no level to restore
        if generator is not None:
            at = (at + generator.integers(lengths)[:, None]) % lengths[:, None]
            gain *= 10 ** (generator.uniform(-GAIN_DB, GAIN_DB, size=size) / 10)
        power = self._power[torch.from_numpy(rows)[:, None], torch.from_numpy(start[:, None] + at)]
        return power * torch.from_numpy(gain).float()[:, None, None]

    def _cut(self, row: int, length: int, draw: float | None) -> tuple[int, float]:
        """Start and mean power of the loudest segment of a clip, or of a drawn one that is loud enough."""
        total, last = self._energy[row], max(self._sizes[row] - length, 0)  # a shorter clip repeats from 0 on
        energy = total[STEPS * length : STEPS * (length + last) + 1] - total[: STEPS * last + 1]
        if draw is None:
            start = round(np.argmax(energy) / STEPS)
        else:
            loud = np.flatnonzero(energy[::STEPS] >= self.crop_energy * energy[::STEPS].max())
            start = int(loud[int(draw * len(loud))])
        return start, (total[STEPS * (start + length)] - total[STEPS * start]) / length


def compose_power(first: Tensor, second: Tensor, view: str, boundary: np.ndarray) -> Tensor:
    """Mel power of two events' segments ``[N, frames, mels]`` in a ``view``.

    It is ``first`` (that one alone), ``overlap``, or ``forward``: the first ``boundary [N]`` frames are the
    first segment's, and the others the second's, from its beginning on.
    """
    if view == "first":
        return first
    if view == "overlap":
        # The sum of two independent signals has the sum of their powers; half of it has one event's RMS.
        return (first + second) / 2
    at, split = torch.arange(first.shape[1]), torch.from_numpy(boundary)[:, None]
    position = (at - split).clamp_min(0)[..., None].expand_as(second)
    return torch.where((at < split)[..., None], first, second.gather(1, position))


def draw_boundaries(size: int, frames: int, generator: np.random.Generator | None) -> np.ndarray:
    """The first event's frames in ``size`` composites, within ``BOUNDARY``, drawn or evenly spread."""
    low, high = (round(part * frames) for part in BOUNDARY)
    if generator is None:
        return np.linspace(low, high, size).round().astype(int)
    return generator.integers(low, high, size=size, endpoint=True)


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
    labels, texts = clips["label"].to_numpy(), clips["captions"].to_numpy()
    captions, events = [], []
    for kind, i, j in zip(kinds, first, second, strict=True):
        names = {row: clip_text(texts[row], generator) for row in (i, j)}
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
    boundary = draw_boundaries(size, bank.frames, noise)
    is_sequence, frames = kinds == "sequence", np.full(size, bank.frames)
    segments = [
        bank.segments(rows, np.where(is_sequence, part, frames), noise)
        for rows, part in ((first, boundary), (second, frames - boundary))
    ]
    power = torch.empty_like(segments[0])
    for kind, view in BASE_VIEWS.items():
        of = kinds == kind
        power[of] = compose_power(segments[0][of], segments[1][of], view, boundary[of])
    captions, events = base_captions(bank.clips, kinds, first, second, generator)
    log_mel = log(power)
    return Batch(mask_bands(log_mel, generator) if augment else log_mel, captions, events)


def composite_batch(
    bank: SegmentBank, pairs: pd.DataFrame, log: Mel, generator: np.random.Generator | None
) -> Batch:
    """N pairs as 3 N items: all forward, all reversed, all overlap; augmented where there is a generator."""
    rows, frames = [bank.rows(pairs[column]) for column in ("clip_i", "clip_j")], bank.frames
    boundary, whole = draw_boundaries(len(pairs), frames, generator), np.full(len(pairs), frames)
    (first, second), wholes = (
        [bank.segments(row, length, generator) for row, length in zip(rows, lengths, strict=True)]
        for lengths in ((boundary, frames - boundary), (whole, whole))
    )
    power = [
        compose_power(first, second, "forward", boundary),
        compose_power(second, first, "forward", frames - boundary),
        compose_power(wholes[0], wholes[1], "overlap", boundary),
    ]
    log_mel = log(torch.cat(power))
    if generator is not None:
        log_mel = mask_bands(log_mel, generator)
    return Batch(log_mel, sum(view_captions(pairs, generator), []), sum(view_events(pairs), []))
