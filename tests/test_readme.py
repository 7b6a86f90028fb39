"""Every command of the README and docs/ is run, in its smoke form, or read by the program that it calls.

A line of code that no test here knows fails: whoever adds one says how it is tested.
"""

import inspect
import os
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import parse_args as torchrun_parser

import tclap
from artifact import __main__ as reporting
from artifact import compare, paths
from artifact.config import load_config, settings
from benchmarks import random_weights
from figures import read
from paper import tables
from tclap import audio
from tclap import cli as commands
from tclap.models.msclap import Msclap2023

PAGES = [paths.CHECKOUT / "README.md", *sorted((paths.CHECKOUT / "docs").glob("*.md"))]
TEXT = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES)


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
WORKFLOW = yaml.safe_load((paths.CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
INLINE += [f"make {job['target']}" for job in WORKFLOW["jobs"]["make"]["strategy"]["matrix"]["include"]]
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


def test_what_contributing_names_is_there():
    text = (paths.CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text)
    own = ("mine", "runs/", ".venv/")
    assert [n for n in named if not any(o in n for o in own) and not (paths.CHECKOUT / n).exists()] == []
    assert len(named) > 20


def make(*arguments: str) -> str:
    """What make prints."""
    command = ["make", "--no-print-directory", "--old-file=.venv/ready", "--old-file=.venv-latest/ready"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    options = {"cwd": paths.CHECKOUT, "capture_output": True, "text": True, "env": environment}
    done = subprocess.run([*command, *arguments], **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    return make(*arguments, f"BIN={folder}").split("\0")[:-1]


def test_paths_reach_the_program_whatever_their_characters(tmp_path):
    weights, root = 'it\'s "my" 50%.pth', "a folder/ESC-50"
    told = told_by_make(tmp_path, "evaluate", "BASE=msclap-2022", f"WEIGHTS={weights}", f"ROOT={root}")
    assert told[told.index("--weights") + 1] == weights and told[told.index("--root") + 1] == root


@pytest.mark.parametrize("command", of("make"), ids=" ".join)
def test_make(command, monkeypatch, tmp_path):
    if "evaluate" in command:
        command_line_reads(["tclap", *told_by_make(tmp_path, *command[1:])], monkeypatch)
        return
    rules = make("--dry-run", *command[1:]).replace("\\\n", " ")
    assert rules
    for options in re.findall(r"-m artifact (.*)", rules):
        reporting.parser().parse_args(shlex.split(options))
    if "snakemake" in rules:
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
def test_several_processes(command):
    """The launcher reads its part, and the program its own; ``test_distributed`` launches processes."""
    read = torchrun_parser if command[0] == "torchrun" else launch_command_parser().parse_args
    options = read(command[1:] if command[0] == "torchrun" else command[2:])
    assert (options.training_script, options.module) == ("artifact", True)
    told = reporting.parser().parse_args(options.training_script_args)
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
            # Their own tests call them as they are written here, or of the maps, compare what they drew.
            known = ("benchmarks.connectives", "benchmarks.temporal_captions", "tclap.slots.training")
            known += ("benchmarks.gpu gpu.json", "figures.maps")
            known += ("benchmarks.faults --trials 1000 --record faults.jsonl",)
            assert " ".join(command[2:]) in known, "say in this file how this is tested"
    assert written == [(name, Path("random.pth"), 0) for name in ("msclap-2023", "msclap-2022")]


def test_what_make_reproduce_prints():
    path = compare.reference_path("synthetic", "compact")
    assert [tables.text_table(read.summary(path)).rstrip("\n")] == PRINTED, "put the reference's table there"


@pytest.fixture
def library(tiny_model, monkeypatch, tmp_path):
    """What blocks of Python name: sounds, items, and ``tclap`` with a small model and short trainings."""
    generator = np.random.default_rng(0)

    def tone(path: str, pitch: int) -> None:
        sound = np.sin(2 * np.pi * 200 * pitch * np.arange(4000) / 8000) + generator.normal(0, 0.05, 4000)
        (tmp_path / path).parent.mkdir(exist_ok=True)
        audio.write_wav(tmp_path / path, 0.1 * sound.astype(np.float32), 8000)

    tone("rain_then_dog.wav", 1)
    rows = ["file,caption"]
    for n in range(24):
        tone(f"recordings/{n}.wav", 1 + n % 4)
        rows.append(f"{n}.wav,a tone number {n % 4} of take {n}")
    (tmp_path / "recordings" / "clips.csv").write_text("\n".join(rows) + "\n")
    rows = ["pair_file,pair_caption,reversed_pair_file,reversed_pair_caption,triplet_file,triplet_caption"]
    for n in range(2):
        tone(f"CompA_order_files/{n}.wav", 1 + n)
        tone(f"CompA_order_files/{n}r.wav", 3 + n)
        rows.append(f"{n}.wav,a dog before rain {n},{n}r.wav,rain {n} before a dog,-,-")
    (tmp_path / "CompA_order_benchmark.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)

    def small(name: str, **sizes):
        """The public function, at a small size."""
        function = getattr(tclap, name)

        def call(*arguments, **options):
            inspect.signature(function).bind(*arguments, **options)
            return function(*arguments, **options | sizes)

        monkeypatch.setattr(tclap, name, call, raising=False)

    def load(*arguments, **options):
        inspect.signature(tclap.models.registry.load_model).bind(*arguments, **options)
        return tiny_model

    small("evaluate", pairs=2, control_pairs=1)
    small("fine_tune", epochs=1, batch=2, pairs=2, precision="fp32")
    monkeypatch.setattr(tclap, "load_model", load, raising=False)
    monkeypatch.setattr(type(tiny_model), "export", Msclap2023.export, raising=False)
    monkeypatch.setattr(type(tiny_model), "official_state", tiny_model.state_dict, raising=False)
    return {"tclap": tclap, "model": tiny_model, "clips": tclap.load_clips("folder", "recordings")}


@pytest.mark.parametrize("block", PYTHON)
def test_python(block, library, tmp_path, capsys):
    views = torch.nn.functional.normalize(torch.randn(2, 3, 4, 8), dim=-1)
    events = torch.arange(12).reshape(3, 4)
    space = library | {"audio": views[0], "text": views[1], "logit_scale": 10.0, "events": events}
    exec(block, space)
    for name in ("rows", "history", "before", "after"):
        assert len(space.get(name, [0]))
    assert np.isfinite(float(space.get("loss", 0)))
    for name in re.findall(r"\.(?:save|export)\(\"(.+?)\"", block):
        assert (tmp_path / name).is_file()
    assert bool(capsys.readouterr().out) == ("print(" in block)


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
