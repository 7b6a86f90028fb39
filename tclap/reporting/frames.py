"""Tables to look at in a notebook: what a summary and the variants say, as data frames of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from tclap.reporting import controls
from tclap.reporting.compare import differences
from tclap.reporting.scores import TASKS, score, shared
from tclap.reporting.style import MODELS, present
from tclap.variants import Variant, variant

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


def comparisons(summary: dict) -> pd.DataFrame:
    """Every comparison of two models, a row a task: difference in points with its interval, and both p."""
    rows = [
        {
            "models": " \N{RIGHTWARDS ARROW} ".join(entry["models"]),
            "task": entry["task"],
            "difference": signed(entry["difference"]),
            "95 % interval": "[{}, {}]".format(*(signed(end) for end in entry["ci95"])),
            "McNemar's p": f"{entry['mcnemar_p']:.2g}",
            "Holm's p": f"{entry['holm_p']:.2g}",
        }
        for entry in summary["comparisons"]
    ]
    return pd.DataFrame(rows).set_index(["models", "task"]) if rows else pd.DataFrame()


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


def hold_out(summary: dict) -> pd.DataFrame:
    """2-way accuracy and its interval by how many classes of a pair one post-pretraining heard in order."""
    models = controls.asked(summary, tuple(MODELS))
    rows = {
        model: {
            label: with_interval(controls.entry(summary, model, "hold-out", condition))
            for condition, label in controls.HOLD_OUT.items()
        }
        for model in models
    }
    rows = {model: row for model, row in rows.items() if any(row.values())}
    return pd.DataFrame.from_dict(rows, orient="index")


def farthest(summary: dict, reference: dict, count: int = 10) -> pd.DataFrame:
    """The numbers in which two runs differ most, in percent and points."""
    found = differences(summary, reference).dropna(subset="difference")
    order = found["difference"].abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order].head(count).set_index(["model", "task"]).round(2)
