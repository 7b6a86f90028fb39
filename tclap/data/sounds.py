"""Twenty everyday sounds, each a small generator of oscillators, filtered noise and envelopes.

``SOUNDS`` maps a label of ESC-50 (underscores as spaces) to a function ``(s, n) -> float64 [n]``: a dry
sound of arbitrary level, made with a :class:`~tclap.data.synthesis.Synth`. Each draws its own pitch, tempo,
number of events, envelopes and timbre, in ranges that are plausible for its source. Sounds that are no
steady noise recur over the ``n`` samples, so that two of them overlap where both are played at once.
"""

from collections.abc import Callable

import numpy as np
from scipy import signal

from tclap.data.synthesis import Synth, arch, contour, power_law


def dog(s: Synth, n: int) -> np.ndarray:
    """Barks: short, abrupt, pitch up and down, hoarse."""
    pitch, rolloff = s.log_uniform(220, 750), s.uniform(0.4, 1.0)
    formants = [s.log_uniform(550, 1100), s.log_uniform(1200, 2400)]
    length, breath = s.uniform(0.1, 0.26), s.uniform(0.1, 0.6)

    def bark() -> np.ndarray:
        m = int(s.rate * length * s.uniform(0.85, 1.15))
        f0 = pitch * s.uniform(0.9, 1.1) * contour([0.7, 1.1, 1.0, 0.8, 0.55], m)
        y = s.voiced(f0, rolloff, formants, bandwidth=0.4, breath=breath)
        return s.uniform(0.6, 1) * y * arch(m, 0.12, 0.7)

    return s.repeated(n, s.integers(1, 5), (0.06, 0.45), bark)


def rooster(s: Synth, n: int) -> np.ndarray:
    """Cock-a-doodle-doo: two short syllables, a higher one, and a long falling one."""
    pitch, rolloff = s.log_uniform(420, 850), s.uniform(0.3, 0.9)
    formants = [s.log_uniform(1100, 1900), s.log_uniform(2300, 3400)]
    tempo, breath = s.uniform(0.75, 1.1), s.uniform(0.05, 0.3)
    syllables = [
        (0.16, [0.75, 0.9, 0.85]),
        (0.14, [0.85, 1.0, 0.95]),
        (0.3, [0.95, 1.25, 1.3, 1.2]),
        (s.uniform(0.6, 1.0), [1.1, 1.2, 1.15, 1.0, 0.7]),
    ]
    syllables = syllables[s.integers(0, 2) :]

    def crow() -> np.ndarray:
        events = []
        for length, pitches in syllables:
            f0 = pitch * s.uniform(0.95, 1.05) * contour(pitches, int(s.rate * length * tempo))
            y = s.voiced(f0, rolloff, formants, bandwidth=0.3, breath=breath)
            events.append(y * arch(len(f0), 0.15, 0.35) * s.uniform(0.7, 1))
        return s.phrase(events, s.uniform(0.01, 0.06, len(events)))

    return s.repeated(n, 1, (0.2, 1.0), crow)


def crying_baby(s: Synth, n: int) -> np.ndarray:
    """Wails of open vowels with vibrato, and breath taken between them."""
    pitch, rolloff = s.log_uniform(330, 600), s.uniform(0.2, 0.8)
    formants = [s.log_uniform(900, 1500), s.log_uniform(2600, 3800)]
    vibrato, depth = s.uniform(4, 9), s.uniform(0.01, 0.05)

    def wail() -> np.ndarray:
        m = int(s.rate * s.uniform(0.4, 0.95))
        f0 = pitch * s.uniform(0.9, 1.1) * contour([0.8, 1.05, 1.1, 1.0, 0.75], m)
        f0 *= 1 + depth * np.sin(2 * np.pi * vibrato * np.arange(m) / s.rate)
        y = s.voiced(f0, rolloff, formants, bandwidth=0.25, breath=0.1)
        breath = s.band_pass(s.normal(m // 4), 1000, 5000) * arch(m // 4, 0.5, 0.3)
        return np.concatenate([y * arch(m, 0.2, 0.3), 0.3 * np.std(y) * breath])

    return s.repeated(n, s.integers(1, 4), (0.02, 0.15), wail)


def cat(s: Synth, n: int) -> np.ndarray:
    """Meows: a closed mouth opens and closes, so that the formant rises and falls."""
    pitch, rolloff = s.log_uniform(380, 800), s.uniform(0.5, 1.2)
    closed, opened = s.log_uniform(500, 900), s.log_uniform(1400, 2400)
    vibrato = s.uniform(0, 0.02)

    def meow() -> np.ndarray:
        m = int(s.rate * s.uniform(0.35, 1.1))
        f0 = pitch * s.uniform(0.9, 1.1) * contour([0.75, 1.0, 1.1, 1.05, 0.9, 0.7], m)
        f0 *= 1 + vibrato * np.sin(2 * np.pi * 6 * np.arange(m) / s.rate)
        source = s.tone(f0, power_law(25, rolloff)) + 0.05 * s.normal(m)
        mouth = arch(m, s.uniform(0.3, 0.6), s.uniform(0.3, 0.6))
        y = (1 - mouth) * s.resonate(source, [closed], 0.3)
        y += mouth * s.resonate(source, [opened, 1.8 * opened], 0.3)
        return (y + 0.1 * source) * arch(m, 0.2, 0.4)

    return s.repeated(n, s.integers(1, 3), (0.1, 0.5), meow)


def crow(s: Synth, n: int) -> np.ndarray:
    """Caws: harsh, because the voice is modulated at a rough rate."""
    pitch, rolloff = s.log_uniform(280, 600), s.uniform(0.0, 0.5)
    formants = [s.log_uniform(1000, 1800), s.log_uniform(2000, 3200)]
    roughness, length = s.uniform(45, 110), s.uniform(0.18, 0.42)

    def caw() -> np.ndarray:
        m = int(s.rate * length * s.uniform(0.85, 1.15))
        f0 = pitch * contour([0.9, 1.0, 1.0, 0.8], m)
        y = s.voiced(f0, rolloff, formants, bandwidth=0.35, breath=1.0)
        phase = 2 * np.pi * roughness * np.arange(m) / s.rate + s.wander(m, 30)
        return y * (1 + 0.8 * np.cos(phase)) * arch(m, 0.15, 0.3)

    return s.repeated(n, s.integers(2, 6), (0.08, 0.35), caw)


def sneezing(s: Synth, n: int) -> np.ndarray:
    """Air drawn in, a voiced onset, and an explosive hiss."""
    pitch, formants = s.log_uniform(150, 400), [s.log_uniform(500, 900), s.log_uniform(1200, 2000)]
    low, high = s.log_uniform(700, 2000), s.log_uniform(3500, 7000)
    levels = s.uniform(0.05, 0.3), s.uniform(0.3, 1.0), s.uniform(1.5, 3.0)

    def sneeze() -> np.ndarray:
        inhale = int(s.rate * s.uniform(0.2, 0.6))
        breath = s.band_pass(s.normal(inhale), 600, 3000) * contour([0, 0.3, 1, 0.2], inhale)
        onset = int(s.rate * s.uniform(0.04, 0.12))
        voiced = s.voiced(pitch * contour([1.2, 0.9], onset), 0.7, formants, bandwidth=0.3, breath=0.5)
        hiss = int(s.rate * s.uniform(0.15, 0.45))
        burst = s.band_pass(s.normal(hiss), low, high)
        burst *= np.minimum(1, np.arange(hiss) / (0.01 * s.rate)) * np.exp(-4 * np.arange(hiss) / hiss)
        parts = [
            levels[0] * breath,
            levels[1] * voiced / np.std(voiced) * arch(onset, 0.2, 0.2),
            levels[2] * burst / np.std(burst),
        ]
        return s.phrase(parts, [s.uniform(0, 0.1), -0.02, 0])

    return s.repeated(n, s.integers(1, 3), (0.1, 0.8), sneeze)


def clock_tick(s: Synth, n: int) -> np.ndarray:
    """Tick, tock: two damped clicks in turn, at a steady tempo."""
    period = s.uniform(0.2, 0.6)
    modes = s.log_uniform(1200, 6500, (2, 3))
    decays, weights = s.log_uniform(0.002, 0.012, (2, 3)), s.uniform(0.3, 1, (2, 3))
    weights[1] *= s.uniform(0.3, 1)
    count = int(n / s.rate / period) + 2
    ticks = [s.struck(modes[i % 2], decays[i % 2], weights[i % 2], attack=0.3) for i in range(count)]
    gaps = [period - len(tick) / s.rate + s.rng.normal(0, 0.002) for tick in ticks]
    silence = np.zeros(1 + int(s.uniform(0, min(period, 0.5 * n / s.rate)) * s.rate))
    return s.sequence(n, [silence, *ticks], [0, *gaps])


def mouse_click(s: Synth, n: int) -> np.ndarray:
    """One or a few clicks, each a press and a softer release."""
    modes = s.log_uniform(1500, 6000, 3)
    decays, weights = s.log_uniform(0.001, 0.005, 3), s.uniform(0.3, 1, 3)
    hold, release = s.uniform(0.05, 0.14), s.uniform(0.3, 0.9)

    def click() -> np.ndarray:
        down = s.struck(modes, decays, weights, attack=1.0)
        up = release * s.struck(1.2 * modes, decays, weights, attack=1.0)
        pause = np.zeros(int(s.rate * hold * s.uniform(0.9, 1.1)))
        return np.concatenate([down, pause, up])

    return s.repeated(n, s.integers(1, 5), (0.05, 0.4), click)


def door_wood_knock(s: Synth, n: int) -> np.ndarray:
    """Knuckles on a panel: low modes, damped within a tenth of a second."""
    modes = s.log_uniform(90, 220) * np.array([1, *np.sort(s.uniform(1.6, 7, 4))])
    decays = s.log_uniform(0.015, 0.05) * modes[0] / modes**0.7 * modes[0] ** -0.3
    weights, attack, period = s.uniform(0.2, 1, 5), s.uniform(0.3, 1.5), s.uniform(0.13, 0.35)

    def knocking() -> np.ndarray:
        knocks = [
            s.uniform(0.6, 1) * s.struck(modes, decays, weights, attack=attack)
            for _ in range(s.integers(2, 7))
        ]
        return s.phrase(knocks, [period * s.uniform(0.9, 1.1) - len(knock) / s.rate for knock in knocks])

    return s.repeated(n, 1, (0.2, 0.8), knocking)


def church_bells(s: Synth, n: int) -> np.ndarray:
    """One bell or two: hum, prime, minor third, fifth, nominal … (Fletcher & Rossing 1998)."""
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.5, 2.67, 3, 4.1])
    pitches = s.log_uniform(180, 600) * np.array([1, s.uniform(1.1, 1.6)])[: s.integers(1, 3)]
    decay, weights = s.uniform(0.3, 1.0), s.uniform(0.2, 1, len(ratios)) / ratios**0.5
    period = s.uniform(0.4, 1.4)
    y, position = np.zeros(n), s.uniform(0, 0.5 * min(period, n / s.rate))
    for i in range(int(n / s.rate / period) + 1):
        start = int(position * s.rate)
        if start >= n:
            break
        modes = pitches[i % len(pitches)] * ratios * (1 + 0.003 * s.normal(len(ratios)))
        ring = (n - start) / s.rate
        strike = s.struck(modes, decay / ratios**0.6, weights, attack=0.5, longest=ring)[: n - start]
        y[start : start + len(strike)] += s.uniform(0.6, 1) * strike
        position += period * s.uniform(0.9, 1.1)
    return y


def crackling_fire(s: Synth, n: int) -> np.ndarray:
    """Snaps of very different strength over a faint roar."""
    decay = np.exp(-1 / (s.log_uniform(0.001, 0.006) * s.rate))
    strength = signal.lfilter([1], [1, -decay], s.impulses(n, s.log_uniform(6, 35), 1.2))
    snaps = strength * s.band_pass(s.normal(n), s.log_uniform(400, 1500), 6500)
    roar = s.low_pass(s.noise(n, 1.5), 400) * (1 + 0.3 * s.wander(n, 4))
    return snaps / np.std(snaps) + s.uniform(0.1, 0.5) * roar


def siren(s: Synth, n: int) -> np.ndarray:
    """A horn whose pitch wails slowly, yelps fast, or changes between two tones."""
    low = s.log_uniform(420, 800)
    high, t = low * s.uniform(1.4, 2.2), np.arange(n) / s.rate + s.uniform(0, 4)
    kind = s.integers(3)
    if kind == 0:
        sweep = 0.5 - 0.5 * np.cos(2 * np.pi * s.uniform(0.2, 0.5) * t)
    elif kind == 1:
        sweep = 0.5 + 0.5 * signal.sawtooth(2 * np.pi * s.uniform(1.5, 4) * t, width=s.uniform(0.6, 0.9))
    else:
        sweep = s.low_pass((np.floor(t / s.uniform(0.35, 0.9)) % 2).astype(float), 30)
        high = low * s.uniform(1.2, 1.45)
    y = s.tone(low * (high / low) ** sweep, power_law(20, s.uniform(0.8, 1.8)))
    return s.resonate(y, [s.log_uniform(800, 2000)], 0.8) + 0.2 * y


def car_horn(s: Synth, n: int) -> np.ndarray:
    """Honks: two buzzing tones about a third apart, with hard starts and ends."""
    pitch, interval = s.log_uniform(300, 520), s.uniform(1.15, 1.3)
    weights = power_law(30, s.uniform(0.2, 0.8)) * s.uniform(0.3, 1, 30)
    centre = s.log_uniform(1200, 3000)

    def honk() -> np.ndarray:
        m = int(s.rate * s.log_uniform(0.12, 1.0))
        steady = np.full(m, pitch) * (1 + 0.01 * np.exp(-np.arange(m) / (0.03 * s.rate)))
        y = s.tone(steady, weights) + s.tone(interval * steady, weights)
        return (s.resonate(y, [centre], 0.8) + 0.3 * y) * arch(m, 0.08, 0.08)

    return s.repeated(n, s.integers(1, 4), (0.06, 0.4), honk)


def chainsaw(s: Synth, n: int) -> np.ndarray:
    """A two-stroke that revs up and down: harsh bright pulses and the rasp of the chain."""
    revs = np.exp(0.25 * s.low_pass(s.wander(n, s.uniform(0.8, 2.5)), 3))
    f0 = s.log_uniform(75, 170) * revs * (1 + 0.01 * s.wander(n, 40))
    pulses = s.tone(f0, power_law(40, s.uniform(0.1, 0.5)) * s.uniform(0.3, 1, 40))
    rasp = s.band_pass(s.normal(n), 900, 6000) * (1 + 0.15 * np.clip(pulses, -4, 4))
    y = pulses / np.std(pulses) + s.uniform(0.3, 1.0) * rasp / np.std(rasp)
    formants = [s.log_uniform(500, 1200), s.log_uniform(1800, 3800)]
    return (s.resonate(y, formants, 0.6) + 0.2 * y) * revs**2


def engine(s: Synth, n: int) -> np.ndarray:
    """Idling or driving: low firing harmonics, uneven from cylinder to cylinder, with a soft rumble."""
    f0 = s.log_uniform(18, 60) * np.exp(0.06 * s.wander(n, 1.5))
    weights = power_law(40, s.uniform(0.5, 1.1)) * s.uniform(0.2, 1, 40)
    pulses = s.tone(f0, weights)
    uneven = 1 + s.uniform(0.1, 0.5) * s.tone(f0 / s.integers(2, 5), [1.0])
    rumble = s.low_pass(s.noise(n, 1.0), s.log_uniform(150, 700))
    y = uneven * pulses / np.std(pulses) + s.uniform(0.3, 1.0) * rumble / np.std(rumble)
    return s.low_pass(y, s.log_uniform(350, 1500))


def helicopter(s: Synth, n: int) -> np.ndarray:
    """Blades that slap the air ten to twenty times a second, over a turbine's faint whine."""
    phase = np.cumsum(s.log_uniform(9, 22) * (1 + 0.02 * s.wander(n, 2))) / s.rate
    slap = (0.5 + 0.5 * np.cos(2 * np.pi * phase)) ** s.uniform(3, 12)
    air = s.band_pass(s.noise(n, s.uniform(0.3, 1.0)), 60, s.log_uniform(700, 3000))
    thump = s.low_pass(slap - slap.mean(), s.uniform(80, 200))
    whine = s.tone(np.full(n, s.log_uniform(700, 2500)) * (1 + 0.003 * s.wander(n, 5)), [1, 0.4])
    y = air / np.std(air) * (s.uniform(0.1, 0.4) + slap) + s.uniform(0.2, 0.8) * thump / np.std(thump)
    return (y + s.uniform(0.0, 0.1) * whine) * (1 + 0.15 * s.wander(n, 1))


def vacuum_cleaner(s: Synth, n: int) -> np.ndarray:
    """Steady rush of air with the hum and whine of a universal motor."""
    air = s.noise(n, s.uniform(0.3, 1.1))
    air += s.resonate(air, [s.log_uniform(300, 900), s.log_uniform(1500, 3500)], 0.3)
    f0 = s.log_uniform(180, 420) * (1 + 0.004 * s.wander(n, 3))
    motor = s.tone(f0, power_law(16, s.uniform(0.2, 0.8)) * s.uniform(0.1, 1, 16))
    return air / np.std(air) + s.uniform(0.4, 1.2) * motor / np.std(motor)


def rain(s: Synth, n: int) -> np.ndarray:
    """A hiss of far drops and the patter of near ones."""
    hiss = s.band_pass(s.noise(n, s.uniform(-0.3, 0.6)), s.log_uniform(300, 1200), 7500)
    drops = s.impulses(n, s.log_uniform(30, 300), 0.8)
    drops = s.resonate(drops, s.log_uniform(1200, 6000, 3), s.uniform(0.1, 0.4))
    hiss = hiss / np.std(hiss) * (1 + 0.1 * s.wander(n, 1))
    return hiss + s.uniform(0.2, 1.0) * drops / np.std(drops)


def sea_waves(s: Synth, n: int) -> np.ndarray:
    """Surf: noise that swells over seconds, brighter as the wave breaks."""
    t = np.arange(n) / s.rate
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * t / s.uniform(2.0, 4.5) + s.uniform(0, 2 * np.pi))
    swell = swell ** s.uniform(0.8, 2.5) * np.exp(0.15 * s.wander(n, 4)) + s.uniform(0.05, 0.25)
    body = s.low_pass(s.noise(n, s.uniform(0.6, 1.3)), s.log_uniform(800, 2500))
    foam = s.band_pass(s.normal(n), 1500, 7000)
    return swell * body / np.std(body) + s.uniform(0.2, 0.8) * swell**2 * foam / np.std(foam)


def wind(s: Synth, n: int) -> np.ndarray:
    """Gusts: low noise with a whistling band that wanders up and down with the strength."""
    strength = s.low_pass(s.wander(n, s.uniform(1, 3)), 4)
    base = s.noise(n, s.uniform(0.8, 1.6))
    centres = np.log(s.log_uniform(180, 350)) + 0.35 * np.arange(5)
    whistle_at = centres[2] + 0.4 * strength
    y = 0.4 * s.low_pass(base, s.log_uniform(200, 600))
    for centre in centres:
        band = s.resonate(base, [np.exp(centre)], s.uniform(0.08, 0.25))
        y += np.exp(-(((whistle_at - centre) / 0.3) ** 2)) * band / np.std(band)
    return y * np.exp(0.5 * strength)


_FUNCTIONS = (
    dog, rooster, crying_baby, sneezing, clock_tick, chainsaw, helicopter, rain, sea_waves, crackling_fire,
    church_bells, siren, car_horn, door_wood_knock, mouse_click, engine, wind, crow, cat, vacuum_cleaner,
)  # fmt: skip
SOUNDS: dict[str, Callable[[Synth, int], np.ndarray]] = {
    function.__name__.replace("_", " "): function for function in _FUNCTIONS
}
