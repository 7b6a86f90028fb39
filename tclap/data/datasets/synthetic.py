"""Synthetic sound events: the data set that needs no download.

Twenty classes named as in ESC-50, made from a seed by :mod:`tclap.data.sounds` and then "recorded":
reverberation, equalisation, background noise and gain are drawn for every clip, so that clips of a class
differ and classes overlap a little. A small network trained from scratch on 60 clips per class should name
about 90 to 95 % of unseen clips; ``SNR_DB`` and its neighbours set how hard it is. Licence: generated data,
nobody holds rights in it; use it as you like.

It stands for ESC-50 where the question is how training on composites changes a model's knowledge of
temporal order. It does not stand for real recordings: absolute accuracies say nothing about ESC-50, and a
model trained on it recognises no real sounds.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import signal

from tclap import audio, files
from tclap.arguments import at_least, strings_of
from tclap.data.clips import STAGES, listing
from tclap.data.sounds import SOUNDS
from tclap.data.synthesis import Synth
from tclap.progress import log_reused, progress

LABELS: tuple[str, ...] = tuple(SOUNDS)
SECONDS, RATE = 4, 16000  # of a clip; samples per second
CLIPS_PER_CLASS: Mapping[str, int] = {"base": 60, "post": 40, "validation": 10, "test": 20}

# Raise it with every change of the code that changes samples: cached files of another version are left alone.
VERSION = 4
# How recordings differ; each value is drawn evenly from its range for every clip.
SNR_DB = (0.0, 25.0)
NOISE_SLOPE = (0.0, 2.0)
REVERB_SECONDS = (0.05, 0.4)
REVERB_DB = (-30.0, 0.0)
TILT_DB_PER_OCTAVE = (-2.0, 2.0)
PEAK_DB = (-9.0, 9.0)
LEVEL_DBFS = (-36.0, -12.0)
PEAK_LIMIT = 0.95
HASH = ".sha256"  # the suffix of the file beside a clip


def synthesise(label: str, generator: np.random.Generator) -> np.ndarray:
    """One clip of a class, float32 ``[SECONDS * RATE]``, within ±``PEAK_LIMIT``, drawn from ``generator``."""
    return _record(SOUNDS[label](Synth(generator, RATE), SECONDS * RATE), generator, RATE)


def load(
    root: str | Path | None = None,
    *,
    seed: int = 0,
    labels: Sequence[str] = LABELS,
    clips_per_class: Mapping[str, int] = CLIPS_PER_CLASS,
) -> pd.DataFrame:
    """Clips for :func:`tclap.load_clips`; writes the WAV files that do not exist yet, or
    are damaged: no more what the hash beside each says.

    The files are in ``<root>/synthetic-<hash>`` (``root``: by default :func:`tclap.files.data_folder`); the
    hash stands for all that determines the samples, so that settings never share files. A clip depends on the
    seed, its class, split and number alone, not on which other clips are made.

    ``labels``: some of ``LABELS``. ``clips_per_class``: number of clips by split (``STAGES``).

    Raises ValueError for an unknown label or split or a number below 0, TypeError for labels that are no
    list or numbers that are not by split.
    """
    labels = strings_of(labels, "labels")
    if not isinstance(clips_per_class, Mapping):
        raise TypeError(f"clips_per_class is {clips_per_class!r}, expected numbers by split.")
    for given, known in ((labels, LABELS), (clips_per_class, STAGES)):
        if unknown := set(given) - set(known):
            raise ValueError(f"unknown: {listing(unknown)}; expected some of {', '.join(known)}.")
    at_least(0, seed=seed, **clips_per_class)
    folder = Path(root or files.data_folder()) / f"synthetic-{_fingerprint(seed)}"
    rows, missing = [], []
    for label, split in product(labels, STAGES):
        for index in range(clips_per_class.get(split, 0)):
            clip_id = f"{label.replace(' ', '_')}-{split}-{index:03d}"
            path = folder / f"{clip_id}.wav"
            row = {"clip_id": clip_id, "path": str(path), "label": label, "captions": [label], "split": split}
            rows.append(row)
            if not _is_whole(path):
                missing.append((path, label, (seed, LABELS.index(label), STAGES.index(split), index)))
    for path, label, key in progress(missing, "synthetic clips", quiet=not missing):
        audio.write_wav(path, synthesise(label, np.random.default_rng(key)), RATE)
        with files.replacing(path.with_suffix(HASH)) as temporary:
            temporary.write_text(files.sha256_file(path), encoding="ascii")
    if not missing:
        log_reused(f"{len(rows)} synthetic clips")
    return pd.DataFrame(rows, columns=["clip_id", "path", "label", "captions", "split"])


def _is_whole(path: Path) -> bool:
    try:
        return files.sha256_file(path) == path.with_suffix(HASH).read_text(encoding="ascii")
    except (OSError, ValueError):
        return False


def _fingerprint(seed: int) -> str:
    recording = [
        SNR_DB, NOISE_SLOPE, REVERB_SECONDS, REVERB_DB, TILT_DB_PER_OCTAVE, PEAK_DB,
        LEVEL_DBFS, PEAK_LIMIT,
    ]  # fmt: skip
    settings = [VERSION, LABELS, STAGES, recording, int(seed), float(SECONDS), RATE]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _record(dry: np.ndarray, rng: np.random.Generator, rate: int) -> np.ndarray:
    """What a microphone makes of the dry sound ``[samples]``: room, colouration, background, level."""
    n = len(dry)
    decay = rng.uniform(*REVERB_SECONDS)
    tail = rng.standard_normal(int(decay * rate)) * 10 ** (-3 * np.arange(int(decay * rate)) / (decay * rate))
    wet = signal.fftconvolve(dry, tail)[:n]
    x = dry / _level(dry) + 10 ** (rng.uniform(*REVERB_DB) / 20) * wet / _level(wet)

    octave = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / rate), 50) / 1000)
    gain = rng.uniform(*TILT_DB_PER_OCTAVE) * octave
    gain += rng.uniform(*PEAK_DB) * np.exp(-(((octave - rng.uniform(-3, 2.5)) / 0.5) ** 2))
    x = np.fft.irfft(np.fft.rfft(x) * 10 ** (gain / 20), n)

    noise = Synth(rng, rate).noise(n, rng.uniform(*NOISE_SLOPE))
    x = x / _level(x) + 10 ** (-rng.uniform(*SNR_DB) / 20) * noise
    x *= 10 ** (rng.uniform(*LEVEL_DBFS) / 20) / _level(x)
    return (x * min(1, PEAK_LIMIT / np.abs(x).max())).astype(np.float32)


def _level(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))
