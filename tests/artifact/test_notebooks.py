"""The notebooks: committed clean, and run by papermill and as a graph on the smoke profile."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from notebook_runs import NOTEBOOKS, RUNNER, TABLE_FILES, call, graph, notebook, run

from artifact.experiment import Experiment
from artifact.notebook.browser import ItemReader


def plain_papermill(root: Path, number: str, *options: str) -> subprocess.CompletedProcess:
    """papermill's own command line, in a folder of its own, as the README has it."""
    (root / "own").mkdir(exist_ok=True)
    command = ("-m", "papermill", notebook(number), "out.ipynb", *options)
    return call(root, *command, TCLAP_BATCH="", cwd=root / "own")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The whole graph on the smoke profile."""
    root = tmp_path_factory.mktemp("smoke")
    done = graph(root, PROFILE="smoke")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (root / "said.txt").write_text(done.stdout + done.stderr)
    return root


@pytest.fixture(scope="module")
def folder(smoke) -> Path:
    return smoke / "runs" / "smoke" / "compact"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert found.cells[0].cell_type == "markdown"
    text = "\n".join(cell.source for cell in found.cells if cell.cell_type == "markdown")
    numbers = re.findall(r"^## (\S+)", text, re.M)
    assert numbers == [f"{int(path.name[:2])}.{n}" for n in range(1, len(numbers) + 1)] != []
    assert "def " not in "".join(c.source for c in code if "show(" not in c.source), (
        "logic belongs in modules"
    )
    assert not any(re.search(r"""["'](/\w|[A-Z]:)""", cell.source) for cell in code), "an absolute path"


def test_a_kernel_that_is_killed_is_one_sentence(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "killed.ipynb")
    done = call(tmp_path, RUNNER, tmp_path / "killed.ipynb", tmp_path / "out.ipynb")
    assert done.returncode == 1 and not (tmp_path / "out.ipynb").exists()
    assert done.stderr.splitlines()[-1].startswith("error in killed: its kernel was killed")
    assert "Traceback" not in done.stderr


def test_the_graph_makes_everything(smoke, folder):
    for name in ("tasks", "margins", "similarity", "curves", "readouts", "windows"):
        assert (smoke / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (smoke / "figures" / f"{name}.png").stat().st_size > 5000
    for name in TABLE_FILES:
        assert (smoke / "paper" / name).read_text().strip()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == json.loads((folder.parent / "summary.json").read_text())
    assert summary["seeds"] == [0, 1] and len(summary["models"]) == 23
    for model in summary["models"].values():
        for task in model["zste"].values():
            low, high = task["ci95"]
            assert 0 <= low <= task["accuracy"] <= high <= 100 and task["n"] and task["chance"] > 0
    rows = pd.read_parquet(folder / "results.parquet")
    chosen = rows[(rows["model"] == "t-clap") & (rows["task"] == "3")]
    task = summary["models"]["t-clap"]["zste"]["3"]
    assert task["accuracy"] == pytest.approx(100 * chosen["correct"].mean())
    assert task["n"] == chosen["item"].nunique()
    done = graph(smoke, PROFILE="smoke")
    assert done.returncode == 0 and "Every step is up to date." in done.stderr


def test_the_terminal_gets_a_line_a_step_and_the_logs_plain_text(smoke, folder):
    said = (smoke / "said.txt").read_text()
    assert len(said.splitlines()) < 50 and len(said) < 5000 and "\n\n" not in said
    assert re.search(r"^base model, seed 1 +(\d+ min )?\d+ s +\d+ of 29$", said, re.M)
    logs = {path.stem: path.read_text() for path in (folder / "logs").iterdir()}
    assert len(logs) == 29 and "20 sounds" not in said
    for name, text in logs.items():
        assert "base64" not in text and "<div" not in text and "\n\n\n" not in text, name
    assert "7 sounds: church bells" in logs["data_construction"]


@pytest.mark.parametrize(
    ("stem", "players"),
    [
        ("01_data_construction", 1 + 7 + 3 + 3 + 3),  # by hand, classes, one's clips, views, policies
        ("02_base_model-seed0", 1),
        ("03_post_pretraining-seed1-variants", 0),
        ("04_evaluation-seed1", 1),
        ("05_order_from_text-seed1", 3),
        ("06_figures_and_tables", 0),
        ("07_your_recordings", 3 + 3),
    ],
)
def test_the_kept_pages_can_be_heard_without_a_kernel(folder, stem, players):
    """What is a widget in JupyterLab stands there as players and pictures."""
    assert (folder / "notebooks" / f"{stem}.ipynb").is_file()
    page = (folder / "notebooks" / f"{stem}.html").read_text()
    assert f"<title>{stem}</title>" in page
    assert (
        len(re.findall(r"<audio ", page)) >= players <= len(re.findall('src="data:audio/wav;base64,', page))
    )
    kinds = re.findall(r'data-mime-type="([^"]+)"', page) + re.findall(r'<script type="([^"]+)"', page)
    assert not any(word in kind for kind in kinds for word in ("widget", "stderr", "error")), set(kinds)
    pictures = re.findall(r'<img[^>]* src="([^"]{20})', page)
    assert pictures and all(source.startswith("data:image/png;base") for source in pictures)


def test_an_item_asked_again_has_the_answer_of_its_row(smoke, monkeypatch):
    """The browser's similarities, from one sound, agree with what the evaluation kept, of all at once."""
    monkeypatch.setenv("TCLAP_ROOT", str(smoke))
    made = Experiment("smoke", "compact")
    read = ItemReader(made, 1)
    results = pd.concat([made.table(f"seed1/{kind}results.parquet") for kind in ("", "slots-")])
    for task, model in (("1", "clap"), ("overlap", "t-clap"), ("3", "clap-ordered"), ("5", "t-clap"),
                        ("4", "t-clap"), ("2way_after", "clap-slots")):  # fmt: skip
        row = results[(results["model"] == model) & (results["task"] == task)].iloc[3]
        asked = read(task, row["item"], [model])
        scores = asked.cosines[model]
        chosen = sorted(np.argsort(-scores, kind="stable")[: len(asked.right)])
        assert " | ".join(asked.candidates[n] for n in asked.right) == row["answer"]
        assert " | ".join(asked.candidates[n] for n in chosen) == row["prediction"]
        if len(asked.right) == 1:
            others = np.delete(scores, asked.right).max()
            assert scores[asked.right[0]] - others == pytest.approx(row["margin"], abs=1e-5)
    pair = made.table("data/pairs-test.parquet").iloc[3]
    order = [pair["label_i"], pair["label_j"]][:: 1 if pair["order"] == "forward" else -1]
    sound = read("2way_before", pair["pair_id"], ["clap"]).sound
    assert list(sound.events) == order and sound.title == ", then ".join(order)
    ends = {"forward": pair["length_i"] / 16000, "reversed": pair["length_j"] / 16000}
    assert sound.ends == (ends[pair["order"]],) and len(sound.waveform) == 4 * sound.sample_rate
    assert sound.mel.shape[1] * sound.frame_seconds == pytest.approx(4.0, abs=0.05)


def test_a_seed_is_reproduced_and_another_is_not(folder, tmp_path):
    """The same seed gives the same item rows in another folder and process; the other seed does not."""
    seeds = [pd.read_parquet(folder / f"seed{seed}" / "results.parquet") for seed in (0, 1)]
    assert not seeds[0]["margin"].equals(seeds[1]["margin"])
    for number, parameters in (("01", ()), ("02", ("seed=1",)), ("03", ("seed=1",))):
        done = run(tmp_path, number, 'profile="smoke"', *parameters)
        assert done.returncode == 0, done.stderr
    done = plain_papermill(tmp_path, "04", "-p", "profile", "smoke", "-p", "seed", "1")
    assert done.returncode == 0, done.stderr
    executed = (tmp_path / "own" / "out.ipynb").read_text()
    assert "widget-view" in executed and "<audio" in executed, "widgets, and what stands there without them"
    again = pd.read_parquet(tmp_path / "runs" / "smoke" / "compact" / "seed1" / "results.parquet")
    pd.testing.assert_frame_equal(again, seeds[1], check_exact=True)


@pytest.mark.parametrize(
    ("number", "parameter", "expected"),
    [
        ("02", 'seed="three"', "seed is 'three'"),
        ("01", "pd=3", "unknown key 'pd'"),  # a name that the notebook itself uses, later
        ("03", "seed=7", "seed7/clap/weights.safetensors is missing: run notebook 02_base_model first"),
    ],
)
def test_bad_parameters_get_one_sentence(smoke, number, parameter, expected):
    done = run(smoke, number, 'profile="smoke"', parameter)
    assert done.returncode == 1
    assert expected in done.stderr and done.stderr.count("\n") == 1
    assert not (smoke / f"{number}.ipynb").exists(), "a failed notebook is not taken for a finished one"


def test_a_parameter_that_papermill_only_warns_of_is_refused_in_one_sentence(tmp_path):
    assert plain_papermill(tmp_path, "04", "-p", "sede", "3").returncode != 0
    executed = nbformat.read(tmp_path / "own" / "out.ipynb", as_version=4)
    (error,) = [o for c in executed.cells for o in c.get("outputs", []) if o.output_type == "error"]
    (sentence,) = error.traceback
    assert sentence.startswith(
        "ValueError: notebook 04_evaluation has the unknown key 'sede', expected among profile"
    )
