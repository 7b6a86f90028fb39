"""Published weights: found on the hub, read without running what they could hold, loaded exactly."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tclap import files

HEADER = "tclap"  # key in the header of a file of safetensors
# Buffers that follow from the configuration: some versions of transformers store them, others do not.
DERIVED = re.compile(r".*(position_ids|token_type_ids|relative_position_index|\.attn\.(bias|masked_bias))")


@contextmanager
def in_one_sentence(what: str, instead: str) -> Iterator[None]:
    """Turn any error in loading ``what`` into an OSError of one sentence: what to do ``instead``."""
    try:
        yield
    # What transformers and the hub's client raise on missing or damaged files differs between versions.
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise OSError(f"{what} could not be loaded ({reason}); {instead}.") from error


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a file of safetensors or of ``torch.save``: a dict, of named tensors or around them.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, has no weights, or holds what could be code, which is not run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        is_zip = zipfile.is_zipfile(path)  # an older format cannot be mapped into memory
        if is_zip:
            check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError:
        raise
    except Exception as error:  # the readers raise errors of ten kinds on bytes that are no weights
        raise ValueError(
            f"{path} cannot be loaded: it is truncated or damaged, or holds more than tensors and plain "
            "values, which could be code."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} has no weights, expected a dict of tensors.")
    return content


def check_zip(path: Path) -> None:
    """Compare a file of ``torch.save`` with its checksums, which ``torch.load`` heeds not; BadZipFile."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def make_header(model: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, str]:
    """A checkpoint's header: a hash over all, then the model's name and configuration as JSON."""
    text = json.dumps({"model": model, "config": config}, sort_keys=True)
    # Under one key, as several would be in another order, and the file other bytes, each time.
    return {HEADER: f"{files.hash_json([text, files.hash_state(state)])} {text}"}


def write_checkpoint(
    path: str | Path, model: str, config: Mapping[str, Any], state: dict[str, Tensor]
) -> None:
    """Write tensors and a configuration as a file of safetensors; OSError where it cannot be written."""
    try:
        with files.replacing(path) as temporary:
            save_file(state, temporary, make_header(model, config, state))
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path} could not be written: {error}") from error


def read_checkpoint(path: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a file that :func:`write_checkpoint` wrote for the model ``name``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, was edited, or is no checkpoint or another model's.
    """
    state, metadata = read_weights(path), None
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
    if not metadata or HEADER not in metadata:
        raise ValueError(f"{path} has no configuration in its header, expected a file that save() wrote.")
    digest, _, text = metadata[HEADER].partition(" ")
    if digest != files.hash_json([text, files.hash_state(state)]):
        raise ValueError(f"{path} does not match its hash: weights or configuration are damaged or edited.")
    try:
        content = json.loads(text)
        model, config = content["model"], dict(content["config"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has no model and configuration in its header, expected both.") from error
    if model != name:
        raise ValueError(f"{path} holds weights of {model!r}, expected {name!r}.")
    return config, state


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], where: str | Path, names: Mapping[str, str] | None = None
) -> None:
    """Load tensors from the file ``where`` into a module whose names and shapes they must have.

    ``names`` maps names of the module to those in ``state``; what it does not name keeps its value. None:
    all names, the same in both.

    Raises:
        ValueError: naming the first tensors that are missing, unexpected, of another shape or not finite.
    """
    own = module.state_dict()
    names = {name: name for name in own} if names is None else names
    wanted = {theirs: own[ours] for ours, theirs in names.items()}
    missing, unexpected = (
        sorted(name for name in found if not DERIVED.fullmatch(name))
        for found in (wanted.keys() - state.keys(), state.keys() - wanted.keys())
    )
    shared = wanted.keys() & state.keys()
    misshapen = sorted(k for k in shared if not _fits(state[k], wanted[k]))
    if missing or unexpected or misshapen:
        raise ValueError(
            f"{where} does not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}, of another "
            f"shape {misshapen[:3]}."
        )
    if broken := sorted(name for name in shared if not state[name].isfinite().all()):
        raise ValueError(f"{where} has values that are not finite in {broken[:3]}, expected finite weights.")
    found = {ours: state[theirs] for ours, theirs in names.items() if theirs in state}
    module.load_state_dict(found, strict=False)


def _fits(tensor: Any, wanted: Tensor) -> bool:
    is_alike = isinstance(tensor, Tensor) and tensor.shape == wanted.shape
    return is_alike and tensor.is_floating_point() == wanted.is_floating_point()
