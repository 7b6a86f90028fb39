"""The paper's figures by name: those of ideas from code alone, the others from the artefacts of a run.

A figure of a run is drawn from rows, which are written beside it as csv. Its files name the SHA-256 of
that csv and of the source that made it, and the same rows and source give the same bytes.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from artifact import paths
from figures import charts, concepts, controls, pictures, read, slot_ablation, style
from tclap import files

CONCEPTS: dict[str, Callable[[], Figure]] = {
    "paradigm": concepts.figure_paradigm,
    "loss_matrix": concepts.figure_loss_matrix,
    "architecture": concepts.figure_architecture,
    "slots_idea": concepts.figure_slots_idea,
}

SOURCES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "summary": (read.summary, ("summary.json",)),
    "results": (partial(read.rows, name="results"), ("results.parquet",)),
    "history": (partial(read.rows, name="history"), ("history.parquet",)),
    "similarity": (partial(read.rows, name="similarity"), ("similarity.parquet",)),
    "example": (read.example, ("example.npz", "example.json")),
}
"""How what a figure is made of is read, and from which files of a run."""


@dataclass(frozen=True)
class Result:
    """A figure of a run: its rows, how it is drawn, and which of SOURCES both take."""

    rows: Callable[[Any], pd.DataFrame]
    draw: Callable[[Any], Figure]
    source: str = "summary"

    def read(self, run: Path) -> Any:
        """What both functions take, from a run folder; errors as of ``read``."""
        return SOURCES[self.source][0](run)


RESULTS: dict[str, Result] = {
    "tasks": Result(charts.rows_tasks, charts.figure_tasks),
    "ablation": Result(charts.rows_ablation, charts.figure_ablation),
    "prompts": Result(charts.rows_prompts, charts.figure_prompts),
    "readouts": Result(charts.rows_readouts, charts.figure_readouts),
    "windows": Result(charts.rows_windows, charts.figure_windows),
    "conditions": Result(controls.rows_conditions, controls.figure_conditions),
    "wordings": Result(controls.rows_wordings, controls.figure_wordings),
    "hold_out": Result(controls.rows_hold_out, controls.figure_hold_out),
    "slot_ablation": Result(slot_ablation.frame, slot_ablation.figure_slot_ablation),
    "margins": Result(pictures.rows_margins, pictures.figure_margins, "results"),
    "similarity": Result(pictures.rows_similarity, pictures.figure_similarity, "similarity"),
    "curves": Result(pictures.rows_curves, pictures.figure_curves, "history"),
    "composite": Result(pictures.rows_composite, pictures.figure_composite, "example"),
}

FIGURES = (*CONCEPTS, *RESULTS)


def inputs(name: str) -> tuple[str, ...]:
    """The files of a run folder that a figure is made of; all of a run's have its origin from the summary."""
    if name in CONCEPTS:
        return ()
    return tuple(dict.fromkeys([*SOURCES[RESULTS[name].source][1], *SOURCES["summary"][1]]))


def sources(name: str) -> list[Path]:
    """The source files that make a figure: its module, what all figures share, and the style sheet."""
    made_by = CONCEPTS[name] if name in CONCEPTS else RESULTS[name].draw
    here = Path(__file__).parent
    shared = ("drawing.py",) if name in CONCEPTS else ("marks.py", "read.py", "registry.py", "scores.py")
    own = Path(inspect.getfile(made_by)).resolve()
    return [own, *(here / file for file in (*shared, "style.py")), style.SHEET]


def digest(name: str) -> str:
    """SHA-256 of the source files that make a figure."""
    return files.hash_json([files.sha256_file(path) for path in sources(name)])


def build(name: str, run: str | Path) -> Figure:
    """The figure ``name`` of a run folder; ValueError for an unknown name, else the errors of ``read``."""
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; the figures are {', '.join(FIGURES)}.")
    if name in CONCEPTS:
        return CONCEPTS[name]()
    figure = RESULTS[name].draw(RESULTS[name].read(Path(run)))
    return style.stamp(figure) if read.has_random_weights(read.summary(run)) else figure


def csv(rows: pd.DataFrame) -> str:
    """Rows as the text of a csv file, numbers to ten digits."""
    return rows.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def keep(figure: Figure, name: str, source: str, rows: pd.DataFrame | None = None) -> list[Path]:
    """Write a figure as PDF and PNG, and its rows as csv, with their hashes; return the paths."""
    made_of, written = {"source": source}, []
    if rows is not None:
        text = csv(rows)
        made_of["data"] = hashlib.sha256(text.encode()).hexdigest()
        written.append(paths.figures() / f"{name}.csv")
        with files.replacing(written[0]) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return style.save(figure, name, made_of=made_of) + written


def write(name: str, run: str | Path) -> list[Path]:
    """Write the figure ``name`` of a run folder, see :func:`keep`; errors as of :func:`build`."""
    figure = build(name, run)
    rows = RESULTS[name].rows(RESULTS[name].read(Path(run))) if name in RESULTS else None
    return keep(figure, name, digest(name), rows)
