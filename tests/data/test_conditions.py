from itertools import groupby

import numpy as np
import pandas as pd
import pytest

from tclap import audio
from tclap.data import composites
from tclap.data.composites import TARGET_RMS, ClipAudio, place, render
from tclap.data.conditions import Condition, arrange, pink_noise, sequence

RATE, WINDOW = 8000, 2.0
HERTZ = {"low": 200, "high": 1500, "middle": 600}


@pytest.fixture
def clips(tmp_path) -> ClipAudio:
    """Three tones of 3 s at different levels, the loudest part of each in its middle."""
    rows = []
    time = np.arange(3 * RATE) / RATE
    for n, (name, hertz) in enumerate(HERTZ.items()):
        tone = 0.02 * (n + 1) * np.sin(2 * np.pi * hertz * time)
        tone[RATE : 2 * RATE] *= 1.5
        path = tmp_path / f"{name}.wav"
        audio.write_wav(path, tone.astype(np.float32), RATE, subtype="FLOAT")
        rows.append({"clip_id": name, "path": str(path)})
    return ClipAudio(pd.DataFrame(rows), RATE)


def played(clips, condition=None, seed=(), **changes) -> np.ndarray:
    condition = condition or Condition(**changes)
    return arrange("low", "high", condition, clips, WINDOW, seed).render(clips)


def heard(waveform: np.ndarray) -> list[str | None]:
    """The tone of each block of 20 ms: the strongest of the three; None in silence."""
    blocks = waveform.astype(np.float64)[: len(waveform) // 160 * 160].reshape(-1, 160)
    time = np.arange(160) / RATE
    parts = {n: np.abs(blocks @ np.exp(-2j * np.pi * h * time)) for n, h in HERTZ.items()}
    names = np.array(list(parts))[np.argmax(list(parts.values()), axis=0)]
    return [name if np.any(block) else None for name, block in zip(names, blocks, strict=True)]


def runs(blocks: list) -> list[tuple]:
    """What is heard, with the number of blocks of each run."""
    return [(name, len(list(run))) for name, run in groupby(blocks)]


@pytest.mark.parametrize(("gap", "boundary"), [(0.0, 0.5), (0.0, 0.3), (0.25, 0.5), (-0.25, 0.3)])
def test_a_gap_and_a_boundary_are_those_of_a_forward_composite(clips, monkeypatch, gap, boundary):
    pair = pd.DataFrame([{"pair_id": "p", "clip_i": "low", "clip_j": "high"}])
    monkeypatch.setattr(composites, "BOUNDARY", (boundary, boundary))
    row = place(pair, clips, WINDOW, gap_ms=(1000 * WINDOW * gap,) * 2).to_dict("records")[0]
    condition = Condition(gap=gap, boundary=boundary)
    np.testing.assert_array_equal(played(clips, condition), render(row, "forward", clips))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("low", 50), ("high", 50)]),
        ({"gap": 0.2}, [("low", 40), (None, 20), ("high", 40)]),
        ({"boundary": 0.2}, [("low", 20), ("high", 80)]),
        ({"boundary": 0.85}, [("low", 85), ("high", 15)]),
        ({"near": (True, True)}, [(None, 25), ("low", 25), ("high", 25), (None, 25)]),
        ({"near": (True, False)}, [(None, 25), ("low", 25), (None, 25), ("high", 25)]),
        ({"near": (False, True)}, [("low", 25), (None, 25), ("high", 25), (None, 25)]),
        ({"near": (False, False)}, [("low", 25), (None, 50), ("high", 25)]),
    ],
)
def test_what_is_heard_when(clips, changes, expected):
    waveform = played(clips, **changes)
    assert len(waveform) == WINDOW * RATE and waveform.dtype == np.float32
    assert audio.rms(waveform) == pytest.approx(TARGET_RMS, rel=1e-5)
    assert runs(heard(waveform)) == expected


@pytest.mark.parametrize("db", [-20, -3, 3, 10])
def test_levels_in_decibels(clips, db):
    waveform = played(clips, first_db=db)
    first, second = waveform[:RATE], waveform[RATE:]
    assert 20 * np.log10(audio.rms(first) / audio.rms(second)) == pytest.approx(db, abs=0.01)
    assert audio.rms(waveform) == pytest.approx(TARGET_RMS, rel=1e-5)


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_has_the_level_that_is_asked_for_and_comes_from_the_seed(clips, snr):
    clean = played(clips).astype(np.float64)
    noisy = played(clips, snr_db=snr, seed=(1, 2)).astype(np.float64)
    assert audio.rms(noisy) == pytest.approx(TARGET_RMS, rel=1e-5)
    noise = pink_noise(len(clean), np.random.default_rng((1, 2))).astype(np.float64)
    # The part of each in the mixture, by least squares.
    (signal, floor), *_ = np.linalg.lstsq(np.stack([clean, noise], axis=1), noisy, rcond=None)
    assert 20 * np.log10(signal * TARGET_RMS / floor) == pytest.approx(snr, abs=0.01)
    np.testing.assert_allclose(noisy, signal * clean + floor * noise, atol=1e-6)
    np.testing.assert_array_equal(noisy, played(clips, snr_db=snr, seed=(1, 2)))
    assert not np.array_equal(noisy, played(clips, snr_db=snr, seed=(1, 3)))


def test_pink_noise_has_equal_power_in_every_octave():
    noise = pink_noise(2**18, np.random.default_rng(0)).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=1e-5) and np.mean(noise**2) == pytest.approx(1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].sum() for k in range(8, 17)]
    assert max(octaves) / min(octaves) < 1.3


def test_three_events_in_the_order_given(clips):
    names = ["high", "low", "middle"]
    arranged = sequence(names, clips, WINDOW)
    assert arranged.clip_ids == names
    waveform = arranged.render(clips)
    length = int(WINDOW * RATE) // 3
    for n, name in enumerate(names):
        assert set(heard(waveform[n * length : (n + 1) * length])) == {name}
        assert audio.rms(waveform[n * length : (n + 1) * length]) == pytest.approx(TARGET_RMS, rel=1e-3)


def test_events_backwards_are_the_inversion_backwards(clips):
    """Each event backwards in its place is the whole of the other order backwards."""
    backwards = played(clips, backwards=True)
    assert runs(heard(backwards)) == [("low", 50), ("high", 50)]
    inverted = arrange("high", "low", Condition(), clips, WINDOW).render(clips)
    np.testing.assert_allclose(backwards, inverted[::-1], atol=1e-7)
    assert not np.allclose(backwards, played(clips), atol=1e-3)


def test_what_does_not_fit_is_refused(clips):
    for condition in (Condition(gap=1.0), Condition(boundary=0.0), Condition(gap=-1.5)):
        with pytest.raises(ValueError, match="leaves no room"):
            arrange("low", "high", condition, clips, WINDOW)
