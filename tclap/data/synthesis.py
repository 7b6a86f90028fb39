"""Building blocks of synthetic sounds: oscillators, noise, filters, envelopes and their timing.

Textbook sound synthesis in float64: source and filter for voices (Fant 1960), damped modes for struck
objects, modulated noise for weather and machines (Farnell, Designing Sound, 2010). ``n`` is a length in
samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import signal

FADE_SECONDS = 0.02
Values = Sequence[float] | np.ndarray


def contour(points: Values, n: int) -> np.ndarray:
    """Straight lines through evenly spaced ``points``, as ``n`` samples."""
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(points)), points)


def arch(n: int, attack: float, release: float) -> np.ndarray:
    """Envelope from 0 to 1 to 0; ``attack`` and ``release`` are fractions of its length."""
    t = np.linspace(0, 1, n)
    return np.sin(np.pi / 2 * np.minimum(1, np.minimum(t / attack, (1 - t) / release))) ** 2


def power_law(count: int, exponent: float) -> np.ndarray:
    """Weights 1, 2^-exponent, 3^-exponent, … of ``count`` harmonics."""
    return np.arange(1, count + 1.0) ** -exponent


class Synth:
    """Sounds at one ``rate`` in Hz, with ``rng`` as the only source of randomness."""

    def __init__(self, rng: np.random.Generator, rate: int) -> None:
        self.rng, self.rate = rng, rate
        self.uniform, self.integers, self.normal = rng.uniform, rng.integers, rng.standard_normal

    def log_uniform(self, low: float, high: float, size: tuple[int, ...] | int | None = None) -> Any:
        """Numbers between ``low`` and ``high`` whose logarithm is uniform."""
        return np.exp(self.uniform(np.log(low), np.log(high), size))

    def noise(self, n: int, slope: float, lowest: int | None = None) -> np.ndarray:
        """Gaussian noise ``[n]`` of RMS 1 whose power falls as 1/f^slope (0 white, 1 pink, 2 brown).

        Below the spectrum's bin ``lowest`` (default: 1/300 of the band) it is level, or brown noise would be
        mostly infrasound.
        """
        spectrum = np.fft.rfft(self.normal(n))
        frequency = np.maximum(np.arange(len(spectrum)), lowest or max(1, n // 600))
        x = np.fft.irfft(spectrum * frequency ** (-slope / 2), n)
        return x / np.sqrt(np.mean(x**2))

    def wander(self, n: int, hertz: float) -> np.ndarray:
        """Slow random curve of about unit variance with ``hertz`` knots per second."""
        return contour(self.normal(max(4, int(n / self.rate * hertz) + 2)), n)

    def impulses(self, n: int, per_second: float, spread: float) -> np.ndarray:
        """Impulses at random times with log-normal heights."""
        count = max(1, self.rng.poisson(per_second * n / self.rate))
        y = np.zeros(n)
        np.add.at(y, self.integers(0, n, count), self.rng.lognormal(0, spread, count))
        return y

    def band_pass(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        """Butterworth filter of fourth order; corners beyond what the rate can hold move down."""
        high = min(high, 0.45 * self.rate)
        corners = [min(low, 0.7 * high), high]
        return signal.sosfilt(signal.butter(2, corners, "band", fs=self.rate, output="sos"), x)

    def low_pass(self, x: np.ndarray, high: float) -> np.ndarray:
        """Butterworth filter of second order."""
        return signal.sosfilt(signal.butter(2, min(high, 0.45 * self.rate), fs=self.rate, output="sos"), x)

    def resonate(self, x: np.ndarray, frequencies: Values, bandwidth: float) -> np.ndarray:
        """Parallel resonances of gain 1, each as wide as ``bandwidth`` times its frequency."""
        y = np.zeros_like(x)
        for frequency in frequencies:
            peak = signal.iirpeak(min(frequency, 0.45 * self.rate), 1 / bandwidth, fs=self.rate)
            y += signal.lfilter(*peak, x)
        return y

    def tone(self, f0: np.ndarray, weights: Values) -> np.ndarray:
        """Harmonics of the pitch curve ``f0`` in Hz, fading out below Nyquist; weights from the first up."""
        fundamental = np.cos(2 * np.pi * np.cumsum(f0) / self.rate)
        # Chebyshev: cos (k+1)x = 2 cos x cos kx - cos (k-1)x, much cheaper than a cosine each.
        double, before, harmonic = 2 * fundamental, np.ones_like(fundamental), fundamental
        y = np.zeros_like(fundamental)
        lowest, highest = f0.min() / self.rate, f0.max() / self.rate
        for k, weight in enumerate(weights, start=1):
            if k * lowest > 0.48:
                break
            audible = 1.0 if k * highest < 0.43 else np.clip((0.48 - k * f0 / self.rate) / 0.05, 0, 1)
            y += weight * audible * harmonic
            before, harmonic = harmonic, double * harmonic - before
        return y

    def voiced(
        self, f0: np.ndarray, rolloff: float, formants: Values, *, bandwidth: float, breath: float
    ) -> np.ndarray:
        """Source and filter: jittered harmonics plus ``breath`` noise through formants."""
        n = len(f0)
        source = self.tone(f0 * (1 + 0.01 * self.wander(n, 60)), power_law(30, rolloff))
        source += breath * self.normal(n)
        return 0.15 * source + self.resonate(source, formants, bandwidth)

    def struck(
        self,
        frequencies: Values,
        decays: Values,
        weights: Values,
        *,
        attack: float = 0.0,
        longest: float = np.inf,
    ) -> np.ndarray:
        """Damped modes (time constants ``decays`` in seconds) with a burst of ``attack`` noise of 2 ms.

        As long as five times the slowest decay, but no longer than ``longest`` seconds.
        """
        n = int(min(longest, 5 * max(decays)) * self.rate) + 1
        y, impulse = np.zeros(n), np.eye(1, n)[0]
        for frequency, decay, weight in zip(frequencies, decays, weights, strict=True):
            if frequency < 0.48 * self.rate:
                # z-transform of r^n sin(wn + phase): a recursion is several times faster than exp and sin.
                w, r = 2 * np.pi * frequency / self.rate, np.exp(-1 / (decay * self.rate))
                phase = self.uniform(0, 2 * np.pi)
                numerator = [np.sin(phase), r * np.sin(w - phase)]
                y += weight * signal.lfilter(numerator, [1, -2 * r * np.cos(w), r * r], impulse)
        return y + attack * np.exp(-np.arange(n) / (0.002 * self.rate)) * self.normal(n)

    def sequence(self, n: int, events: Sequence[np.ndarray], gaps: Values) -> np.ndarray:
        """Events one after another at a random place within ``n`` samples, dropping what has no room.

        ``gaps`` in seconds lie between the end of one and the start of the next; negative ones overlap.
        """
        starts: list[int] = []
        position = 0
        for event, gap in zip(events, gaps, strict=True):
            if starts and position + len(event) > n:
                break
            starts.append(position)
            position += max(1, len(event) + int(gap * self.rate))
        placed = list(zip(starts, events, strict=False))
        end = min(n, max(start + len(event) for start, event in placed))
        offset = int(self.integers(0, n - end + 1))
        y = np.zeros(n)
        for start, event in placed:
            place = slice(offset + start, offset + start + len(event))
            y[place] += event[: len(y[place])]
        fade = min(n, int(FADE_SECONDS * self.rate))
        y[n - fade :] *= np.linspace(1, 0, fade)
        return y

    def repeated(self, n: int, count: int, gap: tuple[float, float], make: Callable) -> np.ndarray:
        """``count`` events from ``make()`` in two seconds, with gaps drawn from ``gap`` in seconds."""
        count = max(1, round(count * n / (2 * self.rate)))
        return self.sequence(n, [make() for _ in range(count)], self.uniform(*gap, count))

    def phrase(self, events: Sequence[np.ndarray], gaps: Values) -> np.ndarray:
        """Events one after another, as :meth:`sequence`, in as many samples as they take."""
        taken = sum(
            len(event) + max(0, int(gap * self.rate)) for event, gap in zip(events, gaps, strict=True)
        )
        return self.sequence(taken, events, gaps)
