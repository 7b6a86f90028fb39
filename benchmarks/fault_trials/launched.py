"""Kills of what users start: two workers, notebooks and their kernels, the graph."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.fault_trials import runs
from benchmarks.fault_trials.killing import Case, Job

MODELS = ("seed0/*/weights.safetensors", "seed0/*/history.parquet")


def two_workers(root: Path) -> list[str]:
    """The base model and a variant, trained by two processes together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "artifact", "train", "--profile", "smoke", "--base", "compact"]
    return [*launcher, *command, "--variants", "t-clap"]


def a_worker(job: Job, rng: np.random.Generator) -> int | None:
    """One of the two."""
    workers = [process.pid for process in job.others() if "torch.distributed.run" not in process.cmdline()]
    return int(rng.choice(sorted(workers))) if len(workers) == 2 else None


def the_kernel(job: Job, rng: np.random.Generator) -> int | None:
    """The process in which a notebook's cells run."""
    for process in job.others():
        if "ipykernel_launcher" in process.cmdline():
            return process.pid
    return None


def the_graph(job: Job, rng: np.random.Generator) -> int | None:
    """Snakemake, whose jobs go on, or any process of its run."""
    others = [process.pid for process in job.others()]
    alone = [p.pid for p in job.others() if "snakemake" in p.cmdline()]
    return int(rng.choice(alone if rng.random() < 0.5 and alone else [job.pid, *others]))


def notebook(root: Path) -> list[str]:
    """A notebook that trains a run's models."""
    code = "from pathlib import Path\nfrom benchmarks.fault_trials import kills\nkills.training(Path())"
    return runs.notebook(root, code)


def three_steps(root: Path) -> list[str]:
    """The graph up to a figure."""
    return runs.graph(root, "--", f"{runs.RUN}/steps/figure-tasks.json")


def of_models(root: Path) -> dict[str, str]:
    """The models and their histories."""
    return runs.contents(root, *MODELS)


def of_run(root: Path) -> dict[str, str]:
    """The models, tables and figures."""
    return runs.contents(root, *MODELS, "*.parquet", "seed0/*.parquet", "../../../figures/*.p[dn][fg]")


CASES = {
    "a worker of two": Case(5, two_workers, runs.from_prepared, of_models, a_worker, settles=30),
    "a notebook's kernel": Case(5, notebook, runs.from_prepared, of_models, the_kernel, settles=30),
    "papermill": Case(5, notebook, runs.from_prepared, of_models, settles=30),
    "Snakemake": Case(5, three_steps, runs.without_three_steps, of_run, the_graph, settles=120),
}
