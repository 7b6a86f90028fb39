"""Files of weights: what is read, what is refused, and that nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tclap.models.weights import in_one_sentence, load_exactly, read_weights

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2)}


@pytest.mark.parametrize(("key", "content"), [(None, STATE), ("model", {"model": STATE, "epoch": 3})])
def test_tensors_are_read_with_the_values_beside_them(tmp_path, key, content):
    with pytest.raises(FileNotFoundError, match=r"m\.pth is missing"):
        read_weights(tmp_path / "m.pth", key)
    for zipped in (True, False):
        torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
        found = read_weights(tmp_path / "m.pth", key)
        assert found.keys() == content.keys() and found.get("epoch") == content.get("epoch")
        state = found if key is None else found[key]
        assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "text", ["version https://git-lfs.github.com/spec/v1\n", ".", "(", "GHI", "", "\0" * 100]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_file_of_weights(tmp_path, text, suffix):
    path = tmp_path / f"m.{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"m\.{suffix} cannot be loaded: it is truncated or damaged"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file(tmp_path, kind):
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "m.pth")
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    for size in range(0, len(content), 13):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="cannot be loaded"):
            read_weights(path)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_is_not_run(tmp_path, kind):
    path, touched = tmp_path / "m.pth", tmp_path / "touched"
    content = {"model": STATE, "extra": Trap(touched)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"extra": Trap(touched)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match="could be code"):
        read_weights(path, "model")
    assert not touched.exists()
    pickle.loads(pickle.dumps(content["extra"]))
    assert touched.exists()  # the trap works


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, {"model": [1]}, {"model": {"a": 1}}, [1], None], ids=str
)
def test_a_file_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m\.pth has no weights under the key 'model'"):
        read_weights(tmp_path / "m.pth", "model")


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = nn.Linear(3, 2), nn.Parameter(torch.ones(1))
        self.register_buffer("position_ids", torch.arange(2))


def test_names_are_translated_and_others_keep_their_values():
    module = Module()
    state = {"theirs.weight": STATE["layer.weight"], "bias": STATE["layer.bias"]}
    load_exactly(module, state, "m.pth", {"layer.weight": "theirs.weight", "layer.bias": "bias"})
    assert torch.equal(module.layer.weight, STATE["layer.weight"]) and module.own == 1


@pytest.mark.parametrize("theirs", ["position_ids", "h.0.attn.masked_bias", "embeddings.token_type_ids"])
def test_buffers_that_follow_from_the_configuration_may_be_missing_or_left_over(theirs):
    load_exactly(Module(), STATE | {"own": torch.ones(1), theirs: torch.arange(2)}, "m.pth")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"own": None}, r"missing \['own'\], unexpected \[\], of another shape \[\]"),
        ({"lm_head": torch.ones(1)}, r"missing \[\], unexpected \['lm_head'\]"),
        ({"layer.bias": torch.zeros(3)}, r"unexpected \[\], of another shape \['layer\.bias'\]"),
    ],
)
def test_keys_and_shapes_must_fit(change, error):
    state = {name: t for name, t in (STATE | {"own": torch.ones(1)} | change).items() if t is not None}
    with pytest.raises(ValueError, match=rf"m\.pth does not fit the model: .*{error}"):
        load_exactly(Module(), state, "m.pth")


def test_errors_of_other_libraries_become_one_sentence():
    with (
        pytest.raises(OSError, match=r"^gpt2 could not be loaded \(no vocabulary\); set X\.$"),
        in_one_sentence("gpt2", "set X"),
    ):
        raise TypeError("no vocabulary. See the documentation\nor ask.")
