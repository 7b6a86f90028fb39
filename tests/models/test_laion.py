"""LAION-CLAP, on a tiny random model of the same shape, against transformers' own ClapModel."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizerFast

from tclap import files
from tclap.models import laion
from tclap.models.laion import Laion
from tclap.models.registry import load_model
from tclap.models.weights import DERIVED

RATE = SAMPLES = 8000  # the tiny model's window is one second
STEPS, BANDS, CHANNELS = 32, 2, 16
CAPTIONS = ["a dog", "this is a sound of rain before church bells", "x", "", "siren, while a crow!"]


@pytest.fixture
def model(laion) -> Laion:
    return laion


@pytest.fixture
def copied(laion_folder, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(laion_folder, tmp_path / "weights")


@pytest.fixture(scope="module")
def official(laion_folder) -> ClapModel:
    return ClapModel.from_pretrained(laion_folder).eval()


def noise(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """White noises, each 12 dB below the one before."""
    rng = np.random.default_rng(seed)
    levels = 0.2 * 0.25 ** np.arange(count)[:, None]
    return (rng.standard_normal((count, samples)) * levels).astype(np.float32)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def embedding(output) -> torch.Tensor:
    """What ``ClapModel`` returns: since version 5 of transformers the embedding is a part of it."""
    return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)


def official_text(official: ClapModel, laion_folder, captions: list[str], **options) -> torch.Tensor:
    encoded = RobertaTokenizerFast.from_pretrained(laion_folder)(captions, return_tensors="pt", **options)
    with torch.no_grad():
        return embedding(official.get_text_features(**encoded))


# Audio


def test_log_mel_is_the_extractors_at_laions_own_settings():
    settings = ClapFeatureExtractor(frequency_min=50, frequency_max=14000)
    loud = np.sin(2 * np.pi * 1000 * np.arange(480000) / 48000)
    quiet = np.concatenate([noise(1, 240000)[0] * 1e-3, np.zeros(240000)])
    waveforms = np.stack([0.9 * loud, quiet]).astype(np.float32)
    options = {"truncation": "rand_trunc", "padding": "repeatpad", "sampling_rate": 48000}
    expected = settings(list(waveforms), **options, return_tensors="pt")["input_features"][:, 0].float()
    found = laion.AudioTrunk(torch.nn.Identity(), settings).decibels(torch.from_numpy(waveforms))
    assert found.shape == (2, 1001, 64) and found.dtype == torch.float32
    close(found, expected, atol=1e-4)
    assert found.min() == -100 and found.max() > 0


def test_audio_embeddings_are_those_of_clap_model(model, official, laion_folder):
    waveforms = noise(5)
    extractor = ClapFeatureExtractor.from_pretrained(laion_folder)
    features = extractor(list(waveforms), sampling_rate=RATE, return_tensors="pt")["input_features"].float()
    with torch.no_grad():
        expected = embedding(official.get_audio_features(features))
        trunk = model.audio_trunk(torch.from_numpy(waveforms))
        close(model.embed_audio(trunk), expected)
    assert trunk.shape == (5, STEPS, BANDS * CHANNELS) and trunk.dtype == torch.float32
    assert ((expected @ expected.T).fill_diagonal_(0) < 1 - 1e-4).all()  # not five times the same
    close(model.encode_audio(waveforms), expected)
    close(model.encode_audio(waveforms[::-1], batch_size=2).flip(0), expected)
    close(torch.cat([model.encode_audio(waveforms[n : n + 1]) for n in range(5)]), expected)


def test_the_trunk_keeps_time_in_order(laion_folder):
    """Without attention, which mixes all times, a burst changes the step of its own time and next to it."""
    model = load_model("laion-clap", laion_folder)
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


@pytest.mark.parametrize("samples", [SAMPLES - 1, SAMPLES + 1])
def test_only_one_window_is_taken(model, samples):
    with pytest.raises(ValueError, match=f"exactly one window of 8000 samples, got {samples}"):
        model.audio_trunk(torch.zeros(1, samples))


# Text


def test_text_embeddings_are_those_of_clap_model(model, official, laion_folder):
    alone = torch.cat([official_text(official, laion_folder, [caption]) for caption in CAPTIONS])
    close(official_text(official, laion_folder, CAPTIONS, padding="max_length", max_length=30), alone)
    close(torch.cat([model.encode_text([caption]) for caption in CAPTIONS]), alone)
    close(model.encode_text(CAPTIONS), alone)
    close(model.encode_text(CAPTIONS[::-1], batch_size=2).flip(0), alone)
    assert ((alone @ alone.T).fill_diagonal_(0) < 1 - 1e-4).all()


def test_a_long_caption_is_cut_at_the_last_position(model, official, laion_folder):
    long = "rain before church bells " * 20
    expected = official_text(official, laion_folder, [long], truncation=True, max_length=38)
    assert model.text_trunk([long]).lengths.tolist() == [38]  # 40 positions, the first two unused by RoBERTa
    close(model.encode_text([long]), expected)


# Temperature and training


def test_tau_is_that_of_texts_to_audio(model):
    assert model.logit_scale.item() == pytest.approx(23, rel=1e-6)
    assert model.logit_scale_a.item() == pytest.approx(math.log(17), rel=1e-6)


# Fingerprints, saving and loading


def test_fingerprints_follow_weights_and_filters(model, laion_folder, copied):
    file = copied / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"frequency_min": 60}))
    again, changed = load_model("laion-clap", laion_folder), load_model("laion-clap", copied)
    with torch.no_grad():
        next(changed.text_trunk.parameters()).view(-1)[0] += 1
    for part in ("audio_trunk", "text_trunk"):
        assert getattr(again, part).fingerprint == getattr(model, part).fingerprint
        assert getattr(changed, part).fingerprint != getattr(model, part).fingerprint


def test_a_checkpoint_is_loaded_on_the_weights_it_was_made_on_only(copied, tmp_path):
    path, weights = tmp_path / "heads.safetensors", copied / "model.safetensors"
    model = load_model("laion-clap", copied)
    parts = {".".join(name.split(".")[:2]) for name in model.own_state()}
    projections = {"audio_head.projection", "text_head.projection", "logit_scale", "logit_scale_a"}
    assert parts == projections | {"audio_head.norm", "text_head.layer", "text_head.pooler"}
    origin = {"path": str(copied.resolve()), "revision": None, "sha256": files.sha256_file(weights)}
    assert model.config == {"readout": "published", "origin": origin}
    model.save(path)
    with pytest.raises(ValueError, match="no option 'depth', expected among readout, revision, pretrained"):
        load_model("laion-clap", path, depth=3)
    with pytest.raises(ValueError, match="no option 'pretrained', expected among readout, revision"):
        load_model("laion-clap", copied, pretrained=copied)
    moved = copied.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        load_model("laion-clap", path)
    state = load_file(moved / "model.safetensors")
    state["logit_scale_a"] += 1
    save_file(state, moved / "model.safetensors")
    with pytest.raises(ValueError, match="elsewhere has sha256 .* but the checkpoint was made on"):
        load_model("laion-clap", path, pretrained=moved)


def test_a_bin_file_and_derived_buffers(model, copied):
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    kept = {name: tensor for name, tensor in state.items() if not DERIVED.fullmatch(name)}
    assert len(state) - len(kept) == 6  # two of RoBERTa's, one in each of HTSAT's four blocks
    torch.save(kept, copied / "pytorch_model.bin")
    loaded = load_model("laion-clap", copied)
    assert files.hash_state(loaded.state_dict()) == files.hash_state(model.state_dict())


# Damaged and missing folders


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_missing_and_damaged_files(copied, name):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises((OSError, ValueError), match="could not be loaded|cannot be loaded"):
        load_model("laion-clap", copied)
    (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_model("laion-clap", copied)


def test_either_set_of_tokenizer_files_will_do(model, copied):
    whole = (copied / "tokenizer.json").read_bytes()
    (copied / "tokenizer.json").write_bytes(whole[:-20])
    with pytest.raises(OSError, match="weights could not be loaded"):
        load_model("laion-clap", copied)
    (copied / "tokenizer.json").unlink()
    close(load_model("laion-clap", copied).encode_text(CAPTIONS), model.encode_text(CAPTIONS), atol=0)
    (copied / "merges.txt").unlink()
    with pytest.raises(OSError, match="weights could not be loaded"):
        load_model("laion-clap", copied)


def test_weights_and_tokenizer_must_fit_the_configuration(laion_folder, copied):
    file = copied / "model.safetensors"
    state = load_file(file)
    state["unknown"] = state.pop("logit_scale_t")
    state["text_projection.linear2.bias"] = torch.zeros(13)
    save_file(state, file)
    found = r"missing \['logit_scale_t'\], unexpected \['unknown'\], of another shape \['text_projection"
    with pytest.raises(ValueError, match=rf"model\.safetensors does not fit the model: {found}"):
        load_model("laion-clap", copied)
    shutil.copy(laion_folder / "model.safetensors", copied)
    tokenizer = RobertaTokenizerFast.from_pretrained(laion_folder)
    tokenizer.add_tokens(["theremin"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ValueError, match=r"the tokenizer of .* has (\d+) tokens, expected \d+"):
        load_model("laion-clap", copied)


def test_fusion_is_refused(laion_folder):
    config = ClapConfig.from_pretrained(laion_folder)
    config.audio_config.enable_fusion = True
    network, settings = ClapModel(config), ClapFeatureExtractor.from_pretrained(laion_folder)
    with pytest.raises(ValueError, match="with feature fusion .* is not supported"):
        Laion(network, RobertaTokenizerFast.from_pretrained(laion_folder), settings)
