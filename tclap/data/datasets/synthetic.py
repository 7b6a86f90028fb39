"""Synthetic sound events: the data set that needs no download.

Twenty classes named as in ESC-50, made from a seed by :mod:`tclap.data.sounds` and then "recorded":
reverberation, equalisation, background noise and gain are drawn for every clip, so that clips of a class
differ and classes overlap a little. A small network trained from scratch on 60 clips a class should name
about 90 to 95 % of unseen clips; ``SNR_DB`` and its neighbours set how hard it is.

Licence: generated data, nobody holds rights in it; use it as you like.

It stands for ESC-50 where the question is how training on composites changes what a model knows of
temporal order. It does not stand for real recordings: absolute accuracies say nothing about ESC-50, a
model trained on it recognises no real sounds, and each class varies only in what its generator draws.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import signal

from tclap import audio, files
from tclap.data.clips import STAGES
from tclap.data.sounds import CONTINUOUS, SOUNDS
from tclap.data.synthesis import coloured_noise
from tclap.progress import log_reused, progress

LABELS: tuple[str, ...] = tuple(SOUNDS)
SPLITS = STAGES
CLIPS_PER_CLASS: Mapping[str, int] = {"base": 60, "post": 40, "validation": 10, "test": 20}

# Raise it with every change of the code that changes samples: cached files of another version are left alone.
VERSION = 3

# The events of a clip lie within this many seconds.
EVENT_SECONDS = 2.0

# How recordings differ; each value is drawn evenly from its range for every clip.
SNR_DB = (0.0, 25.0)
NOISE_SLOPE = (0.0, 2.0)
REVERB_SECONDS = (0.05, 0.4)
REVERB_DB = (-30.0, 0.0)
TILT_DB_PER_OCTAVE = (-2.0, 2.0)
PEAK_DB = (-9.0, 9.0)
LEVEL_DBFS = (-36.0, -12.0)
PEAK_LIMIT = 0.95


def synthesise(
    label: str, generator: np.random.Generator, duration: float = 4.0, sample_rate: int = 16000
) -> np.ndarray:
    """One clip of a class, float32 ``[round(duration * sample_rate)]``, within ±``PEAK_LIMIT``.

    ``duration`` in seconds (at least 0.5), ``sample_rate`` in Hz (at least 8000). Everything random comes
    from ``generator``. Raises ValueError for an unknown label, or a shorter or coarser clip than that.
    """
    _require_labels([label])
    _require_format(duration, sample_rate)
    n = round(duration * sample_rate)
    span = n if label in CONTINUOUS else min(n, round(EVENT_SECONDS * sample_rate))
    start = int(generator.integers(0, n - span + 1))
    dry = np.zeros(n)
    dry[start : start + span] = SOUNDS[label](generator, span, sample_rate)
    return _record(dry, generator, sample_rate)


def load(
    root: str | Path | None = None,
    *,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    clips_per_class: Mapping[str, int] | None = None,
    duration: float = 4.0,
    sample_rate: int = 16000,
    workers: int | None = None,
) -> pd.DataFrame:
    """The clips table of the synthetic data set; makes the WAV files that are not there yet.

    The files lie in ``<root>/synthetic-<hash>`` (``root`` defaults to :func:`tclap.files.data_folder`); the
    hash stands for all that determines the samples, so that settings never share files. A clip depends on the
    seed, its class, split and number alone, not on which other clips are made.

    ``labels``: at least two of ``LABELS``, None for all. ``clips_per_class``: number of clips by split
    (``SPLITS``); a split that is not named has none. ``workers``: processes that render, by default one a
    usable CPU core; 1 renders in this process. The bytes are the same for any number.

    Raises ValueError for unknown or too few labels, an unknown split, a negative number of clips or none
    at all, and what :func:`synthesise` refuses.
    """
    labels = list(LABELS if labels is None else labels)
    _require_labels(labels)
    if len(set(labels)) < max(2, len(labels)):
        raise ValueError(f"labels must be at least two different ones, got {labels}.")
    counts = _require_counts(CLIPS_PER_CLASS if clips_per_class is None else clips_per_class)
    _require_format(duration, sample_rate)
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")

    folder = Path(root or files.data_folder()) / f"synthetic-{_fingerprint(seed, duration, sample_rate)}"
    rows, jobs = [], []
    for label in labels:
        for split, count in counts.items():
            for index in range(count):
                clip_id = f"{label.replace(' ', '_')}-{split}-{index:03d}"
                path = folder / f"{clip_id}.wav"
                rows.append(
                    {
                        "clip_id": clip_id,
                        "path": str(path),
                        "label": label,
                        "captions": [label],
                        "split": split,
                        "fold": 0,
                        "source": clip_id,
                        "duration": round(duration * sample_rate) / sample_rate,
                    }
                )
                key = (seed, LABELS.index(label), SPLITS.index(split), index)
                jobs.append(_Job(str(path), label, key, duration, sample_rate))
    missing = [job for job in jobs if not _is_rendered(job)]
    if missing:
        for _ in progress(_render_all(missing, workers), "synthetic clips", total=len(missing)):
            pass
    else:
        log_reused(f"{len(jobs)} synthetic clips")
    return pd.DataFrame(rows)


class _Job(NamedTuple):
    path: str
    label: str
    key: tuple[int, int, int, int]
    duration: float
    sample_rate: int


def _render(job: _Job) -> None:
    x = synthesise(job.label, np.random.default_rng(job.key), job.duration, job.sample_rate)
    audio.write_wav(job.path, x, job.sample_rate)


def _render_all(jobs: Sequence[_Job], workers: int | None) -> Iterator[None]:
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(_render, jobs)
        return
    # Forked workers do not run the caller's script again, as spawned ones would where it has no
    # `if __name__ == "__main__"`. They compute with numpy and scipy alone, which is safe after a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_render, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))


def _is_rendered(job: _Job) -> bool:
    try:
        facts = audio.check(job.path)
    except (FileNotFoundError, ValueError):
        return False
    return (facts.sample_rate, facts.frames) == (job.sample_rate, round(job.duration * job.sample_rate))


def _fingerprint(seed: int, duration: float, sample_rate: int) -> str:
    recording = [
        EVENT_SECONDS, SNR_DB, NOISE_SLOPE, REVERB_SECONDS, REVERB_DB, TILT_DB_PER_OCTAVE, PEAK_DB,
        LEVEL_DBFS, PEAK_LIMIT,
    ]  # fmt: skip
    facts = [VERSION, LABELS, SPLITS, recording, int(seed), float(duration), int(sample_rate)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


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

    noise = coloured_noise(rng, n, rng.uniform(*NOISE_SLOPE))
    x = x / _level(x) + 10 ** (-rng.uniform(*SNR_DB) / 20) * noise
    x *= 10 ** (rng.uniform(*LEVEL_DBFS) / 20) / _level(x)
    return (x * min(1, PEAK_LIMIT / np.abs(x).max())).astype(np.float32)


def _level(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _require_labels(labels: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in SOUNDS]
    if unknown:
        raise ValueError(
            f"unknown label(s) {', '.join(map(repr, unknown))}; expected some of {', '.join(LABELS)}."
        )


def _require_counts(counts: Mapping[str, int]) -> dict[str, int]:
    unknown = [split for split in counts if split not in SPLITS]
    if unknown:
        raise ValueError(f"clips_per_class has the unknown split(s) {unknown}; expected some of {SPLITS}.")
    if any(not isinstance(count, Integral) or count < 0 for count in counts.values()) or not sum(
        counts.values()
    ):
        raise ValueError(f"clips_per_class must hold whole numbers, not all of them 0, got {dict(counts)}.")
    return {split: counts.get(split, 0) for split in SPLITS}


def _require_format(duration: float, sample_rate: int) -> None:
    if not duration >= 0.5:
        raise ValueError(f"duration must be at least 0.5 seconds, got {duration}.")
    if not (isinstance(sample_rate, Integral) and sample_rate >= 8000):
        raise ValueError(f"sample_rate must be a whole number of at least 8000 Hz, got {sample_rate}.")
