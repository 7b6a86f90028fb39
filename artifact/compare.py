"""How far a run's accuracies and recalls are from those of a reference run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from artifact import paths
from figures import read

SECTIONS = ("models", "controls", "readouts", "windows", "slot_ablation", "hold_out")


def percentages(summary: dict) -> dict[str, float]:
    """All accuracies and recalls by their place in the summary: ``models/t-clap/zste/4``."""
    return {
        "/".join(path): value for section in SECTIONS for path, value in _walk(summary.get(section), section)
    }


def _walk(node: dict | list | None, *path: str) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(node, list):
        node = {f"{row['group']}: {row['change']}": row["tasks"] for row in node}
    for name, value in (node or {}).items():
        if name == "accuracy" and value is not None:
            yield path, float(value)
        elif name.startswith(("R@", "mAP@")) and value is not None:
            yield (*path, name), float(value)
        elif isinstance(value, dict | list) and name not in ("chance", "ci95", "per_seed"):
            yield from _walk(value, *path, name)


def reference_path(profile: str, base: str) -> Path:
    """Where a run's reference numbers are committed, if they are."""
    return paths.configs() / "reference" / f"{profile}-{base}.json"


def differences(summary: dict, reference: dict) -> pd.DataFrame:
    """``ours, reference, difference`` (ours minus reference, percentage points) by number, the largest first.

    Holds every number of either side, NaN where the other lacks it; those come last.
    """
    table = pd.DataFrame({"ours": percentages(summary), "reference": percentages(reference)}, dtype=float)
    table["difference"] = table["ours"] - table["reference"]
    return table.sort_values("difference", key=lambda d: -d.abs(), kind="stable").rename_axis("number")


def report(summary: dict, reference: dict, tolerance: float = 3.0) -> str:
    """One paragraph: identical, within tolerance or different, and where the two differ most.

    ``tolerance`` is in percentage points. Raises ValueError for a negative one.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0 percentage points, got {tolerance}.")
    table = differences(summary, reference)
    shared = table.dropna()
    size, missing, new = (
        shared["difference"].abs(),
        table["ours"].isna().sum(),
        table["reference"].isna().sum(),
    )
    tail = f" {missing} numbers of the reference are missing here, {new} are new." if missing or new else ""
    settings = [f"{s['profile']} {s['base']} with seeds {s['seeds']}" for s in (summary, reference)]
    if settings[0] != settings[1]:
        tail += f" The settings differ: {settings[0]} here, {settings[1]} in the reference."
    if shared.empty:
        return f"Nothing to compare: no number is in both this run and the reference.{tail}"
    if not size.any():
        return f"Identical to the reference in all {len(shared)} shared numbers.{tail}"
    verdict = "Within tolerance of" if size.max() <= tolerance else "Different from"
    first = shared.iloc[0]
    return (
        f"{verdict} the reference ({tolerance:g} percentage points): of {len(shared)} shared numbers "
        f"{(size > 0).sum()} differ, {(size > tolerance).sum()} beyond tolerance; the largest difference is "
        f"{first['difference']:+.2f} points, {first.name} "
        f"({first['ours']:.2f} here, {first['reference']:.2f} in the reference).{tail}"
    )


def against(summary: dict, path: Path, tolerance: float = 3.0) -> str:
    """:func:`report` on the reference at ``path``, or a sentence that there is none."""
    if not path.is_file():
        return f"No reference to compare with: {path} does not exist."
    return report(summary, read.summary(path), tolerance)


def verify(summary: dict, reference: dict, tolerance: float = 3.0) -> tuple[bool, str]:
    """Whether a run has the reference's numbers within a tolerance, and a report with each that is not.

    A number that the run lacks is a deviation; one that the reference lacks is not. Raises ValueError for a
    negative tolerance.
    """
    lines, table = [report(summary, reference, tolerance)], differences(summary, reference)
    found = table[(table["difference"].abs() > tolerance) | table["ours"].isna()]
    for name, ours, theirs, difference in found.itertuples():
        here = f"ours {ours:.2f}, difference {difference:+.2f}" if ours == ours else "not in this run"
        lines.append(f"  {name}: reference {theirs:.2f}, {here}")
    return found.empty and table["difference"].notna().any(), "\n".join(lines) + "\n"
