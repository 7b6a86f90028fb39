"""Looking up accuracies and comparisons in a summary, which may lack models, tasks or values."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from figures.style import LABELS, PLOTTED_MODELS

LEVEL = 0.05
"""Significance level of every comparison in the paper."""

NEVER_WHILE = 50.0
"""What a model gets in the 3-way tasks that guesses the order and never says "while", in percent."""


class Task(NamedTuple):
    """Short name for table heads and axes, and what a task asks."""

    short: str
    asks: str


TASKS = {name: Task(*words) for name, words in LABELS["tasks"].items()}
THREE_WAY = ("3", "3_after")
MEASURES = ("accuracy", "low", "high", "chance", "n", "per_seed")


def dig(tree: dict | None, *path: str):
    """What stands in nested dictionaries at a path; None where any part of it is missing."""
    for key in path:
        tree = tree.get(key) if tree else None
    return tree


def measured(tree: dict | None, *path: str) -> dict | None:
    """The score ``{accuracy, ci95, chance, n, …}``, in percent, at a path; None where it was not measured."""
    entry = dig(tree, *path)
    return entry if entry and pd.notna(entry["accuracy"]) else None


def score(summary: dict, model: str, task: str, group: str = "zste") -> dict | None:
    """A model's score in a task (a key of TASKS), or with the group ``"prompts"`` in a template."""
    return measured(summary["models"], model, group, task)


def control(summary: dict, model: str, name: str) -> dict | None:
    """A model's score in a control, named "group: condition"."""
    return measured(summary, "controls", model, *name.split(": ", 1))


def controlled(summary: dict, wanted: Sequence[str] = PLOTTED_MODELS) -> list[str]:
    """Those of ``wanted`` that a run asked controls of."""
    return [model for model in wanted if model in (summary.get("controls") or {})]


def tidy(keys: Sequence[str], places: Iterable[tuple], lookup: Callable[..., dict | None]) -> pd.DataFrame:
    """Scores as rows: the ``keys``, accuracy, ends of its interval and chance in percent, n, and the seeds.

    ``places`` are values of the keys, of which ``lookup`` gives the score; what was not measured has no row.
    """
    found = ((place, lookup(*place)) for place in places)
    rows = [
        (*place, e["accuracy"], *e["ci95"], e["chance"], e["n"], tuple(e.get("per_seed", ())))
        for place, e in found
        if e
    ]
    return pd.DataFrame(rows, columns=[*keys, *MEASURES])


def comparison(summary: dict, one: str, other: str, task: str) -> dict | None:
    """How two models compare on a task, ``{models, difference, ci95, holm_p, equivalent, …}``, or None.

    The difference is that of the second of ``models`` minus the first, in percentage points.
    """
    entries = (e for e in summary.get("comparisons") or [] if e["task"] == task)
    return next((e for e in entries if set(e["models"]) == {one, other}), None)
