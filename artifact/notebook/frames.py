"""Tables to look at in a notebook: what a summary and the variants say, as data frames of text."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from artifact import paths
from artifact.compare import differences
from artifact.notebook.sounds import Page
from figures import read, registry
from figures.scores import TASKS
from paper import numbers, tables
from paper.latex import number
from tclap.training.variants import Variant, variant


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign."""
    return number(value, digits, "+").replace("-", "\N{MINUS SIGN}")


def comparisons(summary: dict, first: str, second: str) -> pd.DataFrame:
    """The second model over the first, task by task: difference in points, interval, p, equivalence."""
    rows = {
        f"{entry['task']} ({TASKS[entry['task']].asks})": {
            "difference": signed(entry["difference"]),
            "95 % interval": "[{}, {}]".format(*(signed(end) for end in entry["ci95"])),
            "p": f"{entry['p']:.2g}",
            "Holm's p": f"{entry['holm_p']:.2g}",
            "within 2 points": "yes" if entry["equivalent"] else "not shown",
        }
        for entry in summary["comparisons"]
        if entry["models"] == [first, second]
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def variants(names: Sequence[str]) -> pd.DataFrame:
    """What each post-pretraining differs in from ``t-clap``; ValueError for an unknown name."""
    usual, rows = asdict(Variant()), {}
    for name in names:
        changed = [f"{key} = {value}" for key, value in asdict(variant(name)).items() if value != usual[key]]
        rows[name] = ", ".join(changed) or "(nothing: this is what the others differ from)"
    return pd.Series(rows).to_frame("differs from t-clap in")


def farthest(summary: dict, reference: Path, count: int = 10) -> pd.DataFrame:
    """The numbers that differ most from a reference's ``summary.json``; none where that is not there."""
    if not reference.is_file():
        return pd.DataFrame()
    return differences(summary, read.summary(reference)).dropna().head(count).round(2)


def made_with(summary: dict) -> pd.DataFrame:
    """Commit, system and versions of a run, from its provenance."""
    found = summary["provenance"]
    git = found["git"] or {"commit": "outside of a checkout", "dirty": False}
    commit = git["commit"] + (", with changes" if git["dirty"] else "")
    installed = {name: version for name, version in found["packages"].items() if version}
    machine = {"commit": commit, "python": found["python"], "platform": found["platform"]}
    return pd.Series(machine | installed).to_frame("made with")


def latex(name: str, summary: dict) -> Page:
    """A table of the paper as LaTeX, folded."""
    text = f"table {name} as LaTeX"
    source = html.escape(tables.build(name, summary))
    return Page(f"<details><summary>{text}</summary><pre>{source}</pre></details>", text)


def paper_map() -> pd.DataFrame:
    """Each figure and table of the paper: sections of the notebooks that show it, its function, its data."""
    sections, (_, summary) = _sections(), read.READERS["summary"]
    made = {
        f"figure {name}": (rf'\.(draw|build)\("{name}"', registry.function_of(name), registry.data_of(name))
        for name in registry.FIGURES
    }
    for name, function in tables.TABLES.items():
        made[f"table {name}"] = (rf'\.latex\("{name}"', function, summary)
    made["numbers of the text"] = (r"numbers\.lookup\(", numbers.numbers_tex, summary)
    rows = {
        title: {
            "sections": ", ".join(number for number, code in sections.items() if re.search(call, code)),
            "function": f"{function.__module__}:{function.__name__}",
            "data": ", ".join(data) or "none",
        }
        for title, (call, function, data) in made.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _sections() -> dict[str, str]:
    """The code of the notebooks' sections, by number."""
    code: dict[str, str] = {}
    for path in sorted((paths.CHECKOUT / "notebooks").glob("*.ipynb")):
        number = path.name[:2]
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                code[number] = code.get(number, "") + source + "\n"
            else:
                number = [number, *re.findall(r"^## (\d\.\d+) ", source, re.M)][-1]
    return code
