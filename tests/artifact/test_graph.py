"""A change of a figure or of the text makes that again, and nothing else of the run.

The graph of the smoke profile on a copy of the checkout. Its outputs are empty files that snakemake was told
to take for made, so that no notebook has to run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import made_up
import pytest

from artifact import paths

RUN = "runs/smoke/compact"


class Graph:
    """A copy of the checkout's code, and a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.root = folder / "checkout", folder / "root"
        self.root.mkdir()
        for name in ("tclap", "artifact", "figures", "paper", "workflow", "configs", "notebooks"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(paths.CHECKOUT / name, self.checkout / name, ignore=ignored)

    def snakemake(self, *options: str, targets: tuple[str, ...] = ("all", "paper_inputs")) -> str:
        command = [sys.executable, "-m", "snakemake", "--snakefile", self.checkout / "workflow" / "Snakefile"]
        command += ["--directory", self.root, "--cores", "1", *options]
        command += ["--config", "profile=smoke", "--", *targets]
        environment = os.environ | {"TCLAP_ROOT": str(self.root), "PYTHONPATH": str(self.checkout)}
        told = {"capture_output": True, "text": True, "env": environment, "cwd": self.root}
        done = subprocess.run([str(word) for word in command], **told)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, target: str) -> dict[str, int]:
        """How many jobs of each rule a dry run would do."""
        said = self.snakemake("--dry-run", targets=(target,))
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", said, re.M | re.S)
        if not table:
            assert "Nothing to be done" in said
            return {}
        counts = dict(line.split() for line in table[1].splitlines())
        return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "paper_inputs")}

    def replace(self, file: str, before: str, after: str) -> None:
        """Change a text that stands once in a file of the copy."""
        path = self.checkout / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{before!r} in {file}"
        path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def graph(tmp_path_factory, parquet) -> Graph:
    graph = Graph(tmp_path_factory.mktemp("graph"))
    listed = graph.snakemake("--summary").splitlines()
    names = [line.split("\t")[0] for line in listed if line.count("\t") == 5][1:]
    assert f"{RUN}/notebooks/06_figures_and_tables.html" in names and "figures/tasks.png" in names
    for name in names:
        (graph.root / name).parent.mkdir(parents=True, exist_ok=True)
        (graph.root / name).touch()
    made_up.write(graph.root / RUN)
    graph.snakemake("--touch", "--forceall", "--quiet", "all")
    return graph


def test_a_change_makes_again_what_depends_on_it_and_nothing_else(graph):
    made = [*graph.root.glob("[fpr]*/**/*")]
    before = {path: path.stat().st_mtime_ns for path in made if path.is_file()}
    assert len(before) > 80
    graph.replace("figures/controls.py", "2-way accuracy (%); ticks", "two-way accuracy (%); ticks")
    # The figures that this module draws are made again, the tables that name controls, and the notebook.
    assert graph.planned("paper_inputs") == {"figure": 3, "tables_and_numbers": 1}
    graph.snakemake("--quiet", "all", targets=("paper_inputs",))
    names = {path.relative_to(graph.root) for path in before if path.stat().st_mtime_ns != before[path]}
    changed = {path.stem for path in names if path.parts[0] == "figures"}
    assert changed == {"conditions", "wordings", "hold_out"} and len(names) == 3 * 2 + 6
    assert (graph.root / "figures" / "hold_out.csv").is_file()
    assert graph.planned("all") == {"figures_and_tables": 1}
    graph.replace("artifact/notebook/browser.py", "CARD = 900", "CARD = 800")
    graph.replace("paper/sections/limits.tex", r"\section{Limits}", r"\section{Limitations}")
    assert graph.planned("paper_inputs") == {"tables_and_numbers": 1}


def test_make_paper_says_what_to_install_before_it_does_anything(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["make", "paper", "PROFILE=nowhere"],
        cwd=paths.CHECKOUT,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and not done.stdout
    first, *others = done.stderr.splitlines()
    assert first.startswith("latexmk or a part of TeX is missing: apt-get install latexmk texlive-")
    assert all(line.startswith("make: ***") for line in others)
