"""What captions of AudioCaps and Clotho say about time: ``python -m figures.connectives``.

Reads whichever of the two data sets' csv files are there, writes ``connectives.pdf``, ``.png`` and
``.csv`` among the figures and ``table_connectives.tex`` among the paper's tables, and prints the shares.
"""

from __future__ import annotations

import sys

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from artifact import paths
from artifact.connectives import ANY, DATA_SETS, NONE, read_captions, shares
from figures.marks import legend_above, point, spread
from figures.registry import keep
from figures.style import TEXT, styled
from paper import latex
from paper.tables import aligned
from tclap import files

NAMES = {"audiocaps": "AudioCaps", "clotho": "Clotho"}
LOOKS = {"audiocaps": ("#004488", "D"), "clotho": ("#DDAA33", "o")}
SUMMARIES = (*ANY.values(), NONE)


def figure_connectives(found: pd.DataFrame) -> Figure:
    """Share of the captions with each connective, with 95 % intervals; sequence and simultaneity apart."""
    with styled():
        figure = Figure(figsize=(TEXT, 2.6))
        panels = figure.subplots(1, len(ANY), sharex=True)
        single = found[~found["connective"].isin(SUMMARIES)]
        for axes, group in zip(panels, ANY, strict=True):
            rows = single[single["group"] == group]
            names = list(dict.fromkeys(rows["connective"]))
            present = [name for name in LOOKS if name in set(rows["data_set"])]
            for n, data_set in enumerate(present):
                colour, marker = LOOKS[data_set]
                for row in rows[rows["data_set"] == data_set].to_dict("records"):
                    y = names.index(row["connective"]) + spread(n, len(present), 0.24)
                    point(
                        axes,
                        row["share"],
                        y,
                        row | {"accuracy": row["share"]},
                        "x",
                        color=colour,
                        marker=marker,
                    )
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.grid(True, axis="x")
            axes.set_title(group)
        panels[0].set_xlim(-0.5, 1.06 * single[single["group"].isin(ANY)]["high"].max())
        figure.supxlabel("captions that have it (%), 95 % interval", fontsize="medium")
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="none", label=NAMES[data_set])
            for data_set, (colour, marker) in LOOKS.items()
            if data_set in set(found["data_set"])
        ]
        legend_above(figure, handles, len(handles))
    return figure


def table_connectives(found: pd.DataFrame) -> str:
    """Shares by connective as LaTeX, a column a data set, the groups' own rows after their connectives."""
    sets = [name for name in NAMES if name in set(found["data_set"])]
    totals = found.drop_duplicates("data_set").set_index("data_set")["total"]
    heads = [f"{NAMES[name]} ($n$ = {totals[name]})" for name in sets]
    lines = [latex.row(["connective", *heads]), r"\midrule"]
    by_name = found.set_index(["connective", "data_set"])
    for group in dict.fromkeys(found["group"]):
        names = list(dict.fromkeys(found.loc[found["group"] == group, "connective"]))
        for name in sorted(names, key=lambda n: n in SUMMARIES):
            rows = [by_name.loc[(name, data_set)] for data_set in sets]
            cells = [f"{r['share']:.2f} {latex.small(latex.interval([r['low'], r['high']]))}" for r in rows]
            title = latex.bold(name) if name in SUMMARIES else name
            lines.append(latex.row([title, *cells]))
        lines.append(r"\addlinespace")
    return latex.tabular("l" + "r" * len(sets), lines[:-1]) + "\n"


def main() -> int:
    """Write what the data sets that are there say; the exit code."""
    parts, absent = [], []
    for name in DATA_SETS:
        try:
            parts.append(read_captions(name))
        except FileNotFoundError as error:
            absent.append(str(error))
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    if not parts:
        sys.stderr.write(f"Neither data set is there: {' '.join(absent)}\n")
        return 1
    found = shares(pd.concat(parts, ignore_index=True))
    written = keep(figure_connectives(found), "connectives", files.sha256_file(__file__), found)
    path = paths.paper() / "tables" / "table_connectives.tex"
    with files.replacing(path) as temporary:
        temporary.write_text(table_connectives(found), encoding="utf-8")
    written.append(path)
    lines = [["captions", "data set", "n", "%", "95 % interval"]]
    for row in found[found["connective"].isin(SUMMARIES)].to_dict("records"):
        ends = f"{row['low']:.1f}-{row['high']:.1f}"
        lines.append(
            [row["connective"], NAMES[row["data_set"]], str(row["total"]), f"{row['share']:.1f}", ends]
        )
    sys.stdout.write("\n".join(aligned(lines)) + "\n" + "".join(f"{path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
