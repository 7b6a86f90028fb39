"""Every command of the README and docs/ is run, in its smoke form, or read by the program that it calls.

A line of code that no test here knows fails: whoever adds one says how it is tested.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from accelerate.commands.launch import launch_command_parser

import tclap
from artifact import __main__ as reporting
from artifact import compare, paths
from artifact.config import load_config, settings
from benchmarks import random_weights
from figures import read
from paper import tables
from tclap import audio
from tclap import cli as commands
from tclap.evaluation import benchmark as api

PAGES = [paths.CHECKOUT / "README.md", *sorted((paths.CHECKOUT / "docs").glob("*.md"))]
TEXT = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BIN = paths.CHECKOUT / ".venv" / "bin"


def blocks() -> list[str]:
    """The indented blocks of code."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", TEXT, re.M)
    return [textwrap.dedent(block).strip("\n") for block in found if block.strip()]


PYTHON = [b for b in blocks() if re.search(r"^(import tclap|\w+ = tclap\.)", b, re.M)]
PRINTED = [b for b in blocks() if b.startswith("profile synthetic")]
CITED = [b for b in blocks() if b.startswith("@software")]
SHELL = [b for b in blocks() if b not in (*PYTHON, *PRINTED, *CITED)]
PROGRAMS = ("make", "papermill", "accelerate", "torchrun", "python", "tclap", "pip")


def words(line: str) -> tuple[dict[str, str], list[str]]:
    """Settings before a command, and the command; what follows ``#`` is said to the reader."""
    found = shlex.split(line, comments=True)
    first = next((n for n, word in enumerate(found) if "=" not in word), len(found))
    return dict(word.split("=", 1) for word in found[:first]), found[first:]


LINES = [line for block in SHELL for line in block.splitlines()]
INLINE = [
    code
    for code in re.findall(r"`([^`]+)`", TEXT)
    if code.split()[0] in PROGRAMS and (" " in code or code == "make")
]
COMMANDS = [words(line)[1] for line in [*LINES, *INLINE]]


def of(program: str) -> list[list[str]]:
    return [command for command in COMMANDS if Path(command[0]).name == program]


def test_every_line_is_known():
    for block in SHELL:
        assert not any(line.startswith((" ", "\t")) for line in block.splitlines()), block
    unknown = [command for command in COMMANDS if not command or Path(command[0]).name not in PROGRAMS]
    assert unknown == [], "say in this file how this is tested"
    assert len(PRINTED) == len(CITED) == 1 and len(PYTHON) == 7
    assert {len(of(program)) > 0 for program in PROGRAMS} == {True}


def dry(*arguments: str) -> list[list[str]]:
    """What make would run."""
    done = subprocess.run(
        [
            "make",
            "--dry-run",
            "--no-print-directory",
            "--old-file=.venv/ready",
            "--old-file=.venv-latest/ready",
            *arguments,
        ],
        cwd=paths.CHECKOUT,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]


def program_is_there(command: list[str], monkeypatch) -> None:
    """A command of a rule: its program is installed, and what it is told can be read."""
    command = command[next((n for n, word in enumerate(command) if word.endswith("snakemake")), 0) :]
    name = Path(command[0]).name
    assert (BIN / name).exists() or Path(sys.executable).with_name(name).exists(), command
    if command[1:3] == ["-m", "artifact"]:
        reporting.parser().parse_args(command[3:])
    elif name == "tclap":
        command_line_reads(command, monkeypatch)
    elif command[1:2] == ["-m"]:
        assert command[2] in ("pytest", "pip", "venv"), command


def command_line_reads(command: list[str], monkeypatch) -> None:
    told = []
    for name in commands.COMMANDS:
        monkeypatch.setitem(commands.COMMANDS, name, lambda **options: told.append(options))
    commands.main(command[1:])
    assert len(told) == 1


@pytest.mark.parametrize("command", of("tclap"), ids=" ".join)
def test_the_command_line(command, monkeypatch):
    command_line_reads(command, monkeypatch)


def told_by_make(folder: Path, *arguments: str) -> list[str]:
    """What ``make evaluate`` gives to the program, which is replaced by one that writes that down."""
    program = folder / "tclap"
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    program.chmod(0o755)
    command = ["make", "--no-print-directory", "--old-file=.venv/ready", *arguments, f"BIN={folder}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=paths.CHECKOUT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[:-1]


def test_paths_reach_the_program_whatever_their_characters(tmp_path):
    weights, root = 'it\'s "my" 50%.pth', "a folder/ESC-50"
    told = told_by_make(tmp_path, "evaluate", "BASE=msclap-2022", f"WEIGHTS={weights}", f"ROOT={root}")
    assert told[told.index("--weights") + 1] == weights and told[told.index("--root") + 1] == root


@pytest.mark.parametrize("command", of("make"), ids=" ".join)
def test_make(command, monkeypatch, tmp_path):
    if "evaluate" in command:
        command_line_reads(["tclap", *told_by_make(tmp_path, *command[1:])], monkeypatch)
        return
    rules = dry(*command[1:])
    assert rules
    for rule in rules:
        if rule[0] in ("grep", "command", "cd"):  # `make` alone, and what looks for TeX and calls it
            continue
        program_is_there(rule, monkeypatch)
    if not any(word.endswith("snakemake") for rule in rules for word in rule):
        return
    given = dict(word.split("=", 1) for word in command if "=" in word)
    if given.get("PROFILE", "").startswith("paper"):
        given.setdefault("BASE", "msclap-2022")
    data = settings(given)
    load_config(data.profile, data.dataset_options())


@pytest.mark.parametrize("command", of("papermill"), ids=" ".join)
def test_papermill(command):
    """Notebook and parameters are there; ``test_notebooks`` runs such a line."""
    notebook = nbformat.read(paths.CHECKOUT / command[1], as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    values: dict = {}
    exec(cell.source, values)
    options = command[3:]
    assert options[::3] == ["-p"] * (len(options) // 3)
    for name, value in zip(options[1::3], options[2::3], strict=True):
        assert type(values[name])(value) == values[name], "the notebook's own default"


@pytest.mark.parametrize("command", [*of("accelerate"), *of("torchrun")], ids=" ".join)
def test_several_processes(command, monkeypatch):
    """The launcher reads its part, and the program its own; ``test_several_processes`` runs such lines."""
    if command[0] == "accelerate":
        options = launch_command_parser().parse_args(command[2:])
        script, rest, module = options.training_script, options.training_script_args, options.module
        assert options.num_processes == 4
    else:
        from torch.distributed.run import parse_args

        options = parse_args(command[1:])
        script, rest, module = options.training_script, options.training_script_args, options.module
        assert options.nproc_per_node == "4"
    assert (script, module) == ("artifact", True)
    told = reporting.parser().parse_args(rest)
    assert told.command == "train"
    load_config(told.profile).model_options(told.base)


def test_modules(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(random_weights, "write", lambda *options: written.append(options))
    for command in of("python"):
        assert command[1] == "-m"
        if command[2] == "benchmarks.random_weights":
            random_weights.main(command[3:])
        elif command[2] == "artifact":
            reporting.parser().parse_args(command[3:])
        else:
            # Their own tests call them as they are written here.
            known = ("benchmarks.connectives", "benchmarks.temporal_captions", "tclap.slots.training")
            assert " ".join(command[2:]) in known, "say in this file how this is tested"
    assert written == [("msclap-2022", Path("random.pth"), 0)]


def test_what_make_reproduce_prints():
    path = compare.reference_path("synthetic", "compact")
    assert [tables.text_table(read.summary(path)).rstrip("\n")] == PRINTED, "put the reference's table there"


# Python


@pytest.fixture
def told(tiny_model, monkeypatch, tmp_path):
    """A folder with the README's sound, where any model that is loaded is a small one."""
    tone = 0.1 * np.sin(np.arange(8000) / 7)
    audio.write_wav(tmp_path / "rain_then_dog.wav", tone, 8000)
    monkeypatch.chdir(tmp_path)
    loaded = []

    def load(*arguments, **options):
        inspect.signature(tclap.models.registry.load_model).bind(*arguments, **options)
        loaded.append(arguments)
        return tiny_model

    monkeypatch.setattr(tclap, "load_model", load, raising=False)
    return loaded


def block_with(text: str) -> str:
    found = next(block for block in PYTHON if text in block)
    return found


def test_ten_lines_of_use(told, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "recordings").mkdir()
    rows, generator = ["file,caption"], np.random.default_rng(0)
    for n in range(24):
        tone = np.sin(2 * np.pi * 200 * (1 + n % 4) * np.arange(4000) / 8000) + generator.normal(
            0, 0.05, 4000
        )
        audio.write_wav(tmp_path / "recordings" / f"{n}.wav", 0.1 * tone.astype(np.float32), 8000)
        rows.append(f"{n}.wav,a tone number {n % 4} of take {n}")
    (tmp_path / "recordings" / "clips.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(tclap, "evaluate", partial(tclap.evaluate, pairs=2, control_pairs=1), raising=False)
    monkeypatch.setattr(
        tclap, "fine_tune", partial(tclap.fine_tune, epochs=1, batch=2, pairs=2), raising=False
    )
    views = torch.nn.functional.normalize(torch.randn(2, 3, 4, 8), dim=-1)
    space = {
        "audio": views[0],
        "text": views[1],
        "logit_scale": 10.0,
        "events": torch.arange(12).reshape(3, 4),
    }
    exec(block_with("load_clips("), space)
    assert told == [("msclap-2022",)] and (tmp_path / "mine.safetensors").is_file()
    assert torch.isfinite(space["loss"]) and len(space["rows"]) and len(space["history"])


def test_slots(told, tiny_model):
    space: dict = {}
    exec(block_with("slots.read("), space)
    assert told == [("msclap-2022",)]
    assert space["slots"].dim == 3 * tiny_model.dim + 1


def test_the_library(told):
    size = 4
    vectors = torch.nn.functional.normalize(torch.randn(2, 3, size, 8), dim=-1)
    space = {"audio": vectors[0], "text": vectors[1], "logit_scale": 10.0}
    space["events"] = torch.arange(3 * size).reshape(3, size)
    exec(block_with("chunk_size=512)\nmodel"), space)
    assert torch.isfinite(space["loss"]) and space["loss"].ndim == 0
    assert told == [("compact", "runs/synthetic/compact/seed0/t-clap/weights.safetensors")]


def test_the_benchmark(monkeypatch):
    """The call is one that the function takes; ``test_benchmark`` runs it."""
    asked = []

    def evaluate(*arguments, **options):
        asked.append(inspect.signature(api.evaluate).bind(*arguments, **options).arguments)

    monkeypatch.setattr(tclap, "evaluate", evaluate, raising=False)
    exec(block_with('suite="full"'), {"tclap": tclap, "model": "a model", "clips": "clips"})
    assert asked == [{"model": "a model", "clips": "clips", "suite": "full"}]


def test_published_items(told, tmp_path, capsys):
    names = "pair_file,pair_caption,reversed_pair_file,reversed_pair_caption,triplet_file,triplet_caption"
    rows = [f"{n}.wav,a dog before rain {n},{n}r.wav,rain {n} before a dog,-,-" for n in range(2)]
    (tmp_path / "CompA_order_benchmark.csv").write_text("\n".join([names, *rows]) + "\n")
    (tmp_path / "CompA_order_files").mkdir()
    for n, name in enumerate(("0", "0r", "1", "1r")):
        tone = 0.1 * np.sin(np.arange(4000) / (3 + n))
        audio.write_wav(tmp_path / "CompA_order_files" / f"{name}.wav", tone, 8000)
    exec(block_with("FORMATS"), {})
    assert told == [("msclap-2022",)]
    assert "msclap-2022 (order-blind)  compa order: text " in capsys.readouterr().out


@pytest.mark.parametrize("works", [True, False])
def test_the_newest_stack_is_not_set_up_by_a_python_that_does_not_start(tmp_path, works):
    scripts = {"python3.13": f"exit {0 if works else 127}", "pyenv": "exit 1", "python3": "exit 0"}
    for name, line in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    command = ["make", "--no-print-directory", "--eval", "chosen: ; @echo $(LATEST_PYTHON)", "chosen"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=paths.CHECKOUT, capture_output=True, text=True, env=environment)
    assert done.stdout == ("python3.13\n" if works else "python3\n"), done.stderr
