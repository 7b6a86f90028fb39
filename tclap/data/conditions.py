"""Sequences of events that are harder than training's: gaps, cross-fades, lengths, levels, noise.

Training and the tasks play two events of one length and one level, end to end. An
:class:`Arrangement` plays any number of events in order, with what a :class:`Condition` changes.
Everything else is as the ``fit`` policy has it (:mod:`tclap.data.composites`): each event is the
most energetic part of its clip, the whole fills the model's window and has one RMS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from tclap import audio
from tclap.data.composites import TARGET_RMS, cut_event


@dataclass(frozen=True)
class Condition:
    """What is other than in training's composites; the defaults change nothing.

    Attributes:
        gap: silence between the events, as a share of the window; negative for an equal-power
            cross-fade.
        boundary: where the first event ends, as a share of the events' time.
        first_db: level of the first event over the second, in dB.
        snr_db: level of the events over pink noise in dB; None: no noise.
        near: whether the first and the second event lie at the boundary between them; they last half
            as long then, and the rest of each half is silence. None: they fill their halves.
        backwards: whether each event is played backwards, in its place. It is what the inversion of the
            composite sounds like when the whole of it is played backwards.
    """

    gap: float = 0.0
    boundary: float = 0.5
    first_db: float = 0.0
    snr_db: float | None = None
    near: tuple[bool, bool] | None = None
    backwards: bool = False


class Event(NamedTuple):
    """A part of a clip: from ``start`` on ``length`` samples, times ``gain``, as it is or backwards."""

    clip_id: str
    start: int
    length: int
    gain: float
    backwards: bool = False

    def cut(self, clip: np.ndarray) -> np.ndarray:
        """The event's samples, of its clip's."""
        part = cut_event(clip, self.start, self.length) * np.float32(self.gain)
        return part[::-1] if self.backwards else part


@dataclass(frozen=True)
class Arrangement:
    """Events in the order they are played; lengths in samples at ``sample_rate``.

    ``lead`` samples of silence come first, ``gap`` lie between neighbours (negative: a cross-fade), and
    silence fills the rest of the ``window``. ``seed`` is of the noise.
    """

    events: tuple[Event, ...]
    window: int
    sample_rate: int
    lead: int = 0
    gap: int = 0
    snr_db: float | None = None
    seed: tuple[int, ...] = ()

    @property
    def clip_ids(self) -> list[str]:
        """The clips that it is made of, in order."""
        return [event.clip_id for event in self.events]

    def described(self) -> dict[str, Any]:
        """All that decides its sound beside the clips' files, as plain values."""
        return asdict(self) | {"events": [event[1:] for event in self.events]}

    def render(self, clip_audio: Callable[[str], np.ndarray]) -> np.ndarray:
        """The waveform: float32 ``[window]``, at one RMS; silence stays silence.

        Raises:
            ValueError: when the events do not fit in the window.
        """
        played = [event.cut(clip_audio(event.clip_id)) for event in self.events]

        def join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return audio.concatenate(first, second, gap=max(self.gap, 0), crossfade=max(-self.gap, 0))

        joined = reduce(join, played)
        rest = self.window - self.lead - len(joined)
        if self.lead < 0 or rest < 0:
            raise ValueError(
                f"{len(joined)} samples after {self.lead} of silence do not fit in {self.window}."
            )
        waveform = np.concatenate([np.zeros(self.lead, np.float32), joined, np.zeros(rest, np.float32)])
        level = audio.rms(waveform)
        if self.snr_db is not None and level > 0:
            noise = pink_noise(self.window, np.random.default_rng(self.seed))
            waveform = waveform + noise * np.float32(level * 10 ** (-self.snr_db / 20))
        return audio.scale_to_rms(waveform, TARGET_RMS)


def pink_noise(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of equal power in every octave (power density 1 / f), float32 ``[samples]``, RMS 1, mean 0."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    steps = np.arange(len(spectrum))
    spectrum[1:] /= np.sqrt(steps[1:])
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def arrange(
    first: str,
    second: str,
    condition: Condition,
    clip_audio: Callable[[str], np.ndarray],
    window: float,
    sample_rate: int,
    seed: Sequence[int] = (),
) -> Arrangement:
    """Two clips, ``first`` played first, under a condition; ``window`` in seconds.

    Raises:
        ValueError: when the condition leaves no room for an event.
    """
    samples = round(window * sample_rate)
    gap = round(condition.gap * samples)
    if condition.near is None:
        lead, room = 0, samples - gap
        lengths = [round(condition.boundary * room)]
        lengths.append(room - lengths[0])
    else:
        # The first and the second half of the window, each half full.
        half, length = samples // 2, samples // 4
        first_near, second_near = condition.near
        lengths = [length, length]
        lead = half - length if first_near else 0
        gap = half - length - lead + (0 if second_near else half - length)
    if min(lengths) < 1 or min(lengths) <= -gap:
        raise ValueError(f"{condition} leaves no room for two events in {window:g} s.")
    gains = (10 ** (condition.first_db / 20), 1.0)
    events = [
        _event(clip_id, length, gain, clip_audio)._replace(backwards=condition.backwards)
        for clip_id, length, gain in zip((first, second), lengths, gains, strict=True)
    ]
    return Arrangement(tuple(events), samples, sample_rate, lead, gap, condition.snr_db, tuple(seed))


def sequence(
    clip_ids: Sequence[str], clip_audio: Callable[[str], np.ndarray], window: float, sample_rate: int
) -> Arrangement:
    """Clips one after the other, of equal length and level; they fill ``window`` seconds.

    Raises:
        ValueError: when there are fewer than two clips, or no room for them.
    """
    samples = round(window * sample_rate)
    length = samples // len(clip_ids) if len(clip_ids) > 1 else 0
    if length < 1:
        raise ValueError(f"{len(clip_ids)} clip(s) in {samples} samples make no sequence, expected two.")
    return Arrangement(
        tuple(_event(clip_id, length, 1.0, clip_audio) for clip_id in clip_ids), samples, sample_rate
    )


def _event(clip_id: str, length: int, gain: float, clip_audio: Callable[[str], np.ndarray]) -> Event:
    clip = clip_audio(clip_id)
    start = audio.most_energetic_start(clip, length)
    level = audio.rms(cut_event(clip, start, length))
    return Event(clip_id, start, length, gain * TARGET_RMS / level if level > 0 else gain)
