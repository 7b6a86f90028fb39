import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tclap import audio, files, load_clips
from tclap.data.datasets import synthetic
from tclap.data.sounds import SOUNDS
from tclap.data.synthesis import Synth

RATE = 8000
SMALL = {"labels": ["cat", "dog"], "clips_per_class": {"base": 2}}


def rng(*key):
    return np.random.default_rng(key)


@pytest.mark.parametrize("label", synthetic.LABELS)
def test_every_class_makes_sound_clips(label):
    clips = [synthetic.synthesise(label, rng(0, i)) for i in range(4)]
    for x in clips:
        assert x.shape == (64000,) and x.dtype == np.float32 and np.isfinite(x).all()
        assert np.abs(x).max() <= 0.951
        assert -60 < 20 * np.log10(audio.rms(x)) < -11.9
    np.testing.assert_array_equal(clips[0], synthetic.synthesise(label, rng(0, 0)))
    spectra = [np.abs(np.fft.rfft(x))[200:16000].reshape(-1, 158).mean(1) for x in clips]
    assert np.corrcoef(np.log(spectra))[0, 1:].max() < 0.9999


@pytest.mark.parametrize("label", synthetic.LABELS)
def test_dry_sounds_vary_and_most_are_in_both_halves_of_a_clip(label):
    sounds, shares = [], []
    for i in range(12):
        x = SOUNDS[label](Synth(rng(1, i), RATE), 4 * RATE)
        assert x.shape == (4 * RATE,) and np.isfinite(x).all()
        sounds.append(x / np.linalg.norm(x))
        shares.append(np.square(sounds[-1].reshape(2, -1)).sum(1).min())
    assert np.abs(np.array(sounds) @ np.array(sounds).T - np.eye(12)).max() < 0.99
    assert np.median(shares) > 0.1


def test_signal_to_noise_ratio_is_what_the_constants_say(monkeypatch):
    exact = {"REVERB_DB": -200.0, "TILT_DB_PER_OCTAVE": 0.0, "PEAK_DB": 0.0, "LEVEL_DBFS": -20.0}
    for name, value in exact.items():
        monkeypatch.setattr(synthetic, name, (value, value))
    dry = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    for snr in (0.0, 10.0):
        monkeypatch.setattr(synthetic, "SNR_DB", (snr, snr))
        x = synthetic._record(dry, rng(3), RATE)
        assert 20 * np.log10(audio.rms(x)) == pytest.approx(-20, abs=0.01)
        power = np.dot(x, dry) ** 2 / np.dot(dry, dry)
        assert 10 * np.log10(power / (np.dot(x, x) - power)) == pytest.approx(snr, abs=0.3)


def test_table_and_files(tmp_path):
    options = {"labels": ["rain", "crying baby"], "clips_per_class": {"base": 2, "test": 1}}
    clips = load_clips("synthetic", tmp_path, **options)
    assert list(clips.clip_id) == [
        "rain-base-000", "rain-base-001", "rain-test-000",
        "crying_baby-base-000", "crying_baby-base-001", "crying_baby-test-000",
    ]  # fmt: skip
    assert (clips.captions == clips.label.map(lambda label: [label])).all()
    assert (clips.source == clips.clip_id).all() and (clips.fold == 0).all() and (clips.duration == 4.0).all()
    for path in clips.path:
        assert soundfile.info(path).subtype == "PCM_16" and tmp_path in Path(path).parents
    # The file is the clip that the documented key gives, rounded to 16 bits.
    key = (0, synthetic.LABELS.index("crying baby"), 0, 1)
    expected = synthetic.synthesise("crying baby", rng(*key))
    np.testing.assert_allclose(audio.read(clips.path[4]), expected, atol=1 / 30000)


def test_default_table_is_complete_and_lies_under_the_data_folder(project_root, monkeypatch):
    monkeypatch.setattr(audio, "write_wav", lambda path, *_: files.write_json(path, None))
    monkeypatch.setattr(synthetic, "synthesise", lambda *_: None)
    clips = synthetic.load()
    assert len(clips) == 20 * 130 and clips.clip_id.is_unique
    assert {"dog", "crying baby", "door wood knock", "vacuum cleaner"} <= set(clips.label)
    assert clips.groupby(["label", "split"]).size().unstack().drop_duplicates().to_dict("records") == [
        {"base": 60, "post": 40, "test": 20, "validation": 10}
    ]
    assert Path(clips.path[0]).parent.parent == project_root / "data"


def contents(clips):
    return {Path(path).name: Path(path).read_bytes() for path in clips.path}


def test_a_damaged_clip_is_made_again(tmp_path):
    """One byte of the sound or of its hash is another, or a file is missing; the others are left alone."""
    options = {"labels": ["dog", "cat"], "clips_per_class": {"test": 2}}
    clips = synthetic.load(tmp_path, **options)
    whole = contents(clips)
    first, second, third, fourth = map(Path, clips.path)
    for path, at in ((first, 5000), (second.with_suffix(".sha256"), 3)):
        damaged = bytearray(path.read_bytes())
        damaged[at] ^= 1
        path.write_bytes(damaged)
    third.unlink()
    left = fourth.stat().st_mtime_ns
    assert contents(synthetic.load(tmp_path, **options)) == whole
    assert fourth.stat().st_mtime_ns == left


def test_a_clip_depends_on_its_key_alone(tmp_path):
    options = {"labels": ["dog", "wind", "cat"], "clips_per_class": {"base": 1, "test": 2}}
    many = contents(synthetic.load(tmp_path / "b", **options))
    assert len(set(many.values())) == 9
    options |= {"labels": ["cat", "dog"], "clips_per_class": {"test": 1}}
    few = contents(synthetic.load(tmp_path / "a", **options))
    assert few.items() <= many.items()


def test_seeds_never_share_files(tmp_path):
    tables = [synthetic.load(tmp_path, seed=seed, **SMALL) for seed in (0, 1)]
    assert len({Path(clips.path[0]).parent for clips in tables}) == 2
    assert len({content for clips in tables for content in contents(clips).values()}) == 8


def test_only_missing_files_are_made(tmp_path):
    clips = synthetic.load(tmp_path, **SMALL)
    before = contents(clips)
    for path in clips.path:
        os.utime(path, (1000, 1000))
    Path(clips.path[1]).unlink()
    synthetic.load(tmp_path, **SMALL)
    assert contents(clips) == before
    assert [Path(path).stat().st_mtime == 1000 for path in clips.path] == [True, False, True, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": ["dog", "goose"]}, "goose"),
        ({"clips_per_class": {"train": 3}}, "train"),
        ({"clips_per_class": {"base": -1}}, "base is -1, expected at least 0"),
    ],
)
def test_wrong_settings(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        synthetic.load(tmp_path, **(SMALL | options))


def test_version_stands_for_the_samples():
    """A change of any generator must come with a new VERSION, or old files would be taken for new ones."""
    total = sum(
        np.abs(synthetic.synthesise(label, rng(0, i))).sum(dtype=float)
        for i, label in enumerate(synthetic.LABELS)
    )
    pinned = (synthetic.VERSION, total) == (4, pytest.approx(52912.8133, rel=1e-4))
    assert pinned, "raise VERSION, then pin the new sum"


def test_building_blocks():
    # Harmonics by recurrence equal cosines; those above Nyquist are silent.
    synth, t = Synth(rng(0), RATE), np.arange(1, 401) / RATE
    expected = sum(w * np.cos(2 * np.pi * 300 * k * t) for k, w in ((1, 1.0), (2, 0.5), (3, 0.25)))
    np.testing.assert_allclose(synth.tone(np.full(400, 300.0), [1, 0.5, 0.25]), expected, atol=1e-9)
    np.testing.assert_allclose(synth.tone(np.full(400, 3000.0), [0, 1]), 0)

    for slope in (0.0, 1.0, 2.0):
        x = Synth(rng(5), RATE).noise(2**18, slope)
        assert audio.rms(x) == pytest.approx(1, rel=1e-4)
        power = np.abs(np.fft.rfft(x)) ** 2
        octave = power[2**14 : 2**15].mean() / power[2**15 : 2**16].mean()
        assert np.log2(octave) == pytest.approx(slope, abs=0.1)

    ring = Synth(rng(6), RATE).struck([500.0], [0.05], [1.0])
    t, phase = np.arange(len(ring)) / RATE, rng(6).uniform(0, 2 * np.pi)
    np.testing.assert_allclose(ring, np.exp(-t / 0.05) * np.sin(2 * np.pi * 500 * t + phase), atol=1e-9)
    assert len(ring) == 2001 and len(synth.struck([500.0], [0.05], [1.0], longest=0.1)) == 801

    # Two events of 3 samples, 2 apart, and a third that has no room; only the last 20 samples fade out.
    slow = Synth(rng(0), 1000)
    y = slow.sequence(1000, [np.ones(3), 2 * np.ones(3), np.ones(995)], [0.002, 0, 0])
    first = int(np.flatnonzero(y)[0])
    np.testing.assert_array_equal(y[first : first + 8], [1, 1, 1, 0, 0, 2, 2, 2])
    assert np.count_nonzero(y) == 6
    np.testing.assert_allclose(
        slow.sequence(100, [np.ones(150)], [0]), [*np.ones(80), *np.linspace(1, 0, 20)]
    )

    # Three events in two seconds are six in four, and never none.
    for n, count in ((4000, 6), (500, 1), (100, 1)):
        assert np.count_nonzero(slow.repeated(n, 3, (0.1, 0.1), lambda: np.ones(3))) == 3 * count
    assert len(slow.phrase([np.ones(30), np.ones(40)], [0.002, 0])) == 72
