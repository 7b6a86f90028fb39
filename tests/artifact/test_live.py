"""Curves while training: what is drawn, when, and that a batch run draws nothing."""

from __future__ import annotations

import pandas as pd
import pytest

from artifact.notebook import live
from artifact.notebook.live import figure_training, live_curves
from tclap.progress import progress


@pytest.fixture
def shown(monkeypatch) -> list[tuple[str, bytes]]:
    """What a notebook would show, in order: the first picture, and others in its place."""
    pictures = []

    class Place:
        def display(self, picture):
            pictures.append(("display", picture.data))

        def update(self, picture):
            pictures.append(("update", picture.data))

    monkeypatch.setattr(live, "DisplayHandle", Place)
    monkeypatch.delenv("TCLAP_BATCH")
    return pictures


def train(steps: int) -> None:
    bar = progress(range(steps), "t-clap", quiet=True)
    for step in bar:
        bar.on_step({"step": step, "loss": 3.0 - step})


def test_nothing_is_drawn_in_a_batch_run_nor_where_nothing_is_trained(shown, monkeypatch):
    with live_curves():
        pass
    train(2)  # after the block nobody listens
    monkeypatch.setenv("TCLAP_BATCH", "1")
    with live_curves():
        train(3)
    assert not shown


def test_the_figures_lines_are_the_rows():
    steps, nothing = pd.Series(range(4)), float("nan")
    warm_up = pd.DataFrame({"what": "text warm-up", "step": steps, "loss": 4.0 - steps})
    two_way = {"validation_two_way": [nothing] * 3 + [90.0]}
    ours = pd.DataFrame({"what": "t-clap", "step": steps, "loss": 2.0} | two_way)
    loss, validation = figure_training(pd.concat([warm_up, ours])).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    # A mean of the losses so far.
    assert lines["text warm-up"] == [[1, 4.0], [2, 3.5], [3, 3.0], [4, 2.5]] and set(lines) == {
        "text warm-up",
        "T-CLAP",
    }
    points = [line.get_xydata().tolist() for line in validation.lines if line.get_marker() == "o"]
    assert [[4.0, 90.0]] in points
