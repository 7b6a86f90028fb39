"""Work that is killed at drawn moments, started again, and compared with undisturbed work.

A trial is good when at least one kill hit, the last start ended well, its result is that of undisturbed work,
and neither files nor processes are left that undisturbed work does not leave.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.fault_trials.record import Outcome, workshop
from tclap import files

ASIDE = (".aside-", ".tmp")  # beginnings of names under which files are written


def result_of(folder: Path) -> Path:
    """Where a job's result is kept: not in its folder, which may be full or gone."""
    return workshop() / f"{folder.name}.result"


class Job:
    """A process that works in a folder: a function in a fork of this process, or a command.

    Args:
        work: ``work(folder)`` in a fork, whose result (plain values) is kept, or a command.
        folder: in which it works, and by which its children are found.
        said: the file for its result, or for what it prints; None: that of the folder.
    """

    def __init__(
        self,
        work: Callable[[Path], Any] | Sequence[str],
        folder: Path,
        said: Path | None = None,
    ) -> None:
        self.folder, self._said = folder, said or result_of(folder)
        self._said.unlink(missing_ok=True)
        self.environ = os.environ | {"TCLAP_ROOT": str(folder), "TCLAP_BATCH": "1", "OMP_NUM_THREADS": "1"}
        if callable(work):
            self.pid = os.fork()
            if self.pid == 0:
                self._work(work)
        else:
            with open(self._said, "w") as said:
                options = {"env": self.environ, "stdout": said, "stderr": said, "start_new_session": True}
                self.pid = subprocess.Popen(work, **options).pid

    def _work(self, work: Callable[[Path], Any]) -> None:
        code = 1
        try:
            os.setsid()
            os.environ.update(self.environ)
            self._said.write_text(json.dumps(work(self.folder)))
            code = 0
        except BaseException:
            self._said.write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def ended(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, seconds: float = 600) -> int:
        """The exit status; TimeoutError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while (status := self.ended()) is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"still running after {seconds:g} s")
            time.sleep(0.002)
        return status

    def wait_for(self, moment: Callable[[], bool]) -> int | None:
        """Return when ``moment()`` has come, with None, or when the process has ended, with its status."""
        while (status := self.ended()) is None and not moment():
            time.sleep(0.0005)
        return status

    def kill(self, pid: int, seconds: float) -> list[str]:
        """SIGKILL to a process; what :func:`gone` says of the others, that have to end by themselves."""
        os.kill(pid, signal.SIGKILL)
        if pid == self.pid:
            os.waitpid(pid, 0)
        else:
            try:
                status = self.wait(max(seconds, 60))
            except TimeoutError:
                status = None
            if not status:
                return [f"the first process, with status {status}"]
        return gone(self, seconds)

    def said(self) -> str:
        """The function's result as JSON or its traceback, or what the command printed."""
        return self._said.read_text() if self._said.exists() else ""

    def others(self) -> list[psutil.Process]:
        """The processes that work in this folder, whoever their parents are by now, but the first."""
        found = []
        for process in psutil.process_iter():
            try:
                same = os.getsid(process.pid) == self.pid
                same = same or process.environ().get("TCLAP_ROOT") == str(self.folder)
                if same and process.pid not in (self.pid, os.getpid()) and process.status() != "zombie":
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def after(seconds: float) -> Callable[[], bool]:
    """A moment by the clock."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def at_write(folder: Path, count: int, delay: float) -> Callable[[], bool]:
    """The moment ``delay`` seconds after the ``count``-th file has begun to be written under a folder."""
    seen: set[str] = set()

    def moment() -> bool:
        for found, folders, names in os.walk(folder):
            aside = os.path.basename(found).startswith(ASIDE)
            begun = [name for name in (*folders, *names) if aside or name.startswith(ASIDE)]
            seen.update(os.path.join(found, name) for name in begun)
        if len(seen) < count:
            return False
        time.sleep(delay)
        return True

    return moment


def alone(job: Job, rng: np.random.Generator) -> int | None:
    """The process that was started is the one to kill."""
    return job.pid


@dataclass(frozen=True)
class Case:
    """What is killed.

    Args:
        trials: of a thousand.
        work: a function of the folder, whose result is compared, or the command of a folder.
        start: fills a new folder; None: it is empty.
        result: of a folder, what is compared where the work is a command.
        victim: the process to kill; None where it is not there yet. What is not the first has to take the
            others with it.
        settles: seconds in which all processes have to be gone after a kill.
    """

    trials: int
    work: Callable[[Path], Any]
    start: Callable[[Path], None] | None = None
    result: Callable[[Path], Any] | None = None
    victim: Callable[[Job, np.random.Generator], int | None] = alone
    settles: float = 1.0

    def begin(self, folder: Path) -> Job:
        """Start the work."""
        return Job(self.work if self.result is None else self.work(folder), folder)

    def found(self, job: Job) -> Any:
        """The result of work that has ended."""
        return job.said() if self.result is None else self.result(job.folder)


def trial(name: str, case: Case, seed: int) -> Outcome:
    """Kill the work of a case one to three times in a row at moments drawn from ``seed``, then let it end."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    expected, names, seconds, writes = undisturbed(case)
    folder, hit, left = new_folder(case), [], []
    wanted, share = int(rng.integers(1, 4 if case.result is None else 3)), 1.0
    while len(hit) < wanted:
        job = case.begin(folder)
        aimed = writes and rng.random() < 0.5
        if aimed:
            count = int(rng.integers(1, max(2 * share * writes, 1) + 1))
            moment = at_write(folder, count, float(rng.choice([0.0, 0.0, 0.0005, 0.002])))
        else:
            moment = after(float(rng.uniform(0, share * seconds)))
        status, victim = job.wait_for(moment), None
        while status is None and (victim := case.victim(job, rng)) is None:
            status = job.wait_for(after(0.05))
        if status is None:
            left += job.kill(victim, case.settles)
            hit.append("write" if aimed else "time")
        elif hit:  # it was done before the next kill
            break
        else:
            discard(folder)
            folder, share = new_folder(case), share / 2
    job = case.begin(folder)
    status = job.wait()
    left += gone(job, case.settles) + sorted(set(swept(folder)) ^ set(names))
    what = f"fails: {job.said()}" if status else f"left: {left}" if left else ""
    if not what and case.found(job) != expected:
        what = "another result"
    discard(folder)
    if what:
        return Outcome(
            False, f"{'+'.join(hit)}: {' / '.join(what.strip().splitlines()[-2:])[:400]}", len(hit)
        )
    return Outcome(True, "the same bits", len(hit))


@cache
def undisturbed(case: Case) -> tuple[Any, list[str], float, int]:
    """The result of work that nobody kills, the files it leaves, its seconds and number of files written."""
    times, results = [], []
    for _ in range(2 if case.result is None else 1):  # commands take long
        folder = new_folder(case)
        before, started, job = files_in(folder), time.monotonic(), case.begin(folder)
        if job.wait():
            raise RuntimeError(f"the work fails without a kill: {job.said()}")
        times.append(time.monotonic() - started)
        names = files_in(folder)
        results.append(case.found(job))
        discard(folder)
    if results[0] != results[-1]:
        raise RuntimeError("the work gives another result each time")
    return results[0], names, min(times), len(set(names) - set(before))


def new_folder(case: Case) -> Path:
    """A new folder, with what the work starts from."""
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=workshop()))
    if case.start is not None:
        case.start(folder)
    return folder


def discard(folder: Path) -> None:
    """Remove a trial's folder, and what its last process said."""
    shutil.rmtree(folder)
    result_of(folder).unlink(missing_ok=True)


def files_in(folder: Path) -> list[str]:
    """Names of all files and empty folders under a folder but Snakemake's own, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir()))
    names = (str(path.relative_to(folder)) for path in paths)
    return sorted(name for name in names if not name.startswith(".snakemake"))


def swept(folder: Path) -> list[str]:
    """:func:`files_in`, once what was left aside is removed as by the next process that writes there."""
    for aside in folder.rglob(".aside-*"):
        files.remove_abandoned(aside.parent)
    return files_in(folder)


def contents_of(folder: Path) -> dict[str, str]:
    """Hashes of all files under a folder, by their names in it."""
    return {name: files.sha256_file(folder / name) for name in files_in(folder) if (folder / name).is_file()}


def gone(job: Job, seconds: float) -> list[str]:
    """Wait until no process of a job is there; the command lines of those that stay, which are killed."""
    deadline = time.monotonic() + seconds
    while others := job.others():
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    left = [" ".join(process.cmdline()[:4]) for process in others]
    for process in others:
        process.kill()
    return left
