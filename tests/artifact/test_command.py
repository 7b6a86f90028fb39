import json
import os
import subprocess
import sys

import made_up
import pytest

from artifact import compare, paths
from artifact.__main__ import main
from paper.__main__ import main as paper


@pytest.fixture
def only_summary(root):
    """A run folder with nothing but its summary, which needs no parquet engine."""
    folder = root / "runs" / "synthetic" / "compact"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(made_up.summary()))
    return folder


def test_the_papers_inputs_are_written_where_they_belong(only_summary, root, capsys):
    assert paper(["--run", str(only_summary), "--out", str(root / "paper")]) == 0
    made = sorted(str(p.relative_to(root / "paper")) for p in (root / "paper").rglob("*.tex"))
    assert made == ["numbers.tex", *(f"tables/table_{n}.tex" for n in (1, 2, 3, 4, 5, "factorial", "real"))]
    assert "was not made" in (root / "paper" / "tables" / "table_real.tex").read_text()
    (root / "runs" / "esc50").mkdir()
    (root / "runs" / "esc50" / "summary.json").write_text(json.dumps(made_up.summary()))
    assert paper(["--run", str(only_summary), "--out", str(root / "paper")]) == 0
    capsys.readouterr()
    assert "ordered control" in (root / "paper" / "tables" / "table_real.tex").read_text()
    assert "\\realtrue" in (root / "paper" / "numbers.tex").read_text()
    assert paper(["--run", str(root / "nowhere")]) == 2
    assert "nowhere/summary.json does not exist" in capsys.readouterr().err


@pytest.fixture
def reference(root, monkeypatch):
    """The place of the reference numbers, where none are yet."""
    monkeypatch.setattr(compare, "reference_path", lambda profile, base: root / "reference.json")
    return root / "reference.json"


def test_report_shows_results_places_and_the_comparison(only_summary, reference, capsys):
    assert main(["report"]) == 0
    assert f"No reference to compare with: {reference} does not exist." in capsys.readouterr().out
    reference.write_text(json.dumps(made_up.summary()))
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    assert "clap-ordered" in out and str(only_summary) in out and "with the reference, 0 differ" in out


def test_verify_ends_as_diff_does(only_summary, reference, capsys):
    assert main(["verify"]) == 2
    assert f"{reference} does not exist" in capsys.readouterr().err
    content = made_up.summary()
    reference.write_text(json.dumps(content))
    assert main(["verify"]) == 0
    content["models"]["clap"]["zste"]["5"]["accuracy"] += 5
    reference.write_text(json.dumps(content))
    assert main(["verify"]) == 1 and "models/clap/zste/5: reference 8.00" in capsys.readouterr().out
    (only_summary / "summary.json").unlink()
    assert main(["verify"]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {only_summary}/summary.json does not exist; `make reproduce` makes it.\n"


def test_reports_need_neither_torch_nor_pyplot():
    heavy = "{'torch', 'transformers', 'matplotlib.pyplot', 'scipy'}"
    code = f"import sys, artifact.__main__; assert not {heavy} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(paths.CHECKOUT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
