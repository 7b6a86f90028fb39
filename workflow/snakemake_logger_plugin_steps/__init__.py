"""What a run prints: a line a finished step, a bar of the whole, warnings, and why a step failed.

A logger plugin of Snakemake (``--logger steps``, with this folder on ``PYTHONPATH``). What a step itself
prints is in its log file.
"""

import logging
import re
import sys
import time
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

GROUPS = ("all", "paper_inputs")  # rules that only name others


class LogHandler(LogHandlerBase):
    """Writes to standard error; the bar only where that is a terminal."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._jobs: dict[int, tuple[str, list[str]]] = {}  # name and logs
        self._began: dict[int, float] = {}
        self._bar: tqdm | None = None
        self._total = self._finished = 0  # a disabled bar does not count

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record means to somebody who waits."""
        event, said = getattr(record, "event", None), record.__dict__
        if event == LogEvent.RUN_INFO and self._bar is None:
            self._total = sum(n for rule, n in said["stats"].items() if rule not in ("total", *GROUPS))
            shape = "{percentage:3.0f} %|{bar}| {elapsed}"
            look = {"bar_format": shape, "file": sys.stderr, "leave": False, "disable": None}
            self._bar = tqdm(total=self._total, **look)
            if self._total:
                self._print(f"steps to run: {self._total}; what they print is in the run's folder logs/")
        elif event == LogEvent.JOB_INFO and said["rule_name"] not in GROUPS:
            wildcards = dict((said["wildcards"] or {}).items())
            named = [f"seed {value}" if key == "seed" else str(value) for key, value in wildcards.items()]
            name = ", ".join([said["rule_name"].replace("_", " "), *named])
            self._jobs[said["jobid"]] = (name, list(said["log"] or ()))
        elif event == LogEvent.JOB_STARTED:
            self._began |= dict.fromkeys(said["jobs"], time.monotonic())
        elif event == LogEvent.JOB_FINISHED and said["job_id"] in self._jobs:
            self._finish(*self._jobs[said["job_id"]], self._began[said["job_id"]])
        elif event == LogEvent.JOB_ERROR:
            name, logs = self._jobs.get(said["jobid"], ("a step", []))
            self._print(f"{name} failed: {_reason(logs, said['rule_msg'] or '')}")
            self._print("\n".join(f"log: {log}" for log in said["log"] or ()))
        elif event == LogEvent.ERROR or (event is None and record.levelno >= logging.WARNING):
            self._print(record.getMessage() or said.get("exception", ""))
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self._print("Every step is up to date.")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
        super().close()

    def _finish(self, name: str, logs: list[str], began: float) -> None:
        for line in _lines(logs):
            if line.startswith("WARNING: "):
                self._print(f"{name}: {line.removeprefix('WARNING: ')}")
        self._bar.update()
        self._finished += 1
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        took = f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
        self._print(f"{name:<48} {took:>8}   {self._finished} of {self._total}")

    def _print(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def _reason(logs: list[str], said: str) -> str:
    """Why a job failed: a limit or an operator of the cluster ended it, or what its log says."""
    status = re.search("SLURM status is: '(?!FAILED)(.*?)'", said)
    if status is not None:
        return f"Slurm ended it ({status[1]})"
    lines = [line for line in _lines(logs) if line.strip()]
    why = [line for line in lines if line.lower().startswith("error")] or lines
    return (
        why[-1].removeprefix("error: ") if why else "it printed nothing (was it killed for want of memory?)"
    )


def _lines(logs: list[str]) -> list[str]:
    paths = [Path(log) for log in logs if Path(log).is_file()]
    return [line for path in paths for line in path.read_text("utf-8", "replace").splitlines()]
