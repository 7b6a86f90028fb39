"""What trials showed, kept line by line, and where they work."""

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch


@dataclass(frozen=True)
class Outcome:
    """Whether a trial went as it should, in a few words how it showed, and how many kills it took."""

    ok: bool
    showed: str
    kills: int = 0


@cache
def workshop() -> Path:
    """The folder in which all trials work, ``$TCLAP_FAULTS`` or a temporary one."""
    torch.set_num_threads(1)  # before the first fork
    folder = os.environ.get("TCLAP_FAULTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return Path(folder).resolve()
    return Path(tempfile.mkdtemp(prefix="tclap-faults-"))


class Record:
    """Trials in a file of one JSON line each; those that are there are not made again."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.is_file():
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self._known = {(row["fault"], row["case"], row["trial"]) for row in self.rows}

    def has(self, fault: str, case: str, trial: int) -> bool:
        """Whether a trial is there."""
        return (fault, case, trial) in self._known

    def add(self, fault: str, case: str, trial: int, outcome: Outcome, seconds: float) -> None:
        """Keep a trial."""
        row = (
            {"fault": fault, "case": case, "trial": trial} | asdict(outcome) | {"seconds": round(seconds, 2)}
        )
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def table(self, faults: Iterable[str]) -> str:
        """One row per fault and case: trials, how many went as they should, and how that showed."""
        lines, rows = [], pd.DataFrame([row for row in self.rows if row["fault"] in faults])
        rows["case"] = rows["case"].str.partition(": ")[0]  # such as "full disk: synthesis"
        for (fault, case), part in rows.groupby(["fault", "case"], sort=False):
            showed = part["showed"].where(part["ok"], "WRONG: " + part["showed"]).value_counts(sort=False)
            said = [text if n == len(part) else f"{text} ({n})" for text, n in showed.items()]
            counts = {"trials": len(part), "kills": part["kills"].sum(), "as it should": part["ok"].sum()}
            lines.append({"fault": fault, "case": case} | counts | {"how it showed": "; ".join(said)})
        return pd.DataFrame(lines).to_string(index=False)
