"""Files of weights: what is read, what is refused, and that nothing in them is run."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tclap.models.weights import load_exactly, read_weights

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2)}


def write(path: Path, content, kind: str) -> Path:
    """A file of safetensors, or one of torch.save's two formats."""
    path = path.with_suffix(".safetensors" if kind == "safetensors" else ".pth")
    if kind == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_tensors_are_read_but_not_from_a_truncated_file(tmp_path, kind):
    path = write(tmp_path / "m", STATE, kind)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in read_weights(path).items())
    content = path.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for damaged in (pointer, *(content[:size] for size in range(0, len(content), 13))):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"m\.\w+ cannot be loaded: it is truncated or damaged"):
            read_weights(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.\w+"):
        read_weights(path)


def test_a_flipped_bit_of_a_tensor_is_refused(tmp_path):
    """``torch.load`` reads it."""
    path = write(tmp_path / "m", STATE, "zip")
    content = bytearray(path.read_bytes())
    content[content.index(STATE["layer.weight"].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert torch.load(path)["layer.weight"].flatten()[1] != STATE["layer.weight"].flatten()[1]
    with pytest.raises(ValueError, match=r"m\.pth cannot be loaded: it is truncated or damaged"):
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
        write(path, content, kind)
    with pytest.raises(ValueError, match="could be code"):
        read_weights(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(content["extra"]))
    assert touched.exists()  # the trap works


def test_a_file_of_something_else(tmp_path):
    torch.save([1], tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m\.pth has no weights, expected a dict of tensors"):
        read_weights(tmp_path / "m.pth")


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
        ({"layer.bias": 3}, r"of another shape \['layer\.bias'\]"),
    ],
)
def test_keys_and_shapes_must_fit(change, error):
    state = {name: t for name, t in (STATE | {"own": torch.ones(1)} | change).items() if t is not None}
    with pytest.raises(ValueError, match=rf"m\.pth does not fit the model: .*{error}"):
        load_exactly(Module(), state, "m.pth")
