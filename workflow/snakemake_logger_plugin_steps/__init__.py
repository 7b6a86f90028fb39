"""What a run prints: a line a finished step, a bar of the whole, warnings, and why a step failed.

A logger plugin of Snakemake (``--logger steps``, with this folder on ``PYTHONPATH``). What a step itself
prints is in its log file.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

# Seconds that a job of a rule takes in the default profile, which weight what is left to do; others take 4.
SECONDS = {
    "data_construction": 50, "base_model": 70, "other_base_models": 150, "post_pretraining": 90,
    "evaluation": 55, "order_from_text": 105, "slot_ablation": 105, "hold_out": 60,
    "summary": 15, "figures_and_tables": 25, "your_recordings": 30,
}  # fmt: skip
GROUPS = ("all", "paper_inputs")  # rules that only name others


class LogHandler(LogHandlerBase):
    """Writes to standard error; the bar only where that is a terminal."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._jobs: dict[int, tuple[str, list[str], float]] = {}  # name, logs, start
        self._bar: tqdm | None = None
        self._weight, self._finished, self._total = {}, 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record means to somebody who waits."""
        event, said = getattr(record, "event", None), record.__dict__
        if event == LogEvent.RUN_INFO:
            self._start({rule: n for rule, n in said["stats"].items() if rule != "total"})
        elif event == LogEvent.JOB_INFO:
            name = ", ".join([said["rule_name"].replace("_", " "), *map(_named, *_items(said["wildcards"]))])
            self._jobs[said["jobid"]] = (name, list(said["log"] or ()), time.monotonic())
            self._weight[said["jobid"]] = _seconds(said["rule_name"])
        elif event == LogEvent.JOB_FINISHED:
            self._finish(said["job_id"])
        elif event == LogEvent.JOB_ERROR:
            self._fail(said["jobid"])
        elif event == LogEvent.ERROR or (event is None and record.levelno >= logging.WARNING):
            self._print(record.getMessage() or said.get("exception", ""))
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self._print("Every step is up to date.")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
        super().close()

    def _start(self, counts: dict[str, int]) -> None:
        steps = {rule: count for rule, count in counts.items() if rule not in GROUPS}
        self._total = sum(steps.values())
        if self._total and self._bar is None:
            seconds = sum(count * _seconds(rule) for rule, count in steps.items())
            shape = "{percentage:3.0f} %|{bar}| {postfix}"
            self._bar = tqdm(total=seconds, bar_format=shape, file=sys.stderr, leave=False, disable=None)
            self._print(f"steps to run: {self._total}; what they print is in the run's folder logs/")

    def _finish(self, job: int) -> None:
        name, logs, began = self._jobs.pop(job, (None, [], 0.0))
        if name is None or name in GROUPS or self._bar is None:
            return
        self._finished += 1
        for log in logs:
            for line in _lines(log):
                if line.startswith("WARNING: "):
                    self._print(f"{name}: {line.removeprefix('WARNING: ')}")
        self._print(f"{name:<48} {_time(time.monotonic() - began):>8}   {self._finished} of {self._total}")
        self._bar.update(self._weight[job])

    def _fail(self, job: int) -> None:
        name, logs, _ = self._jobs.pop(job, ("a step", [], 0.0))
        lines = [line for log in logs for line in _lines(log) if line.strip()]
        why = [line for line in lines if line.lower().startswith("error")] or lines or ["it printed nothing"]
        self._print(f"{name} failed: {why[-1].removeprefix('error: ')}")
        self._print("\n".join(f"log: {log}" for log in logs))

    def _print(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def _items(wildcards: object) -> tuple[list[str], list[str]]:
    found = dict(wildcards.items()) if wildcards else {}
    return list(found), [str(value) for value in found.values()]


def _named(key: str, value: str) -> str:
    return f"seed {value}" if key == "seed" else value


def _seconds(rule: str) -> int:
    return SECONDS.get(rule, 4)


def _lines(log: str) -> list[str]:
    path = Path(log)
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
