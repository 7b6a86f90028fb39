"""What holds when a run is killed, starved or damaged, or its data change beneath it?

=======  ====================================================================================================
kills    SIGKILL at drawn moments, half of them in a write, then the same again: the same bits
disks    a full disk, a read-only folder, one that vanishes, two at once, other times, a file cut short
flips    a flipped bit in every kind of file that the library and a run keep
stale    data, a configuration or code changed: what a dry run of the graph makes again
=======  ====================================================================================================

A trial is drawn from its number and kept as a line of JSON, so that the same command goes on where it was
interrupted. Without arguments a sample of a few minutes; the whole takes two hours, and root where it mounts
small disks:

    python -m benchmarks.faults [kills ...] [--trials 1000] [--record faults.jsonl]

It works in the folder ``TCLAP_FAULTS``, by default a temporary one.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

from benchmarks.fault_trials import disks, flips, killing, kills, launched, stale
from benchmarks.fault_trials.record import Outcome, Record

SAMPLE, WHOLE = 10, 1000  # kills
QUICK = ("training loop", "feature store", "synthesis")
Trial = tuple[str, int, Callable[[], Outcome]]  # case, number, what is done


def killed(trials: int) -> Iterator[Trial]:
    """All cases in their proportions, mixed."""
    cases = kills.CASES | launched.CASES
    counts = {name: round(case.trials * trials / WHOLE) for name, case in cases.items()}
    planned = [((n + 0.5) / count, name, n) for name, count in counts.items() for n in range(count)]
    for _, name, n in sorted(planned):
        yield name, n, lambda name=name, n=n: killing.trial(name, cases[name], n)


def on_disks(trials: int) -> Iterator[Trial]:
    """Each fault in each case; in a sample once in the quick ones."""
    names, count = (disks.CASES, disks.TRIALS) if trials >= WHOLE else (QUICK, 1)
    for fault, name, n in product(disks.FAULTS, names, range(count)):
        yield f"{fault}: {name}", n, lambda fault=fault, name=name, n=n: disks.trial(fault, name, n)


def flipped(trials: int) -> Iterator[Trial]:
    """Each kind of the library's files at several positions, and every file of a complete run."""
    for kind, n in product(flips.LIBRARY, range(flips.POSITIONS if trials >= WHOLE else 1)):
        yield kind, n, lambda kind=kind, n=n: flips.library_trial(kind, n)
    if trials >= WHOLE:
        for n, name in enumerate(flips.walked()):
            yield "a file of a run", n, lambda name=name: flips.run_trial(name)


def changed(trials: int) -> Iterator[Trial]:
    """Each change once; in a sample none, as a dry run of the graph takes seconds."""
    for name in stale.CHANGES if trials >= WHOLE else ():
        yield name, 0, lambda name=name: stale.trial(name)


FAULTS = {"kills": killed, "disks": on_disks, "flips": flipped, "stale": changed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try faults and print what they showed; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("faults", nargs="*", help=f"among {', '.join(FAULTS)}; without it, all")
    parser.add_argument("--trials", type=int, default=SAMPLE, help="number of kills (default: %(default)s)")
    parser.add_argument("--record", type=Path, help="file of the trials, to go on from")
    options = parser.parse_args(arguments)
    logging.getLogger("tclap").setLevel(logging.ERROR)  # that a trial's data are small is no news
    faults = options.faults or [*FAULTS]
    record = Record(options.record or Path(tempfile.mkdtemp(), "faults.jsonl"))
    kills.model(), kills.clips()  # read once, for all forks
    for fault in faults:
        for case, n, attempt in FAULTS[fault](options.trials):
            if not record.has(fault, case, n):
                started = time.monotonic()
                record.add(fault, case, n, attempt(), time.monotonic() - started)
    print(record.table(faults))
    return int(not all(row["ok"] for row in record.rows))


if __name__ == "__main__":
    sys.exit(main())
