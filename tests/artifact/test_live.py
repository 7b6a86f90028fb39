"""Curves while training: what is drawn, when, and that a batch run draws nothing."""

from __future__ import annotations

from types import SimpleNamespace

import IPython.display
import pandas as pd
import pytest

from artifact.notebook import live
from artifact.notebook.live import LiveCurves, figure_training
from tclap.progress import progress


@pytest.fixture
def shown(monkeypatch) -> list[bytes]:
    """What a notebook would show, in order; every picture is in the same place as the one before."""
    pictures: list[bytes] = []

    def display(picture, display_id):
        assert display_id and not pictures, "one place"
        pictures.append(picture.data)
        return SimpleNamespace(update=lambda picture: pictures.append(picture.data))

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.delenv("TCLAP_BATCH")
    return pictures


def train(steps: int) -> None:
    bar = progress(range(steps), "t-clap", quiet=True)
    for step in bar:
        bar.on_step({"step": step, "loss": 3.0 - step})


def test_drawing_takes_its_share_of_the_time_and_ends_with_all(shown, monkeypatch):
    time, drawn = [0.0], []

    def draw(rows):
        time[0] += 1.0  # second
        drawn.append((len(rows), time[0]))
        return figure_training(rows)

    monkeypatch.setattr(live, "figure_training", draw)
    curves = LiveCurves(share=0.25, clock=lambda: time[0])
    with curves:
        bar = progress(range(10), "t-clap", quiet=True)
        for step in bar:
            time[0] += 1.5
            bar.on_step({"step": step, "loss": 1.0})
    # A drawing of a second is followed by four without one; then by the first row after them.
    assert drawn == [(1, 2.5), (4, 8.0), (7, 13.5), (10, 19.0), (10, 20.0)]
    assert len(shown) == 5 and all(picture.startswith(b"\x89PNG") for picture in shown)


def test_a_batch_run_draws_nothing(shown, monkeypatch):
    monkeypatch.setenv("TCLAP_BATCH", "1")
    with LiveCurves() as curves:
        train(3)
    assert not shown
    assert [row["loss"] for row in curves.rows] == [3.0, 2.0, 1.0]


def test_where_nothing_is_trained_nothing_is_drawn(shown):
    with LiveCurves():
        pass
    train(2)  # after the block nobody watches
    assert not shown


def test_what_has_been_drawn_stays_when_the_training_fails(shown):
    with pytest.raises(FloatingPointError), LiveCurves():
        train(2)
        raise FloatingPointError
    assert len(shown) >= 2
    train(1)


def test_the_figures_lines_are_the_rows():
    steps, nothing = pd.Series(range(4)), float("nan")
    warm_up = pd.DataFrame({"what": "text warm-up", "step": steps, "loss": 4.0 - steps})
    ours = pd.DataFrame(
        {"what": "t-clap", "step": steps, "loss": 2.0, "validation_two_way": [nothing] * 3 + [90.0]}
    )
    figure = figure_training(pd.concat([warm_up, ours]))
    loss, validation = figure.axes
    lines = {line.get_label(): line for line in loss.lines}
    assert set(lines) == {"text warm-up", "T-CLAP"}
    assert lines["text warm-up"].get_ydata().tolist() == [4.0, 3.5, 3.0, 2.5]  # a mean of those so far
    assert lines["text warm-up"].get_xdata().tolist() == [1, 2, 3, 4]
    points = [line.get_xydata().tolist() for line in validation.lines if line.get_marker() == "o"]
    assert [[4.0, 90.0]] in points
