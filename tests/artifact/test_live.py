"""Curves while training: what is drawn, when, and that a batch run draws nothing."""

import pandas as pd

from artifact.notebook import live
from artifact.notebook.live import figure_training, live_curves
from tclap.progress import progress


def train(steps: int) -> None:
    bar = progress(range(steps), "t-clap", quiet=True)
    for step in bar:
        bar.on_step({"step": step, "loss": 3.0 - step})


def test_a_training_is_drawn_in_one_place_but_not_in_a_batch_run(monkeypatch):
    shown = []
    for name in ("display", "update"):
        monkeypatch.setattr(live.DisplayHandle, name, lambda *_, name=name: shown.append(name))
    monkeypatch.setattr(live, "SECONDS", -1.0)
    monkeypatch.delenv("TCLAP_BATCH")
    with live_curves():
        train(2)
    assert shown == ["display", "update", "update"]
    train(2)  # after the block nobody listens
    with live_curves():
        pass
    monkeypatch.setenv("TCLAP_BATCH", "1")
    with live_curves():
        train(3)
    assert len(shown) == 3


def test_the_figures_lines_are_the_rows():
    nothing = float("nan")
    warm_up = pd.DataFrame({"what": "text warm-up", "step": range(3), "loss": [4.0, 3.0, 2.0]})
    two_way = {"validation_two_way": [nothing, nothing, 90.0]}
    ours = pd.DataFrame({"what": "t-clap", "step": range(3), "loss": 2.0} | two_way)
    loss, validation = figure_training(pd.concat([warm_up, ours])).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"text warm-up": [[1, 4], [2, 3], [3, 2]], "t-clap": [[1, 2], [2, 2], [3, 2]]}
    assert validation.lines[1].get_xydata().tolist() == [[3, 90]]
