"""What becomes of audio that is not as long as a model's window."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from tclap.models.windows import Windows, recordings

RATE, WINDOW = 1000, 0.02  # 20 samples


def ramp(length: int) -> np.ndarray:
    """Distinct samples, so that a part tells where it was cut; the loudest are the last."""
    return (np.arange(1, length + 1) / 1024).astype(np.float32)


def starts(parts: np.ndarray) -> list[int]:
    """Where in a ramp each part starts; checks that it is one piece of it."""
    for part in parts:
        np.testing.assert_array_equal(part, part[0] + np.arange(len(part), dtype=np.float32) / 1024)
    return [round(1024 * part[0]) - 1 for part in parts.astype(np.float64)]


def all_of(items: list, rate: int | None = None) -> list[np.ndarray]:
    return list(recordings(items, rate, RATE))


@pytest.mark.parametrize("policy", ["fit", "full", "msclap"])
@pytest.mark.parametrize("length", [1, 7, 19, 20])
def test_shorter_audio_is_repeated_to_the_window(policy, length):
    found = Windows(RATE, WINDOW, policy).fitted(ramp(length))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.resize(ramp(length), 20))


def test_fit_takes_the_window_of_most_energy():
    clip = 0.01 * np.ones(100, np.float32)
    clip[43:50] = 0.5
    part = Windows(RATE, WINDOW).fitted(clip)
    assert len(part) == 20 and (part == 0.5).sum() == 7
    assert starts(Windows(RATE, WINDOW).fitted(ramp(100))[None]) == [80]  # of a ramp the last


def test_msclaps_window_is_drawn_from_seed_and_position():
    windows = Windows(RATE, WINDOW, "msclap", seed=3)
    drawn = starts(np.stack([windows.fitted(ramp(40), n) for n in range(400)]))
    assert set(drawn) == set(range(21))  # both ends included
    # The first position, by hand.
    assert drawn[0] == np.random.default_rng([3, 0]).integers(21)
    assert drawn == starts(np.stack([windows.fitted(ramp(40), n) for n in range(400)]))
    other = Windows(RATE, WINDOW, "msclap", seed=4)
    assert drawn[:20] != starts(np.stack([other.fitted(ramp(40), n) for n in range(20)]))


@pytest.mark.parametrize(
    ("length", "hop", "expected"),
    [
        (20, None, [0]),
        (21, None, [0, 1]),
        (40, None, [0, 20]),
        (45, None, [0, 20, 25]),
        (45, 0.01, [0, 10, 20, 25]),
    ],
)
def test_cover_leaves_nothing_out(length, hop, expected):
    cut = Windows(RATE, WINDOW, "cover", hop=hop).cut(ramp(length))
    assert starts(np.stack(cut)) == expected and all(len(part) == 20 for part in cut)
    assert {n for start in expected for n in range(start, start + 20)} == set(range(length))


def test_full_takes_longer_audio_whole():
    np.testing.assert_array_equal(Windows(RATE, WINDOW, "full").fitted(ramp(30)), ramp(30))


def test_short_audio_is_padded_as_a_models_library_does_it():
    for padding, expected in {
        "repeat-whole": [*ramp(8), *ramp(8), 0, 0, 0, 0],
        "silence": [*ramp(8), *[0] * 12],
    }.items():
        np.testing.assert_array_equal(
            Windows(RATE, WINDOW, padding=padding).fitted(ramp(8)), np.float32(expected)
        )


def test_waveforms_come_as_arrays_tensors_pcm_or_files(tmp_path):
    soundfile.write(tmp_path / "clip.wav", ramp(20), RATE, subtype="FLOAT")
    kinds = [ramp(20), ramp(20).astype(np.float64), torch.from_numpy(ramp(20)).requires_grad_()]
    kinds += [(ramp(20) * 2**15).astype(np.int16), torch.from_numpy((ramp(20) * 2.0**31).astype(np.int32))]
    found = all_of([*kinds, tmp_path / "clip.wav", str(tmp_path / "clip.wav")])
    for waveform in found:
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, ramp(20))


def test_other_rates_are_resampled_and_files_have_their_own(tmp_path):
    time = np.arange(80) / 4000
    tone = np.sin(2 * np.pi * 100 * time).astype(np.float32)
    soundfile.write(tmp_path / "clip.wav", tone, 4000, subtype="FLOAT")
    found = all_of([tone, tmp_path / "clip.wav"], 4000)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - np.sin(2 * np.pi * 100 * np.arange(20) / RATE))[4:-4].max() < 0.05


@pytest.mark.parametrize(
    ("waveform", "found"),
    [
        (np.zeros(0, np.float32), r"is float32 of shape \(0,\), expected a path or a mono waveform"),
        (np.zeros(30, np.uint8), r"is uint8 of shape \(30,\), expected a path or a mono waveform"),
        ([0.1, np.inf], "has samples that are not finite"),
    ],
)
def test_what_is_no_waveform_is_refused(waveform, found):
    with pytest.raises(ValueError, match=f"item 1 {found}"):
        all_of([ramp(20), waveform])


def test_silence_is_warned_of():
    with pytest.warns(UserWarning, match="silent"):
        all_of([np.zeros(20, np.float32)])
