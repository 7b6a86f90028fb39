"""What AudioTextModel gives to every model, and load_model to every checkpoint, on a tiny compact model."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import close, noise

from tclap import files
from tclap.models.registry import load_model
from tclap.models.weights import make_header
from tclap.slots import Reading
from tclap.slots.model import SlotModel

CAPTIONS = ["dog", "a dog before a siren", "rain and bells", "x"]


class Plain:
    """A reader that finds nothing about time."""

    def read(self, captions):
        return [Reading("plain")] * len(captions)


# Encoding


def test_encoding_leaves_the_mode_as_it_was_also_after_an_error(tiny_model):
    evaluated = tiny_model.eval().encode_audio(noise(2))
    tiny_model.train()
    close(tiny_model.encode_audio(noise(2)), evaluated, atol=0)
    tiny_model.encode_text(CAPTIONS[:1])
    with pytest.raises(ValueError, match="mono"):
        tiny_model.encode_audio([np.zeros(0, np.float32)])
    assert tiny_model.training and tiny_model.audio_head.training


def test_under_autocast_embeddings_are_near_and_of_float32_unit_vectors(tiny_model):
    single = tiny_model.encode_audio(noise(4))
    with torch.autocast("cpu", torch.bfloat16):
        half = tiny_model.encode_audio(noise(4))
    assert half.dtype == torch.float32 and not torch.equal(half, single)
    assert torch.nn.functional.cosine_similarity(half, single).min() > 0.999
    close(half.norm(dim=1), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("slots", [False, True])
def test_captions_and_sounds_are_taken_by_rows_from_any_kind_of_list(tiny_model, slots):
    model = SlotModel(tiny_model, Plain()) if slots else tiny_model
    expected, index = model.encode_text(CAPTIONS), [2, 0, 3, 1]
    for captions in (tuple(CAPTIONS), np.array(CAPTIONS), pd.Series(CAPTIONS, index=index)):
        close(model.encode_text(captions), expected, atol=0)
    waveforms = noise(4)
    expected = model.encode_audio(waveforms)
    for sounds in (list(waveforms), torch.from_numpy(waveforms), pd.Series([*waveforms], index=index)):
        close(model.encode_audio(sounds), expected, atol=0)
    assert model.encode_audio([]).shape == model.encode_text([]).shape == (0, model.dim)


@pytest.mark.parametrize(
    ("method", "given", "error", "message"),
    [
        ("encode_text", "a dog", TypeError, r"list of captions, got one string or path: pass \['a dog'\]"),
        ("encode_text", ["dog", math.nan], TypeError, "list of captions, got nan at position 1"),
        ("encode_audio", Path("a.wav"), TypeError, r"got one string or path: pass \['a.wav'\]"),
        ("encode_audio", [None], ValueError, r"item 0 is object of shape \(\), expected a path or"),
        ("encode_audio", np.zeros((1, 30), np.uint8), ValueError, "item 0 is uint8 of shape"),
        ("encode_audio", noise(1)[0], ValueError, r"of one waveform pass \[waveform\]"),
        ("encode_audio", [noise(2)], ValueError, r"of shape \(2, 4000\), .*: average its channels first"),
        ("encode_audio", noise(2).T, ValueError, r"got \[samples, channels\] = \[4000, 2\], expected \[N, s"),
        ("encode_audio", noise(2) * 1e25, ValueError, r"samples of up to .*e\+2. have no finite embedding"),
        ("encode_audio", noise(2).astype(float) * 1e300, ValueError, "item 0 has samples .* not finite"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_captions_or_waveforms(tiny_model, method, given, error, message):
    with pytest.raises(error, match=message):
        getattr(tiny_model, method)(given)


def test_sizes_below_one_and_unknown_policies(tiny_model):
    for encode, given in ((tiny_model.encode_audio, noise(1)), (tiny_model.encode_text, CAPTIONS)):
        for size in (0, -1):
            with pytest.raises(ValueError, match=f"batch_size is {size}, expected at least 1"):
                encode(given, batch_size=size)
    with pytest.raises(ValueError, match="policy must be one of fit, cover, got 'crop'"):
        tiny_model.encode_audio(noise(1), policy="crop")


# The temperature


@pytest.mark.parametrize(("loaded", "most"), [(60, 100), (250, 250)])
def test_tau_is_clamped_at_100_or_the_loaded_value_where_that_is_higher(tiny_model, tmp_path, loaded, most):
    with torch.no_grad():
        tiny_model.log_scale.fill_(math.log(loaded))
    tiny_model.save(tmp_path / "m.safetensors")
    again = load_model("compact", tmp_path / "m.safetensors")
    for model in (again, again.with_readout("mean")):
        assert model.logit_scale.item() == pytest.approx(loaded)
        with torch.no_grad():
            model.log_scale.add_(2.0)
        model.clamp_scale()
        assert model.logit_scale.item() == pytest.approx(most)


# Checkpoints


def test_a_saved_model_comes_back_bit_by_bit(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    written = set()
    for _ in range(3):  # a checkpoint may be replaced, and has the same bytes each time
        tiny_model.save(path)
        written.add(path.read_bytes())
    assert len(written) == 1 and [found.name for found in tmp_path.iterdir()] == ["m.safetensors"]
    torch.manual_seed(99)
    loaded = load_model("compact", path)
    assert not loaded.training and loaded.config == tiny_model.config
    assert files.hash_state(loaded.own_state()) == files.hash_state(tiny_model.own_state())
    state = load_file(path)
    assert float(state["logit_scale"]) == pytest.approx(math.log(1 / 0.07))
    assert {name.split(".")[0] for name in state} == {"audio_trunk", "audio_head", "text_head", "logit_scale"}


def test_a_model_that_is_saved_in_half_precision_comes_back_rounded(tiny_model, tmp_path):
    expected = {name: tensor.half().float() for name, tensor in tiny_model.own_state().items()}
    tiny_model.half().save(tmp_path / "m.safetensors")
    found = load_model("compact", tmp_path / "m.safetensors").own_state()
    assert files.hash_state(found) == files.hash_state(expected)


def test_a_checkpoint_that_is_not_whole_or_was_edited(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    tiny_model.save(path)
    content = path.read_bytes()
    edits = {r"\"hop\": 80": r"\"hop\": 40", r"\"window\": 0.5": r"\"window\": 5.0", "compact": "msclap3"}
    damages = {content[:2000]: "truncated or damaged"}
    damages |= {content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]: "does not match its hash"}
    for old, new in edits.items():
        assert content.count(old.encode()) == 1 and len(old) == len(new)
        damages[content.replace(old.encode(), new.encode())] = "does not match its hash: .* edited"
    for damaged, message in damages.items():
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"m\.safetensors .*{message}"):
            load_model("compact", path)
    save_file(tiny_model.own_state(), path)
    with pytest.raises(ValueError, match="has no configuration in its header, expected a file that save"):
        load_model("compact", path)


def test_a_checkpoint_of_another_model_or_other_weights(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    tiny_model.save(path)
    with pytest.raises(ValueError, match=r"m\.safetensors does not fit .*'audio_head\.mlp"):
        load_model("compact", path, dim=7)
    state = load_file(path)
    save_file(state, path, make_header("msclap-2022", {}, state))
    with pytest.raises(ValueError, match="holds weights of 'msclap-2022', expected 'compact'"):
        load_model("compact", path)


def test_unknown_models_and_options():
    for name in ("clapp", "", "a/b/c", "/clap", "./clap"):
        with pytest.raises(ValueError, match=rf"is one of compact, .*, got '{name}'\.$"):
            load_model(name)
    with pytest.raises(TypeError, match="windw"):
        load_model("compact", windw=4.0)
