"""What AudioTextModel gives to every model, and load_model to every checkpoint, on a tiny compact model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from tclap import files
from tclap.models.registry import load_model
from tclap.models.weights import make_header
from tclap.models.windows import Windows
from tclap.slots import Reading
from tclap.slots.model import SlotModel

CAPTIONS = ["dog", "a dog before a siren", "rain and bells", "x"]


class Plain:
    """A reader that finds nothing about time."""

    def read(self, captions):
        return [Reading("plain")] * len(captions)


def noise(count: int, samples: int = 4000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, samples)) * rng.uniform(0.01, 0.1, (count, 1))
    return waveforms.astype(np.float32)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


# Trunks and heads


def test_own_heads_are_equal_and_share_the_trunks_alone(tiny_model):
    other = tiny_model.with_own_heads()
    assert other.audio_trunk is tiny_model.audio_trunk and other.text_trunk is tiny_model.text_trunk
    assert dict(other.named_parameters()).keys() == dict(tiny_model.named_parameters()).keys()
    before = files.hash_state(tiny_model.own_state())
    assert files.hash_state(other.own_state()) == before
    with torch.no_grad():
        for parameter in other.head_parameters():
            parameter.add_(1.0)
    assert files.hash_state(tiny_model.own_state()) == before
    assert other.logit_scale.item() == pytest.approx(tiny_model.logit_scale.item() * np.e)
    own = {id(parameter) for parameter in other.head_parameters()}
    names = {name.split(".")[0] for name, parameter in other.named_parameters() if id(parameter) in own}
    assert names == {"audio_head", "text_head", "log_scale"}


# Encoding


def test_text_keeps_its_order_whatever_the_batches(tiny_model, text_trunk):
    whole = tiny_model.encode_text(CAPTIONS)
    text_trunk.asked.clear()
    found = tiny_model.encode_text(CAPTIONS, batch_size=2)
    # By length: "x", "dog"; "rain and bells", "a dog before a siren".
    assert text_trunk.asked == [["x", "dog"], ["rain and bells", "a dog before a siren"]]
    close(found, whole)


def test_the_policy_reaches_the_windows(tiny_model):
    long = [noise(1, 9000, seed)[0] for seed in range(3)]
    for policy in ("fit", "msclap"):
        windows = Windows(8000, 0.5, policy, seed=7)
        cut = np.stack([windows.fitted(waveform, n) for n, waveform in enumerate(long)])
        found = tiny_model.encode_audio(long, policy=policy, seed=7, batch_size=2)
        close(found, tiny_model.encode_audio(cut))
    assert not torch.equal(tiny_model.encode_audio(long, policy="msclap", seed=8), found)
    with torch.no_grad():
        whole = tiny_model.embed_audio(tiny_model.audio_trunk(torch.from_numpy(np.stack(long))))
    full = tiny_model.encode_audio(long, policy="full")
    close(full, whole)
    assert (full - tiny_model.encode_audio(long)).abs().max() > 1e-4


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


def test_nothing_in_nothing_out(tiny_model):
    assert tiny_model.encode_audio([]).shape == tiny_model.encode_text([]).shape == (0, tiny_model.dim)


@pytest.mark.parametrize("slots", [False, True])
def test_captions_and_sounds_are_taken_by_rows_from_any_kind_of_list(tiny_model, slots):
    model = SlotModel(tiny_model, Plain()) if slots else tiny_model
    expected, waveforms = model.encode_text(CAPTIONS), noise(4)
    shuffled, other = ([2, 0, 3, 1], list("wxyz"))
    kinds = [tuple(CAPTIONS), np.array(CAPTIONS), np.array(CAPTIONS, dtype=object), iter(CAPTIONS)]
    for captions in (*kinds, *(pd.Series(CAPTIONS, index=index) for index in (shuffled, other))):
        close(model.encode_text(captions), expected, atol=0)
    expected = model.encode_audio(waveforms)
    kinds = [list(waveforms), torch.from_numpy(waveforms), tuple(waveforms)]
    for sounds in (*kinds, *(pd.Series([*waveforms], index=index) for index in (shuffled, other))):
        close(model.encode_audio(sounds), expected, atol=0)


@pytest.mark.parametrize(
    ("method", "given", "error", "message"),
    [
        ("encode_text", "a dog", TypeError, r"list of captions, got one string or path: pass \['a dog'\]"),
        ("encode_text", None, TypeError, "list of captions, got NoneType"),
        ("encode_text", 3, TypeError, "list of captions, got int"),
        ("encode_text", {"dog", "rain"}, TypeError, "list of captions, got set"),
        ("encode_text", pd.DataFrame({"caption": ["dog"]}), TypeError, "got DataFrame: pass a list"),
        ("encode_text", ["dog", math.nan], TypeError, "list of captions, got nan at position 1"),
        ("encode_audio", Path("a.wav"), TypeError, r"got one string or path: pass \['a.wav'\]"),
        ("encode_audio", None, TypeError, "list of waveforms or paths, got NoneType"),
        ("encode_audio", 0.5, TypeError, "list of waveforms or paths, got float"),
        ("encode_audio", [None], ValueError, r"item 0 is object of shape \(\), expected a path or"),
        ("encode_audio", noise(1)[0], ValueError, r"of one waveform pass \[waveform\]"),
        ("encode_audio", noise(1)[0].tolist(), ValueError, r"of one waveform pass \[waveform\]"),
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
    with pytest.raises(ValueError, match="policy must be one of fit, full, msclap, cover, got 'crop'"):
        tiny_model.encode_audio(noise(1), policy="crop")


# The temperature


def test_logit_scale_is_tau_with_its_gradient_and_clamped(tiny_model):
    tiny_model.logit_scale.backward()
    assert tiny_model.logit_scale.item() == pytest.approx(1 / 0.07)
    assert float(tiny_model.log_scale.grad) == pytest.approx(1 / 0.07)  # dτ / d log τ = τ
    for log_scale, expected in ((math.log(60), 60), (6.0, 100)):
        with torch.no_grad():
            tiny_model.log_scale.fill_(log_scale)
        tiny_model.clamp_scale()
        assert tiny_model.logit_scale.item() == pytest.approx(expected)


def test_the_scale_is_clamped_at_the_loaded_value_where_that_is_higher(tiny_model, tmp_path):
    with torch.no_grad():
        tiny_model.log_scale.fill_(math.log(250))
    tiny_model.save(tmp_path / "m.safetensors")
    loaded = load_model("compact", tmp_path / "m.safetensors")
    for model in (loaded, loaded.with_readout("mean")):
        with torch.no_grad():
            model.log_scale.add_(1.0)
        model.clamp_scale()
        assert model.logit_scale.item() == pytest.approx(250)


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


def test_a_checkpoint_that_is_not_whole_or_was_edited(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    tiny_model.save(path)
    content = path.read_bytes()
    edits = {r"\"hop\": 80": r"\"hop\": 40", r"\"window\": 0.5": r"\"window\": 5.0", "compact": "msclap3"}
    damages = {content[:2000]: "truncated or damaged", b"": "truncated or damaged"}
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
    state["extra"] = state.pop("audio_trunk.project.bias")
    save_file(state, path, make_header("compact", tiny_model.config, state))
    with pytest.raises(ValueError, match=r"missing \['audio_trunk.project.bias'\], unexpected \['extra'\]"):
        load_model("compact", path)
    save_file(state, path, make_header("msclap-2022", {}, state))
    with pytest.raises(ValueError, match="holds weights of 'msclap-2022', expected 'compact'"):
        load_model("compact", path)


def test_what_is_not_ours_is_not_overwritten(tiny_model, tmp_path):
    (tmp_path / "m.json").write_text("mine")
    tiny_model.save(tmp_path / "m.safetensors")
    save_file({"theirs": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    (tmp_path / "text.safetensors").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("m.json", "m.pth", "m"):
        with pytest.raises(ValueError, match=rf"named \*\.safetensors, got .*{name}\.$"):
            tiny_model.save(tmp_path / name)
    for name in ("theirs", "text", "folder"):
        with pytest.raises(FileExistsError, match=rf"{name}\.safetensors is no checkpoint and is not over"):
            tiny_model.save(tmp_path / f"{name}.safetensors")
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_loaded_from_loads_the_same_again(tiny_model, tmp_path, monkeypatch):
    tiny_model.with_readout("ends").save(tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    model = load_model("compact", Path("m.safetensors"), readout="ends")
    found = {"name": "compact", "weights": str(tmp_path / "m.safetensors"), "options": {"readout": "ends"}}
    assert json.loads(json.dumps(model.loaded_from)) == found
    monkeypatch.chdir("/")
    again = load_model(found["name"], found["weights"], **found["options"])
    assert again.fingerprint == model.fingerprint and again.loaded_from == found
    assert (
        model.is_as_loaded() and load_model("compact", width=8).loaded_from is None
    )  # other weights each time
    with torch.no_grad():
        model.log_scale.add_(0.1)
    assert not model.is_as_loaded()


def test_unknown_models_and_options():
    for name in ("clapp", "", "a/b/c", "/clap", "./clap"):
        found = (
            rf"is one of compact, .*, an id on the hub such as .* or the path of a folder .*, got '{name}'\.$"
        )
        with pytest.raises(ValueError, match=found):
            load_model(name)
    with pytest.raises(ValueError, match="compact has no option 'windw', expected among window, sample_rate"):
        load_model("compact", windw=4.0)
