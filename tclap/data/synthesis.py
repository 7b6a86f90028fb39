"""Building blocks of synthetic sounds: oscillators, noise, filters, envelopes and their timing.

Textbook sound synthesis in float64: source and filter for voices (Fant 1960), damped modes for struck
objects, modulated noise for weather and machines (Farnell, Designing Sound, 2010). ``n`` is a length in
samples, ``rate`` a sampling rate in Hz, ``rng`` the only source of randomness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal

FADE_SECONDS = 0.02


def coloured_noise(rng: np.random.Generator, n: int, slope: float) -> np.ndarray:
    """Gaussian noise ``[n]`` of RMS 1 whose power falls as 1/f^slope (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    # Level below 1/300 of the band, or brown noise would be little but infrasound.
    frequency = np.maximum(np.arange(len(spectrum)), max(1, n // 600))
    x = np.fft.irfft(spectrum * frequency ** (-slope / 2), n)
    return x / np.sqrt(np.mean(x**2))


def log_uniform(rng, low, high, size=None):
    """Numbers between ``low`` and ``high`` whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def contour(points: Sequence[float], n: int) -> np.ndarray:
    """Straight lines through evenly spaced ``points``, as ``n`` samples."""
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(points)), points)


def wander(rng, n, rate, hertz):
    """Slow random curve of about unit variance with ``hertz`` knots a second."""
    return contour(rng.standard_normal(max(4, int(n / rate * hertz) + 2)), n)


def arch(n, attack, release):
    """Envelope from 0 to 1 to 0; ``attack`` and ``release`` are shares of its length."""
    t = np.linspace(0, 1, n)
    return np.sin(np.pi / 2 * np.minimum(1, np.minimum(t / attack, (1 - t) / release))) ** 2


def band_pass(x, low, high, rate):
    """Butterworth filter of fourth order; corners beyond what ``rate`` can hold move down."""
    high = min(high, 0.45 * rate)
    return signal.sosfilt(signal.butter(2, [min(low, 0.7 * high), high], "band", fs=rate, output="sos"), x)


def low_pass(x, high, rate):
    """Butterworth filter of second order."""
    return signal.sosfilt(signal.butter(2, min(high, 0.45 * rate), fs=rate, output="sos"), x)


def resonate(x, frequencies, bandwidth, rate):
    """Parallel resonances of gain 1, each as wide as ``bandwidth`` times its frequency."""
    y = np.zeros_like(x)
    for frequency in frequencies:
        y += signal.lfilter(*signal.iirpeak(min(frequency, 0.45 * rate), 1 / bandwidth, fs=rate), x)
    return y


def tone(f0: np.ndarray, weights: Sequence[float], rate: int) -> np.ndarray:
    """Harmonics of the pitch curve ``f0`` in Hz, fading out below Nyquist; weights from the first up."""
    fundamental = np.cos(2 * np.pi * np.cumsum(f0) / rate)
    # Chebyshev: cos (k+1)x = 2 cos x cos kx - cos (k-1)x, much cheaper than a cosine each.
    double, before, harmonic = 2 * fundamental, np.ones_like(fundamental), fundamental
    y = np.zeros_like(fundamental)
    lowest, highest = f0.min() / rate, f0.max() / rate
    for k, weight in enumerate(weights, start=1):
        if k * lowest > 0.48:
            break
        audible = 1.0 if k * highest < 0.43 else np.clip((0.48 - k * f0 / rate) / 0.05, 0, 1)
        y += weight * audible * harmonic
        before, harmonic = harmonic, double * harmonic - before
    return y


def power_law(count, exponent):
    """Weights 1, 2^-exponent, 3^-exponent, … of ``count`` harmonics."""
    return np.arange(1, count + 1.0) ** -exponent


def voiced_sound(rng, f0, rate, *, rolloff, formants, bandwidth, breath):
    """Source and filter: jittered harmonics plus ``breath`` noise through formants."""
    n = len(f0)
    source = tone(f0 * (1 + 0.01 * wander(rng, n, rate, 60)), power_law(30, rolloff), rate)
    source += breath * rng.standard_normal(n)
    return 0.15 * source + resonate(source, formants, bandwidth, rate)


def struck(rng, frequencies, decays, weights, rate, *, attack=0.0, longest=np.inf):
    """Damped modes (time constants ``decays`` in seconds) with a burst of ``attack`` noise of 2 ms.

    As long as five times the slowest decay, but no longer than ``longest`` seconds.
    """
    n = int(min(longest, 5 * max(decays)) * rate) + 1
    impulse = np.zeros(n)
    impulse[0] = 1
    y = np.zeros(n)
    for frequency, decay, weight in zip(frequencies, decays, weights, strict=True):
        if frequency < 0.48 * rate:
            # z-transform of r^n sin(wn + phase): a recursion is several times faster than exp and sin.
            w, r, phase = 2 * np.pi * frequency / rate, np.exp(-1 / (decay * rate)), rng.uniform(0, 2 * np.pi)
            numerator = [np.sin(phase), r * np.sin(w - phase)]
            y += weight * signal.lfilter(numerator, [1, -2 * r * np.cos(w), r * r], impulse)
    return y + attack * np.exp(-np.arange(n) / (0.002 * rate)) * rng.standard_normal(n)


def sequence(rng, n, rate, events, gaps):
    """Lay events out one after another at a random place within ``n`` samples, dropping what has no room.

    ``gaps`` in seconds lie between the end of one and the start of the next; negative ones overlap.
    """
    starts, position = [], 0
    for event, gap in zip(events, gaps, strict=True):
        if starts and position + len(event) > n:
            break
        starts.append(position)
        position += max(1, len(event) + int(gap * rate))
    end = min(n, max(start + len(event) for start, event in zip(starts, events, strict=False)))
    offset = int(rng.integers(0, n - end + 1))
    y = np.zeros(n)
    for start, event in zip(starts, events, strict=False):
        place = slice(offset + start, offset + start + len(event))
        y[place] += event[: len(y[place])]
    fade = min(n, int(FADE_SECONDS * rate))
    y[n - fade :] *= np.linspace(1, 0, fade)
    return y


def repeated(rng, n, rate, count, gap, make):
    """``count`` events from ``make()`` with gaps drawn from the range ``gap`` in seconds."""
    return sequence(rng, n, rate, [make() for _ in range(count)], rng.uniform(*gap, count))


def impulses(rng, n, rate, per_second, spread):
    """Impulses at random times with log-normal heights."""
    count = max(1, rng.poisson(per_second * n / rate))
    y = np.zeros(n)
    np.add.at(y, rng.integers(0, n, count), rng.lognormal(0, spread, count))
    return y
