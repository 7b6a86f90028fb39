from __future__ import annotations

import json
import os
import subprocess
import sys

import made_up
import pytest

from artifact import paths
from artifact.__main__ import main


@pytest.fixture
def only_summary(root):
    """A run folder with nothing but its summary, which needs no parquet engine."""
    folder = root / "runs" / "synthetic" / "compact"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(made_up.summary()))
    return folder


def test_writes_figures_tables_and_numbers_where_they_belong(only_summary, root, capsys):
    assert main(["figure", "prompts", "--profile", "synthetic", "--base", "compact"]) == 0
    assert main(["table", "1", "2", "3"]) == 0
    assert main(["numbers"]) == 0
    made = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert made == [
        "figures/prompts.csv", "figures/prompts.pdf", "figures/prompts.png", "paper/numbers.tex",
        "paper/tables/table_1.tex", "paper/tables/table_2.tex", "paper/tables/table_3.tex",
        "runs/synthetic/compact/summary.json",
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines()[0] == str(root / "figures" / "prompts.pdf")


def test_report_shows_results_places_and_the_comparison(only_summary, root, capsys):
    reference = root / "reference.json"
    assert main(["report", "--reference", str(reference)]) == 0
    assert f"No reference to compare with: {reference} does not exist." in capsys.readouterr().out
    reference.write_text(json.dumps(made_up.summary()))
    assert main(["report", "--reference", str(reference)]) == 0
    out = capsys.readouterr().out
    assert "t-clap-no-time" in out and str(only_summary) in out and "Identical to the reference" in out


def test_verify_ends_as_diff_does(only_summary, root, capsys):
    reference = root / "reference.json"
    command = ["verify", "--reference", str(reference)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error == f"{reference} does not exist: there are no reference numbers to verify this run by.\n"
    content = made_up.summary()
    reference.write_text(json.dumps(content))
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("Identical to the reference")
    content["models"]["clap"]["zste"]["5"]["accuracy"] += 5
    reference.write_text(json.dumps(content))
    assert main(command) == 1
    assert "  clap on 5: ours 3.00, reference 8.00, difference -5.00\n" in capsys.readouterr().out
    assert main([*command, "--tolerance", "5"]) == 0
    (only_summary / "summary.json").unlink()
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error == f"{only_summary}/summary.json does not exist; `make reproduce` makes it.\n"
    # Without a path it is the committed one.
    assert main(["verify", "--profile", "smoke"]) == 2
    assert "configs/reference/smoke-compact.json does not exist" in capsys.readouterr().err


def test_the_outputs_of_random_weights_say_so(only_summary, root, capsys):
    content = made_up.summary() | {"origin": {"random_weights": True}}
    (only_summary / "summary.json").write_text(json.dumps(content))
    assert main(["table", "1", "2", "3"]) == main(["numbers"]) == 0
    for name in ("numbers.tex", *(f"tables/table_{n}.tex" for n in "123")):
        assert "random weights: these numbers mean nothing" in (root / "paper" / name).read_text(), name
    capsys.readouterr()
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith("RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING\n")


@pytest.mark.parametrize("command", [["figure", "pie"], ["table", "7"]])
def test_unknown_names_end_with_2_and_one_sentence(command, only_summary, capsys):
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"There is no {command[0]} {command[1]!r}; there are ")
    assert error.count("\n") == 1


def test_a_missing_run_ends_with_1_and_one_sentence(root, capsys):
    assert main(["numbers", "--profile", "nowhere"]) == 1
    error = capsys.readouterr().err
    assert error == f"{root}/runs/nowhere/compact/summary.json does not exist; `make reproduce` makes it.\n"


def test_a_failed_figure_leaves_the_old_one(only_summary, root):
    main(["figure", "tasks"])
    before = (root / "figures" / "tasks.pdf").read_bytes()
    (only_summary / "summary.json").write_text("{}")
    assert main(["figure", "tasks"]) == 1
    assert (root / "figures" / "tasks.pdf").read_bytes() == before


def test_reporting_imports_neither_torch_nor_pyplot():
    code = (
        "import sys, artifact.__main__\n"
        "heavy = {'torch', 'transformers', 'matplotlib.pyplot', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(paths.CHECKOUT)}
    )
