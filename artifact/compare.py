"""How far a run's accuracies and recalls are from those of a reference run."""

from pathlib import Path

import pandas as pd

from artifact import paths
from figures import read

SECTIONS = ("models", "controls", "readouts", "windows", "slot_ablation", "hold_out")
TOLERANCE = 3.0  # percentage points


def percentages(summary: dict) -> pd.Series:
    """All accuracies and recalls by their place in the summary: ``models/t-clap/zste/4``."""
    sections = {name: summary.get(name) or {} for name in SECTIONS}
    ablation = sections["slot_ablation"] or []
    sections["slot_ablation"] = {f"{row['group']}: {row['change']}": row["tasks"] for row in ablation}
    values = pd.json_normalize(sections, sep="/").T.squeeze(axis=1)
    values = values[values.index.str.contains(r"/(?:accuracy|(?:R|mAP)@\d+)$")]
    values = values[~values.index.str.contains("/chance/|/ci95/")]
    return values.rename(index=lambda name: name.removesuffix("/accuracy")).dropna().astype(float)


def reference_path(profile: str, base: str) -> Path:
    """Where a run's reference numbers are committed, if they are."""
    return paths.configs() / "reference" / f"{profile}-{base}.json"


def differences(summary: dict, reference: dict) -> pd.DataFrame:
    """``ours, reference, difference`` (ours minus reference, percentage points) by number, the largest first.

    Holds every number of either side, NaN where the other lacks it; those come last.
    """
    table = pd.DataFrame({"ours": percentages(summary), "reference": percentages(reference)})
    table["difference"] = table["ours"] - table["reference"]
    return table.sort_values("difference", key=lambda d: -d.abs(), kind="stable").rename_axis("number")


def verify(summary: dict, reference: dict) -> tuple[bool, str]:
    """Whether a run has the reference's numbers within :data:`TOLERANCE`, and a report.

    Its first line says how many numbers differ and by how much at most; one line follows for each that is
    beyond the tolerance or that the run lacks. A number that the reference lacks is no deviation.
    """
    table = differences(summary, reference)
    size, missing, new = table["difference"].abs(), table["ours"].isna(), table["reference"].isna()
    deviating = table[(size > TOLERANCE) | missing]
    lines = [
        f"Of {size.count()} numbers that this run shares with the reference, {(size > 0).sum()} differ, "
        f"{(size > TOLERANCE).sum()} of them by more than {TOLERANCE:g} percentage points, at most by "
        f"{size.max():.2f}; {missing.sum()} are missing here, {new.sum()} are new."
    ]
    settings = [f"{s['profile']} {s['base']} with seeds {s['seeds']}" for s in (summary, reference)]
    if settings[0] != settings[1]:
        lines[0] += f" The settings differ: {settings[0]} here, {settings[1]} in the reference."
    for name, ours, theirs, difference in deviating.itertuples():
        here = f"ours {ours:.2f}, difference {difference:+.2f}" if ours == ours else "not in this run"
        lines.append(f"  {name}: reference {theirs:.2f}, {here}")
    return deviating.empty and bool(size.count()), "\n".join(lines)


def against(summary: dict, path: Path) -> str:
    """The first line of :func:`verify` on the reference at ``path``, or that there is none."""
    if not path.is_file():
        return f"No reference to compare with: {path} does not exist."
    return verify(summary, read.summary(path))[1].splitlines()[0]
