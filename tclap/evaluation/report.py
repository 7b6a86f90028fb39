"""Rows of the benchmark as tables: text, JSON, a Markdown card, and two models beside each other."""

import html
import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pandas as pd

from tclap.evaluation.statistics import compare, holm, scores_by_seed, summarise


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """What :func:`tclap.evaluation.statistics.summarise` says of rows, and its errors, with their ties.

    ``ties`` is the share, in percent, of items whose best right and wrong candidates have one score, which
    count as errors; NaN where rows say nothing of ties.
    """
    found = summarise(rows)
    ties = 100 * rows.astype({"tied": float}).groupby(["model", "task"])["tied"].mean()
    return found.assign(ties=ties.loc[list(zip(found["model"], found["task"], strict=True))].to_numpy())


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`tclap.evaluate` as text, one line per model and task, in percent.

    ``model, task, accuracy, 95 % interval, chance, ties, n`` (number of items); errors of :func:`numbers`.
    """
    found = numbers(rows)
    cells = {
        "model": found["model"],
        "task": found["task"],
        "accuracy": found["accuracy"].map(_shown),
        "95 % interval": found["low"].map(_shown) + "-" + found["high"].map(_shown),
        "chance": found["chance"].map(_shown),
        "ties": ["" if np.isnan(share) else _shown(share) for share in found["ties"]],
        "n": found["n"],
    }
    return pd.DataFrame(cells)


def report(rows: pd.DataFrame) -> str:
    """Rows of :func:`tclap.evaluate` as a text table."""
    cells = table(rows)
    shown = cells.set_index(cells["model"] + "  " + cells["task"]).drop(columns=["model", "task"])
    return shown.rename_axis(index=None, columns="model  task").to_string() + "\n"


def as_json(rows: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """Rows of :func:`tclap.evaluate` as JSON: ``about``, and ``table`` with null for what is missing."""
    names = ["model", "task", "accuracy", "low", "high", "chance", "ties", "n"]
    lines = json.loads(numbers(rows)[names].to_json(orient="records"))
    return json.dumps({**about, "table": lines}, indent=2) + "\n"


def card(rows: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """Rows of :func:`tclap.evaluate` as a section of a model card, in Markdown.

    Args:
        about: what the numbers are of, a line each: model, weights, data, questions, version of tclap.
    """
    cells = table(rows).drop(columns="model").astype(str).map(_in_markdown)
    lines = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    described = [f"- {name}: {_in_markdown(value)}" for name, value in about.items() if value is not None]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    head = "## Temporal zero-shot evaluation (ZSTE)"
    note = "Accuracies in percent with 95 % intervals from resampled clips; ties count as errors, of the "
    note += "order-blind baseline as draws."
    return "\n".join([head, "", *described, "", *body, "", note, ""])


def _in_markdown(text: str) -> str:
    """A text without markup of its own: a model or a folder may be called anything."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([|`[\]])", r"\\\1", escaped)


def difference(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Compare two models on the same questions, task by task (:func:`tclap.evaluation.statistics.compare`).

    Args:
        first, second: rows of :func:`tclap.evaluate`, of one model each.

    Returns:
        ``task, first, second, difference, low, high`` in percent (second minus first, 95 % interval from
        resampled clips and seeds), ``p`` adjusted over the tasks by Holm's procedure, ``n``.

    Raises:
        ValueError: when the rows' questions have different fingerprints, a file has several models, or the
            tasks that both have were asked of other items.
    """
    known = [rows.attrs.get("items") for rows in (first, second)]
    if known[0] != known[1]:
        raise ValueError(f"the questions are {known[0]} and {known[1]}, expected the same of both.")
    scores = [{found.task: found for found in scores_by_seed(rows)} for rows in (first, second)]
    for rows in (first, second):
        if rows["model"].nunique() > 1:
            raise ValueError(f"the rows are of {rows['model'].nunique()} models, expected one.")
    found = []
    for task in [task for task in scores[0] if task in scores[1]]:
        a, b = scores[0][task], scores[1][task]
        if a.values.shape != b.values.shape or not np.array_equal(a.sources, b.sources):
            raise ValueError(f"task {task} was asked of other items or seeds in the two, expected the same.")
        result = compare(a.values, b.values, a.sources)
        found.append(
            {
                "task": task,
                "first": 100 * a.values.mean(),
                "second": 100 * b.values.mean(),
                "difference": 100 * float(result.difference),
                "low": 100 * float(result.ci95[0]),
                "high": 100 * float(result.ci95[1]),
                "p": float(result.p),
                "n": len(a.values),
            }
        )
    compared = pd.DataFrame(found)
    return compared.assign(p=holm(compared["p"])) if found else compared


def difference_report(compared: pd.DataFrame, names: tuple[str, str]) -> str:
    """What :func:`difference` found as a text table."""
    cells = {
        names[0]: compared["first"].map(_shown),
        names[1]: compared["second"].map(_shown),
        "difference": compared["difference"].map(_shown),
        "95 % interval": "[" + compared["low"].map(_shown) + ", " + compared["high"].map(_shown) + "]",
        "p (Holm)": ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in compared["p"]],
        "n": compared["n"],
    }
    shown = pd.DataFrame(cells).set_index(compared["task"]).rename_axis(index=None, columns="task")
    return shown.to_string() + "\n"


def _shown(percent: float) -> str:
    """One decimal, halves up, as ``paper.latex.number`` rounds."""
    return str(Decimal(f"{percent:.9f}").quantize(Decimal("0.1"), ROUND_HALF_UP))
