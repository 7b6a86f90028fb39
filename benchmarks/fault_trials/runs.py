"""Runs of the smoke profile that trials start from, each made once, and the commands that make them."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat

from artifact import paths
from artifact.preparation import prepare
from benchmarks.fault_trials.killing import Job
from benchmarks.fault_trials.record import workshop
from tclap import files

RUN = Path("runs", "smoke", "compact")


def graph(root: Path, *options: str) -> list[str]:
    """The command of the graph in a root, as the Makefile has it."""
    snakefile = str(paths.CHECKOUT / "workflow" / "Snakefile")
    command = ["env", *(f"{name}={value}" for name, value in environ(root).items())]
    command += ["flock", "--close", "--nonblock", "--conflict-exit-code", "9", str(root / ".snakemake-lock")]
    command += [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", str(root)]
    command += ["--cores", "1", "--nolock", "--rerun-triggers", "input", "--rerun-incomplete"]
    return [*command, "--logger", "steps", *options]


def environ(root: Path) -> dict[str, str]:
    """What the graph's environment says of a run of the smoke profile in a root."""
    found = os.pathsep.join(map(str, (paths.CHECKOUT, paths.CHECKOUT / "workflow")))
    return {"TCLAP_ROOT": str(root), "PYTHONPATH": found, "PROFILE": "smoke", "OMP_NUM_THREADS": "1"}


def notebook(root: Path, code: str) -> list[str]:
    """The command of a notebook of one cell in a root, as the graph has it."""
    written = root / "work.ipynb"
    cells = [
        nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), written)
    runner = paths.CHECKOUT / "workflow" / "run_notebook.py"
    return [sys.executable, str(runner), str(written), str(root / "executed" / "work.ipynb"), "seed=0"]


@cache
def prepared() -> Path:
    """The root of a run whose data are there."""
    root = workshop() / "prepared"
    if not root.is_dir():
        root.mkdir()
        job = Job(lambda folder: prepare("smoke", "compact") and None, root)
        if job.wait():
            shutil.rmtree(root)
            raise RuntimeError(job.said())
    return root


@cache
def finished() -> Path:
    """The root of a run that is complete."""
    root = workshop() / "finished"
    root.mkdir(exist_ok=True)
    done = subprocess.run(graph(root), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return root


def from_prepared(folder: Path) -> None:
    """Tables of a run, whose sounds lie elsewhere."""
    shutil.copytree(prepared() / "runs", folder / "runs")


def from_finished(folder: Path) -> None:
    """A complete run, whose sounds lie elsewhere."""
    for name in ("runs", "figures", "paper"):
        shutil.copytree(finished() / name, folder / name)


def without_summary(folder: Path) -> None:
    """A complete run that lacks its summary."""
    from_finished(folder)
    for path in (folder / "runs").rglob("summar*.json"):
        path.unlink()


def without_three_steps(folder: Path) -> None:
    """A complete run that lacks a hold-out, the summary, and a figure of it."""
    without_summary(folder)
    (folder / RUN / "seed0" / "hold_out.json").unlink()
    (folder / "figures" / "tasks.png").unlink()


def contents(root: Path, *patterns: str) -> dict[str, str]:
    """Hashes of some files of a run, by their names in it."""
    found = (path for pattern in patterns for path in (root / RUN).glob(pattern))
    return {str(path.relative_to(root)): files.sha256_file(path) for path in sorted(found)}
