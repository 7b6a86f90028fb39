"""What becomes of audio that is not as long as a model's window."""

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


def test_fit_takes_the_window_of_most_energy():
    clip = 0.01 * np.ones(100, np.float32)
    clip[43:50] = 0.5
    part = Windows(RATE, WINDOW).fitted(clip)
    assert len(part) == 20 and (part == 0.5).sum() == 7
    assert starts(Windows(RATE, WINDOW).fitted(ramp(100))[None]) == [80]  # of a ramp the last


@pytest.mark.parametrize(("length", "expected"), [(20, [0]), (21, [0, 1]), (40, [0, 20]), (45, [0, 20, 25])])
def test_cover_leaves_nothing_out(length, expected):
    cut = Windows(RATE, WINDOW, "cover").cut(ramp(length))
    assert starts(np.stack(cut)) == expected and all(len(part) == 20 for part in cut)


def test_windows_may_overlap():
    cut = Windows(RATE, WINDOW, "cover", hop=WINDOW / 2).cut(ramp(45))
    assert starts(np.stack(cut)) == [0, 10, 20, 25]
    with pytest.raises(ValueError, match="hop is 0"):
        Windows(RATE, WINDOW, "cover", hop=0)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("repeat", [*ramp(8), *ramp(8), *ramp(4)]),
        ("repeat-whole", [*ramp(8), *ramp(8), 0, 0, 0, 0]),
        ("silence", [*ramp(8), *[0] * 12]),
    ],
)
def test_short_audio_is_padded_as_a_models_library_does_it(padding, expected):
    found = Windows(RATE, WINDOW, padding=padding).fitted(ramp(8))
    np.testing.assert_array_equal(found, np.float32(expected))


def test_waveforms_come_as_arrays_tensors_pcm_or_files(tmp_path):
    soundfile.write(tmp_path / "clip.wav", ramp(20), RATE, subtype="FLOAT")
    kinds = [ramp(20), ramp(20).astype(np.float64), torch.from_numpy(ramp(20)).requires_grad_()]
    kinds += [(ramp(20) * 2**15).astype(np.int16), torch.from_numpy((ramp(20) * 2.0**31).astype(np.int32))]
    found = recordings([*kinds, tmp_path / "clip.wav", str(tmp_path / "clip.wav")], None, RATE)
    for waveform in found:
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, ramp(20))


def test_other_rates_are_resampled_and_files_have_their_own(tmp_path):
    tone = np.sin(2 * np.pi * 100 * np.arange(80) / 4000).astype(np.float32)
    soundfile.write(tmp_path / "clip.wav", tone, 4000, subtype="FLOAT")
    for found in recordings([tone, tmp_path / "clip.wav"], 4000, RATE):
        assert np.abs(found - np.sin(2 * np.pi * 100 * np.arange(20) / RATE))[4:-4].max() < 0.05
