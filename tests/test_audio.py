import struct
import sys
import warnings

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tclap import audio


def noise(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize(("subtype", "tolerance"), [("PCM_U8", 1 / 100), ("PCM_24", 1e-6), ("FLOAT", 0)])
def test_read_averages_the_channels_at_every_bit_depth(tmp_path, subtype, tolerance):
    stereo = np.stack([noise(4000), noise(4000, seed=1)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, 16000, subtype=subtype)
    x = audio.read(tmp_path / "x.wav")
    assert x.dtype == np.float32 and audio.duration(tmp_path / "x.wav") == 0.25
    np.testing.assert_allclose(x, (stereo[:, 0] + stereo[:, 1]) / 2, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 44100), (16000, 16000)])
def test_read_resamples(tmp_path, rate, target):
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate), rate, subtype="FLOAT")
    x = audio.read(path, target)
    assert abs(len(x) - target) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(x)) / target)
    np.testing.assert_allclose(x[1000:-1000], expected[1000:-1000], atol=2e-3)
    with pytest.raises(ValueError, match="to_rate is 0, expected at least 1"):
        audio.read(path, 0)


def two_tones(rate):
    """Two seconds ``[channels, samples]``: 300 Hz at 0.3 to the left, 1000 Hz at 0.5 to the right."""
    phase = 2 * np.pi * np.arange(2 * rate) / rate
    return np.stack([0.3 * np.sin(300 * phase), 0.5 * np.sin(1000 * phase)]).astype(np.float32)


def write_container(path, codec, rate=48000, *, sound=True, picture=None, movflags=""):
    """A file of :func:`two_tones`; ``picture``: a video codec."""
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        streams = []
        if picture:
            stream = container.add_stream(picture, rate=10, width=64, height=64, pix_fmt="yuv420p")
            images = [av.VideoFrame(64, 64, "yuv420p") for _ in range(20)]
            for n, image in enumerate(images):
                image.pts = n
            streams.append((stream, images))
        if sound:
            frame = av.AudioFrame.from_ndarray(two_tones(rate), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, 0
            stream = container.add_stream(codec, rate=rate, layout="stereo")
            stream.bit_rate = 128_000
            streams.append((stream, [frame]))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return path


FORMATS = [  # name, codec where PyAV writes it, rate, video codec
    ("x.flac", None, 44100, None),
    ("x.mp3", None, 44100, None),
    ("x.ogg", None, 16000, None),
    ("x.opus", None, 48000, None),
    ("x.aiff", None, 22050, None),
    ("x.m4a", "aac", 44100, None),
    ("x.m4a", "alac", 16000, None),
    ("x.mp4", "aac", 44100, "mpeg4"),
    ("x.mov", "pcm_s16le", 16000, None),
    ("x.webm", "libopus", 48000, "libvpx"),
    ("x.wma", "wmav2", 44100, None),
    ("x.mka", "flac", 22050, None),
    ("10:30.mkv", "aac", 22050, "mpeg4"),
]


@pytest.mark.parametrize(("name", "codec", "rate", "picture"), FORMATS)
def test_formats_and_containers(tmp_path, monkeypatch, name, codec, rate, picture):
    monkeypatch.chdir(tmp_path)
    if codec:
        write_container(tmp_path / name, codec, rate, picture=picture)
    else:
        kind = {"format": "OGG", "subtype": "OPUS"} if name == "x.opus" else {}
        soundfile.write(name, two_tones(rate).T, rate, **kind)
    x = audio.read(name)
    assert x.dtype == np.float32 and len(x) == audio.duration(name) * rate
    assert abs(len(x) - 2 * rate) <= 2304
    # A second from the middle: the bins of a spectrum are whole Hz.
    spectrum = np.abs(np.fft.rfft(x[rate // 2 :][:rate])) / (rate / 2)
    assert set(np.argsort(spectrum)[-2:]) == {300, 1000}
    np.testing.assert_allclose(spectrum[[300, 1000]], [0.15, 0.25], rtol=0.05)
    assert abs(len(audio.read(name, 8000)) - 16000) <= 8000 * 2304 / rate


@pytest.mark.parametrize(
    ("name", "codec", "flags"),
    [
        ("x.m4a", "aac", ""),
        ("x.m4a", "alac", "faststart"),
        ("x.webm", "libopus", ""),
        ("x.wma", "wmav2", ""),
        ("x.mka", "flac", ""),
    ],
)
def test_damaged_containers(tmp_path, name, codec, flags):
    data = write_container(tmp_path / name, codec, movflags=flags).read_bytes()
    third, half = len(data) // 3, len(data) // 2
    zeroed = data[:third] + bytes(half - third) + data[half:]
    for content in (data[: len(data) // 10], data[:half], zeroed):
        (tmp_path / name).write_bytes(content)
        damaged = rf"^\S*{name} (is truncated or damaged: .*|is not an audio file that can be read: .*)\.$"
        for function in (audio.read, audio.duration):
            with pytest.raises(ValueError, match=damaged):
                function(tmp_path / name)


def test_containers_without_sound_and_playlists(tmp_path):
    with pytest.raises(ValueError, match=r"film\.mp4 has no audio stream\.$"):
        audio.read(write_container(tmp_path / "film.mp4", None, sound=False, picture="mpeg4"))
    soundfile.write(tmp_path / "private.wav", noise(4000), 16000)
    for name, content in (
        ("list.m3u8", "#EXTM3U\n#EXTINF:1,\nprivate.wav\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile private.wav\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="is not an audio file"):
            audio.read(tmp_path / name)


def test_without_pyav_the_error_says_what_to_do(tmp_path, monkeypatch):
    path = write_container(tmp_path / "x.m4a", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"x\.m4a is not .* pip install av .* or convert it to WAV"):
        audio.read(path)


@pytest.mark.parametrize("function", [audio.read, audio.duration])
def test_missing_empty_and_foreign_files(tmp_path, function):
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        function(tmp_path / "gone.wav")
    for name, content in (("text.wav", "This is no audio file."), ("text.raw", "Text."), ("empty.wav", "")):
        (tmp_path / name).write_text(content * 100)
        with pytest.raises(ValueError, match=f"{name} is not an audio file"):
            function(tmp_path / name)
    with pytest.raises(ValueError, match="is not an audio file"):
        function(tmp_path)


@pytest.mark.parametrize("function", [audio.read, audio.duration])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("keep", [0.3, None])
def test_truncated(tmp_path, function, suffix, keep):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, noise(48000), 16000)
    function(path)
    data = path.read_bytes()
    path.write_bytes(data[: -1 if keep is None else int(keep * len(data))])
    with pytest.raises(ValueError, match=rf"x\.{suffix} is truncated"):
        function(path)


def test_a_file_without_samples(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(0), 16000)
    with pytest.raises(ValueError, match=r"x\.wav.*without any samples"):
        audio.duration(path)


def test_damage_inside_a_stream_and_a_stream_of_unknown_length(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(48000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[:20000] + bytes(10000) + data[30000:])
    with pytest.raises(ValueError, match="truncated or damaged"):
        audio.read(path)
    # STREAMINFO's 36 bits of total samples, 0 when unknown (RFC 9639, section 8.2).
    path.write_bytes(data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:])
    with pytest.raises(ValueError, match=r"x\.flac does not say how long it is"):
        audio.duration(path)


def wav_bytes(data, *, size=None, before=b"", after=b"", pad=True):
    """A mono 16 kHz 8-bit WAV file with a data chunk that claims ``size`` bytes."""
    chunks = b"WAVE" + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 16000, 1, 8) + before
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    chunks += (b"\0" if pad and len(data) % 2 else b"") + after
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def test_unusual_but_whole_wavs_are_accepted(tmp_path):
    data = bytes(np.random.default_rng(0).integers(0, 256, 1001, dtype=np.uint8))
    listing = b"LIST" + struct.pack("<I", 3005) + b"INFO" + b"x" * 3001 + b"\0"
    files = {
        "odd": wav_bytes(data),
        "unpadded": wav_bytes(data, pad=False),
        "metadata": wav_bytes(data, before=listing, after=listing),
        "metadata-cut": wav_bytes(data, after=listing)[:-100],
        "streamed": wav_bytes(data, size=0xFFFFFFFF, pad=False),
        "streamed-sox": wav_bytes(data, size=0x7FFFF000, pad=False),
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.wav"
        path.write_bytes(content)
        assert audio.duration(path) == 1001 / 16000, name
        np.testing.assert_allclose(audio.read(path), np.frombuffer(data, np.uint8) / 128.0 - 1, atol=1e-6)
    for cut in (wav_bytes(data, before=listing)[:-50], wav_bytes(data)[:44]):  # the second: after its header
        path.write_bytes(cut)
        with pytest.raises(ValueError, match="truncated"):
            audio.duration(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, bad):
    x = noise(100)
    x[17] = bad
    path = tmp_path / "bad.wav"
    soundfile.write(path, np.stack([x, noise(100)], axis=1), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"bad\.wav contains samples that are NaN"):
        audio.read(path)
    audio.duration(path)
    with pytest.raises(ValueError, match="peaks at (nan|inf)"):
        audio.write_wav(tmp_path / "out.wav", x, 16000, subtype="FLOAT")
    assert not (tmp_path / "out.wav").exists()


def test_silence_is_returned_with_a_warning(tmp_path):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(320), 16000)
    with pytest.warns(UserWarning, match=r"quiet\.wav is silent"):
        x = audio.read(path, 8000)
    assert x.shape == (160,) and not x.any()
    # Opposite channels cancel, yet the file is not silent.
    soundfile.write(path, np.stack([noise(320), -noise(320)], axis=1), 16000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.read(path)


def test_write_wav(tmp_path):
    path = tmp_path / "folder" / "x.wav"
    x = noise(500)
    x[:2] = 1, -1
    audio.write_wav(path, x, 22050)
    assert soundfile.info(path).samplerate == 22050 and soundfile.info(path).subtype == "PCM_16"
    with pytest.raises(ValueError, match=r"x\.wav peaks at 1\.5"):
        audio.write_wav(path, 1.5 * x, 22050)
    np.testing.assert_allclose(audio.read(path), x, atol=1 / 20000)
    audio.write_wav(path, 1.5 * x, 22050, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path), np.float32(1.5) * x)
    assert [p.name for p in path.parent.iterdir()] == ["x.wav"]


def test_level():
    # A float32 sum of this many equal squares would stop growing.
    assert audio.rms(np.full(2**22, 0.1, np.float32)) == pytest.approx(np.float32(0.1), rel=1e-9)
    x = audio.scale_to_rms(np.array([3, -4]), np.sqrt(50))
    assert x.dtype == np.float32 and x.tolist() == [6, -8]
    np.testing.assert_array_equal(audio.scale_to_rms(np.zeros(5), 0.1), np.zeros(5))
    # So faint that its square is nothing in float32.
    assert audio.rms(audio.scale_to_rms(np.full(10, 1e-25), 0.1)) == pytest.approx(0.1, rel=1e-6)


def test_repeat_and_crop():
    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(audio.repeat_to(x, 7), [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(audio.repeat_to(x, 2), [1, 2])
    np.testing.assert_array_equal(audio.crop(x, 1, 2), [2, 3])
    part = audio.crop(x, 0, 3)
    part[:] = 0
    assert x.sum() == 6
    np.testing.assert_array_equal(audio.crop(x, 0, 5), [1, 2, 3, 1, 2])
    for start, n in ((-1, 2), (2, 2)):
        with pytest.raises(ValueError, match="not all within"):
            audio.crop(x, start, n)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=40), st.integers(1, 45))
def test_most_energetic_start_equals_brute_force(values, n):
    def brute_force(values):
        energies = [sum(v * v for v in values[s : s + n]) for s in range(max(1, len(values) - n + 1))]
        return energies.index(max(energies))

    assert audio.most_energetic_start(np.array(values, np.float32), n) == brute_force(values)
    # Squares that are no binary fractions, all the same: ties must survive the rounding of a running sum.
    assert audio.most_energetic_start(np.full(100000, values[0] * np.float32(0.1)), n) == 0


def test_concatenate():
    a, b = np.array([1, 2, 3], np.float32), np.array([4, 5], np.float32)
    np.testing.assert_array_equal(audio.concatenate(a, b), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(audio.concatenate(a, b, 2), [1, 2, 3, 0, 0, 4, 5])
    # One sample of cross-fade is its middle: both gains are the square root of one half.
    np.testing.assert_allclose(audio.concatenate(a, b, -1), [1, 2, 7 / np.sqrt(2), 5], rtol=1e-6)
    assert audio.concatenate(a, b, 1).dtype == audio.concatenate(a, b, -2).dtype == np.float32
    with pytest.raises(ValueError, match="cross-fade"):
        audio.concatenate(a, b, -3)


@pytest.mark.parametrize("shape", [(2, 3), (0,)])
def test_waveforms_are_one_dimensional_and_not_empty(shape):
    for function in (audio.rms, lambda x: audio.concatenate(x, x), lambda x: audio.repeat_to(x, 3)):
        with pytest.raises(ValueError, match="one-dimensional"):
            function(np.zeros(shape))


def test_padding_is_left_out_and_silence_within_stays():
    event = np.array([0.5, 0, 0, -0.2], np.float32)
    noise = np.full(30, 4e-5, np.float32)  # what a lossy codec makes of zeros
    padded = np.concatenate([noise, event, noise])
    np.testing.assert_array_equal(audio.without_padding(padded), event)
    np.testing.assert_array_equal(audio.without_padding(event), event)
    np.testing.assert_array_equal(audio.without_padding(np.zeros(7)), np.zeros(7))
