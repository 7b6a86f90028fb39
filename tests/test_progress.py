import logging

import matplotlib.style
import pandas
import pytest
import torch

from artifact.notebook.setup import set_up
from tclap.progress import log_reused, progress, step_listener


@pytest.fixture(autouse=True)
def batch(monkeypatch, caplog):
    monkeypatch.setenv("TCLAP_BATCH", "1")
    caplog.set_level(logging.INFO)


def lines(caplog) -> list[str]:
    return [record.getMessage().rsplit(",", 1)[0] for record in caplog.records]


@pytest.mark.parametrize(
    ("items", "options", "expected"),
    [
        (range(8), {}, ["work: 2 of 8", "work: 4 of 8", "work: 6 of 8", "work: done"]),
        (range(5), {}, ["work: 2 of 5", "work: 3 of 5", "work: 4 of 5", "work: done"]),
        ([], {}, ["work: done"]),
        ("abc", {"quiet": True}, []),
    ],
)
def test_a_batch_run_logs_quarters(caplog, capsys, items, options, expected):
    assert list(progress(items, "work", **options)) == list(items)
    assert lines(caplog) == expected and capsys.readouterr().err == ""


def test_an_interactive_run_has_a_bar(monkeypatch, caplog, capsys):
    monkeypatch.delenv("TCLAP_BATCH")
    assert list(progress([1, 2], "work")) == [1, 2] and list(progress([3], "short", quiet=True)) == [3]
    shown = capsys.readouterr().err
    assert "work" in shown and "2/2" in shown and "short" not in shown and caplog.records == []


def test_listeners_get_the_rows_of_their_block():
    seen, outer = [], []
    bar = progress(range(3), "work", quiet=True)
    with step_listener(lambda what, row: outer.append(row["step"])):
        for step in bar:
            with step_listener(lambda what, row: seen.append((what, dict(row)))):
                bar.on_step({"step": step})
            bar.on_step({"step": -1})
    bar.on_step({"step": 7})
    assert seen == [("work", {"step": 0}), ("work", {"step": 1}), ("work", {"step": 2})]
    assert outer == [0, -1, 1, -1, 2, -1]


def test_outside_of_a_batch_run_what_is_reused_is_said_once(monkeypatch, capsys):
    monkeypatch.delenv("TCLAP_BATCH")
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)
    monkeypatch.setattr(matplotlib.style, "use", lambda sheets: None)
    monkeypatch.setattr(pandas, "set_option", lambda name, value: None)
    logger = logging.getLogger("tclap.made")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    for _ in range(2):  # a notebook's first cell may be run again
        set_up()
    log_reused("t-clap, seed 0")
    logging.getLogger("tclap.training.loop").info("step 1")
    assert capsys.readouterr().out == "t-clap, seed 0: made already\n"
