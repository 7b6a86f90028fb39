"""The files of all figures: fonts, sizes, bytes, and the rows beside them."""

import os
import re
import subprocess
import sys

import made_up
import pandas as pd
import pytest
from PIL import Image

from artifact import paths
from figures import registry as figures
from figures import style
from figures.__main__ import main
from figures.scores import MEASURES

MEASURED = {*MEASURES, "share", "similarity", "cosine", "mean", "min", "max"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a made-up run, ``run``, and all figures of it."""
    folder = tmp_path_factory.mktemp("written")
    made_up.write(folder / "run")
    assert main([*figures.FIGURES, "--run", str(folder / "run"), "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", figures.FIGURES)
def test_fonts_are_embedded_widths_the_papers_and_dates_absent(written, name):
    pdf = (written / f"{name}.pdf").read_bytes()
    assert not re.search(rb"/Type3\b|/(Creation|Mod)Date", pdf)
    descriptors = re.findall(rb"<<[^<>]*/FontDescriptor\b[^<>]*/FontName[^<>]*>>", pdf)
    names = set(re.findall(rb"/BaseFont /([\w+-]+)", pdf))
    assert names and all(re.match(rb"[A-Z]{6}\+STIX", font) for font in names), names
    assert len(descriptors) >= len(names) and all(b"/FontFile2" in d for d in descriptors)
    (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", pdf)
    assert round(float(width) / 72, 6) in (style.COLUMN, style.TEXT)
    with Image.open(written / f"{name}.png") as picture:
        assert picture.width == round(200 * float(width) / 72) and not picture.text


def test_the_same_run_gives_the_same_bytes_in_another_process(written, tmp_path):
    names = ["loss_matrix", "readouts", "composite"]
    command = [sys.executable, "-m", "figures", *names, "--run", str(written / "run"), "--out", str(tmp_path)]
    # Another hash seed would reorder sets, and with them the fonts and glyphs of a PDF.
    environment = os.environ | {"PYTHONHASHSEED": "2", "PYTHONPATH": str(paths.CHECKOUT)}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert said.split() == [
        str(path) for path in sorted(tmp_path.iterdir(), key=lambda p: said.index(str(p)))
    ]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_figures_and_paper_import_neither_torch_nor_pyplot():
    heavy = "{'torch', 'transformers', 'matplotlib.pyplot', 'tclap'}"
    code = f"import sys, figures.__main__, paper.__main__; assert not {heavy} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(paths.CHECKOUT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("name", figures.RESULTS)
def test_every_figure_of_a_run_has_tidy_rows(written, name):
    rows = pd.read_csv(written / f"{name}.csv")
    assert len(rows) and all(re.fullmatch(r"[a-z][a-z_]*", column) for column in rows)
    keys = [column for column in rows if column not in MEASURED]
    assert not rows.duplicated(keys).any(), "a row is known by its keys"


def test_rows_are_what_the_summary_holds(written):
    def of(name, *keys):
        return pd.read_csv(written / f"{name}.csv").set_index([*keys])

    assert list(of("tasks", "model", "task").loc[("t-clap", "3")])[:5] == [92.2, 90.7, 93.7, 33.3, 500]
    assert of("windows", "model", "policy", "task").loc[("t-clap", "msclap", "3"), "accuracy"] == 59.4
    assert of("readouts", "readout", "task").loc[("segments", "2way_after"), "accuracy"] == 95.0
    assert of("wordings", "wording")["seen"].sum() == 4 * 4

    cosines = of("composite", "view", "caption", "model")["cosine"]
    assert cosines["reversed", "this is a sound of rain before dog bark", "t-clap"] == 0.75


def test_unknown_and_broken_inputs_are_told_in_one_sentence(tmp_path, run, capsys):
    def said(*arguments) -> str:
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "no figure 'pie'" in said("pie")
    files = {"tasks": "summary.json", "margins": "results.parquet", "composite": "example.npz"}
    for name, missing in files.items():
        assert f"{tmp_path / 'no' / missing} does not exist" in said(name, "--run", str(tmp_path / "no"))
    main(["tasks", "--run", str(run), "--out", str(tmp_path / "out")])
    before = (tmp_path / "out" / "tasks.pdf").read_bytes()
    for text, word in (
        ("{", "summary.json is damaged"),
        ('{"profile": "x", "base": "y"}', "has no seeds, models"),
    ):
        (run / "summary.json").write_text(text)
        assert word in said("tasks", "--run", str(run))
    assert (tmp_path / "out" / "tasks.pdf").read_bytes() == before, "a failed figure leaves the old one"
