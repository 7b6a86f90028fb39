"""What holds of every model on published weights: frozen trunks, own heads, a residual for order."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from tclap import files
from tclap.models.registry import load_model
from tclap.slots import Reading
from tclap.slots.model import SlotModel

HUB = {
    "transformers": ("laion--clap-htsat-fused", "model.safetensors"),
    "msclap-2022": ("microsoft--msclap", "CLAP_weights_2022.pth"),
    "msclap-2023": ("microsoft--msclap", "CLAP_weights_2023.pth"),
}
CAPTIONS = ["a dog before rain", "rain", "a long gust of wind"]


@pytest.fixture(scope="module", params=["unfused", "fused", "msclap_2022", "msclap_2023"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def waveforms(model) -> torch.Tensor:
    """A second each."""
    levels = np.array([[0.2], [0.05], [0.01]])
    found = np.random.default_rng(0).standard_normal((3, model.sample_rate)) * levels
    return torch.from_numpy(found.astype(np.float32))


def test_training_moves_the_heads_alone(model, waveforms):
    own = model.with_own_heads().train()
    sounds, texts = own.audio_trunk(waveforms), own.text_trunk(CAPTIONS)
    assert own.audio_head.training and not own.audio_trunk.training and not own.text_trunk.training
    assert {id(p) for p in own.parameters() if p.requires_grad} == {id(p) for p in own.head_parameters()}
    before = model.encode_text(CAPTIONS)
    similarity = own.logit_scale * own.embed_features(sounds) @ own.embed_tokens(texts).T
    (similarity * torch.linspace(-1, 1, 9).reshape(3, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in own.head_parameters())
    torch.optim.SGD(own.head_parameters(), lr=0.1).step()
    # Neither have norms moved, nor is there dropout in a trunk.
    assert torch.equal(own.audio_trunk(waveforms), sounds)
    assert torch.equal(own.text_trunk(CAPTIONS).values, texts.values)
    assert torch.equal(model.encode_text(CAPTIONS), before)
    assert (own.encode_text(CAPTIONS) - before).abs().max() > 1e-3


def test_the_residual_is_the_published_model_until_it_learns_order(model, waveforms):
    residual = model.with_readout("residual-segments")
    assert residual.audio_trunk is model.audio_trunk
    assert residual.config == model.config | {"readout": "residual-segments"}
    features = model.audio_trunk(waveforms)
    before = model.embed_features(features)
    assert torch.equal(residual.embed_features(features), before)
    torch.testing.assert_close(residual.embed_features(features.flip(1)), before, atol=1e-6, rtol=0)
    target = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    (residual.embed_features(features) * target).sum().backward()
    torch.optim.SGD(residual.audio_head.order.parameters(), lr=1.0).step()
    found, turned = residual.embed_features(features), residual.embed_features(features.flip(1))
    assert (found - before).abs().max() > 1e-4 and (found - turned).abs().max() > 1e-4
    assert torch.equal(model.embed_features(features), before)
    assert torch.equal(residual.with_readout("published").embed_features(features), before)
    with pytest.raises(ValueError, match="one of published, residual-segments, got 'ends'"):
        model.with_readout("ends")


@torch.no_grad()
def test_half_precision_is_near_and_spectra_are_not_in_it(model, waveforms):
    waveforms = waveforms[:2]  # slow
    features, decibels = model.audio_trunk(waveforms), model.audio_trunk.decibels(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.audio_trunk(waveforms)
        assert torch.equal(model.audio_trunk.decibels(waveforms), decibels)
    assert half.dtype == torch.float32 and not torch.equal(half, features)
    assert cosine_similarity(model.embed_features(half), model.embed_features(features)).min() >= 0.995


def test_a_checkpoint_comes_back_on_weights_that_moved(model, tmp_path):
    own = model.with_readout("residual-segments")
    with torch.no_grad():
        for parameter in own.head_parameters()[:-1]:
            parameter += 0.01
        own.log_scale.fill_(math.log(31))
    moved = tmp_path / Path(model.origin["path"]).name
    moved.symlink_to(model.origin["path"])
    own.save(tmp_path / "m.safetensors")
    if model.name == "transformers":
        loaded = load_model(moved, tmp_path / "m.safetensors")
    else:
        loaded = load_model(model.name, tmp_path / "m.safetensors", pretrained=moved)
    assert loaded.config["readout"] == "residual-segments"
    assert files.hash_state(loaded.own_state()) == files.hash_state(own.own_state())
    assert loaded.text_trunk.fingerprint == model.text_trunk.fingerprint
    assert loaded.audio_trunk.fingerprint == model.audio_trunk.fingerprint


def test_from_the_hubs_cache_and_without_a_network(model, tmp_path, monkeypatch):
    (repository, file), commit = HUB[model.name], "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # Before version 5, transformers keeps a copy.
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    cached, weights = tmp_path / f"models--{repository}", Path(model.origin["path"])
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    name = "laion/clap-htsat-fused" if model.name == "transformers" else model.name
    with pytest.raises(OSError, match=r"^[^()]+ could not be loaded \([^()]+\); give .*\.$"):
        load_model(name)
    for path in weights.iterdir() if weights.is_dir() else [weights]:
        (cached / "snapshots" / commit / (file if path == weights else path.name)).symlink_to(path)
    loaded = load_model(name, readout="residual-segments")
    assert loaded.origin == model.origin | {"path": None, "revision": commit}
    assert loaded.config == {"readout": "residual-segments", "origin": loaded.origin}
    loaded.save(tmp_path / "m.safetensors")
    (cached / "refs" / "main").write_text("0" * 40)  # the newest is another one tomorrow
    assert load_model(name, tmp_path / "m.safetensors").fingerprint == loaded.fingerprint


def test_slots_around_it_have_its_own_embeddings(model, waveforms):
    class Plain:
        def read(self, captions):
            return [Reading("plain")] * len(captions)

    slots, waveform = SlotModel(model, Plain(), parts=[0.5]), waveforms[0].numpy()
    found = slots.encode_audio([waveform])[0, :-1].unflatten(0, (3, -1)) * 3**0.5
    expected = model.encode_audio([waveform, waveform[: len(waveform) // 2], waveform[len(waveform) // 2 :]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    ours = slots.logit_scale * slots.encode_text(CAPTIONS) @ slots.encode_audio([waveform]).T
    base = model.logit_scale * model.encode_text(CAPTIONS) @ expected[:1].T
    torch.testing.assert_close(ours, base, atol=1e-3, rtol=1e-4)
