"""The graph of the smoke profile on a copy of the checkout, and what it prints.

The run is made up and its stamps are written by hand, so that no notebook has to run.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import made_up
import pytest
import yaml

from artifact import paths
from figures import maps

RUN = "runs/smoke/compact"
SNAKEFILE = paths.CHECKOUT / "workflow" / "Snakefile"
STAMP_ALL = """
import pandas as pd
from artifact import made, paths, steps
from artifact.config import load_config
config = load_config("smoke")
content = steps.data_content(config, None) | {"weights": None}
for name, fingerprint in steps.fingerprints(config, "compact", content).items():
    made.write(paths.run("smoke", "compact") / "steps" / f"{name}.json", fingerprint, [])
(paths.run("smoke", "compact") / "data").mkdir(exist_ok=True)
clips = pd.DataFrame(columns=["path", "sha256"])
clips.to_parquet(paths.run("smoke", "compact") / "data" / "clips.parquet")
"""


class Graph:
    """A copy of the checkout's code, and a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.root = folder / "checkout", folder / "root"
        self.root.mkdir(parents=True)
        for name in ("tclap", "artifact", "figures", "paper", "workflow", "configs", "notebooks"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(paths.CHECKOUT / name, self.checkout / name, ignore=ignored)
        found = os.pathsep.join(map(str, (self.checkout, self.checkout / "workflow")))
        self.environment = os.environ | {
            "TCLAP_ROOT": str(self.root),
            "PYTHONPATH": found,
            "PROFILE": "smoke",
        }

    def command(self, *options: str, target: str) -> list[str]:
        snakefile = str(self.checkout / "workflow" / "Snakefile")
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--nolock"]
        command += ["--rerun-triggers", "input", "--rerun-incomplete"]
        return [*command, "--directory", str(self.root), "--cores", "1", *options, "--", target]

    def snakemake(self, *options: str, target: str = "all", code: int = 0, **environ: str) -> str:
        told = {"capture_output": True, "text": True, "env": self.environment | environ, "cwd": self.root}
        done = subprocess.run(self.command(*options, target=target), **told)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, target: str, **environ: str) -> dict[str, int]:
        """How many jobs of each rule a dry run would do."""
        said = self.snakemake("--dry-run", target=target, **environ)
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", said, re.M | re.S)
        counts = dict(line.split() for line in table[1].splitlines())
        return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "paper_inputs")}

    def contents(self) -> dict[Path, bytes]:
        """All files but snakemake's own."""
        found = (path for path in self.root.rglob("*") if path.is_file() and ".snakemake" not in path.parts)
        return {path: path.read_bytes() for path in found}

    def replace(self, file: str, before: str, after: str) -> None:
        """Change a text that stands once in a file of the copy; the file looks as old as it was."""
        path = self.checkout / file
        text, status = path.read_text(encoding="utf-8"), path.stat()
        assert text.count(before) == 1, f"{before!r} in {file}"
        path.write_text(text.replace(before, after), encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def prepared(folder: Path) -> Graph:
    graph = Graph(folder)
    made_up.write(graph.root / RUN)
    subprocess.run([sys.executable, "-c", STAMP_ALL], check=True, env=graph.environment, cwd=graph.root)
    return graph


@pytest.fixture
def graph(tmp_path) -> Graph:
    """In a folder whose name a shell would act on."""
    return prepared(tmp_path / 'it\'s "a" $(touch PWNED) & {b}')


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Graph:
    """For tests that change nothing."""
    return prepared(tmp_path_factory.mktemp("graph"))


def test_a_change_makes_again_what_depends_on_it_and_nothing_else(graph):
    graph.replace("figures/curves.py", "validation 2-way (%)", "validation, two-way (%)")
    said = graph.snakemake("--logger", "steps", target="paper_inputs")
    # The figure that this module draws is made again, and the tables.
    assert re.search(r"^figure, curves +\d+ s +\d of 2$", said, re.M) and len(said.splitlines()) <= 6
    drawn = {path.name for path in (graph.root / "figures").iterdir()}
    assert drawn == {"curves.pdf", "curves.png", "curves.csv"}
    assert graph.planned("all") == {"figures_and_tables": 1}, "the notebook that shows them"
    (graph.root / "figures" / "curves.png").unlink()
    graph.replace("paper/sections/limits.tex", r"\section{Limits}", r"\section{Limitations}")
    assert graph.planned("paper_inputs") == {"figure": 1, "tables_and_numbers": 1}


def test_the_default_run_has_its_steps_for_each_seed(untouched):
    found = untouched.planned("all", PROFILE="synthetic")
    each = dict.fromkeys(("base_model", "post_pretraining", "evaluation", "hold_out", "order_from_text"), 3)
    once = ("data_construction", "other_base_models", "slot_ablation", "summary", "your_recordings",
            "tables_and_numbers", "figures_and_tables")  # fmt: skip
    assert found == each | dict.fromkeys(once, 1) | {"figure": 13}


def test_the_picture_of_the_graph_is_up_to_date(untouched):
    rules = maps.rules(untouched.snakemake("--rulegraph", target="all", PROFILE="synthetic"))
    titles = re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", maps.GRAPH.read_text(encoding="utf-8"))
    assert {f"{a} -> {b}" for a, b in titles} == {rule for rule in rules if "->" in rule}


def test_a_step_that_fails_says_why_and_where_its_log_is(graph):
    (graph.root / RUN / "summary.json").write_text("{")
    graph.replace("figures/curves.py", "validation 2-way (%)", "validation, two-way (%)")
    said = graph.snakemake("--logger", "steps", target="paper_inputs", code=1)
    log = f"{RUN}/logs/figure-"
    (failed,) = re.findall(r"^(?:figure, \w+|tables and numbers) failed: (.*)$", said, re.M)
    assert (
        "summary.json" in failed
        and "Traceback" not in said
        and f"log: {log}" in said.replace("tables_and_numbers", "figure-")
    )


def test_a_run_that_was_killed_is_taken_up_by_the_same_command(graph):
    shutil.rmtree(graph.root / RUN / "steps")
    stamp = graph.root / RUN / "steps" / "figure-architecture.json"
    options = {"env": graph.environment, "cwd": graph.root, "start_new_session": True}
    command = graph.command("--logger", "steps", target=str(stamp.relative_to(graph.root)))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as running:
        for line in running.stderr:
            if "steps" in line:  # the first job is about to start
                break
        os.killpg(running.pid, signal.SIGKILL)
    assert not stamp.exists()
    assert subprocess.run(command, **options, capture_output=True).returncode == 0
    assert stamp.exists() and (graph.root / "figures" / "architecture.png").exists()


@pytest.mark.parametrize(("base", "attempt"), [("compact", 1), ("msclap-2022", 2)])
def test_on_a_cluster_every_step_has_its_resources(graph, base, attempt, tmp_path):
    """As a dry run says without Slurm.

    A published model needs more, and a GPU where it computes; what has failed is given more.
    """
    (tmp_path / "which").symlink_to(shutil.which("which"))
    graph.replace("configs/smoke.yaml", "bases:\n", "bases:\n  msclap-2022: {}\n")
    settings = {"BASE": base, "PATH": str(tmp_path)}
    options = ("--dry-run", "--workflow-profile", "slurm", "--attempt", str(attempt))
    said = graph.snakemake(*options, target="all", **settings)
    planned = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)", said, re.M)
    found = {rule: dict(re.findall(r"(\w+)=([^,]+)", resources)) for rule, resources in planned}
    text = (graph.checkout / "workflow" / "profiles" / "slurm" / "config.yaml").read_text()
    models = yaml.safe_load(text)["set-resources"]
    assert models.keys() <= set(re.findall(r"^rule (\w+):", SNAKEFILE.read_text(), re.M))
    assert {"data_construction", "evaluation", "summary", "figure"} <= found.keys()
    for rule, resources in found.items():
        large = base != "compact" and rule in models
        minutes = 240 if rule in models else 60
        wanted = {"mem_mb": str((16000 if large else 4000) * attempt), "runtime": str(minutes * attempt)}
        wanted |= {"cpus_per_task": "1"} | ({"gpu": str(int(large))} if rule in models else {})
        assert wanted.items() <= resources.items(), rule


def test_a_clusters_job_stamps_what_the_run_that_submitted_it_was_a_function_of(graph):
    """The run may have been of other code than lies there by the time that the job begins."""
    stamp = graph.root / RUN / "steps" / "figure-curves.json"
    stamp.unlink()
    options = (
        "--mode",
        "remote",
        "--target-jobs",
        "figure:name=curves",
        "--allowed-rules",
        "figure",
        "--force",
    )
    told = json.dumps({stamp.stem: "as-submitted"})
    graph.snakemake(*options, target=str(stamp.relative_to(graph.root)), TCLAP_FINGERPRINTS=told)
    assert json.loads(stamp.read_text())["fingerprint"] == "as-submitted"


def test_jobs_that_a_killed_run_left_in_the_queue_are_cancelled_before_others_start(graph, tmp_path):
    queue, tools = tmp_path / "queue", tmp_path / "tools"
    tools.mkdir()
    (graph.root / ".snakemake" / "slurm_logs").mkdir(parents=True)
    queue.write_text(f"7 tclap_a {graph.root}\n8 mine {graph.root}\n9 tclap_b {tmp_path}\n")
    scripts = {
        "squeue": f'[ -z "$SLURM_CONF" ] && cat {queue}',  # not the Makefile's
        "scancel": f'echo "$@" > {tmp_path / "cancelled"}; sed -i "/^$1 /d" {queue}',
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    found = f"{tools}{os.pathsep}{os.environ['PATH']}"
    graph.snakemake("--dry-run", target="paper_inputs", PATH=found)
    assert len(queue.read_text().splitlines()) == 3
    stamp = graph.root / RUN / "steps" / "figure-architecture.json"
    stamp.unlink()
    graph.snakemake(target=str(stamp.relative_to(graph.root)), PATH=found)
    assert (tmp_path / "cancelled").read_text() == "7\n" and stamp.exists()


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({"PROFILE": "esc50", "ESC50_ROOT": ""}, (), "ESC50_ROOT"),
        (
            {"PROFILE": "paper-smoke", "BASE": "msclap-2022", "WEIGHTS": "no ne.pth"},
            (),
            "no ne.pth does not exist",
        ),
        ({}, ("--cores", "0"), "CORES=0: expected at least one core"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_touched(untouched, environ, options, expected):
    before = untouched.contents()
    said = untouched.snakemake(*options, code=1, **environ)
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert expected in line
    assert untouched.contents() == before


@pytest.mark.parametrize(
    ("settings", "asked"), [([], False), (["CLUSTER=slurm"], True), (["SLURM_CONF=x"], True)]
)
def test_slurm_is_asked_for_its_settings_only_where_it_is_used(settings, asked):
    """Its plugin waits for a controller that does not answer, also where nothing is submitted."""
    command = ["make", "--dry-run", "--directory", str(paths.CHECKOUT), *settings, "reproduce"]
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "snakemake --snakefile" in said and (f"SLURM_CONF={os.devnull}" not in said) == asked


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
