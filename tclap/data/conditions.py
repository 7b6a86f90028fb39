"""Sequences of events that are harder than training's: gaps, cross-fades, lengths, levels, noise.

Everything else is as under the ``fit`` policy (:mod:`tclap.data.composites`): each event is the most
energetic part of its clip, the whole fills the model's window and has one RMS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import numpy as np

from tclap import audio
from tclap.data.composites import TARGET_RMS, ClipAudio, Event, loudest_event, render, render_single
from tclap.data.synthesis import Synth


@dataclass(frozen=True)
class Condition:
    """How a sequence differs from training's composites; the defaults change nothing."""

    gap: float = 0.0  # silence between the events, as a fraction of the window; negative: a cross-fade
    boundary: float = 0.5  # where the first event ends, as a fraction of the events' time
    first_db: float = 0.0  # level of the first event over the second
    snr_db: float | None = None  # level of the events over pink noise; None: no noise
    # Whether the first and the second event lie at the boundary between them; they last half as long then,
    # and the rest of each half is silence. None: they fill their halves.
    near: tuple[bool, bool] | None = None
    # Whether each event is played backwards, in its place: the inverted composite, backwards as a whole.
    backwards: bool = False


@dataclass(frozen=True)
class Arrangement:
    """Events in the order they are played; lengths in samples.

    ``lead`` samples of silence come first, ``gap`` lie between neighbours (negative: a cross-fade), and
    silence fills the rest of the ``window``. ``seed`` is of the noise.
    """

    events: tuple[Event, ...]
    window: int
    lead: int = 0
    gap: int = 0
    snr_db: float | None = None
    seed: tuple[int, ...] = ()

    @property
    def clip_ids(self) -> list[str]:
        """The clips of the events, in order."""
        return [event.clip_id for event in self.events]

    def described(self) -> dict[str, Any]:
        """All that decides the sound except the clips' files, as plain values."""
        return asdict(self) | {"events": [event[1:] for event in self.events]}

    def render(self, clip_audio: ClipAudio) -> np.ndarray:
        """The waveform, float32 ``[window]``, at one RMS."""
        played = (event.cut(clip_audio) for event in self.events)
        joined = reduce(lambda first, second: audio.concatenate(first, second, self.gap), played)
        waveform = np.pad(joined, (self.lead, self.window - self.lead - len(joined)))
        if self.snr_db is not None:
            noise = pink_noise(self.window, np.random.default_rng(self.seed))
            waveform = waveform + noise * np.float32(audio.rms(waveform) * 10 ** (-self.snr_db / 20))
        return audio.scale_to_rms(waveform, TARGET_RMS)


def pink_noise(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of equal power in every octave, float32 ``[samples]``, RMS 1, mean 0."""
    noise = Synth(generator, 1).noise(samples, 1.0, lowest=1)
    noise -= noise.mean()
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def arrange(
    first: str,
    second: str,
    condition: Condition,
    clip_audio: ClipAudio,
    window: float,
    seed: Sequence[int] = (),
) -> Arrangement:
    """Two clips under a condition, in a ``window`` in seconds; ValueError when there is no room for one."""
    samples = round(window * clip_audio.sample_rate)
    lead, gap = 0, round(condition.gap * samples)
    lengths = [round(condition.boundary * (samples - gap))]
    lengths.append(samples - gap - lengths[0])
    if condition.near is not None:
        # The first and the second half of the window, each half full.
        half, length = samples // 2, samples // 4
        lengths, silence = [length, length], half - length
        lead = silence if condition.near[0] else 0
        gap = silence - lead + (0 if condition.near[1] else silence)
    if min(lengths) <= max(0, -gap):
        raise ValueError(f"{condition} leaves no room for two events in {window:g} s.")
    gains = (10 ** (condition.first_db / 20), 1.0)
    events = (
        loudest_event(clip_id, length, clip_audio, gain, condition.backwards)
        for clip_id, length, gain in zip((first, second), lengths, gains, strict=True)
    )
    return Arrangement(tuple(events), samples, lead, gap, condition.snr_db, tuple(seed))


def sequence(clip_ids: Sequence[str], clip_audio: ClipAudio, window: float) -> Arrangement:
    """Clips one after the other, of equal length and level; they fill ``window`` seconds."""
    samples = round(window * clip_audio.sample_rate)
    events = (loudest_event(clip_id, samples // len(clip_ids), clip_audio) for clip_id in clip_ids)
    return Arrangement(tuple(events), samples)


Sound = str | tuple[Mapping, str] | Arrangement  # a clip id, a manifest's row and a view, or an arrangement


def waveform_of(sound: Sound, clip_audio: ClipAudio, window: float) -> np.ndarray:
    """The waveform of a sound, float32 ``[samples]``; a clip as it is played alone in ``window`` seconds."""
    if isinstance(sound, str):
        return render_single(clip_audio(sound), window, clip_audio.sample_rate)
    return sound.render(clip_audio) if isinstance(sound, Arrangement) else render(*sound, clip_audio)
