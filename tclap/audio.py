"""Waveforms: reading, checking, measuring, joining and writing; arrays in, arrays out.

A waveform is a float32 array ``[samples]`` in [-1, 1], mono. Lengths and positions are in samples,
durations in seconds. Nothing here repairs a file: one that cannot be trusted is refused with a
sentence that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tclap import files

# Writers that stream to a pipe cannot know the length and leave a size like this (ffmpeg: all bits
# set; SoX: just under 2 GiB); 0 is what a recorder leaves that was never closed.
_UNKNOWN_SIZE = 0x7FFFF000


@dataclass(frozen=True)
class Info:
    """What an audio file's header says: sample rate in Hz, channels, frames, container and coding."""

    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def info(path: str | Path) -> Info:
    """Header facts of the audio file at ``path``, without decoding it.

    Raises FileNotFoundError when there is no such file, ValueError when it is empty, not audio, or a
    stream whose header does not tell its length.
    """
    with _opened(path) as file:
        return _facts(file)


def duration(path: str | Path) -> float:
    """Length in seconds of the audio file at ``path``, from its header; errors as :func:`info`."""
    return info(path).duration


def check(path: str | Path) -> Info:
    """Refuse an audio file that :func:`read` would refuse, as far as can be seen without decoding it all.

    Returns the header facts. Raises FileNotFoundError when there is no such file, ValueError when it is
    empty, not audio, holds no samples or is truncated. Only :func:`read` finds samples that are NaN or
    infinite, and damage in the middle of a compressed stream.
    """
    with _opened(path) as file:
        facts = _facts(file)
        if _is_cut_short(path):
            raise _truncated(path)
        if facts.frames == 0:
            raise ValueError(f"{path} is an audio file without any samples.")
        # A compressed stream's header keeps its promise only if the last sample can be decoded.
        try:
            file.seek(facts.frames - 1)
            last = file.read(1)
        except soundfile.LibsndfileError as error:
            raise _truncated(path) from error
        if len(last) == 0:
            raise _truncated(path)
    return facts


def read(path: str | Path, sample_rate: int | None = None) -> np.ndarray:
    """Read an audio file (WAV, FLAC, Ogg, … at any rate and bit depth) as mono float32 ``[samples]``.

    Channels are averaged, then resampled to ``sample_rate`` in Hz (soxr, high quality); None keeps the
    file's own rate, which :func:`info` tells. A file of nothing but zeros is returned with a UserWarning.
    Raises the errors of :func:`check`, and ValueError when a sample is NaN or infinite.
    """
    if sample_rate is not None and sample_rate <= 0:
        raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    facts = check(path)
    with _opened(path) as file:
        try:
            channels = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _truncated(path) from error
    if len(channels) < facts.frames:
        raise _truncated(path)
    if not np.isfinite(channels).all():
        raise ValueError(f"{path} contains samples that are NaN or infinite.")
    if not channels.any():
        warnings.warn(f"{path} is silent: all its samples are zero.", UserWarning, stacklevel=2)
    mono = channels.mean(axis=1)
    return mono if sample_rate is None else resample(mono, facts.sample_rate, sample_rate)


def resample(x: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample the waveform ``x`` ``[samples]`` from one rate in Hz to another (soxr, high quality).

    Raises ValueError when a rate is not positive.
    """
    x = _waveform(x)
    if not (from_rate > 0 and to_rate > 0):
        raise ValueError(f"sample rates must be positive, got {from_rate} and {to_rate} Hz.")
    if from_rate == to_rate:
        return x
    return soxr.resample(x, from_rate, to_rate).astype(np.float32, copy=False)


def write_wav(path: str | Path, x: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write the waveform ``x`` ``[samples]`` as a WAV file, atomically; never clips.

    Raises ValueError when a sample is NaN or infinite, or beyond ±1 where the subtype is integer PCM.
    """
    x = _waveform(x)
    peak = float(np.abs(x).max())
    if not np.isfinite(peak):
        raise ValueError(f"the waveform for {path} contains samples that are NaN or infinite.")
    if subtype.startswith("PCM") and peak > 1:
        raise ValueError(
            f"the waveform for {path} peaks at {peak:.6g}; {subtype} holds values within ±1 only."
        )
    with files.replacing(path) as temporary:
        soundfile.write(temporary, x, sample_rate, subtype=subtype, format="WAV")


def rms(x: np.ndarray) -> float:
    """Root mean square of ``x`` ``[samples]``, accumulated in float64."""
    return float(np.sqrt(np.mean(np.square(_waveform(x), dtype=np.float64))))


def scale_to_rms(x: np.ndarray, target: float) -> np.ndarray:
    """Scale ``x`` ``[samples]`` to the RMS ``target``; silence stays silence. The result may exceed ±1."""
    if not target >= 0:
        raise ValueError(f"the target RMS must not be negative, got {target}.")
    level = rms(x)
    gain = target / level if level > 0 else 0.0
    return (np.asarray(x, dtype=np.float64) * gain).astype(np.float32)


def repeat_to(x: np.ndarray, n: int) -> np.ndarray:
    """Repeat ``x`` ``[samples]`` end to end and cut it to ``n`` samples."""
    x = _waveform(x)
    _require_length(n)
    return np.resize(x, n)


def crop(x: np.ndarray, start: int, n: int) -> np.ndarray:
    """The ``n`` samples of ``x`` from ``start`` on, as a copy; ValueError when they reach beyond ``x``."""
    x = _waveform(x)
    _require_length(n)
    if start < 0 or start + n > len(x):
        raise ValueError(f"samples {start} to {start + n} are not all within a waveform of {len(x)} samples.")
    return x[start : start + n].copy()


def most_energetic_start(x: np.ndarray, n: int) -> int:
    """Start of the window of ``n`` samples with the largest energy; the earliest on ties.

    0 when ``x`` ``[samples]`` is no longer than ``n``.
    """
    x = _waveform(x)
    _require_length(n)
    if len(x) <= n:
        return 0
    total = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    energy = total[n:] - total[:-n]
    # The running sum rounds (this bounds by how much); windows of equal energy must still count as ties.
    rounding = len(x) * np.finfo(np.float64).eps * total[-1]
    return int(np.argmax(energy >= energy.max() - rounding))


def concatenate(first: np.ndarray, second: np.ndarray, gap: int = 0, crossfade: int = 0) -> np.ndarray:
    """Play ``first`` ``[m]``, then ``second`` ``[n]``: ``[m + n + gap - crossfade]`` samples.

    ``gap`` samples of silence lie between, or ``crossfade`` samples overlap with an equal-power fade
    (the squared gains sum to 1). Raises ValueError when both are asked for, one is negative, or the
    cross-fade is longer than a segment.
    """
    first, second = _waveform(first), _waveform(second)
    if gap < 0 or crossfade < 0:
        raise ValueError(f"gap and crossfade must not be negative, got {gap} and {crossfade}.")
    if gap and crossfade:
        raise ValueError(f"only one of gap and crossfade may be above 0, got {gap} and {crossfade}.")
    if crossfade > min(len(first), len(second)):
        raise ValueError(
            f"a cross-fade of {crossfade} samples is longer than a segment ({len(first)}, {len(second)})."
        )
    if not crossfade:
        return np.concatenate([first, np.zeros(gap, np.float32), second])
    phase = (np.arange(crossfade) + 0.5) / crossfade * np.pi / 2
    overlap = np.cos(phase) * first[-crossfade:] + np.sin(phase) * second[:crossfade]
    return np.concatenate([first[:-crossfade], overlap.astype(np.float32), second[crossfade:]])


def mix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sum of two waveforms ``[samples]`` of equal length; the result may exceed ±1."""
    first, second = _waveform(first), _waveform(second)
    if len(first) != len(second):
        raise ValueError(
            f"waveforms to mix must be equally long, got {len(first)} and {len(second)} samples."
        )
    return first + second


def _waveform(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"a waveform is one-dimensional and not empty, got shape {x.shape}.")
    return x


def _require_length(n: int) -> None:
    if n <= 0:
        raise ValueError(f"a length in samples must be positive, got {n}.")


def _truncated(path: str | Path) -> ValueError:
    return ValueError(f"{path} is truncated or damaged: it holds fewer samples than its header promises.")


def _facts(file: soundfile.SoundFile) -> Info:
    if file.frames == np.iinfo(np.int64).max:
        raise ValueError(f"{file.name} does not say how long it is; encode it again from the whole audio.")
    return Info(file.samplerate, file.channels, file.frames, file.format, file.subtype)


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no audio file {path}.")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: the file has 0 bytes.")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        # TypeError: soundfile takes a name that ends in .raw for headerless samples of unknown rate.
        raise ValueError(f"{path} is not an audio file that can be read: {error}") from error
    with file:
        yield file


def _is_cut_short(path: str | Path) -> bool:
    """Whether a RIFF or Ogg file ends before its container says.

    libsndfile takes what is there of such a file and reports a shorter length without any error.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX"):
            order = "little" if magic == b"RIFF" else "big"
            position = 12
            while position + 8 <= size:
                file.seek(position)
                header = file.read(8)
                length = int.from_bytes(header[4:], order)
                position += 8 + length
                if header[:4] == b"data":
                    return length < _UNKNOWN_SIZE and position > size
                position += length % 2
        elif magic == b"OggS":
            # A page is at most 65307 bytes long; the last one carries the end-of-stream flag (RFC 3533).
            file.seek(max(0, size - 65307))
            tail = file.read()
            page = tail[tail.rfind(b"OggS") :]
            if len(page) < 27 or not page[5] & 4:
                return True
            table = page[27 : 27 + page[26]]
            return len(page) < 27 + page[26] + sum(table)
    return False
