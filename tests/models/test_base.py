"""What AudioTextModel gives to every model and is not already tested on the compact one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tclap.models.base import AudioTextModel
from tclap.models.registry import MODELS, load_model
from tclap.models.windows import Windows

CAPTIONS = ["dog", "a dog before a siren", "rain and bells", "x"]


def noise(count: int, samples: int = 4000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, samples)) * rng.uniform(0.01, 0.1, (count, 1))
    return waveforms.astype(np.float32)


class Published(AudioTextModel):
    """A model whose trunks are published: a "file" is a name, its hash is what follows the colon."""

    name = "published"
    pretrained = ("audio_trunk.", "text_trunk.")

    def __init__(self, width: int = 3) -> None:
        super().__init__(10.0)
        self.config = {"width": width}
        for part in ("audio_trunk", "audio_head", "text_trunk", "text_head"):
            setattr(self, part, torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Dropout(0.5)))

    @classmethod
    def from_pretrained(cls, weights=None, width: int = 3) -> Published:
        model = cls(width)
        sha256 = "abc" if weights is None else weights.partition(":")[2]  # None: from the hub
        model.origin = {"path": weights, "sha256": sha256}
        model.config = model.config | {"origin": model.origin}
        return model


# Trunks and heads


def test_pretrained_parts_stay_in_evaluation_mode():
    model = Published()
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert model.training is mode and model.audio_head[1].training is mode
        assert not model.audio_trunk.training and not model.text_trunk[1].training
    assert not model.eval().text_head.training


def test_own_heads_share_the_trunks_alone(tiny_model):
    other = tiny_model.with_own_heads()
    assert other.audio_trunk is tiny_model.audio_trunk and other.text_trunk is tiny_model.text_trunk
    assert other.head_names() == tiny_model.head_names()
    pairs = list(zip(other.head_parameters(), tiny_model.head_parameters(), strict=True))
    assert all(torch.equal(own, theirs) and own is not theirs for own, theirs in pairs)
    before = [theirs.detach().clone() for _, theirs in pairs]
    with torch.no_grad():
        for own, _ in pairs:
            own.add_(1.0)
    assert all(torch.equal(theirs, kept) for (_, theirs), kept in zip(pairs, before, strict=True))
    assert other.logit_scale.item() == pytest.approx(tiny_model.logit_scale.item() * np.e)
    assert tiny_model.audio_head is not other.audio_head
    assert dict(other.named_parameters()).keys() == dict(tiny_model.named_parameters()).keys()


def test_head_names_are_those_of_the_head_parameters(tiny_model):
    named = dict(tiny_model.named_parameters()) | {"logit_scale": tiny_model.log_scale}
    pairs = zip(tiny_model.head_names(), tiny_model.head_parameters(), strict=True)
    assert all(named[name] is parameter for name, parameter in pairs)


# Encoding


def test_text_keeps_its_order_whatever_the_batches(tiny_model, text_trunk):
    whole = tiny_model.encode_text(CAPTIONS)
    text_trunk.asked.clear()
    found = tiny_model.encode_text(CAPTIONS, batch_size=2)
    # By length: "x", "dog"; "rain and bells", "a dog before a siren".
    assert text_trunk.asked == [["x", "dog"], ["rain and bells", "a dog before a siren"]]
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


def test_the_policy_reaches_the_windows(tiny_model):
    long = [noise(1, 9000, seed)[0] for seed in range(3)]
    for policy in ("fit", "msclap"):
        windows = Windows(8000, 0.5, policy, seed=7)
        cut = np.stack([windows.fitted(waveform, n) for n, waveform in enumerate(long)])
        found = tiny_model.encode_audio(long, policy=policy, seed=7, batch_size=2)
        torch.testing.assert_close(found, tiny_model.encode_audio(cut), rtol=0, atol=1e-6)
    assert not torch.equal(tiny_model.encode_audio(long, policy="msclap", seed=8), found)
    with torch.no_grad():
        whole = tiny_model.embed_audio(tiny_model.audio_trunk(torch.from_numpy(np.stack(long))))
    full = tiny_model.encode_audio(long, policy="full")
    torch.testing.assert_close(full, whole, rtol=0, atol=1e-6)
    assert (full - tiny_model.encode_audio(long)).abs().max() > 1e-4


def test_unknown_policy_and_precision(tiny_model):
    tiny_model.train()
    with pytest.raises(ValueError, match="policy must be one of fit, full, msclap, got 'crop'"):
        tiny_model.encode_audio(noise(1), policy="crop")
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, got 'fp16'"):
        tiny_model.encode_audio(noise(1), precision="fp16")


def test_the_mode_comes_back_after_an_error(tiny_model):
    tiny_model.train()
    with pytest.raises(ValueError, match="must be a mono array"):
        tiny_model.encode_audio([np.zeros(0, np.float32)])
    assert tiny_model.training


def test_half_precision_is_near_and_float32(tiny_model):
    single = tiny_model.encode_audio(noise(4))
    half = tiny_model.encode_audio(noise(4), precision="bf16")
    assert half.dtype == torch.float32 and not torch.equal(half, single)
    assert torch.nn.functional.cosine_similarity(half, single).min() > 0.999


def test_half_precision_embeddings_are_unit_vectors(tiny_model):
    half = tiny_model.encode_audio(noise(4), precision="bf16")
    torch.testing.assert_close(half.norm(dim=1), torch.ones(4), rtol=0, atol=1e-5)


# Published weights


@pytest.fixture
def published(monkeypatch):
    monkeypatch.setitem(MODELS, "published", f"{__name__}:Published")
    monkeypatch.setattr("importlib.import_module", lambda name: __import__("sys").modules[name])


def test_a_checkpoint_is_put_back_on_its_published_weights(published, tmp_path):
    model = load_model("published", "here:abc", width=5)
    model.save(tmp_path / "m.safetensors")
    sidecar = json.loads((tmp_path / "m.json").read_text())
    assert sidecar["config"] == {"width": 5, "origin": {"path": "here:abc", "sha256": "abc"}}
    for options, path in (({}, "here:abc"), ({"pretrained": "there:abc"}, "there:abc")):
        loaded = load_model("published", tmp_path / "m.safetensors", **options)
        assert loaded.origin["path"] == path
        assert loaded.own_state().keys() == model.own_state().keys()
        for name, tensor in model.own_state().items():
            assert torch.equal(loaded.own_state()[name], tensor), name
    with pytest.raises(ValueError, match="there:xyz has sha256 xyz, but the checkpoint was made on .* abc"):
        load_model("published", tmp_path / "m.safetensors", pretrained="there:xyz")


def test_options_are_those_of_where_the_weights_come_from(published, tmp_path):
    with pytest.raises(ValueError, match="published has no option 'pretrained', expected among width"):
        load_model("published", pretrained="here:abc")
    with pytest.raises(ValueError, match="published has no option 'wide', expected among width"):
        load_model("published", "here:abc", wide=3)
    load_model("published").save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="no option 'depth', expected among width, pretrained"):
        load_model("published", tmp_path / "m.safetensors", depth=3)
    assert load_model("published", tmp_path / "m.safetensors").origin == {"path": None, "sha256": "abc"}


def test_a_silent_waveform_is_embedded_with_a_warning(tiny_model):
    with pytest.warns(UserWarning, match="a waveform is silent"):
        found = tiny_model.encode_audio([np.zeros(4000, np.float32)])
    assert torch.isfinite(found).all()
