"""The sfx model: its spectrogram and trunk, where its weights come from, its heads.

Trunks have random weights of the official architecture, but in the tests that take the fixture ``official``:
these skip where the package aisfx is not installed.
"""

import collections
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tclap import audio, files
from tclap.models import READOUTS, sfx
from tclap.models.registry import load_model
from tclap.models.sfx import Sfx

RATE = 44100
CAPTIONS = ["a dog", "rain before church bells", "x"]


@pytest.fixture(scope="session")
def official() -> Path:
    """The official checkpoint."""
    spec = importlib.util.find_spec("aisfx")
    path = spec and Path(spec.submodule_search_locations[0], "models", "checkpoint.pth")
    if not path or not path.is_file():
        pytest.skip("the package aisfx is not installed: pip install --no-deps aisfx==0.1.2")
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


def noise(count: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Tones of different pitch and level in noise."""
    generator = torch.Generator().manual_seed(seed)
    tones = torch.sin(2000.0 * 2 ** torch.arange(count)[:, None] * torch.arange(samples) / RATE)
    levels = torch.logspace(-3, -1, count)[:, None]
    return levels * (tones + 0.3 * torch.randn(count, samples, generator=generator))


def close(found, expected, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=atol, rtol=0)


# The trunk


@pytest.fixture
def package(official, monkeypatch):
    """The official package can be imported, and is forgotten afterwards."""
    pytest.importorskip("librosa", reason="the package's spectrogram is librosa's")
    monkeypatch.syspath_prepend(official.parents[2])
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
    close(model.audio_trunk.decibels(sounds)[0], 10 * spectrum - 40, atol=5e-3)
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


def test_from_the_installed_package_which_is_not_run(accepted, tmp_path, monkeypatch):
    model = load_model("sfx", accepted, dim=7)
    for name, tensor in torch.load(accepted)[0].items():
        if name.startswith("embedding_net."):
            assert torch.equal(model.audio_trunk.state_dict()[name[14:]], tensor)
    assert model.origin == {"path": str(accepted), "revision": None, "sha256": files.sha256_file(accepted)}
    assert not model.is_published and model.has_pretrained_trunk
    assert not any(parameter.requires_grad for parameter in model.audio_trunk.parameters())
    (tmp_path / "aisfx" / "models").mkdir(parents=True)
    (tmp_path / "aisfx" / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (tmp_path / "aisfx" / "models" / "checkpoint.pth").write_bytes(accepted.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    installed = load_model("sfx")
    assert installed.origin["path"] is None and installed.origin["package"] == "aisfx 0.1.2"
    assert installed.audio_trunk.fingerprint == model.audio_trunk.fingerprint
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OSError, match=r"weights of sfx are missing: pip install --no-deps aisfx==0\.1\.2"):
        load_model("sfx")


def test_other_weights_are_refused_in_a_sentence_that_names_the_file(checkpoint, tmp_path, monkeypatch):
    found = files.sha256_file(checkpoint)
    with pytest.raises(
        ValueError, match=rf"checkpoint\.pth has sha256 {found}, expected 499ea\w+ \(of aisfx"
    ):
        load_model("sfx", checkpoint)
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
    other = model.with_readout(readout)
    assert other.audio_trunk is model.audio_trunk and other.text_trunk is model.text_trunk
    assert other.config == model.config | {"readout": readout}
    assert not {*map(id, other.head_parameters())} & {*map(id, model.head_parameters())}
    assert torch.equal(other.encode_text(CAPTIONS), model.encode_text(CAPTIONS))
    sounds = noise(2, round(0.4 * RATE))
    frames = other.audio_trunk(torch.cat([sounds, sounds.flip(0)], dim=1))
    turned = (other.embed_features(frames) - other.embed_features(frames.flip(1))).abs().max()
    assert turned < 1e-6 if readout in ("mean", "mean-max") else turned > 1e-4
