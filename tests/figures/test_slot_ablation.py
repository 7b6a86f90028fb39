from __future__ import annotations

import re

import pandas as pd

from artifact import slot_ablation as measured
from artifact.training import BASE_VARIANTS
from figures import slot_ablation
from tclap.training.variants import BASE


def test_names_are_those_of_what_is_measured():
    assert set(slot_ablation.COLUMNS) | set(slot_ablation.PANELS) == set(measured.ABLATION_TASKS)
    assert slot_ablation.UNCHANGED == measured.UNCHANGED
    assert set(slot_ablation.BASES) == set(BASE_VARIANTS) - {BASE}
    documented = set(re.findall(r"``(\w+)`` {2,}", measured.__doc__))
    assert documented == set(slot_ablation.GROUPS) - {slot_ablation.UNCHANGED}


def test_every_change_is_a_row_of_the_frame_the_figure_and_the_table(summary):
    rows = slot_ablation.frame(summary)
    assert len(rows) == len(summary["slot_ablation"]) * len(slot_ablation.COLUMNS)
    one = rows[(rows["change"] == "clap-no-sequences") & (rows["task"] == "4")].iloc[0]
    assert (one["accuracy"], one["low"], one["high"], one["n"]) == (77.0, 75.5, 78.5, 400)

    figure = slot_ablation.figure_slot_ablation(summary)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "as it is" and "base model: heard no sequence" in labels
    for axes, task in zip(figure.axes, slot_ablation.PANELS, strict=True):
        shown = [(dot[0].get_ydata()[0], dot[0].get_xdata()[0]) for dot in axes.containers]
        expected = [(n, row["tasks"][task]["accuracy"]) for n, row in enumerate(summary["slot_ablation"])]
        assert shown == expected

    lines = slot_ablation.table_5(summary, pd.DataFrame()).splitlines()
    (line,) = [line for line in lines if line.startswith("base model: heard no sequence")]
    assert line.count("77.0") == len(slot_ablation.COLUMNS)
    assert any(line.startswith(r"parts: 20 \% alone & 92.0") for line in lines)


def test_a_run_without_it_says_so(summary):
    del summary["slot_ablation"]
    assert slot_ablation.frame(summary).empty
    figure = slot_ablation.figure_slot_ablation(summary)
    assert [text.get_text() for text in figure.texts] == [slot_ablation.NONE]
    assert "midrule" in slot_ablation.table_5(summary, pd.DataFrame())
