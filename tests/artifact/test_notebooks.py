"""The notebooks: committed clean, and run by papermill and as a graph on the smoke profile."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbconvert import HTMLExporter
from notebook_runs import NOTEBOOKS, RUNNER, TABLE_FILES, call, graph, notebook, run

from artifact import paths
from artifact.experiment import Experiment
from artifact.notebook.browser import ItemBrowser
from figures import registry as figures
from paper import numbers, tables

AGAIN = """
from artifact.evaluation import evaluate_seed
from artifact.notebook.setup import set_up
from artifact.preparation import prepare
from artifact.training import train_base_models, train_variants
set_up()
run = prepare("smoke", "compact")
run.config = run.config.model_copy(update={"readouts": []})
train_base_models(run, 0)
train_variants(run, 0, ["t-clap-distinct", "t-clap"])
evaluate_seed(run, 0, ["t-clap", "t-clap-distinct"])
"""


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


def sections() -> dict[str, str]:
    """The code of the notebooks' sections, by number."""
    code: dict[str, str] = {}
    for path in NOTEBOOKS:
        number = path.name[:2]
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                code[number] = code.get(number, "") + cell.source + "\n"
            else:
                number = [number, *re.findall(r"^## (\d\.\d+) ", cell.source, re.M)][-1]
    return code


def test_the_documentation_says_where_everything_of_the_paper_is_shown_and_made():
    code, made = sections(), {}
    functions = {name: (function, "none") for name, function in figures.CONCEPTS.items()} | figures.RESULTS
    for name, (function, reader) in functions.items():
        files = {"none": "none", "summary": "summary.json", "example": "example.npz, example.json"}
        data = files.get(reader, f"{reader}.parquet")
        made[f"figure {name}"] = (rf'figures\.(draw|build)\("{name}"', function, data)
    for name, function in tables.TABLES.items():
        made[f"table {name}"] = (rf'tables\.build\("{name}"', function, "summary.json")
    made["numbers of the text"] = (r"numbers\.lookup\(", numbers.numbers_tex, "summary.json")
    documented = (paths.CHECKOUT / "docs" / "experiment.md").read_text()
    for title, (code_of, function, data) in made.items():
        shown = ", ".join(number for number, cells in code.items() if re.search(code_of, cells))
        place = f"`{function.__module__}:{function.__name__}`"
        assert f"| {title} | {shown} | {place} | {data} |" in documented
        assert re.search(r"6\.\d", shown), "notebook 6 shows everything"
    texts = "".join(path.read_text() for path in (paths.CHECKOUT / "paper" / "sections").glob("*.tex"))
    included = {f"figure {name}" for name in re.findall(r"\\includegraphics\{(\w+)\}", texts)}
    included |= {f"table {name}" for name in re.findall(r"tables/table_(\w+)\}", texts)}
    # The similarity matrix is for the notebooks alone.
    assert set(made) == included | {"figure similarity", "numbers of the text"}


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
    assert summary["seeds"] == [0] and len(summary["models"]) == 11
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
    assert re.search(r"^base model, seed 0 +(\d+ min )?\d+ s +\d+ of 23$", said, re.M)
    logs = {path.stem: path.read_text() for path in (folder / "logs").iterdir()}
    assert len(logs) == 23
    for name, text in logs.items():
        assert "base64" not in text and "<div" not in text, name
    assert "7 classes" in logs["data_construction"] and "7 classes" not in said


@pytest.mark.parametrize(
    ("stem", "players"),
    [
        ("01_data_construction", 1 + 7 + 3 + 3 + 3),  # by hand, classes, one's clips, views, policies
        ("02_base_model-seed0", 1),
        ("03_post_pretraining-seed0", 0),
        ("04_evaluation-seed0", 1),
        ("05_order_from_text-seed0", 3),
        ("06_figures_and_tables", 0),
        ("07_your_recordings", 3 + 3),
    ],
)
def test_executed_notebooks_can_be_heard_without_a_kernel(folder, stem, players):
    """What is a widget in JupyterLab stands there as players and pictures."""
    page, _ = HTMLExporter(embed_images=True).from_filename(folder / "notebooks" / f"{stem}.ipynb")
    assert page.count("<audio ") >= players <= page.count('src="data:audio/wav;base64,')
    kinds = re.findall(r'data-mime-type="([^"]+)"', page) + re.findall(r'<script type="([^"]+)"', page)
    assert not any(word in kind for kind in kinds for word in ("widget", "stderr", "error")), set(kinds)
    pictures = re.findall(r'<img[^>]* src="([^"]{20})', page)
    assert pictures and all(source.startswith("data:image/png;base") for source in pictures)


def test_an_items_sound_is_the_one_that_was_evaluated(smoke, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(smoke))
    made = Experiment("smoke", "compact")
    browser = ItemBrowser(made, made.table("seed0/results.parquet"), "t-clap")
    items = made.table("data/items.parquet").set_index(["task", "item"])
    item, clip = next(items.xs("1").iterrows())
    assert browser.sound("1", item).title == clip["candidates"][clip["answers"][0]].split("of ")[1]
    pair = made.table("data/pairs-test.parquet").iloc[3]
    order = (pair["label_i"], pair["label_j"])[:: 1 if pair["order"] == "forward" else -1]
    assert browser.sound("2way_before", pair["pair_id"]).events == order


def test_a_seed_is_reproduced(folder, tmp_path):
    """The same item rows in another folder, process and order of the models."""
    done = call(tmp_path, "-c", AGAIN)
    assert done.returncode == 0, done.stderr
    first, again = (
        pd.read_parquet(runs / "seed0" / "results.parquet").query("model in @names").reset_index(drop=True)
        for names in [["clap", "t-clap", "t-clap@msclap", "t-clap-distinct"]]
        for runs in (folder, tmp_path / "runs" / "smoke" / "compact")
    )
    assert len(again)
    pd.testing.assert_frame_equal(again, first, check_exact=True)


def test_by_papermill_alone_a_notebook_has_widgets_and_what_stands_there_without_them(smoke):
    done = plain_papermill(smoke, "04", "-p", "profile", "smoke", "-p", "seed", "0")
    assert done.returncode == 0, done.stderr
    executed = (smoke / "own" / "out.ipynb").read_text()
    assert "widget-view" in executed and "<audio" in executed


def test_a_notebook_that_fails_does_so_in_one_sentence(smoke):
    done = run(smoke, "03", 'profile="smoke"', "seed=7")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "seed7/clap/weights.safetensors is missing: run notebook 02_base_model first" in done.stderr
    assert not (smoke / "03.ipynb").exists(), "it is not taken for a finished one"


def test_a_parameter_that_papermill_only_warns_of_is_refused_in_one_sentence(tmp_path):
    assert plain_papermill(tmp_path, "04", "-p", "sede", "3").returncode != 0
    executed = nbformat.read(tmp_path / "own" / "out.ipynb", as_version=4)
    (error,) = [o for c in executed.cells for o in c.get("outputs", []) if o.output_type == "error"]
    (sentence,) = error.traceback
    assert sentence.startswith(
        "ValueError: notebook 04_evaluation has the unknown key 'sede', expected among profile"
    )
