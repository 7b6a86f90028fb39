"""The msclap models against the msclap package's own wrapper, on random weights in the official format."""

import json
import math
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from torch.nn.functional import normalize

from tclap import audio
from tclap.cli import main
from tclap.models.msclap import Msclap2023
from tclap.models.registry import load_model

RATE = 44100
CAPTIONS = [
    "a dog barks before a siren",
    "stop! a dog barks",
    "a dog barks!",
    "!",
    "a",
    "a bell rings " * 20,
    "ein Käuzchen ruft 🦉 während es regnet",
    "a dog barks while it rains " * 20,  # 120 words, beyond msclap's text_len, which only pads
]


@pytest.fixture(scope="module", params=["2022", "2023"])
def version(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(version, request) -> Path:
    return request.getfixturevalue(f"random_weights_{version}")


@pytest.fixture(scope="module")
def model(version, request):
    return request.getfixturevalue(f"msclap_{version}")


@pytest.fixture(scope="module")
def clips(esc50_root) -> list[Path]:
    """Real clips of two classes, of 5 s and a little."""
    return [min((esc50_root / "audio").glob(f"1-*-{label}.*")) for label in (0, 10)]


@pytest.fixture(scope="module")
def wrapper(version, checkpoint, hub_root):
    """msclap's own CLAPWrapper on these weights; everything that its import changes is put back."""

    def load(path):
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(waveform.T.copy()), rate

    def tokenizer_of(name):
        found = read_tokenizer(hub_root / name)
        if not hasattr(found, "encode_plus"):  # from version 5 of transformers on
            found.encode_plus = found.__call__
        return found

    stub = types.ModuleType("torchaudio")
    stub.load, stub.transforms = load, types.ModuleType("torchaudio.transforms")
    text, tokenizer, config = transformers.AutoModel, transformers.AutoTokenizer, transformers.AutoConfig
    read_tokenizer = tokenizer.from_pretrained
    verbosity = transformers.logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(sys.modules, "torchaudio", stub)
        patch.setitem(sys.modules, "torchaudio.transforms", stub.transforms)
        patch.setattr(
            text, "from_pretrained", lambda name: text.from_config(config.from_pretrained(hub_root / name))
        )
        patch.setattr(tokenizer, "from_pretrained", tokenizer_of)
        from msclap.CLAPWrapper import CLAPWrapper

        found = CLAPWrapper(checkpoint, version=version)
        for name in [n for n in sys.modules if n == "msclap" or n.startswith("msclap.")]:
            del sys.modules[name]
    transformers.logging.set_verbosity(verbosity)
    return found


def audio_of(wrapper, clips: list[Path]) -> torch.Tensor:
    """The wrapper's audio embeddings, its random windows put where the policy "fit" has them."""
    samples = wrapper.args.duration * RATE
    starts = iter([audio.most_energetic_start(audio.read(clip), samples) for clip in clips])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.randrange", lambda stop: next(starts))
        return normalize(wrapper.get_audio_embeddings(clips), dim=1)


def text_of(wrapper, captions: list[str]) -> torch.Tensor:
    """The wrapper's text embeddings; a caption of more words than it pads to can only be alone."""
    return normalize(torch.cat([wrapper.get_text_embeddings([caption]) for caption in captions]), dim=1)


def noise(count: int, seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, round(seconds * RATE))) * rng.uniform(0.01, 0.2, (count, 1))
    return waveforms.astype(np.float32)


def furthest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().abs().max())


# The same as msclap's own wrapper


def test_audio_embeddings_are_the_wrappers(model, wrapper, clips):
    expected = audio_of(wrapper, clips)
    assert furthest(expected[0], expected[1]) > 1e-3  # what a mix-up would amount to
    assert furthest(model.encode_audio(clips), expected) <= 1e-5
    assert furthest(model.encode_audio(clips[1:]), expected[1:]) <= 1e-5


def test_text_embeddings_are_the_wrappers(model, wrapper):
    expected = text_of(wrapper, CAPTIONS)
    assert (torch.cdist(expected, expected).fill_diagonal_(1) > 1e-2).all()
    assert furthest(model.encode_text(CAPTIONS), expected) <= 1e-5
    assert furthest(model.encode_text(CAPTIONS[::-1], batch_size=3).flip(0), expected) <= 1e-5


PROCESS = """
import sys, warnings
import tclap.models.registry, transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer  # scipy, imported here, sets filters of its own
before = [str(entry) for entry in warnings.filters], transformers.logging.get_verbosity()
from tclap.models import msclap
msclap._architecture()
assert before == ([str(entry) for entry in warnings.filters], transformers.logging.get_verbosity())
assert not {"msclap", "torchaudio"} & set(sys.modules)
"""


def test_a_broken_torchaudio_is_not_met_and_the_process_stays_as_found(tmp_path):
    (tmp_path / "torchaudio.py").write_text('raise OSError("libc10_cuda.so is missing")')
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr


# On every stack


@pytest.mark.parametrize("missing", ["msclap", "torchlibrosa", "librosa"])
def test_missing_packages_and_how_to_install_them(monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=f"need {missing}: pip install torchlibrosa && pip in"):
        load_model("msclap-2022")
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", "msclap-2023", "--weights", "x.pth"])
    assert "error: msclap's models need" in capsys.readouterr().err


# Trunk and head


PARTS = {"audio_head.projection", "text_head.projection", "text_head.layer", "log_scale"}
TRAINED = {"2022": PARTS | {"audio_head.fc1"}, "2023": PARTS | {"audio_head.norm", "text_head.norm"}}


def test_what_is_trained_is_the_published_preset(version, model, wrapper):
    trained = {".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.requires_grad}
    assert trained == TRAINED[version]
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in wrapper.clap.parameters())


def bursts(seconds: float, parts: int) -> torch.Tensor:
    """Quiet noise, and the same with a loud middle of each of ``parts`` equal parts: ``[1 + parts, n]``."""
    quiet = torch.from_numpy(noise(1, seconds)[0])
    rows = [0.01 * quiet / quiet.square().mean().sqrt()]
    for part in range(parts):
        row = rows[0].clone()
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
    assert ((change.argmax(1) - middles).abs() <= 1.5).all()


@pytest.mark.parametrize("version", ["2023"], indirect=True, scope="module")
def test_htsat_takes_audio_of_1024_frames_at_most(model):
    longest = 1024 * 320 - 1  # a frame at 0 and then one every 320 samples: 1024 frames, 7.43 s
    long = torch.from_numpy(noise(1, 8.0))
    assert model.audio_trunk(long[:, :longest]).isfinite().all()
    with pytest.raises(ValueError, match="at most 1024 frames at once, got 1025"):
        model.audio_trunk(long[:, : longest + 1])


# Official weights


@pytest.mark.parametrize("present", [(), ("config.json",), ("config.json", "vocab.json")], ids=str)
def test_missing_tokenizers(hub_root, tmp_path, monkeypatch, present):
    monkeypatch.setenv("TCLAP_HUB", str(tmp_path))
    (tmp_path / "gpt2").mkdir()
    for name in present:
        (tmp_path / "gpt2" / name).write_bytes((hub_root / "gpt2" / name).read_bytes())
    # Without its files transformers raises an error, from version 5 on it makes an empty tokenizer.
    with pytest.raises((OSError, ValueError), match="tokenizer of .*gpt2 (could not be loaded|has 1 tokens)"):
        Msclap2023()


def test_code_in_a_hub_folder_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    asked, own = [], tmp_path / "gpt2"
    monkeypatch.setenv("TCLAP_HUB", str(tmp_path))
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "yes")
    own.mkdir()
    settings = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (own / "config.json").write_text(json.dumps(settings))
    (own / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(OSError, match="config and tokenizer of .*gpt2 could not be loaded"):
        Msclap2023()
    assert not asked and not (tmp_path / "run").exists()


def test_an_export_is_loaded_by_plain_msclap(model, wrapper, clips, tmp_path):
    changed, generator = model.with_own_heads().eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():  # as training would
        for parameter in changed.head_parameters()[:-1]:
            step = torch.randn(parameter.shape, generator=generator)
            parameter += 0.05 * parameter.std().nan_to_num() * step
        changed.log_scale.fill_(math.log(31))
    changed.export(tmp_path / "m.pth")
    content = torch.load(tmp_path / "m.pth", mmap=True, weights_only=True)
    assert content["random_weights"] is True
    before = {name: tensor.clone() for name, tensor in wrapper.clap.state_dict().items()}
    try:
        wrapper.clap.load_state_dict(content["model"])  # strictly: msclap's own names and shapes
        sounds, texts = audio_of(wrapper, clips[:1]), text_of(wrapper, CAPTIONS[:2])
        assert float(wrapper.clap.logit_scale.detach()) == pytest.approx(math.log(31))
    finally:
        wrapper.clap.load_state_dict(before)
        (tmp_path / "m.pth").unlink()
    assert furthest(changed.encode_audio(clips[:1]), sounds) <= 1e-5
    assert furthest(changed.encode_text(CAPTIONS[:2]), texts) <= 1e-5
    assert furthest(model.encode_text(CAPTIONS[:2]), texts) > 1e-3
