"""Flipped bytes: one byte of a kept file is another, and the same is done again.

Good is: the result is that of before (the file was made again, or its byte decides nothing), or a refusal in
a sentence that names the file. The library's kinds of file are listed here; a run's are found by walking
through one that is complete.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tclap
from artifact import made, steps
from artifact.config import load_config
from artifact.experiment import RememberingReader
from benchmarks.fault_trials import kills, runs
from benchmarks.fault_trials.killing import Job, contents_of
from benchmarks.fault_trials.record import Outcome, workshop
from figures import read
from tclap import cli, files
from tclap.evaluation import item_set
from tclap.evaluation.benchmark import questions
from tclap.models.weights import read_checkpoint, read_weights
from tclap.slots import load_reader
from tclap.slots.model import SETTINGS

POSITIONS = 8  # of the library's kinds
READER = Path(tclap.__file__).with_name("slots") / "reader.safetensors"


def flip(path: Path, rng: np.random.Generator) -> None:
    """Change one bit of a file; it looks as old as it was."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# The library's files: what a function of a folder makes, reads again where it is there, and gives.


def weights(folder: Path) -> Any:
    """A model that was saved."""
    path = folder / "weights.safetensors"
    if not path.exists():
        kills.model().save(path)
    return files.hash_state(tclap.load_model("compact", path).own_state())


def slots(folder: Path) -> Any:
    """A model with slots that was saved."""
    path = folder / "slots.json"
    if not path.exists():
        kills.model().save(workshop() / "base.safetensors")
        tclap.add_slots(kills.model()).save(path, "compact", workshop() / "base.safetensors")
    return [str(getattr(tclap.slots.load(path), setting)) for setting in SETTINGS]


def reader(folder: Path) -> Any:
    """A caption reader."""
    path = folder / "reader.safetensors"
    if not path.exists():
        shutil.copy(READER, path)
    return files.hash_state(load_reader(path).state_dict())


def readings(folder: Path) -> Any:
    """What captions say, as a run keeps it."""
    captions = ["rain before a dog", "a dog while it rains", "a dog"]
    return str(RememberingReader(packaged_reader(), folder, []).read(captions))


@cache
def packaged_reader() -> Any:
    """The package's caption reader."""
    return load_reader()


def zipped(folder: Path) -> Any:
    """Published weights as ``torch.save`` writes them."""
    path = folder / "published.pth"
    if not path.exists():
        torch.save({"model": kills.model().own_state()}, path)
    return files.hash_state(read_weights(path)["model"])


def item_files(folder: Path) -> Any:
    """The benchmark's questions as files, written again each time."""
    _, drawn, asked = questions(kills.clips(), 6, 0)
    item_set.write(folder, drawn, asked, name="tones", seed=0)
    return contents_of(folder)


def rows(folder: Path) -> Any:
    """Rows of two models, and what ``tclap compare`` says of them."""
    out = [folder / f"{name}.parquet" for name in ("first", "second")]
    if not out[0].exists():
        model = kills.model()
        model.save(folder / "model.safetensors")
        recordings = workshop() / "recordings"
        given = ["--model", "compact", "--weights", str(folder / "model.safetensors"), "--data", "folder"]
        given += ["--root", str(recordings), "--pairs", "6", "--suite", "tasks"]
        for path, more in zip(out, ([], ["--slots"]), strict=True):
            said(["evaluate", *given, *more, "--out", str(path)])
        (folder / "model.safetensors").unlink()
        shutil.rmtree(files.data_folder(), ignore_errors=True)
    return said(["compare", *map(str, out)])


def said(arguments: list[str]) -> str:
    """What the command line prints; ValueError with its error where it ends with another code than 0."""
    out, error = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        try:
            cli.main(arguments)
        except SystemExit as ended:
            if ended.code:
                raise ValueError(error.getvalue().strip().splitlines()[-1]) from None
    return out.getvalue()


LIBRARY: dict[str, Callable[[Path], Any]] = {
    "checkpoints of a training": kills.looping,
    "checkpoints and store of fine_tune": kills.fine_tuning,
    "store of trunk outputs": kills.storing,
    "kept embeddings of evaluate": kills.evaluating,
    "synthetic sounds and their hashes": kills.synthesising,
    "a model's weights": weights,
    "published weights (.pth)": zipped,
    "a model with slots (.json)": slots,
    "a caption reader": reader,
    "readings of captions": readings,
    "a benchmark's questions": item_files,
    "rows of tclap evaluate": rows,
}


@cache
def whole(kind: str) -> tuple[Path, str]:
    """A folder with a kind's files, and the result that goes with them."""
    folder = workshop() / "whole" / kind.replace(" ", "-").replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = Job(LIBRARY[kind], folder)
    if job.wait():
        raise RuntimeError(job.said())
    return folder, job.said()


def library_trial(kind: str, n: int) -> Outcome:
    """Flip a bit of one of a kind's files, and do the same again."""
    start, expected = whole(kind)
    rng, folder = np.random.default_rng([len(kind), n]), workshop() / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder)
    candidates = sorted(path for path in folder.rglob("*") if path.is_file())
    path = candidates[n % len(candidates)]
    before = path.read_bytes()
    flip(path, rng)
    job = Job(LIBRARY[kind], folder)
    failed, told = job.wait(), job.said().strip()
    name = str(path.relative_to(folder))
    if failed:
        sentence = told.splitlines()[-1]
        good = path.name in sentence and sentence.startswith(("ValueError: ", "OSError: "))
        return Outcome(good, "refused, naming the file" if good else f"{name}: {sentence[:200]}")
    if told != expected.strip():
        return Outcome(False, f"{name}: another result, and nothing said")
    if path.exists() and path.read_bytes() == before:
        return Outcome(True, "made again")
    return Outcome(True, "passed over for what is whole, or decides nothing")


# A run's files


@cache
def fingerprints() -> dict[str, str]:
    """Those of the steps of the smoke profile."""
    config = load_config("smoke")
    return steps.fingerprints(config, "compact", steps.data_content(config, None) | {"weights": None})


@cache
def complete() -> Path:
    """The root of a copy of a run that is complete, and that every trial leaves as it was."""
    root = workshop() / "complete"
    shutil.rmtree(root, ignore_errors=True)
    runs.from_finished(root)
    return root


def walked() -> list[str]:
    """Names of all files that a run keeps, beside its sounds; not of those without a byte."""
    root = complete()
    found = (path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(str(path.relative_to(root)) for path in found)


def run_trial(name: str) -> Outcome:
    """Flip a bit of a file of a run: which steps are made again, or who refuses it."""
    root = complete()
    path, run = root / name, root / runs.RUN
    before, expected = path.read_bytes(), fingerprints()
    stamps = {stamp: stamp.read_bytes() for stamp in (run / "steps").glob("*.json")}
    try:
        flip(path, np.random.default_rng(list(name.encode())))
        again = sorted(expected.keys() - set(steps.remove_stale(run, expected)))
        if again:
            return Outcome(True, "the graph makes its step again")
        return unstamped(path, root)
    finally:
        path.write_bytes(before)
        for stamp, content in stamps.items():
            stamp.write_bytes(content)


def unstamped(path: Path, root: Path) -> Outcome:
    """What becomes of a file that is no product of a step of the graph."""
    if path.suffix == ".log" or "recordings" in path.parts:
        return Outcome(True, "read by nothing that counts")
    readers = {"summary.json": read.summary, "features-": partial(read_checkpoint, name="features")}
    readers |= {"readings-": files.read_hashed}
    for start, reads in readers.items():
        if path.name.startswith(start):
            try:
                reads(path)
            except ValueError as error:
                said = (
                    "refused, naming the file" if start == "summary.json" else "made again where it is read"
                )
                return Outcome(str(path) in str(error), said)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        current = made.is_current(path, content["fingerprint"]) and files.hash_json(content["inputs"])
    except (ValueError, KeyError):
        current = False
    if not current or current != content["fingerprint"]:
        return Outcome(True, "a stamp that is current no more")
    return Outcome(False, f"{path.relative_to(root)}: nothing notices it")
