"""Disks and folders: full, read-only, gone in the middle, used twice at once, of other times, cut short.

Good is: the result of undisturbed work, or one error whose sentence names a path in the folder; then, once
the disk is well again, the same work gives the result of undisturbed work and leaves no other files.
"""

import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.fault_trials import kills
from benchmarks.fault_trials.killing import (
    Case,
    Job,
    after,
    discard,
    files_in,
    gone,
    new_folder,
    swept,
    undisturbed,
)
from benchmarks.fault_trials.record import Outcome, workshop

TRIALS = 3  # of a fault and a case
CASES = {name: case for name, case in kills.CASES.items() if name != "a run's summary"}
ERRORS = ("OSError: ", "FileNotFoundError: ", "ValueError: ", "PermissionError: ")


class NoMount(OSError):
    """No disk can be mounted, or it takes no other options."""


@contextmanager
def disk(size: int) -> Iterator[Path]:
    """A small disk of its own; NoMount where this user may mount none."""
    place = workshop() / "disk"
    place.mkdir(exist_ok=True)
    mount(place, f"size={size}", "-t", "tmpfs", "tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(place: Path, options: str, *what: str) -> None:
    """Mount a disk, or change its options."""
    done = subprocess.run(["mount", *what, "-o", options, str(place)], capture_output=True, text=True)
    if done.returncode:
        raise NoMount(done.stderr.strip())


def refusal(job: Job, status: int) -> str | None:
    """Where a job ended with an error: the sentence, or None where it is none that names a path."""
    sentence = job.said().strip().splitlines()[-1]
    return sentence if status > 0 and sentence.startswith(ERRORS) and "/" in sentence else None


def settled(case: Case, folder: Path, first: str) -> Outcome:
    """The same work once more, with nothing in its way."""
    expected, names, _, _ = undisturbed(case)
    job = case.begin(folder)
    status, left = job.wait(), gone(job, case.settles)
    extra = sorted(set(swept(folder)) - set(names))
    if status or left or extra or case.found(job) != expected:
        told = job.said().strip().splitlines()[-1] if status else str(left or extra or "another result")
        return Outcome(False, f"{first}; afterwards: {told[:300]}")
    return Outcome(True, first)


def ended(case: Case, job: Job) -> tuple[bool, str]:
    """Whether a job ended as it should under a fault, and how."""
    status = job.wait()
    if status == 0:
        same = case.found(job) == undisturbed(case)[0]
        return same, "went on to the same bits" if same else "another result, and nothing said"
    sentence = refusal(job, status)
    return sentence is not None, "refused in a sentence" if sentence else f"ended so: {job.said()[-300:]}"


def full_disk(case: Case, rng: np.random.Generator) -> Outcome:
    """A disk with room for a drawn part of what is written; then more room."""
    expected_size = needed(case)
    with disk(int(rng.uniform(0.02, 0.6) * expected_size) + 4096) as place:
        folder = place / "work"
        try:
            folder.mkdir()
            if case.start is not None:
                case.start(folder)
        except (OSError, shutil.Error):
            mount(place, "remount,size=1g")
            shutil.rmtree(folder, ignore_errors=True)
            return Outcome(True, "no room for what it starts from")
        good, how = ended(case, case.begin(folder))
        if not good:
            return Outcome(False, how)
        mount(place, "remount,size=1g")
        return settled(case, folder, how)


def needed(case: Case) -> int:
    """Bytes that undisturbed work leaves."""
    folder = new_folder(case)
    before = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    case.begin(folder).wait()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    discard(folder)
    return before + int(1.5 * (size - before)) + 65536


def read_only(case: Case, rng: np.random.Generator) -> Outcome:
    """A disk that takes no writing, empty or with part of the work on it; then one that does."""
    with disk(1 << 30) as place:
        folder = place / "work"
        folder.mkdir()
        if case.start is not None:
            case.start(folder)
        if rng.random() < 0.5:
            job = case.begin(folder)
            if job.wait_for(after(float(rng.uniform(0, undisturbed(case)[2])))) is None:
                job.kill(job.pid, 1.0)
        mount(place, "remount,ro")
        good, how = ended(case, case.begin(folder))
        mount(place, "remount,rw")
        return settled(case, folder, how) if good else Outcome(False, how)


def vanishing(case: Case, rng: np.random.Generator) -> Outcome:
    """The folder is removed at a drawn moment."""
    folder = new_folder(case)
    job = case.begin(folder)
    if job.wait_for(after(float(rng.uniform(0, undisturbed(case)[2])))) is not None:
        discard(folder)
        return vanishing(case, rng)
    shutil.rmtree(folder.rename(folder.with_suffix(".gone")))
    good, how = ended(case, job)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if case.start is not None:
        case.start(folder)
    outcome = settled(case, folder, how) if good else Outcome(False, how)
    discard(folder)
    return outcome


def twice_at_once(case: Case, rng: np.random.Generator) -> Outcome:
    """Two start within a moment of each other."""
    folder = new_folder(case)
    first = case.begin(folder)
    time.sleep(float(rng.uniform(0, 0.5 * undisturbed(case)[2])))
    second = Job(case.work, folder, workshop() / "second.result")
    found = [ended(case, job) for job in (first, second)]
    how = " and ".join(sorted({how for _, how in found}))
    outcome = settled(case, folder, how) if all(good for good, _ in found) else Outcome(False, how)
    discard(folder)
    return outcome


def other_times(case: Case, rng: np.random.Generator) -> Outcome:
    """All files are from drawn years between 1971 and 2100, as after a clock that jumped."""
    folder = new_folder(case)
    case.begin(folder).wait()
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in kept:
        moment = float(rng.uniform(3e7, 4.1e9))
        os.utime(path, (moment, moment))
    times = {path: path.stat().st_mtime_ns for path in kept}
    outcome = settled(case, folder, "nothing made again")
    again = [path.name for path in kept if path.stat().st_mtime_ns != times[path]]
    if outcome.ok and again and not set(again) <= {"made.json"}:
        outcome = Outcome(False, f"made again: {again}")
    discard(folder)
    return outcome


def cut_short(case: Case, rng: np.random.Generator) -> Outcome:
    """Work is killed in the middle, and one of the files that it left is cut at a drawn length."""
    folder = new_folder(case)
    before = set(files_in(folder))
    share = 1.0
    while True:
        job = case.begin(folder)
        if job.wait_for(after(float(rng.uniform(0.3, share) * undisturbed(case)[2]))) is None:
            job.kill(job.pid, 1.0)
        made = sorted(name for name in set(files_in(folder)) - before if (folder / name).is_file())
        made = [name for name in made if ".aside-" not in name]
        if made:
            break
    name = str(rng.choice(made))
    with open(folder / name, "r+b") as file:
        file.truncate(int(rng.integers(0, (folder / name).stat().st_size + 1)))
    good, how = ended(case, case.begin(folder))
    if good and not how.startswith("went on"):
        (folder / name).unlink()  # as the sentence says
    outcome = settled(case, folder, how) if good else Outcome(False, f"{name}: {how}")
    discard(folder)
    return outcome


FAULTS: dict[str, Callable[[Case, np.random.Generator], Outcome]] = {
    "full disk": full_disk,
    "read-only folder": read_only,
    "folder that vanishes": vanishing,
    "two at once": twice_at_once,
    "clock that jumps": other_times,
    "file cut short": cut_short,
}


def trial(fault: str, name: str, n: int) -> Outcome:
    """A trial of a fault and a case; it is skipped, and says so, where no disk can be mounted."""
    rng = np.random.default_rng([zlib.crc32(f"{fault} {name}".encode()), n])
    try:
        return FAULTS[fault](CASES[name], rng)
    except NoMount as error:
        return Outcome(True, f"left out: {error}")
