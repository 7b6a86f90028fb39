"""How far a run is from a reference run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from artifact import paths
from figures import read

COLUMNS = ["model", "task", "ours", "reference", "difference"]


def percentages(summary: dict) -> Iterator[tuple[tuple[str, str], float]]:
    """``((model, task), percent)`` of all accuracies and recalls; tasks of other groups say their group."""
    for model, groups in summary["models"].items():
        for group, prefix in (("zste", ""), ("prompts", "prompt ")):
            for task, entry in (groups.get(group) or {}).items():
                if entry and entry.get("accuracy") is not None:
                    yield (model, f"{prefix}{task}"), float(entry["accuracy"])
        for group, conditions in ((summary.get("controls") or {}).get(model) or {}).items():
            for condition, entry in conditions.items():
                yield (model, f"{group}: {condition}"), float(entry["accuracy"])
        for gallery, ways in (groups.get("retrieval") or {}).items():
            for way, entry in (ways or {}).items():
                for key, value in (entry or {}).items():
                    if key.startswith(("R@", "mAP@")) and value is not None:
                        yield (model, f"{gallery} {way} {key}"), float(value)
    for (model, task), entry in apart(summary):
        if entry and entry.get("accuracy") is not None:
            yield (model, task), float(entry["accuracy"])


def apart(summary: dict) -> Iterator[tuple[tuple[str, str], dict | None]]:
    """Scores that stand beside the models: of readouts, of window policies, of slots taken apart."""
    for readout, tasks in (summary.get("readouts") or {}).items():
        for task, entry in tasks.items():
            yield (f"readout {readout}", task), entry
    for policy, models in (summary.get("windows") or {}).items():
        for model, tasks in models.items():
            for task, entry in (tasks or {}).items():
                yield (model, f"window {policy}: {task}"), entry
    for row in summary.get("slot_ablation") or []:
        for task, entry in row["tasks"].items():
            yield (f"slots with {row['group']}: {row['change']}", task), entry


def reference_path(profile: str, base: str) -> Path:
    """Where a run's reference numbers are committed, if they are."""
    return paths.configs() / "reference" / f"{profile}-{base}.json"


def differences(summary: dict, reference: dict) -> pd.DataFrame:
    """Rows ``model, task, ours, reference, difference`` (ours minus reference, percentage points).

    Holds every number of either side, NaN where the other lacks it.
    """
    ours, theirs = dict(percentages(summary)), dict(percentages(reference))
    nan = math.nan
    rows = [
        (*key, ours.get(key, nan), theirs.get(key, nan), ours.get(key, nan) - theirs.get(key, nan))
        for key in dict.fromkeys([*ours, *theirs])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def report(summary: dict, reference: dict, tolerance: float = 3.0) -> str:
    """One paragraph: identical, within tolerance or different, and where the two differ most.

    ``tolerance`` is in percentage points. Raises ValueError for a negative one.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0 percentage points, got {tolerance}.")
    table = differences(summary, reference)
    shared = table.dropna(subset="difference")
    lacking = len(table) - len(shared)
    tail = f" {lacking} numbers are in only one of the two." if lacking else ""
    settings = [(s["profile"], s["base"], list(s["seeds"])) for s in (summary, reference)]
    if settings[0] != settings[1]:
        tail += (
            " The settings differ: {} {} with seeds {} here, {} {} with seeds {} in the reference.".format(
                *settings[0], *settings[1]
            )
        )
    if shared.empty:
        return f"Nothing to compare: no number is in both this run and the reference.{tail}"
    largest = shared.loc[shared["difference"].abs().idxmax()]
    size = abs(largest["difference"])
    if size == 0:
        return f"Identical to the reference in all {len(shared)} shared numbers.{tail}"
    verdict = "Within tolerance of" if size <= tolerance else "Different from"
    differing = int((shared["difference"] != 0).sum())
    beyond = int((shared["difference"].abs() > tolerance).sum())
    return (
        f"{verdict} the reference ({tolerance:g} percentage points): of {len(shared)} shared numbers "
        f"{differing} differ, {beyond} beyond tolerance; the largest difference is "
        f"{largest['difference']:+.2f} points, {largest['model']} on {largest['task']} "
        f"({largest['ours']:.2f} here, {largest['reference']:.2f} in the reference).{tail}"
    )


def against(summary: dict, path: Path, tolerance: float = 3.0) -> str:
    """:func:`report` on the reference at ``path``, or a sentence that there is none."""
    if not path.is_file():
        return f"No reference to compare with: {path} does not exist."
    return report(summary, read.summary(path), tolerance)


def deviations(summary: dict, reference: dict, tolerance: float) -> pd.DataFrame:
    """Rows of :func:`differences` beyond a tolerance, the largest first, and those that this run lacks."""
    table = differences(summary, reference)
    size = table["difference"].abs()
    lacking = table["ours"].isna() & table["reference"].notna()
    rows = table[(size > tolerance) | lacking]
    return rows.loc[size[rows.index].sort_values(ascending=False, kind="stable").index]


def verify(summary: dict, reference: dict, tolerance: float = 3.0) -> tuple[bool, str]:
    """Whether a run has the reference's numbers within a tolerance, and what there is to say, as text.

    A number that the run lacks is a deviation; one that the reference lacks is only counted. Raises
    ValueError for a negative tolerance.
    """
    lines = [report(summary, reference, tolerance)]
    found = deviations(summary, reference, tolerance)
    for row in found.to_dict("records"):
        name = f"{row['model']} on {row['task']}"
        if math.isnan(row["ours"]):
            lines.append(f"  {name}: not in this run, reference {row['reference']:.2f}")
        else:
            lines.append(
                f"  {name}: ours {row['ours']:.2f}, reference {row['reference']:.2f}, "
                f"difference {row['difference']:+.2f}"
            )
    table = differences(summary, reference)
    size = table["difference"].dropna().abs()
    same, beyond = int((size == 0).sum()), int((size > tolerance).sum())
    here, there = int(table["ours"].isna().sum()), int(table["reference"].isna().sum())
    lines.append(
        f"{len(table)} numbers: {same} the same, {len(size) - same - beyond} within tolerance, "
        f"{beyond} different, {here} not in this run, {there} not in the reference."
    )
    return found.empty and len(size) > 0, "\n".join(lines) + "\n"
