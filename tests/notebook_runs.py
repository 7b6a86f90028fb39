"""Notebooks and the graph, run as the Makefile runs them, in a root of their own."""

import os
import subprocess
import sys
from pathlib import Path

from artifact import paths

NOTEBOOKS = sorted((paths.CHECKOUT / "notebooks").glob("[0-9]*.ipynb"))
RUNNER = paths.CHECKOUT / "workflow" / "run_notebook.py"
TABLE_FILES = ("tables/table_1.tex", "tables/table_2.tex", "tables/table_3.tex", "numbers.tex")


def call(root: Path, *command, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"TCLAP_ROOT": str(root), "TCLAP_BATCH": "1"} | environ
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def graph(root: Path, *options: str, **settings: str) -> subprocess.CompletedProcess:
    """As `make reproduce` runs it."""
    snakefile = paths.CHECKOUT / "workflow" / "Snakefile"
    command = ["-m", "snakemake", "--snakefile", snakefile, "--directory", root, "--cores", "2", "--nolock"]
    command += ["--rerun-triggers", "input", "--rerun-incomplete"]
    found = os.pathsep.join([str(snakefile.parent), os.environ.get("PYTHONPATH", "")])
    return call(root, *command, "--logger", "steps", *options, PYTHONPATH=found, **settings)


def notebook(number: str) -> Path:
    return next(path for path in NOTEBOOKS if path.name.startswith(number))


def run(root: Path, number: str, *parameters: str) -> subprocess.CompletedProcess:
    """The workflow's way."""
    return call(root, RUNNER, notebook(number), root / f"{number}.ipynb", *parameters)
