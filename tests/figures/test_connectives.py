from __future__ import annotations

import pandas as pd
import pytest
from test_figures import intervals

from artifact import paths
from artifact.connectives import CONNECTIVES, shares
from figures import connectives as reporting


@pytest.fixture
def found():
    words = ["hail before rain", "hail", "rain while hail", "rain, then hail", "x as y", "x"]
    tables = [
        pd.DataFrame({"data_set": name, "clip_id": list("abcdef"), "caption": words[n:] + words[:n]})
        for n, name in enumerate(("audiocaps", "clotho"))
    ]
    return shares(pd.concat(tables, ignore_index=True))


def test_the_figure_has_a_point_a_connective_and_data_set(found):
    panels = reporting.figure_connectives(found).axes
    for axes, group in zip(panels, ("sequence", "simultaneity"), strict=True):
        names = [name for name, (of, _) in CONNECTIVES.items() if of == group]
        assert [t.get_text() for t in axes.get_yticklabels()] == names
        drawn = sorted((round(y), round(x, 6)) for x, y, *_ in intervals(axes, "x"))
        rows = found[found["connective"].isin(names)]
        shown = zip(rows["connective"], rows["share"], strict=True)
        expected = [(names.index(name), round(share, 6)) for name, share in shown]
        assert drawn == sorted(expected)


def test_the_table_has_both_data_sets(found):
    lines = reporting.table_connectives(found).splitlines()
    assert lines[2] == r"connective & AudioCaps ($n$ = 6) & Clotho ($n$ = 6) \\"
    (before,) = [line for line in lines if line.startswith("before &")]
    assert before.count("16.67") == 2
    (none,) = [line for line in lines if line.startswith(r"\textbf{neither}")]
    assert none.count("33.33") == 2


def test_the_command_writes_what_is_there(project_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUDIOCAPS_ROOT", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CLOTHO_ROOT", str(tmp_path / "clotho"))
    assert reporting.main() == 1
    assert capsys.readouterr().err.startswith("Neither data set is there: ")
    (tmp_path / "clotho").mkdir()
    captions = ["hail then rain", "hail", "rain", "hail and rain", "rain while hail"]
    rows = [[f"{n}.wav", *captions] for n in range(4)]
    columns = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    csv = tmp_path / "clotho" / "clotho_captions_development.csv"
    pd.DataFrame(rows, columns=columns).to_csv(csv, index=False)
    assert reporting.main() == 0
    out = capsys.readouterr().out
    assert "any order word" in out and "20.0" in out
    for name in ("connectives.pdf", "connectives.png", "connectives.csv"):
        assert (paths.figures() / name).stat().st_size
    assert "Clotho" in (paths.paper() / "tables" / "table_connectives.tex").read_text()
    csv.write_text("file_name\n")
    assert reporting.main() == 1 and "lacks the column(s)" in capsys.readouterr().err
