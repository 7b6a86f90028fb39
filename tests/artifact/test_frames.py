"""Tables for notebooks: the numbers are the summary's."""

from __future__ import annotations

import copy
import json
import re

import pytest

from artifact import paths
from artifact.notebook import frames
from tclap.training.variants import VARIANTS


def test_comparisons(summary):
    summary["comparisons"] = [
        {"models": ["clap", "t-clap"], "task": "3", "difference": -1.25, "ci95": [-3.0, 0.5],
         "p": 0.0421, "holm_p": 0.25, "equivalent": False},
        {"models": ["clap", "clap-slots"], "task": "3", "difference": 9.0, "ci95": [8.0, 10.0],
         "p": 0.0, "holm_p": 0.0, "equivalent": True},
    ]  # fmt: skip
    table = frames.comparisons(summary, "clap", "t-clap")
    assert table.loc["3 (3-way before)"].tolist() == ["−1.3", "[−3.0, +0.5]", "0.042", "0.25", "not shown"]
    assert len(table) == 1 and frames.comparisons(summary, "clap", "t-clap-distinct").empty


def test_variants_say_what_they_change():
    table = frames.variants(list(VARIANTS) + ["readout-mean"])["differs from t-clap in"]
    assert table["t-clap-no-replay"] == "replay = 0.0"
    assert table["t-clap-alpha-same-0"] == "alpha_same = 0.0, distinct = True"
    assert table["readout-mean"] == "readout = mean"
    assert table["clap-continued"] == "loss = clip"
    assert "nothing" in table["t-clap"]
    with pytest.raises(ValueError, match="unknown variant 't-clop'"):
        frames.variants(["t-clop"])


def test_where_two_runs_differ_most(summary, tmp_path):
    other = copy.deepcopy(summary)
    other["models"]["clap"]["zste"]["1"]["accuracy"] += 2.5
    other["models"]["t-clap"]["zste"]["3"]["accuracy"] -= 4
    path = tmp_path / "reference.json"
    assert frames.farthest(summary, path).empty
    path.write_text(json.dumps(other))
    table = frames.farthest(summary, path, 2)
    assert table.index.tolist() == ["models/t-clap/zste/3", "models/clap/zste/1"]
    assert table["difference"].tolist() == [4.0, -2.5]


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        ({"commit": "abc", "dirty": False}, "abc"),
        ({"commit": "abc", "dirty": True}, "abc, with changes"),
        (None, "outside of a checkout"),
    ],
)
def test_what_a_run_was_made_with(git, expected):
    facts = {"git": git, "python": "3.11.7", "platform": "Linux", "packages": {"torch": "2.13.0", "x": None}}
    table = frames.made_with({"provenance": facts})["made with"]
    assert table.to_dict() == {
        "commit": expected, "python": "3.11.7", "platform": "Linux", "torch": "2.13.0",
    }  # fmt: skip


def test_the_map_of_the_paper_is_complete_and_stands_in_the_documentation():
    table = frames.paper_map()
    assert table["sections"].str.contains(r"6\.\d").all(), "notebook 6 shows everything"
    assert table.loc["figure margins"].tolist() == [
        "4.5, 6.3",
        "figures.similarities:margins",
        "results.parquet",
    ]
    assert table.loc["table 3"].tolist() == ["6.7", "paper.tables:table_3", "summary.json"]
    sections = "".join(path.read_text() for path in (paths.CHECKOUT / "paper" / "sections").glob("*.tex"))
    names = re.findall(r"\\includegraphics\{(\w+)\}", sections), re.findall(r"tables/table_(\w+)\}", sections)
    expected = {
        f"{kind} {name}" for kind, found in zip(("figure", "table"), names, strict=True) for name in found
    }
    # The similarity matrix is for the notebooks alone.
    assert set(table.index) == expected | {"figure similarity", "numbers of the text"}
    lines = [
        f"| {title} | {row.sections} | `{row.function}` | {row.data} |" for title, row in table.iterrows()
    ]
    assert "\n".join(lines) in (paths.CHECKOUT / "docs" / "experiment.md").read_text()


def test_a_table_as_latex_is_text_in_a_page(summary):
    shown = frames.latex("2", summary)
    assert repr(shown) == "table 2 as LaTeX" and "<pre>\\begin{tabular}" in shown.data
    assert "&amp; " in shown.data
