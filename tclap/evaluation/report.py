"""A table for a terminal from tidy rows, such as :func:`tclap.evaluate` returns.

Apart from the other tables, because those are made of a finished summary and import no statistics.
"""

from __future__ import annotations

import math

import pandas as pd

from tclap.evaluation.statistics import summarise

RANDOM_WEIGHTS = "random weights: the numbers mean nothing"


def rows_table(rows: pd.DataFrame, *, random_weights: bool = False) -> str:
    """One line a model and task: accuracy, its 95 % interval, chance and ties in percent, and n.

    ``random_weights`` puts a warning on top. Errors as of :func:`tclap.evaluation.statistics.summarise`.
    """
    tied = rows["tied"].astype("float64") if "tied" in rows else pd.Series(math.nan, rows.index)
    ties = tied.groupby([rows["model"], rows["task"]]).mean()
    lines = [["model  task", "accuracy", "95 % interval", "chance", "ties", "n"]]
    for entry in summarise(rows).to_dict("records"):
        share = ties[entry["model"], entry["task"]]
        lines.append(
            [
                f"{entry['model']}  {entry['task']}",
                f"{entry['accuracy']:.1f}",
                f"{entry['low']:.1f}-{entry['high']:.1f}",
                f"{entry['chance']:.1f}",
                "" if math.isnan(share) else f"{100 * share:.1f}",
                str(entry["n"]),
            ]
        )
    head = [RANDOM_WEIGHTS.upper()] if random_weights else []
    return "\n".join(head + aligned(lines)) + "\n"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines of text, the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        name, *cells = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *cells]).rstrip())
    return lines
