"""Waveforms: reading, checking, measuring, joining and writing; arrays in, arrays out.

A waveform is a float32 array ``[samples]`` in [-1, 1], mono. Lengths and positions are in samples,
durations in seconds. A file that cannot be trusted is refused.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from tclap import files
from tclap.arguments import at_least

SUFFIXES = {
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".m4a", ".mp4", ".mov", ".webm", ".mka",
    ".mkv", ".wma",
}  # fmt: skip
# Writers that stream to a pipe leave at least this size (ffmpeg: all bits set; SoX: just under 2 GiB).
_UNKNOWN_SIZE = 0x7FFFF000
_LARGEST_OGG_PAGE = 65307
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# FFmpeg's names of the containers left to PyAV: their headers promise a length, unlike raw streams, and they
# refer to no other files, unlike playlists.
_CONTAINERS = "mov,matroska,asf"
BLOCK = 2**20  # samples of a file that are read at a time
RATES = (100, 1_000_000)  # in Hz, of files
PADDING = 1e-4  # of the peak
_CODEC_DELAY = 0.25  # seconds that a header may promise beyond what is decoded


def duration(path: str | Path) -> float:
    """Seconds of an audio file that :func:`read` can read, as far as is seen without decoding it all.

    Raises FileNotFoundError when there is no such file, ValueError when it is not audio, holds no samples, is
    truncated, or is a stream whose header does not tell its length. Only :func:`read` finds NaN or infinity,
    and damage in the middle of a compressed stream. What PyAV reads is decoded whole.
    """
    with _opened(path) as file:
        if file is None:
            samples, rate = _decoded(path)
            return len(samples) / rate
        frames = _promised(path, file)
        # A compressed stream's header keeps its promise only if the last sample can be decoded.
        file.seek(frames - 1)
        if len(file.read(1)) == 0:
            raise EOFError
        return frames / file.samplerate


def read(path: str | Path, sample_rate: int | None = None) -> np.ndarray:
    """Read an audio file (WAV, FLAC, MP3, Ogg, … at any rate and bit depth) as mono float32 ``[samples]``.

    With PyAV installed also the first audio stream of m4a, mp4, mov, webm, mka, mkv or wma. Channels are
    averaged, then resampled to ``sample_rate`` in Hz; None keeps the file's own rate. Silence is returned
    with a UserWarning. Raises the errors of :func:`duration`, and ValueError on NaN or infinity.
    """
    with _opened(path) as file:
        if file is None:
            channels, rate = _decoded(path)
        else:
            frames, rate = _promised(path, file), file.samplerate
            # In blocks, as memory is taken for all that is asked for, and a header may promise any length.
            blocks = [file.read(BLOCK, "float32", always_2d=True)]
            while len(blocks[-1]) == BLOCK:
                blocks.append(file.read(BLOCK, "float32", always_2d=True))
            channels = np.concatenate(blocks)
            if len(channels) < frames:
                raise EOFError
    if not np.isfinite(channels).all():
        raise ValueError(f"{path} contains samples that are NaN or infinite.")
    if not channels.any():
        warnings.warn(f"{path} is silent: all its samples are zero.", UserWarning, stacklevel=2)
    mono = channels.mean(axis=1)
    return mono if sample_rate is None else resample(mono, rate, sample_rate)


def resample(x: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample ``x`` ``[samples]`` from one rate in Hz to another; ValueError when one is below 1."""
    x = _waveform(x)
    at_least(1.0, from_rate=from_rate, to_rate=to_rate)
    if from_rate == to_rate:
        return x
    return soxr.resample(x, from_rate, to_rate).astype(np.float32, copy=False)


def write_wav(path: str | Path, x: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write ``x`` ``[samples]`` as a WAV file, atomically.

    Raises ValueError when a sample is NaN or infinite, or beyond ±1 where the subtype is integer PCM, and
    OSError when the file cannot be written.
    """
    x = _waveform(x)
    peak = float(np.abs(x).max())
    if not np.isfinite(peak) or (subtype.startswith("PCM") and peak > 1):
        raise ValueError(f"the waveform for {path} peaks at {peak:.6g}, which {subtype} cannot hold.")
    with files.replacing(path) as temporary:
        try:
            soundfile.write(temporary, x, sample_rate, subtype=subtype, format="WAV")
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path} could not be written ({error}): is the disk full?") from error


def rms(x: np.ndarray) -> float:
    """Root mean square of ``x`` ``[samples]``, accumulated in float64."""
    return float(np.sqrt(np.mean(np.square(_waveform(x), dtype=np.float64))))


def scale_to_rms(x: np.ndarray, target: float) -> np.ndarray:
    """Scale ``x`` ``[samples]`` to the RMS ``target``; silence stays silence. The result may exceed ±1."""
    level = rms(x)
    gain = target / level if level > 0 else 0.0
    return (np.asarray(x, dtype=np.float64) * gain).astype(np.float32)


def repeat_to(x: np.ndarray, n: int) -> np.ndarray:
    """Repeat ``x`` ``[samples]`` end to end and cut it to ``n`` samples."""
    return np.resize(_waveform(x), n)


def crop(x: np.ndarray, start: int, n: int) -> np.ndarray:
    """The ``n`` samples of ``x`` from ``start`` on, as a copy; a waveform shorter than ``n`` is repeated.

    Raises ValueError when they reach beyond a waveform that is long enough.
    """
    x = _waveform(x)
    if len(x) < n:
        return repeat_to(x, n)
    if start < 0 or start + n > len(x):
        raise ValueError(f"samples {start} to {start + n} are not all within a waveform of {len(x)} samples.")
    return x[start : start + n].copy()


def without_padding(x: np.ndarray) -> np.ndarray:
    """``x`` ``[samples]`` without the silence at its ends, which data sets pad short clips with.

    Silent is what lies 80 dB or more below the peak, since a lossy codec leaves no zeros. Silence as a whole
    stays as it is.
    """
    x = _waveform(x)
    loud = np.flatnonzero(np.abs(x) > PADDING * np.abs(x).max())
    return x[loud[0] : loud[-1] + 1] if len(loud) else x


def most_energetic_start(x: np.ndarray, n: int) -> int:
    """Start of the (first) window of ``n`` samples with the largest energy; 0 where ``x`` is shorter."""
    x = _waveform(x)
    if len(x) <= n:
        return 0
    total = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    energy = total[n:] - total[:-n]
    # The running sum rounds (this bounds by how much); windows of equal energy must still count as ties.
    rounding = len(x) * np.finfo(np.float64).eps * total[-1]
    return int(np.argmax(energy >= energy.max() - rounding))


def concatenate(first: np.ndarray, second: np.ndarray, gap: int = 0) -> np.ndarray:
    """Play ``first`` ``[m]``, then ``second`` ``[n]``: ``[m + n + gap]`` samples.

    ``gap`` samples of silence lie between; a negative gap is an equal-power cross-fade (the squared gains sum
    to 1). Raises ValueError when that is longer than a segment.
    """
    first, second = _waveform(first), _waveform(second)
    if gap >= 0:
        return np.concatenate([first, np.zeros(gap, np.float32), second])
    if -gap > min(len(first), len(second)):
        raise ValueError(f"a cross-fade of {-gap} samples is longer than {len(first)} or {len(second)}.")
    phase = (np.arange(-gap) + 0.5) / -gap * np.pi / 2
    overlap = np.cos(phase) * first[gap:] + np.sin(phase) * second[:-gap]
    return np.concatenate([first[:gap], overlap.astype(np.float32), second[-gap:]])


def _waveform(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"a waveform is one-dimensional and not empty, got shape {x.shape}.")
    return x


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile | None]:
    """The file, None where libsndfile does not know its format; what is damaged is a ValueError."""
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no audio file {path}.")
    if not Path(path).is_file():  # of a pipe or a device an end may never come
        raise ValueError(f"{path} is not an audio file but a folder, a pipe or a device.")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError):
        # TypeError: soundfile takes a name that ends in .raw for headerless samples of unknown rate.
        file = nullcontext()
    try:
        with file as opened:
            yield opened
    except (soundfile.LibsndfileError, EOFError) as error:
        raise ValueError(f"{path} is truncated or damaged: its header promises more samples.") from error


def _promised(path: str | Path, file: soundfile.SoundFile) -> int:
    """The frames that the header promises; EOFError where the file is known to end before them."""
    if _is_cut_short(path):
        raise EOFError
    if file.frames == 0:
        raise ValueError(f"{path} is an audio file without any samples.")
    _check_rate(path, file.samplerate)
    if file.frames == np.iinfo(np.int64).max:
        raise ValueError(f"{path} does not say how long it is; encode it again from the whole audio.")
    return file.frames


def _check_rate(path: str | Path, rate: int) -> None:
    # Resampled, a file of 1 Hz would fill the memory.
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{path} has a sample rate of {rate} Hz, expected {RATES[0]} to {RATES[1]}.")


def _decoded(path: str | Path) -> tuple[np.ndarray, int]:
    """Samples ``[frames, 1]``, channels averaged, of a container's first audio stream by PyAV; its rate.

    Raises EOFError on truncation and damage, ValueError otherwise.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ValueError(
            f"{path} is not an audio file that libsndfile reads: pip install av for m4a, mp4, webm, wma and "
            "the like, or convert it to WAV with ffmpeg."
        ) from None
    try:  # "file:", as FFmpeg takes the name 10:30.m4a for a protocol's
        container = av.open(f"file:{path}", options={"format_whitelist": _CONTAINERS})
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: undecodable tags, before PyAV 19
        reason = getattr(error, "strerror", error)
        raise ValueError(f"{path} is not an audio file that can be read: {reason}.") from error
    with container:
        if not container.streams.audio:
            raise ValueError(f"{path} has no audio stream.")
        stream = container.streams.audio[0]
        _check_rate(path, stream.rate)
        planar = av.AudioResampler(format="fltp", rate=stream.rate)
        try:
            blocks = (block for frame in container.decode(stream) for block in planar.resample(frame))
            parts = [block.to_ndarray().mean(axis=0) for block in blocks]
        except (av.FFmpegError, ValueError) as error:  # ValueError: rate or layout change on the way
            raise EOFError from error
        # A container says how long its longest stream is, and not always how long each one is.
        alone = container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0
        promised = (
            float(stream.duration * stream.time_base) if stream.duration and stream.time_base else alone
        )
        if not parts or sum(map(len, parts)) < (promised - _CODEC_DELAY) * stream.rate or _is_cut_short(path):
            raise EOFError
        return np.concatenate(parts)[:, None], stream.rate


def _is_cut_short(path: str | Path) -> bool:
    """Whether a RIFF, RF64, AIFF, Ogg or ASF file ends before its container says.

    libsndfile and FFmpeg take what is there of such a file and report a shorter length without any error.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            order: Literal["little", "big"] = "big" if magic in (b"RIFX", b"FORM") else "little"
            position, large = 12, 0
            while position + 8 <= size:
                file.seek(position)
                header = file.read(24)
                length = int.from_bytes(header[4:8], order)
                if header[:4] == b"ds64":  # of RF64: the sizes of the file and of its data
                    large = int.from_bytes(header[16:24], order)
                if header[:4] in (b"data", b"SSND"):
                    length, is_known = large or length, large > 0 or length < _UNKNOWN_SIZE
                    return is_known and position + 8 + length > size
                position += 8 + length + length % 2
        elif magic == b"OggS":
            # The last page carries the end-of-stream flag (RFC 3533).
            file.seek(max(0, size - _LARGEST_OGG_PAGE))
            page = b"OggS" + file.read().rpartition(b"OggS")[2]
            complete = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
            return not (complete and page[5] & 4)
        elif magic == b"\x30\x26\xb2\x75":
            # The properties object: GUID, size, the file's id, the file's size.
            _, found, properties = file.read(65536).partition(_ASF_PROPERTIES)
            return bool(found) and int.from_bytes(properties[24:32], "little") > size
    return False
