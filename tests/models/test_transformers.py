"""ClapModels of transformers, with and without feature fusion, against transformers' own on tiny weights."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import close
from transformers import BertConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizerFast

from tclap import files
from tclap.models.registry import load_model
from tclap.models.transformers import AudioTrunk
from tclap.models.weights import DERIVED

RATE = SAMPLES = 8000  # the tiny models' window is one second
STEPS, BANDS, CHANNELS = 32, 2, 16
CAPTIONS = ["a dog", "this is a sound of rain before church bells", "x", "", "siren, while a crow!"]


@pytest.fixture(params=["unfused", "fused"])
def either(request) -> Path:
    """The folder of each model in turn."""
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def copied(unfused_folder, tmp_path):
    """A folder that a test may damage. From "clap" in its name, transformers guesses a configuration."""
    return shutil.copytree(unfused_folder, tmp_path / "clap-weights")


def noise(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """White noises, each 12 dB below the one before."""
    rng = np.random.default_rng(seed)
    levels = 0.2 * 0.25 ** np.arange(count)[:, None]
    return (rng.standard_normal((count, samples)) * levels).astype(np.float32)


def differ(embeddings: torch.Tensor) -> bool:
    """Whether these are not the same embedding over and over."""
    return bool(((embeddings @ embeddings.T).fill_diagonal_(0) < 1 - 1e-4).all())


def embedding(output) -> torch.Tensor:
    """What ``ClapModel`` returns: since version 5 of transformers the embedding is a part of it."""
    return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)


@torch.no_grad()
def official_audio(folder: Path, waveforms: list) -> torch.Tensor:
    """Of waveforms of at most a window, by ``ClapModel`` and its extractor; none is marked as longer."""
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    features = extractor(list(waveforms), sampling_rate=RATE, return_tensors="pt")["input_features"].float()
    network = ClapModel.from_pretrained(folder).eval()
    is_longer = torch.zeros(len(waveforms), 1, dtype=torch.bool)
    return embedding(network.get_audio_features(input_features=features, is_longer=is_longer))


@torch.no_grad()
def official_text(folder: Path, captions: list[str], **options) -> torch.Tensor:
    encoded = RobertaTokenizerFast.from_pretrained(folder)(captions, return_tensors="pt", **options)
    return embedding(ClapModel.from_pretrained(folder).eval().get_text_features(**encoded))


# Audio


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_log_mel_is_the_extractors_at_laions_own_settings(truncation):
    settings = ClapFeatureExtractor(frequency_min=50, frequency_max=14000, truncation=truncation)
    loud = np.sin(2 * np.pi * 1000 * np.arange(480000) / 48000)
    quiet = np.concatenate([noise(1, 240000)[0] * 1e-3, np.zeros(240000)])
    waveforms = np.stack([0.9 * loud, quiet]).astype(np.float32)
    expected = settings(list(waveforms), sampling_rate=48000, return_tensors="pt")["input_features"].float()
    trunk = AudioTrunk(torch.nn.Identity(), settings)
    found = trunk.decibels(torch.from_numpy(waveforms))
    assert found.shape == (2, 1001, 64) and found.dtype == torch.float32
    close(found[:, None].expand_as(expected), expected, atol=1e-4)
    assert found.min() == -100 and found.max() > 0
    assert trunk.channels == expected.shape[1] == (4 if truncation == "fusion" else 1)


def test_audio_embeddings_are_those_of_clap_model(either):
    model, waveforms = load_model(either), noise(5)
    expected = official_audio(either, waveforms)
    with torch.no_grad():
        trunk = model.audio_trunk(torch.from_numpy(waveforms))
        close(model.embed_features(trunk), expected)
    assert trunk.shape == (5, STEPS, BANDS * CHANNELS) and trunk.dtype == torch.float32
    assert differ(expected)
    close(model.encode_audio(waveforms), expected)
    close(model.encode_audio(waveforms[::-1], batch_size=2).flip(0), expected)
    close(torch.cat([model.encode_audio(waveforms[n : n + 1]) for n in range(5)]), expected)


@pytest.mark.parametrize("padding", ["repeat", "repeatpad", "pad"])
def test_short_audio_is_padded_as_the_extractor_does_it(fused_folder, tmp_path, padding):
    folder = shutil.copytree(fused_folder, tmp_path / "fused")
    change_settings(folder, padding=padding)
    waveforms = [noise(4, samples)[n] for n, samples in enumerate((300, 2900, 5000, SAMPLES))]
    expected = official_audio(folder, waveforms)
    assert differ(expected)
    close(load_model(folder).encode_audio(waveforms), expected)


def test_the_trunk_keeps_time_in_order(either):
    """Without attention, which mixes all times, a burst changes the step of its own time and next to it."""
    model = load_model(either)
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
def test_only_one_window_is_taken(unfused, samples):
    with pytest.raises(ValueError, match=f"exactly one window of 8000 samples, got {samples}"):
        unfused.audio_trunk(torch.zeros(1, samples))


def change_settings(folder: Path, **settings) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


# Text


def test_text_embeddings_are_those_of_clap_model(unfused, unfused_folder):
    alone = torch.cat([official_text(unfused_folder, [caption]) for caption in CAPTIONS])
    close(official_text(unfused_folder, CAPTIONS, padding="max_length", max_length=30), alone)
    close(torch.cat([unfused.encode_text([caption]) for caption in CAPTIONS]), alone)
    close(unfused.encode_text(CAPTIONS), alone)
    close(unfused.encode_text(CAPTIONS[::-1], batch_size=2).flip(0), alone)
    assert differ(alone)
    assert unfused.logit_scale.item() == pytest.approx(23, rel=1e-6)  # the temperature of texts to audio


def test_a_long_caption_is_cut_at_the_last_position_and_one_warning_says_so(unfused_folder):
    model, long = load_model(unfused_folder), "rain before church bells " * 20
    expected = official_text(unfused_folder, [long], truncation=True, max_length=38)
    with pytest.warns(UserWarning, match="cut at the model's limit of 38 tokens"):
        found = model.encode_text(["a dog", long])
    close(found[1:], expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(model.encode_text([long]), expected)
        assert model.text_trunk([long]).lengths.tolist() == [38]  # of 40, RoBERTa leaves the first two unused


# Fingerprints, saving and loading


def test_fingerprints_follow_weights_and_filters(unfused, unfused_folder, copied):
    change_settings(copied, frequency_min=60)
    again, changed = load_model(unfused_folder), load_model(copied)
    assert again.audio_trunk.fingerprint == unfused.audio_trunk.fingerprint
    assert changed.audio_trunk.fingerprint != unfused.audio_trunk.fingerprint
    assert changed.text_trunk.fingerprint == unfused.text_trunk.fingerprint


def test_a_bin_file_and_derived_buffers(unfused, copied):
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    kept = {name: tensor for name, tensor in state.items() if not DERIVED.fullmatch(name)}
    assert len(state) - len(kept) == 6  # two of RoBERTa's, one in each of HTSAT's four blocks
    torch.save(kept, copied / "pytorch_model.bin")
    loaded = load_model(copied)
    assert files.hash_state(loaded.state_dict()) == files.hash_state(unfused.state_dict())


def test_a_folder_as_the_processor_writes_it(unfused, copied):
    """Version 5 of transformers puts the extractor's settings into a file of another name."""
    processor = ClapProcessor.from_pretrained(copied)
    for file in copied.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    processor.save_pretrained(copied)
    loaded = load_model(copied)
    assert torch.equal(loaded.encode_audio(noise(2, 3000)), unfused.encode_audio(noise(2, 3000)))
    assert torch.equal(loaded.encode_text(CAPTIONS), unfused.encode_text(CAPTIONS))


# Damaged and missing folders


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_missing_and_damaged_files(copied, name):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises((OSError, ValueError), match="could not be loaded|cannot be loaded"):
        load_model(copied)
    (copied / name).unlink()
    with pytest.raises(
        OSError, match=r"clap-weights could not be loaded \(.*\)|model\.safetensors is missing"
    ):
        load_model(copied)


def test_a_folder_of_another_kind_of_model(copied):
    BertConfig().save_pretrained(copied)
    with pytest.raises(OSError, match=r"\(config\.json is of the model type bert, not clap\); give an id"):
        load_model(copied)


@pytest.mark.parametrize(
    ("file", "kind"), [("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")]
)
def test_code_in_a_folder_is_neither_run_nor_asked_for(copied, tmp_path, monkeypatch, file, kind):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "yes")
    settings = json.loads((copied / file).read_text())
    settings |= {"auto_map": {kind: ["own.Own", None] if kind == "AutoTokenizer" else "own.Own"}}
    settings |= {"tokenizer_class": "Own"} if kind == "AutoTokenizer" else {"model_type": "own"}
    (copied / file).write_text(json.dumps(settings))
    (copied / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(OSError, match="could not be loaded"):
        load_model(copied)
    assert not asked and not (tmp_path / "run").exists()


def test_weights_and_tokenizer_must_fit_the_configuration(unfused_folder, copied):
    file = copied / "model.safetensors"
    save_file(load_file(file) | {"unknown": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit .* unexpected \['unknown'\]"):
        load_model(copied)
    shutil.copy(unfused_folder / "model.safetensors", copied)
    tokenizer = RobertaTokenizerFast.from_pretrained(unfused_folder)
    tokenizer.add_tokens(["theremin"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ValueError, match=r"the tokenizer of .* has (\d+) tokens, expected \d+"):
        load_model(copied)
