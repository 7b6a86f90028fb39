"""Looking up accuracies and comparisons in a summary, which may lack models, tasks or values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

LEVEL = 0.05
"""Significance level of every comparison in the paper."""

NEVER_WHILE = 50.0
"""What a model gets in the 3-way tasks that guesses the order and never says "while", in percent."""


@dataclass(frozen=True)
class Task:
    """Short name for table heads and axes, macro-safe name (letters only), and what it asks."""

    short: str
    word: str
    asks: str


TASKS = {
    "1": Task("1", "TaskOne", "class"),
    "2a": Task("2a", "TaskTwoA", "both classes"),
    "2b": Task("2b", "TaskTwoB", "both, mixed"),
    "3": Task("3", "TaskThree", "3-way before"),
    "3_after": Task("3\N{PRIME}", "TaskThreeAfter", "3-way after"),
    "2way_before": Task("2-way", "TwoWayBefore", "before"),
    "2way_after": Task("2-way", "TwoWayAfter", "after"),
    "overlap": Task("overlap", "Overlap", "while"),
    "4": Task("4", "TaskFour", "1 of 50"),
    "5": Task("5", "TaskFive", "which is first"),
}
THREE_WAY = ("3", "3_after")

MEASURES = ("accuracy", "low", "high", "chance", "n")


def usable(entry: dict | None) -> bool:
    """Whether a score is there: not absent, not null, not NaN."""
    return bool(entry) and entry.get("accuracy") is not None and not math.isnan(entry["accuracy"])


def score(summary: dict, model: str, task: str, group: str = "zste") -> dict | None:
    """``{accuracy, ci95, chance, n, …}`` in percent, or None where the run did not measure it.

    ``group`` is ``"zste"`` (``task``: a key of TASKS) or ``"prompts"`` (``task``: a template).
    """
    entry = (summary["models"].get(model, {}).get(group) or {}).get(task)
    return entry if usable(entry) else None


def tidy(keys: Sequence[str], entries: Iterable[tuple[tuple, dict | None]]) -> pd.DataFrame:
    """Scores as rows: the ``keys``, accuracy, ends of its interval and chance in percent, and n.

    ``entries`` are the keys' values, each with its score or None: what was not measured has no row.
    """
    rows = [
        (*values, entry["accuracy"], *entry["ci95"], entry["chance"], entry.get("n"))
        for values, entry in entries
        if usable(entry)
    ]
    return pd.DataFrame(rows, columns=[*keys, *MEASURES])


def shared(summary: dict, task: str, key: str, group: str = "zste") -> float | None:
    """``chance`` or ``n`` of a task: the same for every model, so taken from the first that has it."""
    for model in summary["models"]:
        entry = score(summary, model, task, group)
        if entry is not None and entry.get(key) is not None:
            return entry[key]
    return None


def comparison(summary: dict, first: str, second: str, task: str) -> dict | None:
    """The comparison of two models on a task, as ``{difference, ci95, mcnemar_p, holm_p}`` of second
    minus first.

    An entry written the other way round is turned; None where the run holds none.
    """
    for entry in summary.get("comparisons") or []:
        if entry["task"] != task or set(entry["models"]) != {first, second}:
            continue
        low, high = entry.get("ci95") or (None, None)
        difference, p = entry.get("difference"), entry.get("mcnemar_p")
        if entry["models"][0] == second:
            difference = None if difference is None else -difference
            low, high = (None, None) if low is None or high is None else (-high, -low)
        return {
            "difference": difference,
            "ci95": [low, high],
            "mcnemar_p": p,
            "holm_p": entry.get("holm_p", p),
        }
    return None


def significant(entry: dict | None) -> bool:
    """Whether a comparison's McNemar p, adjusted for the tasks, is below LEVEL (False: there is none)."""
    return bool(entry) and entry["holm_p"] is not None and entry["holm_p"] < LEVEL


def better(
    summary: dict, task: str, first: str = "clap", second: str = "t-clap", group: str = "zste"
) -> str | None:
    """The model of the two that is significantly the more accurate, or None.

    Decided by the accuracies themselves, which cannot be mistaken for the other sign.
    """
    left, right = score(summary, first, task, group), score(summary, second, task, group)
    if left is None or right is None or not significant(comparison(summary, first, second, task)):
        return None
    if left["accuracy"] == right["accuracy"]:
        return None
    return second if right["accuracy"] > left["accuracy"] else first


def best(summary: dict, task: str, models: Sequence[str], group: str = "zste") -> set[str]:
    """The most accurate of some models with those that do not differ from it significantly.

    None at all where none of them differs from it, so that what is set apart is always better than something.
    A less accurate one that the run did not compare with the best one is not among them.
    """
    found = {model: score(summary, model, task, group) for model in models}
    found = {model: entry["accuracy"] for model, entry in found.items() if entry}
    if not found:
        return set()
    first = max(found, key=found.get)
    compared = {model: comparison(summary, first, model, task) for model in found if model != first}
    if not any(significant(entry) for entry in compared.values()):
        return set()
    equal = {model for model, entry in compared.items() if entry and not significant(entry)}
    return equal | {model for model in found if found[model] == found[first]}
