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


def test_drawing_takes_its_part_of_the_time_and_ends_with_all(shown, monkeypatch):
    time, drawn = [0.0], []

    def draw(rows):
        time[0] += 1.0  # second
        drawn.append((len(rows), time[0]))
        return figure_training(rows)

    monkeypatch.setattr(live, "figure_training", draw)
    with live_curves(part=0.25, clock=lambda: time[0]):
        bar = progress(range(10), "t-clap", quiet=True)
        for step in bar:
            time[0] += 1.5
            bar.on_step({"step": step, "loss": 1.0})
    # A drawing of a second is followed by four without one; then by the first row after them.
    assert drawn == [(1, 2.5), (4, 8.0), (7, 13.5), (10, 19.0), (10, 20.0)]
    assert [how for how, _ in shown] == ["display", *["update"] * 4], "in one place"
    assert all(picture.startswith(b"\x89PNG") for _, picture in shown)


def test_nothing_is_drawn_in_a_batch_run_nor_where_nothing_is_trained(shown, monkeypatch):
    with live_curves():
        pass
    train(2)  # after the block nobody listens
    monkeypatch.setenv("TCLAP_BATCH", "1")
    with live_curves():
        train(3)
    assert not shown


def test_what_has_been_drawn_stays_when_the_training_fails(shown):
    with pytest.raises(FloatingPointError), live_curves():
        train(2)
        raise FloatingPointError
    assert len(shown) >= 2


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
