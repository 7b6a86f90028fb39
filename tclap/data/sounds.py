"""Twenty everyday sounds, each a small generator of oscillators, filtered noise and envelopes.

``SOUNDS`` maps a label of ESC-50 (underscores as spaces) to a function ``(rng, n, rate) -> float64
[n]``: a dry sound of arbitrary level at ``rate`` Hz. Each draws its own pitch, tempo, number of events,
envelopes and timbre from ``rng``, in ranges that are plausible for its source. The sounds named in
``CONTINUOUS`` fill the ``n`` samples, the others put one or a few events somewhere within them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

from tclap.data.synthesis import (
    arch,
    band_pass,
    coloured_noise,
    contour,
    impulses,
    log_uniform,
    low_pass,
    power_law,
    repeated,
    resonate,
    sequence,
    struck,
    tone,
    voiced_sound,
    wander,
)

# Voices ------------------------------------------------------------------------------------------


def dog(rng, n, rate):
    """Barks: short, abrupt, pitch up and down, hoarse."""
    pitch, rolloff = log_uniform(rng, 220, 750), rng.uniform(0.4, 1.0)
    formants = [log_uniform(rng, 550, 1100), log_uniform(rng, 1200, 2400)]
    length, breath = rng.uniform(0.1, 0.26), rng.uniform(0.1, 0.6)

    def bark():
        m = int(rate * length * rng.uniform(0.85, 1.15))
        f0 = pitch * rng.uniform(0.9, 1.1) * contour([0.7, 1.1, 1.0, 0.8, 0.55], m)
        y = voiced_sound(rng, f0, rate, rolloff=rolloff, formants=formants, bandwidth=0.4, breath=breath)
        return rng.uniform(0.6, 1) * y * arch(m, 0.12, 0.7)

    return repeated(rng, n, rate, rng.integers(1, 5), (0.06, 0.45), bark)


def rooster(rng, n, rate):
    """Cock-a-doodle-doo: two short syllables, a higher one, and a long falling one."""
    pitch, rolloff = log_uniform(rng, 420, 850), rng.uniform(0.3, 0.9)
    formants = [log_uniform(rng, 1100, 1900), log_uniform(rng, 2300, 3400)]
    tempo, breath = rng.uniform(0.75, 1.1), rng.uniform(0.05, 0.3)
    syllables = [
        (0.16, [0.75, 0.9, 0.85]),
        (0.14, [0.85, 1.0, 0.95]),
        (0.3, [0.95, 1.25, 1.3, 1.2]),
        (rng.uniform(0.6, 1.0), [1.1, 1.2, 1.15, 1.0, 0.7]),
    ]
    events = []
    for length, pitches in syllables[rng.integers(0, 2) :]:
        f0 = pitch * rng.uniform(0.95, 1.05) * contour(pitches, int(rate * length * tempo))
        y = voiced_sound(rng, f0, rate, rolloff=rolloff, formants=formants, bandwidth=0.3, breath=breath)
        events.append(y * arch(len(f0), 0.15, 0.35) * rng.uniform(0.7, 1))
    return sequence(rng, n, rate, events, rng.uniform(0.01, 0.06, len(events)))


def crying_baby(rng, n, rate):
    """Wails of open vowels with vibrato, and breath taken between them."""
    pitch, rolloff = log_uniform(rng, 330, 600), rng.uniform(0.2, 0.8)
    formants = [log_uniform(rng, 900, 1500), log_uniform(rng, 2600, 3800)]
    vibrato, depth = rng.uniform(4, 9), rng.uniform(0.01, 0.05)

    def wail():
        m = int(rate * rng.uniform(0.4, 0.95))
        f0 = pitch * rng.uniform(0.9, 1.1) * contour([0.8, 1.05, 1.1, 1.0, 0.75], m)
        f0 *= 1 + depth * np.sin(2 * np.pi * vibrato * np.arange(m) / rate)
        y = voiced_sound(rng, f0, rate, rolloff=rolloff, formants=formants, bandwidth=0.25, breath=0.1)
        breath = band_pass(rng.standard_normal(m // 4), 1000, 5000, rate) * arch(m // 4, 0.5, 0.3)
        return np.concatenate([y * arch(m, 0.2, 0.3), 0.3 * np.std(y) * breath])

    return repeated(rng, n, rate, rng.integers(1, 4), (0.02, 0.15), wail)


def cat(rng, n, rate):
    """Meows: a closed mouth opens and closes, so that the formant rises and falls."""
    pitch, rolloff = log_uniform(rng, 380, 800), rng.uniform(0.5, 1.2)
    closed, opened = log_uniform(rng, 500, 900), log_uniform(rng, 1400, 2400)
    vibrato = rng.uniform(0, 0.02)

    def meow():
        m = int(rate * rng.uniform(0.35, 1.1))
        f0 = pitch * rng.uniform(0.9, 1.1) * contour([0.75, 1.0, 1.1, 1.05, 0.9, 0.7], m)
        f0 *= 1 + vibrato * np.sin(2 * np.pi * 6 * np.arange(m) / rate)
        source = tone(f0, power_law(25, rolloff), rate) + 0.05 * rng.standard_normal(m)
        mouth = arch(m, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.6))
        y = (1 - mouth) * resonate(source, [closed], 0.3, rate)
        y += mouth * resonate(source, [opened, 1.8 * opened], 0.3, rate)
        return (y + 0.1 * source) * arch(m, 0.2, 0.4)

    return repeated(rng, n, rate, rng.integers(1, 3), (0.1, 0.5), meow)


def crow(rng, n, rate):
    """Caws: harsh, because the voice is modulated at a rough rate."""
    pitch, rolloff = log_uniform(rng, 280, 600), rng.uniform(0.0, 0.5)
    formants = [log_uniform(rng, 1000, 1800), log_uniform(rng, 2000, 3200)]
    roughness, length = rng.uniform(45, 110), rng.uniform(0.18, 0.42)

    def caw():
        m = int(rate * length * rng.uniform(0.85, 1.15))
        f0 = pitch * contour([0.9, 1.0, 1.0, 0.8], m)
        y = voiced_sound(rng, f0, rate, rolloff=rolloff, formants=formants, bandwidth=0.35, breath=1.0)
        phase = 2 * np.pi * roughness * np.arange(m) / rate + wander(rng, m, rate, 30)
        return y * (1 + 0.8 * np.cos(phase)) * arch(m, 0.15, 0.3)

    return repeated(rng, n, rate, rng.integers(2, 6), (0.08, 0.35), caw)


def sneezing(rng, n, rate):
    """Air drawn in, a voiced onset, and an explosive hiss."""
    inhale = int(rate * rng.uniform(0.2, 0.6))
    breath = band_pass(rng.standard_normal(inhale), 600, 3000, rate) * contour([0, 0.3, 1, 0.2], inhale)
    onset = int(rate * rng.uniform(0.04, 0.12))
    f0 = log_uniform(rng, 150, 400) * contour([1.2, 0.9], onset)
    formants = [log_uniform(rng, 500, 900), log_uniform(rng, 1200, 2000)]
    voiced = voiced_sound(rng, f0, rate, rolloff=0.7, formants=formants, bandwidth=0.3, breath=0.5)
    hiss = int(rate * rng.uniform(0.15, 0.45))
    burst = band_pass(
        rng.standard_normal(hiss), log_uniform(rng, 700, 2000), log_uniform(rng, 3500, 7000), rate
    )
    burst *= np.minimum(1, np.arange(hiss) / (0.01 * rate)) * np.exp(-4 * np.arange(hiss) / hiss)
    parts = [
        rng.uniform(0.05, 0.3) * breath,
        rng.uniform(0.3, 1.0) * voiced / np.std(voiced) * arch(onset, 0.2, 0.2),
        rng.uniform(1.5, 3.0) * burst / np.std(burst),
    ]
    return sequence(rng, n, rate, parts, [rng.uniform(0, 0.1), -0.02, 0])


# Struck and clicking things ----------------------------------------------------------------------


def clock_tick(rng, n, rate):
    """Tick, tock: two damped clicks in turn, at a steady tempo."""
    period = rng.uniform(0.2, 0.6)
    modes = log_uniform(rng, 1200, 6500, (2, 3))
    decays, weights = log_uniform(rng, 0.002, 0.012, (2, 3)), rng.uniform(0.3, 1, (2, 3))
    weights[1] *= rng.uniform(0.3, 1)
    count = int(n / rate / period) + 2
    ticks = [struck(rng, modes[i % 2], decays[i % 2], weights[i % 2], rate, attack=0.3) for i in range(count)]
    gaps = [period - len(tick) / rate + rng.normal(0, 0.002) for tick in ticks]
    silence = np.zeros(1 + int(rng.uniform(0, min(period, 0.5 * n / rate)) * rate))
    return sequence(rng, n, rate, [silence, *ticks], [0, *gaps])


def mouse_click(rng, n, rate):
    """One or a few clicks, each a press and a softer release."""
    modes = log_uniform(rng, 1500, 6000, 3)
    decays, weights = log_uniform(rng, 0.001, 0.005, 3), rng.uniform(0.3, 1, 3)
    hold, release = rng.uniform(0.05, 0.14), rng.uniform(0.3, 0.9)

    def click():
        down = struck(rng, modes, decays, weights, rate, attack=1.0)
        up = release * struck(rng, 1.2 * modes, decays, weights, rate, attack=1.0)
        pause = np.zeros(int(rate * hold * rng.uniform(0.9, 1.1)))
        return np.concatenate([down, pause, up])

    return repeated(rng, n, rate, rng.integers(1, 5), (0.05, 0.4), click)


def door_wood_knock(rng, n, rate):
    """Knuckles on a panel: low modes, damped within a tenth of a second."""
    modes = log_uniform(rng, 90, 220) * np.array([1, *np.sort(rng.uniform(1.6, 7, 4))])
    decays = log_uniform(rng, 0.015, 0.05) * modes[0] / modes**0.7 * modes[0] ** -0.3
    weights, attack, period = rng.uniform(0.2, 1, 5), rng.uniform(0.3, 1.5), rng.uniform(0.13, 0.35)
    count = rng.integers(2, 7)
    knocks = [
        rng.uniform(0.6, 1) * struck(rng, modes, decays, weights, rate, attack=attack) for _ in range(count)
    ]
    gaps = [period * rng.uniform(0.9, 1.1) - len(knock) / rate for knock in knocks]
    return sequence(rng, n, rate, knocks, gaps)


def church_bells(rng, n, rate):
    """One bell or two: hum, prime, minor third, fifth, nominal … (Fletcher & Rossing 1998)."""
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.5, 2.67, 3, 4.1])
    pitches = log_uniform(rng, 180, 600) * np.array([1, rng.uniform(1.1, 1.6)])[: rng.integers(1, 3)]
    decay, weights = rng.uniform(0.3, 1.0), rng.uniform(0.2, 1, len(ratios)) / ratios**0.5
    period = rng.uniform(0.4, 1.4)
    count = int(n / rate / period) + 1
    y, position = np.zeros(n), rng.uniform(0, 0.5 * min(period, n / rate))
    for i in range(count):
        start = int(position * rate)
        if start >= n:
            break
        modes = pitches[i % len(pitches)] * ratios * (1 + 0.003 * rng.standard_normal(len(ratios)))
        ring = (n - start) / rate
        strike = struck(rng, modes, decay / ratios**0.6, weights, rate, attack=0.5, longest=ring)[: n - start]
        y[start : start + len(strike)] += rng.uniform(0.6, 1) * strike
        position += period * rng.uniform(0.9, 1.1)
    return y


def crackling_fire(rng, n, rate):
    """Snaps of very different strength over a faint roar."""
    strength = signal.lfilter(
        [1],
        [1, -np.exp(-1 / (log_uniform(rng, 0.001, 0.006) * rate))],
        impulses(rng, n, rate, log_uniform(rng, 6, 35), 1.2),
    )
    snaps = strength * band_pass(rng.standard_normal(n), log_uniform(rng, 400, 1500), 6500, rate)
    roar = low_pass(coloured_noise(rng, n, 1.5), 400, rate) * (1 + 0.3 * wander(rng, n, rate, 4))
    return snaps / np.std(snaps) + rng.uniform(0.1, 0.5) * roar


# Machines ----------------------------------------------------------------------------------------


def siren(rng, n, rate):
    """A horn whose pitch wails slowly, yelps fast, or changes between two tones."""
    low = log_uniform(rng, 420, 800)
    high, t = low * rng.uniform(1.4, 2.2), np.arange(n) / rate + rng.uniform(0, 4)
    kind = rng.integers(3)
    if kind == 0:
        sweep = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(0.2, 0.5) * t)
    elif kind == 1:
        sweep = 0.5 + 0.5 * signal.sawtooth(2 * np.pi * rng.uniform(1.5, 4) * t, width=rng.uniform(0.6, 0.9))
    else:
        sweep = low_pass((np.floor(t / rng.uniform(0.35, 0.9)) % 2).astype(float), 30, rate)
        high = low * rng.uniform(1.2, 1.45)
    y = tone(low * (high / low) ** sweep, power_law(20, rng.uniform(0.8, 1.8)), rate)
    return resonate(y, [log_uniform(rng, 800, 2000)], 0.8, rate) + 0.2 * y


def car_horn(rng, n, rate):
    """Honks: two buzzing tones about a third apart, with hard starts and ends."""
    pitch, interval = log_uniform(rng, 300, 520), rng.uniform(1.15, 1.3)
    weights = power_law(30, rng.uniform(0.2, 0.8)) * rng.uniform(0.3, 1, 30)
    centre = log_uniform(rng, 1200, 3000)

    def honk():
        m = int(rate * log_uniform(rng, 0.12, 1.0))
        steady = np.full(m, pitch) * (1 + 0.01 * np.exp(-np.arange(m) / (0.03 * rate)))
        y = tone(steady, weights, rate) + tone(interval * steady, weights, rate)
        return (resonate(y, [centre], 0.8, rate) + 0.3 * y) * arch(m, 0.08, 0.08)

    return repeated(rng, n, rate, rng.integers(1, 4), (0.06, 0.4), honk)


def chainsaw(rng, n, rate):
    """A two-stroke that revs up and down: harsh bright pulses and the rasp of the chain."""
    revs = np.exp(0.25 * low_pass(wander(rng, n, rate, rng.uniform(0.8, 2.5)), 3, rate))
    f0 = log_uniform(rng, 75, 170) * revs * (1 + 0.01 * wander(rng, n, rate, 40))
    pulses = tone(f0, power_law(40, rng.uniform(0.1, 0.5)) * rng.uniform(0.3, 1, 40), rate)
    rasp = band_pass(rng.standard_normal(n), 900, 6000, rate) * (1 + 0.15 * np.clip(pulses, -4, 4))
    y = pulses / np.std(pulses) + rng.uniform(0.3, 1.0) * rasp / np.std(rasp)
    formants = [log_uniform(rng, 500, 1200), log_uniform(rng, 1800, 3800)]
    return (resonate(y, formants, 0.6, rate) + 0.2 * y) * revs**2


def engine(rng, n, rate):
    """Idling or driving: low firing harmonics, uneven from cylinder to cylinder, with a soft rumble."""
    f0 = log_uniform(rng, 18, 60) * np.exp(0.06 * wander(rng, n, rate, 1.5))
    weights = power_law(40, rng.uniform(0.5, 1.1)) * rng.uniform(0.2, 1, 40)
    pulses = tone(f0, weights, rate)
    uneven = 1 + rng.uniform(0.1, 0.5) * tone(f0 / rng.integers(2, 5), [1.0], rate)
    rumble = low_pass(coloured_noise(rng, n, 1.0), log_uniform(rng, 150, 700), rate)
    y = uneven * pulses / np.std(pulses) + rng.uniform(0.3, 1.0) * rumble / np.std(rumble)
    return low_pass(y, log_uniform(rng, 350, 1500), rate)


def helicopter(rng, n, rate):
    """Blades that slap the air ten to twenty times a second, over a turbine's faint whine."""
    phase = np.cumsum(log_uniform(rng, 9, 22) * (1 + 0.02 * wander(rng, n, rate, 2))) / rate
    slap = (0.5 + 0.5 * np.cos(2 * np.pi * phase)) ** rng.uniform(3, 12)
    air = band_pass(coloured_noise(rng, n, rng.uniform(0.3, 1.0)), 60, log_uniform(rng, 700, 3000), rate)
    thump = low_pass(slap - slap.mean(), rng.uniform(80, 200), rate)
    whine = tone(
        np.full(n, log_uniform(rng, 700, 2500)) * (1 + 0.003 * wander(rng, n, rate, 5)), [1, 0.4], rate
    )
    y = air / np.std(air) * (rng.uniform(0.1, 0.4) + slap) + rng.uniform(0.2, 0.8) * thump / np.std(thump)
    return (y + rng.uniform(0.0, 0.1) * whine) * (1 + 0.15 * wander(rng, n, rate, 1))


def vacuum_cleaner(rng, n, rate):
    """Steady rush of air with the hum and whine of a universal motor."""
    air = coloured_noise(rng, n, rng.uniform(0.3, 1.1))
    air += resonate(air, [log_uniform(rng, 300, 900), log_uniform(rng, 1500, 3500)], 0.3, rate)
    f0 = log_uniform(rng, 180, 420) * (1 + 0.004 * wander(rng, n, rate, 3))
    motor = tone(f0, power_law(16, rng.uniform(0.2, 0.8)) * rng.uniform(0.1, 1, 16), rate)
    return air / np.std(air) + rng.uniform(0.4, 1.2) * motor / np.std(motor)


# Weather -----------------------------------------------------------------------------------------


def rain(rng, n, rate):
    """A hiss of far drops and the patter of near ones."""
    hiss = band_pass(coloured_noise(rng, n, rng.uniform(-0.3, 0.6)), log_uniform(rng, 300, 1200), 7500, rate)
    drops = impulses(rng, n, rate, log_uniform(rng, 30, 300), 0.8)
    drops = resonate(drops, log_uniform(rng, 1200, 6000, 3), rng.uniform(0.1, 0.4), rate)
    return hiss / np.std(hiss) * (1 + 0.1 * wander(rng, n, rate, 1)) + rng.uniform(0.2, 1.0) * drops / np.std(
        drops
    )


def sea_waves(rng, n, rate):
    """Surf: noise that swells over seconds, brighter as the wave breaks."""
    t = np.arange(n) / rate
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * t / rng.uniform(2.0, 4.5) + rng.uniform(0, 2 * np.pi))
    swell = swell ** rng.uniform(0.8, 2.5) * np.exp(0.15 * wander(rng, n, rate, 4)) + rng.uniform(0.05, 0.25)
    body = low_pass(coloured_noise(rng, n, rng.uniform(0.6, 1.3)), log_uniform(rng, 800, 2500), rate)
    foam = band_pass(rng.standard_normal(n), 1500, 7000, rate)
    return swell * body / np.std(body) + rng.uniform(0.2, 0.8) * swell**2 * foam / np.std(foam)


def wind(rng, n, rate):
    """Gusts: low noise with a whistling band that wanders up and down with the strength."""
    strength = low_pass(wander(rng, n, rate, rng.uniform(1, 3)), 4, rate)
    base = coloured_noise(rng, n, rng.uniform(0.8, 1.6))
    centres = np.log(log_uniform(rng, 180, 350)) + 0.35 * np.arange(5)
    whistle_at = centres[2] + 0.4 * strength
    y = 0.4 * low_pass(base, log_uniform(rng, 200, 600), rate)
    for centre in centres:
        band = resonate(base, [np.exp(centre)], rng.uniform(0.08, 0.25), rate)
        y += np.exp(-(((whistle_at - centre) / 0.3) ** 2)) * band / np.std(band)
    return y * np.exp(0.5 * strength)


_FUNCTIONS = (
    dog, rooster, crying_baby, sneezing, clock_tick, chainsaw, helicopter, rain, sea_waves, crackling_fire,
    church_bells, siren, car_horn, door_wood_knock, mouse_click, engine, wind, crow, cat, vacuum_cleaner,
)  # fmt: skip
SOUNDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    function.__name__.replace("_", " "): function for function in _FUNCTIONS
}
CONTINUOUS = frozenset(SOUNDS) - {
    "dog", "rooster", "crying baby", "sneezing", "car horn", "door wood knock", "mouse click", "crow", "cat",
}  # fmt: skip
