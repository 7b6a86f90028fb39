"""Remove what runs made, ``clean.py ROOT``: what their stamps name, and folders that are theirs alone.

A user's own files beside them (in figures/, paper/tables/, data/) stay. Needs no package.
"""

import json
import shutil
import sys
from pathlib import Path

FOLDERS = (
    "runs",
    "docs/_build",
    ".snakemake",
    "data/features",
    "data/embeddings",
    "data/synthetic-" + "[0-9a-f]" * 12,
)
LATEX = ("aux", "bbl", "blg", "fdb_latexmk", "fls", "log", "out", "pdf")


def products(stamp: Path, root: Path) -> list[Path]:
    """Files under ``root`` that a stamp names; none where it is damaged."""
    try:
        names = json.loads(stamp.read_text(encoding="utf-8"))["products"]
        found = [(stamp.parent / name).resolve() for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [path for path in found if path.is_relative_to(root)]


def clean(root: Path) -> None:
    """Remove the outputs under ``root``."""
    root = root.resolve()
    made = [path for stamp in root.glob("runs/*/*/steps/*.json") for path in products(stamp, root)]
    for path in [*made, *(root / "paper" / f"main.{kind}" for kind in LATEX), root / ".snakemake-lock"]:
        path.unlink(missing_ok=True)
    for pattern in FOLDERS:
        for folder in root.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    clean(Path(sys.argv[1]))
