"""LAION-CLAP, on a tiny random model of the same shape, against transformers' own ClapModel."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizerFast

from tclap import files
from tclap.models import laion
from tclap.models.base import Tokens
from tclap.models.laion import Laion
from tclap.models.registry import load_model
from tclap.slots.model import Reading, SlotModel

RATE = SAMPLES = 8000  # the tiny model's window is one second
STEPS, BANDS, CHANNELS = 32, 2, 16
CAPTIONS = ["a dog", "this is a sound of rain before church bells", "x", "", "siren, while a crow!"]


def build(folder) -> None:
    """Write a tiny model in the layout of the hub; every weight counts, none is near zero."""
    vocabulary = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary.train_from_iterator(CAPTIONS * 3, vocab_size=280, special_tokens=special, show_progress=False)
    vocabulary.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=512
    )
    tokenizer.save_pretrained(folder)
    hearing = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "depths": [2, 2]}
    hearing |= {"num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": CHANNELS}
    hearing |= {"drop_path_rate": 0.3, "attention_probs_dropout_prob": 0.2}
    reading = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 3}
    reading |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 40}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ClapModel(ClapConfig(text_config=reading, audio_config=hearing, projection_dim=12))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor += 0.2 * torch.randn(tensor.shape, generator=draw)
        norm = network.audio_model.audio_encoder.batch_norm
        norm.running_mean.copy_(-40 + 5 * torch.randn(16, generator=draw))
        norm.running_var.copy_(100 + 50 * torch.rand(16, generator=draw))
        network.logit_scale_t.fill_(math.log(23))
        network.logit_scale_a.fill_(math.log(17))
    network.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=40,
        max_length_s=1,
        fft_window_size=256,
        frequency_min=50,
        frequency_max=3500,
        truncation="rand_trunc",
        padding="repeatpad",
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clap")
    build(path)
    return path


@pytest.fixture
def copied(folder, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(folder, tmp_path / "weights")


@pytest.fixture(scope="module")
def official(folder) -> ClapModel:
    return ClapModel.from_pretrained(folder).eval()


@pytest.fixture
def model(folder) -> Laion:
    return load_model("laion-clap", folder)


def noise(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """White noises, each 12 dB below the one before."""
    rng = np.random.default_rng(seed)
    levels = 0.2 * 0.25 ** np.arange(count)[:, None]
    return (rng.standard_normal((count, samples)) * levels).astype(np.float32)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def change_json(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def official_text(official: ClapModel, folder, captions: list[str], **options) -> torch.Tensor:
    encoded = RobertaTokenizerFast.from_pretrained(folder)(captions, return_tensors="pt", **options)
    with torch.no_grad():
        return official.get_text_features(**encoded)


# Audio


def test_log_mel_is_the_extractors_at_laions_own_settings():
    settings = ClapFeatureExtractor(frequency_min=50, frequency_max=14000)
    loud = np.sin(2 * np.pi * 1000 * np.arange(480000) / 48000)
    quiet = np.concatenate([noise(1, 240000)[0] * 1e-3, np.zeros(240000)])
    waveforms = np.stack([0.9 * loud, quiet]).astype(np.float32)
    expected = settings(
        list(waveforms),
        truncation="rand_trunc",
        padding="repeatpad",
        sampling_rate=48000,
        return_tensors="pt",
    )["input_features"][:, 0].float()
    found = laion.LogMel(settings)(torch.from_numpy(waveforms))
    assert found.shape == (2, 1001, 64) and found.dtype == torch.float32
    close(found, expected, atol=1e-4)
    assert found.min() == -100 and found.max() > 0


def test_audio_embeddings_are_those_of_clap_model(model, official, folder):
    waveforms = noise(5)
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    features = extractor(list(waveforms), sampling_rate=RATE, return_tensors="pt")["input_features"].float()
    with torch.no_grad():
        expected = official.get_audio_features(features)
        trunk = model.audio_trunk(torch.from_numpy(waveforms))
        close(model.embed_audio(trunk), expected)
    assert trunk.shape == (5, STEPS, BANDS * CHANNELS) and trunk.dtype == torch.float32
    assert ((expected @ expected.T).fill_diagonal_(0) < 1 - 1e-4).all()  # not five times the same
    close(model.encode_audio(waveforms), expected)
    close(model.encode_audio(waveforms[::-1], batch_size=2).flip(0), expected)
    close(torch.cat([model.encode_audio(waveforms[n : n + 1]) for n in range(5)]), expected)


def test_the_trunk_keeps_time_in_order(model):
    """Without attention, which mixes all times, a burst changes the step of its own time and next to it."""
    with torch.no_grad():
        for name, tensor in model.audio_trunk.named_parameters():
            if "attention.output.dense" in name:
                tensor.zero_()
    background = noise(1, seed=3)[0]
    for step in range(STEPS):
        burst = background.copy()
        centre = round((step + 0.5) * SAMPLES / STEPS)
        burst[centre - 10 : centre + 10] = 0.9
        quiet, loud = model.audio_trunk(torch.from_numpy(np.stack([background, burst])))
        changed = set((loud - quiet).abs().amax(1).gt(1e-5).nonzero()[:, 0].tolist())
        assert {step} <= changed <= {step - 1, step, step + 1}


def test_only_one_window_is_heard(model):
    for samples in (SAMPLES - 1, SAMPLES + 1):
        with pytest.raises(ValueError, match=f"exactly one window of 8000 samples, got {samples}"):
            model.audio_trunk(torch.zeros(1, samples))
    with pytest.raises(ValueError, match="exactly one window of 8000 samples, got 12000"):
        model.encode_audio(noise(1, 12000), policy="full")
    assert model.encode_audio(noise(1, 12000)).shape == (1, 12)
    short = noise(1, 3000)
    close(model.encode_audio(short), model.encode_audio(np.tile(short, 3)[:, :SAMPLES]), atol=0)


@pytest.mark.parametrize("waveform", [np.zeros((2, 50), np.float32), np.ones(50, np.int16), [math.nan, 0.0]])
def test_audio_is_mono_finite_floats(model, waveform):
    with pytest.raises(ValueError, match=r"must be a mono array \[samples\] of finite floats"):
        model.encode_audio([waveform])


def test_half_precision_is_near_and_spectra_are_not_in_it(model):
    waveforms = noise(3)
    exact = model.encode_audio(waveforms)
    half = model.encode_audio(waveforms, precision="bf16")
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        close(
            model.audio_trunk.decibels(torch.from_numpy(waveforms)),
            model.audio_trunk.decibels(torch.from_numpy(waveforms).double()),
            atol=0,
        )


# Text


def test_text_embeddings_are_those_of_clap_model(model, official, folder):
    alone = torch.cat([official_text(official, folder, [caption]) for caption in CAPTIONS])
    close(official_text(official, folder, CAPTIONS, padding="max_length", max_length=30), alone)
    close(torch.cat([model.encode_text([caption]) for caption in CAPTIONS]), alone)
    close(model.encode_text(CAPTIONS), alone)
    close(model.encode_text(CAPTIONS[::-1], batch_size=2).flip(0), alone)
    assert ((alone @ alone.T).fill_diagonal_(0) < 1 - 1e-3).all()


def test_tokens_are_the_input_of_the_last_layer(model, official, folder):
    encoded = RobertaTokenizerFast.from_pretrained(folder)(CAPTIONS, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = official.text_model(**encoded, output_hidden_states=True).hidden_states
    tokens = model.text_trunk(CAPTIONS)
    assert tokens.lengths.tolist() == encoded["attention_mask"].sum(1).tolist()
    close(tokens.values, states[-2])


def test_padding_is_never_looked_at(model):
    tokens = model.text_trunk(CAPTIONS)
    garbage = torch.full((len(CAPTIONS), 7, 16), 1e3)
    values = torch.cat([tokens.values, garbage], dim=1)
    close(model.embed_text(Tokens(values, tokens.lengths)), model.embed_text(tokens))


def test_a_long_caption_is_cut_at_the_last_position(model, official, folder):
    long = "rain before church bells " * 20
    expected = official_text(official, folder, [long], truncation=True, max_length=38)
    assert model.text_trunk([long]).lengths.tolist() == [38]  # 40 positions, the first two unused by RoBERTa
    close(model.encode_text([long]), expected)


# Temperature and training


def test_tau_scales_texts_to_audio_as_in_clap_model(model, official, folder):
    assert model.logit_scale.item() == pytest.approx(23, rel=1e-6)
    assert model.logit_scale_a.item() == pytest.approx(math.log(17), rel=1e-6)
    waveforms = noise(2)
    features = ClapFeatureExtractor.from_pretrained(folder)(
        list(waveforms), sampling_rate=RATE, return_tensors="pt"
    )["input_features"].float()
    encoded = RobertaTokenizerFast.from_pretrained(folder)(CAPTIONS, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = official(input_features=features, **encoded).logits_per_text
        found = model.logit_scale * model.encode_text(CAPTIONS) @ model.encode_audio(waveforms).T
    close(found, expected, atol=3e-4)


def test_the_trunks_stay_frozen_and_in_evaluation_mode(model):
    waveforms, state = torch.from_numpy(noise(3)), files.hash_state(model.audio_trunk.state_dict())
    before = model.audio_trunk(waveforms), model.text_trunk(CAPTIONS).values
    assert all(tensor.requires_grad for tensor in model.head_parameters())
    model.train()
    assert model.text_head.training and not any(part.training for part in model.audio_trunk.modules())
    close(model.audio_trunk(waveforms), before[0], atol=0)
    close(model.text_trunk(CAPTIONS).values, before[1], atol=0)
    embeddings = model.embed_audio(before[0]), model.embed_text(model.text_trunk(CAPTIONS[:3]))
    (model.logit_scale * (embeddings[0] * embeddings[1]).sum()).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {
        name for name, _ in model.named_parameters() if not name.startswith(("audio_trunk.", "text_trunk."))
    }
    torch.optim.SGD(model.head_parameters(), lr=0.1).step()
    assert files.hash_state(model.audio_trunk.state_dict()) == state
    close(model.audio_trunk(waveforms), before[0], atol=0)


def test_heads_are_the_last_norm_layer_pooler_and_projections(model):
    parts = {".".join(name.split(".")[:2]) for name in model.head_names()}
    projections = {"audio_head.projection", "text_head.projection", "logit_scale"}
    assert parts == projections | {"audio_head.norm", "text_head.layer", "text_head.pooler"}
    assert len(model.head_names()) == len(model.head_parameters())


def test_an_order_head_starts_at_the_published_embedding(model, folder):
    other = load_model("laion-clap", folder, readout="residual-segments")
    waveforms = torch.from_numpy(noise(2))
    features = other.audio_trunk(waveforms)
    close(other.embed_audio(features), model.embed_audio(features), atol=0)
    with torch.no_grad():
        other.audio_head.order.outer.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert (other.embed_audio(features) - other.embed_audio(features.flip(1))).abs().max() > 1e-2
    close(model.embed_audio(features), model.embed_audio(features.flip(1)))
    with pytest.raises(ValueError, match="readout must be one of published, residual-segments, got 'ends'"):
        load_model("laion-clap", folder, readout="ends")


def test_another_readout_shares_the_trunks(model, tmp_path):
    state = files.hash_state(model.state_dict())
    other = model.with_readout("residual-segments")
    assert other.audio_trunk is model.audio_trunk and other.text_trunk is model.text_trunk
    assert other.config == model.config | {"readout": "residual-segments"}
    with torch.no_grad():
        for tensor in other.head_parameters():
            tensor += 0.3
    assert files.hash_state(model.state_dict()) == state
    other.save(tmp_path / "order.safetensors")
    loaded = load_model("laion-clap", tmp_path / "order.safetensors")
    close(loaded.encode_audio(noise(2)), other.encode_audio(noise(2)), atol=0)
    published = other.with_readout("published")
    assert published.audio_head.order is None and published.config["readout"] == "published"


# Fingerprints, saving and loading


def test_fingerprints_follow_the_weights(model, folder):
    again = Laion.from_pretrained(folder)
    assert not again.training
    for part in ("audio_trunk", "text_trunk"):
        assert getattr(model, part).fingerprint == getattr(again, part).fingerprint
        assert getattr(model, part).fingerprint is getattr(model, part).fingerprint  # computed once
    assert model.audio_trunk.fingerprint != model.text_trunk.fingerprint
    changed = load_model("laion-clap", folder)
    with torch.no_grad():
        for part in (changed.audio_trunk, changed.text_trunk):
            next(part.encoder.parameters()).view(-1)[0] += 1
    for part in ("audio_trunk", "text_trunk"):
        assert getattr(changed, part).fingerprint != getattr(model, part).fingerprint


def test_saved_and_loaded(model, folder, tmp_path):
    with torch.no_grad():
        for tensor in model.head_parameters():
            tensor += 0.1
        model.logit_scale_a += 1
    path = tmp_path / "heads.safetensors"
    model.save(path, epoch=3)
    saved = load_file(path)
    assert set(saved) == {*model.head_names(), "logit_scale_a"}
    origin = json.loads(path.with_suffix(".json").read_text())["config"]["origin"]
    weights = folder / "model.safetensors"
    assert origin == {
        "path": str(folder.resolve()),
        "revision": None,
        "sha256": files.sha256_file(weights),
    }
    loaded = load_model("laion-clap", path)
    assert set(loaded.state_dict()) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        close(loaded.state_dict()[name], tensor, atol=0)
    close(loaded.encode_audio(noise(2)), model.encode_audio(noise(2)), atol=0)
    close(loaded.encode_text(CAPTIONS), model.encode_text(CAPTIONS), atol=0)


def test_a_checkpoint_is_loaded_on_the_weights_it_was_made_on_only(copied, tmp_path):
    path = tmp_path / "heads.safetensors"
    load_model("laion-clap", copied, readout="residual-segments").save(path)
    moved = copied.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="weights is no folder"):
        load_model("laion-clap", path)
    loaded = load_model("laion-clap", path, pretrained=moved)
    assert loaded.config["readout"] == "residual-segments"
    state = load_file(moved / "model.safetensors")
    state["logit_scale_a"] += 1
    save_file(state, moved / "model.safetensors")
    with pytest.raises(ValueError, match="elsewhere has sha256 .* but the checkpoint was made on"):
        load_model("laion-clap", path, pretrained=moved)


def test_a_bin_file_and_derived_buffers(model, copied):
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(laion.DERIVED)}
    assert len(state) - len(kept) == 6  # two of RoBERTa's, one in each of HTSAT's four blocks
    torch.save(kept, copied / "pytorch_model.bin")
    loaded = load_model("laion-clap", copied)
    for name, tensor in model.state_dict().items():
        close(loaded.state_dict()[name], tensor, atol=0)


# Damaged and missing folders


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder, expected one with LAION-CLAP's files"):
        load_model("laion-clap", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["config.json"], "config.json"),
        (["preprocessor_config.json"], "preprocessor_config.json"),
        (["model.safetensors"], "model.safetensors or pytorch_model.bin"),
        (["tokenizer.json", "merges.txt"], "tokenizer.json or vocab.json and merges.txt"),
    ],
)
def test_missing_files(copied, files, wanted):
    for name in files:
        (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"weights lacks {wanted}, expected"):
        load_model("laion-clap", copied)


def test_either_set_of_tokenizer_files_will_do(model, copied):
    (copied / "tokenizer.json").unlink()
    close(load_model("laion-clap", copied).encode_text(CAPTIONS), model.encode_text(CAPTIONS), atol=0)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_damaged_settings(copied, name):
    (copied / name).write_text((copied / name).read_text()[:-20])
    with pytest.raises(ValueError, match=f"{name} is no readable JSON"):
        load_model("laion-clap", copied)
    (copied / name).write_text("[]")
    with pytest.raises(ValueError, match=f"{name} holds a list, expected a JSON object"):
        load_model("laion-clap", copied)


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_damaged_weights(copied, capsys):
    file, bin_file = copied / "model.safetensors", copied / "pytorch_model.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="model.safetensors is no readable file of weights"):
        load_model("laion-clap", copied)
    file.unlink()
    torch.save({"a": torch.zeros(1000)}, bin_file)
    bin_file.write_bytes(bin_file.read_bytes()[:2000])
    with pytest.raises(ValueError, match="pytorch_model.bin is no readable file of weights"):
        load_model("laion-clap", copied)
    bin_file.write_bytes(b"")
    with pytest.raises(ValueError, match="pytorch_model.bin is no readable file of weights"):
        load_model("laion-clap", copied)
    torch.save({"a": Code()}, bin_file)
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged, or holds more than tensors"):
        load_model("laion-clap", copied)
    assert capsys.readouterr().out == ""
    torch.save({"a": 1}, bin_file)
    with pytest.raises(ValueError, match="pytorch_model.bin holds no named tensors"):
        load_model("laion-clap", copied)


def test_weights_of_another_shape(copied):
    file = copied / "model.safetensors"
    state = load_file(file)
    state["stranger"] = state.pop("logit_scale_t")
    state["text_projection.linear2.bias"] = torch.zeros(13)
    save_file(state, file)
    with pytest.raises(
        ValueError,
        match=r"model.safetensors does not fit its config.json: missing \['logit_scale_t'\], unexpected "
        r"\['stranger'\], of another shape \['text_projection.linear2.bias'\]",
    ):
        load_model("laion-clap", copied)


def test_parts_that_do_not_belong_together(folder, copied):
    change_json(copied / "preprocessor_config.json", feature_size=32)
    with pytest.raises(ValueError, match="has 32 mel bands, expected the 16 of config.json"):
        load_model("laion-clap", copied)
    shutil.copy(folder / "preprocessor_config.json", copied)
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens(["theremin"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ValueError, match=r"the tokenizer has (\d+) tokens, expected at most \d+ as in"):
        load_model("laion-clap", copied)
    change_json(copied / "config.json", model_type="clip")
    with pytest.raises(ValueError, match="holds a model of type 'clip', expected 'clap'"):
        load_model("laion-clap", copied)


def test_fusion_is_refused(folder):
    config = ClapConfig.from_pretrained(folder)
    config.audio_config.enable_fusion = True
    network, settings = ClapModel(config), ClapFeatureExtractor.from_pretrained(folder)
    with pytest.raises(ValueError, match="with feature fusion .* is not supported"):
        Laion(network, RobertaTokenizerFast.from_pretrained(folder), settings)


# The hub


def test_neither_cached_nor_reachable(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="laion/clap-htsat-unfused is not .* in the hub's cache .* give a folder"
    ) as raised:
        load_model("laion-clap")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("whole", [True, False])
def test_from_the_hubs_cache(model, folder, monkeypatch, tmp_path, whole):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--laion--clap-htsat-unfused"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(folder, cached / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if not whole:
        (cached / "snapshots" / commit / "model.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match="laion/clap-htsat-unfused is not"):
            load_model("laion-clap")
        return
    loaded = load_model("laion-clap")
    assert loaded.origin["path"] is None and loaded.origin["revision"] == commit
    close(loaded.encode_text(CAPTIONS), model.encode_text(CAPTIONS), atol=0)


def test_slots_without_time_score_as_the_model_does(model, monkeypatch):
    captions = ["rain before a dog barks", "hail, wind"]
    tokens = model.text_trunk(captions)
    for caption, places, length in zip(
        captions, model.text_trunk.offsets(captions), tokens.lengths.tolist(), strict=True
    ):
        assert len(places) == length
        assert "".join(caption[s:e] for s, e in places if e > s).replace(" ", "") == caption.replace(" ", "")
    slots = SlotModel(model)
    monkeypatch.setattr(slots, "read", lambda c, text=None: [Reading("plain", ())] * len(c))
    sounds = noise(2)
    ours = slots.logit_scale * slots.encode_text(captions) @ slots.encode_audio(sounds).T
    base = model.logit_scale * model.encode_text(captions) @ model.encode_audio(sounds).T
    torch.testing.assert_close(ours, base, atol=1e-4, rtol=1e-4)
