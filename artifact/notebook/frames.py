"""Tables to look at in a notebook: what a summary and the variants say, as data frames of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from artifact.compare import differences
from figures import controls, read
from figures.scores import TASKS, comparison, score, shared
from figures.style import MODELS, present
from tclap.evaluation.statistics import summarise
from tclap.training.variants import Variant, variant

MINUS = "\N{MINUS SIGN}"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def with_interval(entry: dict | None) -> str:
    """A score as "98.8 [97.1, 99.7]", in percent; empty where there is none."""
    return "" if entry is None else "{:.1f} [{:.1f}, {:.1f}]".format(entry["accuracy"], *entry["ci95"])


def tasks(summary: dict, models: Sequence[str] = tuple(MODELS)) -> pd.DataFrame:
    """Accuracy and 95 % interval in percent: a row a task, a column a model; chance and n last."""
    rows = {}
    for task, described in TASKS.items():
        row = {
            model: with_interval(score(summary, model, task)) for model in present(summary["models"], models)
        }
        known = {"chance": shared(summary, task, "chance"), "n": shared(summary, task, "n")}
        if any(row.values()):
            row |= {"chance": f"{known['chance']:.3g}", "n": f"{known['n']:.0f}"}
            rows[f"{task} ({described.asks})"] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def comparisons(summary: dict, first: str, second: str) -> pd.DataFrame:
    """The second model over the first, task by task: difference in points with its interval, and both p."""
    rows = {}
    for task, described in TASKS.items():
        entry = comparison(summary, first, second, task)
        if entry is not None:
            rows[f"{task} ({described.asks})"] = {
                "difference": signed(entry["difference"]),
                "95 % interval": "[{}, {}]".format(*(signed(end) for end in entry["ci95"])),
                "McNemar's p": f"{entry['mcnemar_p']:.2g}",
                "Holm's p": f"{entry['holm_p']:.2g}",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def variants(names: Sequence[str]) -> pd.DataFrame:
    """What each post-pretraining differs in from ``t-clap``.

    Raises ValueError for an unknown name.
    """
    usual, rows = Variant(), {}
    for name in names:
        settings = {f.name: getattr(variant(name), f.name) for f in fields(Variant)}
        changed = [f"{key} = {value}" for key, value in settings.items() if value != getattr(usual, key)]
        rows[name] = ", ".join(changed) or "(nothing: this is what the others differ from)"
    return pd.DataFrame.from_dict(rows, orient="index", columns=["differs from t-clap in"])


def hold_out(rows: pd.DataFrame) -> pd.DataFrame:
    """2-way accuracy and its interval: a row a model, a column for each number of classes heard in order.

    ``rows``: item rows with those of :func:`tclap.evaluation.controls.hold_out_rows`.
    """
    found = summarise(rows[rows["task"].str.startswith("hold-out: ")])
    cells = {
        (row["model"], row["task"].removeprefix("hold-out: ")): with_interval(
            {"accuracy": row["accuracy"], "ci95": [row["low"], row["high"]]}
        )
        for row in found.to_dict("records")
    }
    table = pd.Series(cells).unstack()
    models = [model for model in MODELS if model in table.index]
    conditions = {name: label for name, label in controls.HOLD_OUT.items() if name in table.columns}
    return table.loc[models, list(conditions)].rename(columns=conditions)


def farthest(summary: dict, reference: Path, count: int = 10) -> pd.DataFrame:
    """The numbers that differ most from a reference's ``summary.json``; none where that is not there."""
    if not reference.is_file():
        return pd.DataFrame()
    found = differences(summary, read.summary(reference)).dropna(subset="difference")
    order = found["difference"].abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order].head(count).set_index(["model", "task"]).round(2)


def made_with(summary: dict) -> pd.DataFrame:
    """Commit, system and versions of a run, from its provenance."""
    found = summary["provenance"]
    git = found["git"] or {"commit": "outside of a checkout", "dirty": False}
    facts = {
        "commit": git["commit"] + (", with changes" if git["dirty"] else ""),
        "python": found["python"],
        "platform": found["platform"],
    }
    installed = {name: version for name, version in found["packages"].items() if version}
    return pd.Series(facts | installed).to_frame("made with")
