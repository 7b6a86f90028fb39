"""The msclap models against the msclap package's own wrapper, on random weights in the official format."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
import transformers
from torch.nn.functional import normalize

from tclap import audio
from tclap.models.msclap import Msclap2022, Msclap2023
from tclap.models.registry import load_model
from tclap.slots.model import Reading, SlotModel
from tclap.slots.training import any_words

RATE = 44100
VERSIONS = ("2022", "2023")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CAPTIONS = [
    "a dog barks before a siren",
    "stop! a dog barks",
    "a dog barks!",
    "!",
    "a",
    "a bell rings " * 20,
    "ein Käuzchen ruft 🦉 während es regnet",
    "a dog barks",
]


def only(version: str):
    """Run a test for this version alone."""
    return pytest.mark.parametrize("version", [version], indirect=True, scope="module")


@pytest.fixture(scope="module", params=VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(version, request) -> Path:
    return request.getfixturevalue(f"random_weights_{version}")


@pytest.fixture(scope="module")
def model(version, checkpoint):
    return load_model(f"msclap-{version}", checkpoint)


@pytest.fixture(scope="module")
def wrapper(version, checkpoint, hub_root):
    return wrapped(version, checkpoint, hub_root)


@pytest.fixture(scope="module")
def clips(esc50_root) -> list[Path]:
    """Real clips of three classes, of 5 s and a little."""
    return [min((esc50_root / "audio").glob(f"1-*-{label}.*")) for label in (0, 10, 40)]


def wrapped(version: str, weights: Path, hub_root: Path):
    """msclap's own CLAPWrapper on these weights; everything that its import changes is put back."""

    def load(path):
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(waveform.T.copy()), rate

    stub = types.ModuleType("torchaudio")
    stub.load, stub.transforms = load, types.ModuleType("torchaudio.transforms")
    text, tokenizer, config = transformers.AutoModel, transformers.AutoTokenizer, transformers.AutoConfig
    read_tokenizer = tokenizer.from_pretrained
    names = set(sys.modules)
    verbosity = transformers.logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(sys.modules, "torchaudio", stub)
        patch.setitem(sys.modules, "torchaudio.transforms", stub.transforms)
        patch.setattr(
            text, "from_pretrained", lambda name: text.from_config(config.from_pretrained(hub_root / name))
        )
        patch.setattr(tokenizer, "from_pretrained", lambda name: read_tokenizer(hub_root / name))
        from msclap.CLAPWrapper import CLAPWrapper

        found = CLAPWrapper(weights, version=version)
        for name in [n for n in sys.modules if n == "msclap" or n.startswith("msclap.")]:
            del sys.modules[name]
    transformers.logging.set_verbosity(verbosity)
    assert {name for name in set(sys.modules) - names if "msclap" in name or "torchaudio" in name} == set()
    return found


def heard_by(wrapper, clips: list[Path]) -> torch.Tensor:
    """The wrapper's audio embeddings, its random windows put where the policy "fit" has them."""
    samples = wrapper.args.duration * RATE
    starts = iter([audio.most_energetic_start(audio.read(clip), samples) for clip in clips])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.randrange", lambda stop: next(starts))
        return wrapper.get_audio_embeddings(clips)


def noise(count: int, seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, round(seconds * RATE))) * rng.uniform(0.01, 0.2, (count, 1))
    return waveforms.astype(np.float32)


def furthest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max())


def span(embeddings: torch.Tensor) -> float:
    """Largest difference of two embeddings in one coordinate: what a mix-up would amount to."""
    return float((embeddings.amax(0) - embeddings.amin(0)).max())


# The same as msclap's own wrapper


def test_audio_embeddings_are_the_wrappers(version, model, wrapper, clips):
    expected = normalize(heard_by(wrapper, clips), dim=1)
    difference = furthest(model.encode_audio(clips), expected)
    print(f"\nmsclap-{version} audio: max difference {difference:.1e}, clips differ by {span(expected):.1e}")
    assert difference <= 1e-5
    assert span(expected) > 1e-3
    assert furthest(model.encode_audio(clips[::-1], batch_size=2).flip(0), expected) <= 1e-5
    assert furthest(model.encode_audio(clips[2:3]), expected[2:3]) <= 1e-5


def test_text_embeddings_are_the_wrappers(version, model, wrapper):
    raw = wrapper.get_text_embeddings(CAPTIONS)
    expected = normalize(raw, dim=1)
    with torch.no_grad():
        unnormalised = model.text_head(model.text_trunk(CAPTIONS))
    difference = furthest(normalize(unnormalised, dim=1), expected)
    print(
        f"\nmsclap-{version} text: max difference {difference:.1e} ({furthest(unnormalised, raw):.1e} before "
        f"normalisation), captions differ by {span(expected):.1e}"
    )
    assert difference <= 1e-5
    assert (torch.cdist(expected, expected).fill_diagonal_(1) > 1e-2).all()
    alone = torch.cat([model.encode_text([caption]) for caption in CAPTIONS])
    assert furthest(alone, expected) <= 1e-5
    assert furthest(model.encode_text(CAPTIONS[::-1], batch_size=3).flip(0), expected) <= 1e-5


def test_a_caption_beyond_msclaps_text_length_is_heard_whole(model, wrapper):
    caption = "a dog barks while it rains " * 20  # 120 words; the wrapper takes it unpadded, if alone
    expected = normalize(wrapper.get_text_embeddings([caption]), dim=1)
    assert furthest(model.encode_text([caption, "a"])[:1], expected) <= 1e-5


def test_a_caption_beyond_the_text_encoders_positions_is_cut(model):
    longest = model.text_trunk.longest
    with torch.no_grad():
        values, lengths = model.text_trunk(["dog " * (longest + 50)])
    assert values.shape[1] == longest and lengths.tolist() == [longest]
    assert values.isfinite().all()


def test_exclamation_marks_move_gpt2s_readout():
    # Ids: "stop" 11338, "!" 0, " a" 257, " dog" 3290, " <|endoftext|>" 220 and 50256.
    trunk = Gpt2Readout()
    assert trunk.read("stop! a dog") == ([11338, 0, 257, 3290, 220, 50256], 5)
    assert trunk.read("a dog!") == ([64, 3290, 0, 220, 50256], 4)
    assert trunk.read("a dog") == ([64, 3290, 220, 50256], 4)


@only("2023")
def test_nothing_of_msclaps_reading_is_used(model, clips, monkeypatch):
    reads, read = [], audio.read
    monkeypatch.setattr(audio, "read", lambda path, rate=None: reads.append(path) or read(path, rate))
    model.encode_audio([str(clip) for clip in clips[:2]])
    assert reads == [str(clip) for clip in clips[:2]]
    assert not {n for n in sys.modules if n.split(".")[0] in ("msclap", "torchaudio", "_tclap_msclap_models")}


HYGIENE = """
import json, logging, sys, warnings
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer  # scipy, imported here, sets filters of its own
import tclap.models.base
caught = []
warnings.showwarning = lambda message, *others: caught.append(str(message))
def facts():
    filters = [str(entry) for entry in warnings.filters]
    return [filters, logging.getLogger().level, len(logging.getLogger().handlers),
            transformers.logging.get_verbosity(), warnings.showwarning.__name__]
before = facts()
from tclap.models.msclap import Msclap2023
Msclap2023()
modules = [n for n in sys.modules if n.split(".")[0] in ("msclap", "torchaudio", "_tclap_msclap_models")]
print(json.dumps([before, facts(), modules, caught]))
"""


def test_a_broken_torchaudio_is_not_met_and_the_process_stays_as_found(hub_root, tmp_path):
    (tmp_path / "torchaudio.py").write_text('raise OSError("libc10_cuda.so is missing")')
    output = python(HYGIENE, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    before, after, modules, caught = json.loads(output.splitlines()[-1])
    assert after == before
    assert modules == [] and caught == []


def python(code: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


class Gpt2Readout:
    """The 2023 model's tokenizer and rule of the last token, on a text encoder of one weight."""

    def __init__(self) -> None:
        from tclap.models.msclap_parts import Gpt2Trunk

        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(os.environ["TCLAP_HUB"]) / "gpt2")
        tokenizer.add_special_tokens({"pad_token": "!"})
        base = torch.nn.Embedding(1, 1)
        base.config = types.SimpleNamespace(max_position_embeddings=1024)
        self.trunk = Gpt2Trunk(base, tokenizer)
        base.forward = lambda input_ids, attention_mask: types.SimpleNamespace(
            last_hidden_state=input_ids[..., None].float()
        )

    def read(self, caption: str) -> tuple[list[int], int]:
        values, lengths = self.trunk([caption, caption + " and a much longer caption"])
        tokens = self.trunk.tokenize([caption])["input_ids"]
        assert values[0, : tokens.shape[1], 0].tolist() == tokens[0].tolist()
        return tokens[0].tolist(), int(lengths[0])


# Trunk and head


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def projection(inputs: int) -> int:
    return inputs * 1024 + 1024 * 1024 + 2 * 1024  # two matrices without bias, a norm


PROJECTION = ["linear1.weight", "linear2.weight", "layer_norm.weight", "layer_norm.bias"]
BERT_LAYER = [
    f"{name}.{kind}"
    for name in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    )
    for kind in ("weight", "bias")
]
GPT2_BLOCK = [
    f"{name}.{kind}"
    for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
]
TRAINED = {
    "2022": [
        *(f"audio_head.projection.{name}" for name in PROJECTION),
        "audio_head.fc1.weight",
        "audio_head.fc1.bias",
        *(f"text_head.layer.{name}" for name in BERT_LAYER),
        *(f"text_head.projection.{name}" for name in PROJECTION),
        "logit_scale",
    ],
    "2023": [
        *(f"audio_head.projection.{name}" for name in PROJECTION),
        "audio_head.norm.weight",
        "audio_head.norm.bias",
        *(f"text_head.layer.{name}" for name in GPT2_BLOCK),
        "text_head.norm.weight",
        "text_head.norm.bias",
        *(f"text_head.projection.{name}" for name in PROJECTION),
        "logit_scale",
    ],
}
NORM = 2 * 768
ATTENTION_AND_MLP = 4 * linear(768, 768) + linear(768, 3072) + linear(3072, 768)
COUNT = {
    "2022": linear(2048, 2048) + projection(2048) + ATTENTION_AND_MLP + 2 * NORM + projection(768) + 1,
    "2023": NORM + projection(768) + ATTENTION_AND_MLP + 2 * NORM + NORM + projection(768) + 1,
}


def test_what_is_trained_is_the_published_recipe(version, model, wrapper):
    assert sorted(model.head_names()) == sorted(TRAINED[version])
    parameters = model.head_parameters()
    assert sum(parameter.numel() for parameter in parameters) == COUNT[version]
    by_name = dict(model.named_parameters()) | {"logit_scale": model.log_scale}
    for name, parameter in zip(model.head_names(), parameters, strict=True):
        assert by_name[name] is parameter
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in parameters}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in wrapper.clap.parameters())


@torch.no_grad()
def test_trunks_stay_in_evaluation_mode_and_heads_do_not(model):
    waveforms = torch.from_numpy(noise(2, 1.0))
    model.eval()
    heard, read = model.audio_trunk(waveforms), model.text_trunk(CAPTIONS[:2])
    before = {name: tensor.clone() for name, tensor in model.audio_trunk.named_buffers()}
    assert any(name.endswith("running_mean") for name in before)
    model.train()
    try:
        assert torch.equal(model.audio_trunk(waveforms), heard)
        assert torch.equal(model.text_trunk(CAPTIONS[:2]).values, read.values)
        trunks = [*model.audio_trunk.modules(), *model.text_trunk.modules()]
        assert not any(module.training for module in trunks)
        for name, tensor in model.audio_trunk.named_buffers():
            assert torch.equal(tensor, before[name]), name
        for embed, features in ((model.embed_audio, heard), (model.embed_text, read)):
            assert furthest(embed(features), embed(features)) > 1e-3  # dropout
        encoded = model.encode_text(CAPTIONS[:2])
        assert model.training and torch.equal(model.encode_text(CAPTIONS[:2]), encoded)
    finally:
        model.eval()
    assert torch.equal(model.embed_text(read), model.embed_text(read))


def test_gradients_reach_the_head_and_nothing_else(model):
    own = model.with_own_heads()
    heard = own.audio_trunk(torch.from_numpy(noise(2, 1.0)))
    read = own.text_trunk(CAPTIONS[:2])
    assert not heard.requires_grad and not read.values.requires_grad
    similarity = own.logit_scale * own.embed_audio(heard) @ own.embed_text(read).T
    (similarity * torch.tensor([[1.0, 0.3], [-0.7, 0.5]])).sum().backward()
    without = [n for n, p in zip(own.head_names(), own.head_parameters(), strict=True) if p.grad is None]
    assert without == []
    assert all(parameter.grad is None for parameter in model.parameters())


def test_own_heads_share_trunks_and_nothing_else(model):
    other = model.with_own_heads()
    assert other.audio_trunk is model.audio_trunk and other.text_trunk is model.text_trunk
    assert not {id(p) for p in other.head_parameters()} & {id(p) for p in model.head_parameters()}
    before = model.encode_text(CAPTIONS[:1])
    assert torch.equal(other.encode_text(CAPTIONS[:1]), before)
    with torch.no_grad():
        for parameter in other.head_parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    assert torch.equal(model.encode_text(CAPTIONS[:1]), before)
    assert furthest(other.encode_text(CAPTIONS[:1]), before) > 1e-3


# Where time is


def bursts(seconds: float, parts: int) -> torch.Tensor:
    """Quiet noise, and the same with a loud middle of each of ``parts`` equal parts: ``[1 + parts, n]``."""
    quiet = torch.from_numpy(noise(1, seconds)[0])
    quiet = 0.01 * quiet / quiet.square().mean().sqrt()
    rows = [quiet]
    for part in range(parts):
        row = quiet.clone()
        middle = round((part + 0.5) * len(row) / parts)
        row[middle - 4000 : middle + 4000] *= 20
        rows.append(row)
    return torch.stack(rows)


@torch.no_grad()
def test_steps_of_the_trunk_are_in_time_order(model):
    parts = 5  # no two in the same quarter and none in the same place of a quarter
    features = model.audio_trunk(bursts(model.window, parts))
    change = (features[1:] - features[0]).norm(dim=2)  # [parts, T]
    middles = (torch.arange(parts) + 0.5) / parts * features.shape[1] - 0.5
    found = change.argmax(1)
    print(f"\n{model.name}: T = {features.shape[1]}, largest change at {found.tolist()}")
    assert ((found - middles).abs() <= 1.5).all()


@only("2022")
def test_steps_of_cnn14_by_hand(model):
    # 5 s at a hop of 320 are 690 frames, halved (rounding down) five times; 10 s are 1379.
    features = model.audio_trunk(torch.from_numpy(noise(1, 5.0)))
    assert features.shape == (1, 690 // 32, 2048)
    assert model.audio_trunk(torch.from_numpy(noise(1, 10.0))).shape == (1, 1379 // 32, 2048)


@only("2022")
@torch.no_grad()
def test_cnn14s_features_are_what_the_package_pools(model, wrapper):
    waveforms = torch.from_numpy(noise(2, 5.0))
    base, seen = wrapper.clap.audio_encoder.base, []
    hook = base.conv_block6.register_forward_hook(lambda module, inputs, output: seen.append(output))
    embedding = base(waveforms)["embedding"]
    hook.remove()
    features = model.audio_trunk(waveforms)
    assert furthest(features, seen[0].mean(3).transpose(1, 2)) <= 1e-5 * float(features.abs().max())
    assert furthest(model.audio_head.pooled(features), embedding) <= 1e-5 * float(embedding.abs().max())


@only("2023")
@torch.no_grad()
def test_htsats_layout_by_hand(model, wrapper):
    waveforms = torch.from_numpy(noise(2, 7.0))
    htsat, seen = wrapper.clap.audio_encoder.base.htsat, []
    hook = htsat.norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    latent = htsat(waveforms)["latent_output"]
    hook.remove()
    features = model.audio_trunk(waveforms)
    assert features.shape == (2, 32, 2 * 768)
    # The picture's rows are quarters of the time, each with two frequency halves; its columns go on in time.
    for step in range(32):
        quarter, column = divmod(step, 8)
        for half in range(2):
            token = seen[0][:, (2 * quarter + half) * 8 + column]
            assert furthest(features[:, step, 768 * half : 768 * (half + 1)], token) <= 1e-5
    assert furthest(model.audio_head.pooled(features), latent) <= 1e-5


# The residual for order


def test_the_residual_is_the_published_model_bit_by_bit_at_first(model, clips):
    residual = model.with_readout("residual-segments")
    assert torch.equal(residual.encode_audio(clips[:2]), model.encode_audio(clips[:2]))
    assert torch.equal(residual.encode_text(CAPTIONS[:4]), model.encode_text(CAPTIONS[:4]))
    names = [name for name in residual.head_names() if name not in model.head_names()]
    order = ("norm.weight", "norm.bias", "inner.weight", "inner.bias", "outer.weight")
    assert names == [f"audio_head.order.{name}" for name in order]
    assert residual.config == model.config | {"readout": "residual-segments"}


def test_the_residual_learns_from_the_first_step_and_is_not_exported(model, tmp_path):
    residual = model.with_readout("residual-segments")
    assert model.config["readout"] == "published"
    with torch.no_grad():
        features = residual.audio_trunk(torch.from_numpy(noise(3, model.window)))
        before = residual.embed_audio(features)
    optimiser = torch.optim.SGD(residual.audio_head.order.parameters(), lr=1.0)
    target = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    (residual.embed_audio(features) * target).sum().backward()
    optimiser.step()
    assert furthest(residual.embed_audio(features), before) > 1e-4
    assert torch.equal(model.embed_audio(features), before)
    with pytest.raises(ValueError, match="readout residual-segments cannot be exported to msclap, which has"):
        residual.export(tmp_path / "m.pth")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"one of published, residual-segments, got 'ends'"):
        model.with_readout("ends")


@torch.no_grad()
def test_only_the_residual_sees_the_order(model):
    residual = model.with_readout("residual-segments")
    features = residual.audio_trunk(bursts(model.window, 4)[1:3])
    seen = []
    hook = residual.audio_head.order.inner.register_forward_hook(lambda m, i, output: seen.append(output))
    published = residual.embed_audio(features), residual.embed_audio(features.flip(1))
    hook.remove()
    assert furthest(*published) <= 1e-6
    assert furthest(*seen) > 0.1


# Windows


@only("2023")
def test_fit_takes_the_most_energetic_window(model):
    loud = noise(1, model.window)[0]
    loud *= 0.1 / np.abs(loud).max()
    quiet = np.full(30000, 1e-5, np.float32)
    found = model.encode_audio([np.concatenate([quiet, loud, quiet[:7000]])])
    assert furthest(found, model.encode_audio([loud])) <= 1e-6


@only("2023")
def test_random_windows_are_drawn_from_seed_and_position(model):
    long = [noise(1, 9.0, seed)[0] for seed in (0, 1)]
    found = model.encode_audio(long, policy="msclap", seed=3)
    assert torch.equal(model.encode_audio(long, policy="msclap", seed=3), found)
    other = model.encode_audio(long, policy="msclap", seed=4)
    assert (other - found).abs().amax(1).min() > 1e-5
    samples = round(model.window * RATE)
    starts = [np.random.default_rng([3, n]).integers(len(long[n]) - samples + 1) for n in range(2)]
    cut = [long[n][start : start + samples] for n, start in enumerate(starts)]
    assert furthest(model.encode_audio(cut), found) <= 1e-6


@only("2022")
def test_full_hears_all_on_cnn14(model):
    long = noise(1, 10.0)[0]
    long[: 5 * RATE] *= 0.1
    with torch.no_grad():
        expected = model.embed_audio(model.audio_trunk(torch.from_numpy(long)[None]))
    found = model.encode_audio([long, long[:RATE]], policy="full")
    assert furthest(found[:1], expected) <= 1e-6
    assert furthest(found[:1], model.encode_audio([long])) > 1e-4


@only("2023")
def test_full_hears_all_on_htsat_as_far_as_it_can(model):
    long = noise(1, 8.0)[0]
    long[:RATE] *= 0.1
    longest = 1024 * 320 - 1  # a frame at 0 and then one every 320 samples: 1024 frames, 7.43 s
    for samples in (round(7.4 * RATE), longest):
        found = model.encode_audio([long[:samples]], policy="full")
        assert furthest(found, model.encode_audio([long[:samples]])) > 1e-4
    with pytest.raises(
        ValueError,
        match=r"at most 1024 frames at once; 327680 samples give 1025\..*use the window policy fit",
    ):
        model.encode_audio([long[: longest + 1]], policy="full")


# Audio of all kinds


@only("2023")
def test_files_of_all_kinds(model, tmp_path):
    second = soxr.resample(noise(1, 1.0)[0], RATE, 96000)  # shorter than any window
    for rate in (8000, 44100, 96000):
        waveform = soxr.resample(second, 96000, rate)
        soundfile.write(tmp_path / f"{rate}.wav", waveform, rate, subtype="FLOAT")
    at_44100 = audio.read(tmp_path / "44100.wav")
    soundfile.write(tmp_path / "24bit.flac", at_44100, RATE, subtype="PCM_24")
    sides = np.stack([1.5 * at_44100, 0.5 * at_44100], axis=1)
    soundfile.write(tmp_path / "stereo.wav", sides, RATE, subtype="FLOAT")
    names = ("44100.wav", "8000.wav", "96000.wav", "24bit.flac", "stereo.wav")
    found = model.encode_audio([tmp_path / name for name in names])
    samples = round(model.window * RATE)
    low, high = (audio.read(tmp_path / f"{rate}.wav") for rate in (8000, 96000))
    expected = [
        np.tile(waveform, 8)[:samples]
        for waveform in (at_44100, soxr.resample(low, 8000, RATE), soxr.resample(high, 96000, RATE))
    ]
    with torch.no_grad():
        by_hand = model.embed_audio(model.audio_trunk(torch.from_numpy(np.stack(expected))))
    assert furthest(found[:3], by_hand) <= 1e-5
    assert furthest(found[3:], found[[0, 0]]) <= 1e-3  # 24 bits, and the mean of two channels
    assert furthest(found[4], found[0]) <= 1e-5
    assert furthest(found[1], found[0]) > 1e-4  # nothing above 4 kHz


@only("2023")
def test_silence_warns_and_has_an_embedding(model, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    with pytest.warns(UserWarning, match=r"silent\.wav is silent: all its samples are zero"):
        found = model.encode_audio([tmp_path / "silent.wav"])
    assert found.isfinite().all()
    assert furthest(found.norm(dim=1), torch.ones(1)) <= 1e-5


def test_half_precision_is_near(version, model, clips):
    single = model.encode_audio(clips)
    half = model.encode_audio(clips, precision="bf16")
    cosine = torch.nn.functional.cosine_similarity(single, half)
    centre = single.mean(0)
    centred = torch.nn.functional.cosine_similarity(single - centre, half - centre)
    print(f"\nmsclap-{version} bf16: cosine {cosine.min():.5f}, around the clips' mean {centred.min():.3f}")
    assert half.dtype == torch.float32 and not torch.equal(half, single)
    assert cosine.min() >= 0.995
    assert torch.equal(torch.cdist(half, single).argmin(1), torch.arange(len(clips)))


# Official weights


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_where_the_weights_came_from(model, checkpoint):
    facts = {"sha256": sha256_of(checkpoint), "random_weights": True}
    origin = {"path": str(checkpoint), "revision": None} | facts
    assert model.origin == origin
    assert model.config == {"readout": "published", "origin": origin}
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    assert not model.training


def test_weights_in_the_hubs_cache(random_weights_2022, tmp_path, monkeypatch):
    folder = tmp_path / "models--microsoft--msclap"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "blobs" / "e0").symlink_to(random_weights_2022)
    (folder / "snapshots" / COMMIT / "CLAP_weights_2022.pth").symlink_to(Path("../../blobs/e0"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = load_model("msclap-2022", readout="residual-segments")
    sha256 = sha256_of(random_weights_2022)
    origin = {"path": None, "revision": COMMIT, "sha256": sha256, "random_weights": True}
    assert cached.origin == origin
    assert cached.config == {"readout": "residual-segments", "origin": origin}
    heard = cached.encode_audio(noise(1, 5.0))
    assert torch.equal(cached.with_readout("published").encode_audio(noise(1, 5.0)), heard)


def test_no_weights_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        load_model("msclap-2022")
    message = str(caught.value)
    assert re.fullmatch(
        r"CLAP_weights_2022\.pth of microsoft/msclap is not in the hub's cache and cannot be downloaded "
        r"\([^.()]+\); give the path of the file as weights\.",
        message,
    ), message
    with pytest.raises(
        FileNotFoundError, match=r"none\.pth is missing, expected a checkpoint of msclap-2023"
    ):
        load_model("msclap-2023", tmp_path / "none.pth")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that has one file; its first answer is cut off in the middle."""

    content = np.random.default_rng(0).bytes(12_000_000)  # the client keeps what it has by 10 MB
    ranges: list[str | None]

    def headers_only(self, status: int, length: int) -> None:
        found = self.path == "/microsoft/msclap/resolve/main/CLAP_weights_2022.pth"
        self.send_response(status if found else 404)
        self.send_header("ETag", '"0123abcd"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length if found else 0))
        self.end_headers()

    def do_HEAD(self) -> None:
        self.headers_only(200, len(self.content))

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.headers_only(206 if wanted else 200, len(self.content) - start)
        first = len(self.ranges) == 1
        self.wfile.write(self.content[:11_000_000] if first else self.content[start:])
        self.close_connection = True

    def log_message(self, *args) -> None:
        pass


@contextmanager
def served(handler: type[Hub]):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


DOWNLOAD = """
from tclap.models.msclap import Msclap2022
try:
    Msclap2022._official_file()
except FileNotFoundError as error:
    print(error)
print(*Msclap2022._official_file(), sep="\\n")
"""


def test_a_download_goes_on_where_it_was_cut(tmp_path):
    handler = type("OneHub", (Hub,), {"ranges": []})
    with served(handler) as endpoint:
        output = python(
            DOWNLOAD,
            HF_ENDPOINT=endpoint,
            HF_HOME=str(tmp_path),
            HF_HUB_CACHE=str(tmp_path / "hub"),
            HF_HUB_OFFLINE="0",
            NO_PROXY="127.0.0.1",
            no_proxy="127.0.0.1",
        )
    error, path, revision = output.splitlines()
    assert "cannot be downloaded (" in error and "IncompleteRead(11000000 bytes read" in error
    assert handler.ranges[0] is None and len(handler.ranges) == 2
    assert 0 < int(re.fullmatch(r"bytes=(\d+)-", handler.ranges[1])[1]) <= 11_000_000
    assert Path(path).is_relative_to(tmp_path) and Path(path).read_bytes() == Hub.content
    assert revision == COMMIT


def test_a_checkpoint_of_the_other_version(random_weights_2022, random_weights_2023):
    with pytest.raises(
        ValueError,
        match=r"msclap-2023\.pth does not fit msclap-2022: missing \['audio_encoder\.base\.bn0\.bias', .*\], "
        r"unexpected \['audio_encoder\.base\.htsat\.bn0\.bias', .*\], of another shape",
    ):
        load_model("msclap-2022", random_weights_2023)


TEXTS = ["version https://git-lfs.github.com/spec/v1\n", "<html>", "a text", ".", "(", "GHI", "", "\0" * 100]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_what_is_no_checkpoint(tmp_path, text):
    (tmp_path / "m.pth").write_text(text)
    with pytest.raises(
        ValueError, match=r"m\.pth cannot be loaded: it is truncated, damaged or no checkpoint\.$"
    ):
        load_model("msclap-2022", tmp_path / "m.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint(tmp_path, zipped):
    buffer = io.BytesIO()
    state = {"audio_encoder.base.fc1.bias": torch.ones(100), "logit_scale": torch.tensor(2.6)}
    torch.save({"model": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
    content = buffer.getvalue()
    path = tmp_path / "m.pth"
    for size in range(0, len(content), 13):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"m\.pth cannot be loaded: it .*damaged.*\.$"):
            Msclap2022._read(path)
    path.write_bytes(content)
    state, is_random = Msclap2022._read(path)
    assert state["audio_encoder.base.fc1.bias"].shape == (100,) and not is_random


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, kind):
    path, touched = tmp_path / "m.pth", tmp_path / "touched"
    content = {"model": {"logit_scale": torch.zeros(())}, "extra": Trap(touched)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=r"m\.pth cannot be loaded: it holds more than tensors .*be code"):
        load_model("msclap-2022", path)
    assert not touched.exists()
    with open(path, "rb") as file:
        if kind == "pickle":
            pickle.load(file)["extra"].close()  # the trap works
            assert touched.exists()


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, {"model": [1]}, {"model": {"a": 1}}, [1], None], ids=str
)
def test_a_checkpoint_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(
        ValueError, match=r"m\.pth has no weights under the key 'model', expected .* msclap-2023"
    ):
        load_model("msclap-2023", tmp_path / "m.pth")


def test_keys_and_shapes_must_fit(model, checkpoint):
    state = model.official_state()

    def complaint(changed: dict) -> str:
        with pytest.raises(ValueError, match=rf"w\.pth does not fit {model.name}: ") as caught:
            model._load_official(changed, Path("w.pth"))
        return str(caught.value).split(": ", 1)[1]

    name = "caption_encoder.projection.linear1.weight"
    less = {key: value for key, value in state.items() if key != name}
    assert complaint(less) == f"missing ['{name}'], unexpected [], of another shape []."
    more = state | {"caption_encoder.base.lm_head.weight": torch.zeros(2)}
    assert "missing [], unexpected ['caption_encoder.base.lm_head.weight']" in complaint(more)
    bent = state | {name: state[name][:5]}
    assert complaint(bent) == f"missing [], unexpected [], of another shape ['{name}']."


def test_buffers_of_older_transformers_are_passed_over(version, model):
    before = model.encode_text(CAPTIONS[:2])
    buffers = {
        "2022": {"embeddings.position_ids": torch.arange(512)[None]},
        "2023": {f"h.{n}.attn.{name}": torch.ones(1) for n in range(12) for name in ("bias", "masked_bias")},
    }[version]
    extra = {f"caption_encoder.base.{name}": tensor for name, tensor in buffers.items()}
    model._load_official(model.official_state() | extra, Path("w.pth"))
    assert torch.equal(model.encode_text(CAPTIONS[:2]), before)


def test_missing_tokenizers(random_weights_2022, hub_root, tmp_path, monkeypatch):
    monkeypatch.setenv("TCLAP_HUB", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"TCLAP_HUB=.* has no folder bert-base-uncased with its config"
    ):
        load_model("msclap-2022", random_weights_2022)
    copied = tmp_path / "gpt2"
    copied.mkdir()
    for name in ("config.json", "vocab.json"):
        shutil.copyfile(hub_root / "gpt2" / name, copied / name)
    for missing in ("merges.txt", "vocab.json"):
        (copied / missing).unlink(missing_ok=True)
        with pytest.raises(
            FileNotFoundError,
            match=r"of gpt2 are neither in .*; set TCLAP_HUB to a folder that has gpt2/config",
        ):
            Msclap2023()


# Checkpoints of ours, and back to msclap


@pytest.fixture(scope="module")
def changed(model):
    """The model with its heads and τ moved, as training would."""
    other = model.with_own_heads().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.head_parameters()[:-1]:
            parameter += (
                0.05 * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator)
            )
        other.log_scale.fill_(math.log(31))
    return other


@pytest.fixture(scope="module")
def exported(version, changed, tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("exported") / f"{version}.pth"
    changed.export(path)
    yield path
    path.unlink()


def test_an_export_is_loaded_by_plain_msclap(version, model, changed, exported, clips, hub_root):
    theirs = wrapped(version, exported, hub_root)
    found = normalize(heard_by(theirs, clips[:1]), dim=1)
    assert furthest(changed.encode_audio(clips[:1]), found) <= 1e-5
    assert furthest(model.encode_audio(clips[:1]), found) > 1e-3
    found = normalize(theirs.get_text_embeddings(CAPTIONS[:2]), dim=1)
    assert furthest(changed.encode_text(CAPTIONS[:2]), found) <= 1e-5
    assert furthest(model.encode_text(CAPTIONS[:2]), found) > 1e-3
    assert float(theirs.clap.logit_scale.detach()) == pytest.approx(math.log(31))
    content = torch.load(exported, mmap=True, weights_only=True)
    assert content["random_weights"] is True
    assert content["model"].keys() == theirs.clap.state_dict().keys()


def test_a_checkpoint_of_ours_holds_the_heads(version, model, changed, tmp_path):
    path = tmp_path / "m.safetensors"
    changed.save(path)
    assert path.stat().st_size == pytest.approx(4 * COUNT[version], abs=5000)
    assert path.stat().st_size < 100e6
    sidecar = json.loads((tmp_path / "m.json").read_text())
    assert sidecar["model"] == f"msclap-{version}" and sidecar["config"]["origin"] == model.origin


@only("2022")
def test_a_checkpoint_of_ours_comes_back_on_weights_that_moved(checkpoint, changed, clips, tmp_path):
    changed.save(tmp_path / "m.safetensors")
    moved = tmp_path / "moved.pth"
    moved.symlink_to(checkpoint)
    loaded = load_model("msclap-2022", tmp_path / "m.safetensors", pretrained=moved)
    assert torch.equal(loaded.encode_audio(clips[:1]), changed.encode_audio(clips[:1]))
    assert torch.equal(loaded.encode_text(CAPTIONS), changed.encode_text(CAPTIONS))
    assert loaded.logit_scale.item() == pytest.approx(31)


@only("2023")
def test_a_checkpoint_of_ours_on_other_published_weights(changed, exported, tmp_path):
    changed.save(tmp_path / "m.safetensors")
    wrong = r"2023\.pth has sha256 [0-9a-f]{12}, but the checkpoint was made on .* sha256 [0-9a-f]{12}"
    with pytest.raises(ValueError, match=wrong):
        load_model("msclap-2023", tmp_path / "m.safetensors", pretrained=exported)


# Slots


def test_slots_on_published_weights(model, tmp_path, monkeypatch, checkpoint):
    """Offsets belong to the trunk's rows; without time the score is the model's own; saved and loaded."""
    captions = ["rain before a dog barks", "rain!", "this is a sound of hail, then a very long gust of wind"]
    tokens = model.text_trunk(captions)
    for caption, places, length in zip(
        captions, model.text_trunk.offsets(captions), tokens.lengths.tolist(), strict=True
    ):
        assert len(places) >= length
        said = [caption[start:end].strip() for start, end in places[:length] if end > start]
        # "!" is what msclap's GPT-2 is padded with: a caption is cut there.
        assert "".join(said) in ("".join(caption.split()), "rain")
    words = any_words(SlotModel(model), exclude=["hail"])
    assert "rain" in words and not {"before", "hail", "precedes"} & set(words)
    assert len(words) > 10_000 and all(word.isalpha() and len(word) > 2 for word in words)

    slots = SlotModel(model)
    samples = round(model.window * model.sample_rate)
    waveforms = 0.1 * np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    sounds, ours = model.encode_audio(waveforms), slots.encode_audio(waveforms)
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[:, : model.dim] * 3**0.5, sounds, atol=1e-5, rtol=0)
    monkeypatch.setattr(slots, "read", lambda c, text=None: [Reading("plain", ())] * len(c))
    plain = slots.logit_scale * slots.encode_text(captions) @ ours.T
    base = model.logit_scale * model.encode_text(captions) @ sounds.T
    torch.testing.assert_close(plain, base, atol=1e-3, rtol=1e-4)
    monkeypatch.setattr(slots, "read", lambda c, text=None: [Reading("forward", ("rain", "hail"))] * len(c))
    timed = slots.encode_text(captions[:1])
    names = model.encode_text(["this is a sound of rain", "this is a sound of hail"])
    torch.testing.assert_close(timed[0, model.dim : -1], names.flatten() / 2, atol=1e-5, rtol=0)

    slots.save(tmp_path / "slots.safetensors")
    again = load_model(model.name, tmp_path / "slots.safetensors", pretrained=checkpoint)
    torch.testing.assert_close(again.encode_audio(waveforms), ours, atol=1e-5, rtol=0)
