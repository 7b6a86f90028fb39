"""Figures of similarities: order margins, captions against composites, one composite with its captions."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures.marks import TIGHT, dot, key, legend_above
from figures.style import COLUMN, MAIN, MODELS, TEXT, present

PAIR = ("clap", "t-clap")
WORDINGS = {"2way_before": "\u201cA before B\u201d", "2way_after": "\u201cB after A\u201d"}
BINS = 40
DEPTH = 60  # dB below the loudest that a composite's spectrograms show


def margins(results: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Histograms of the order margin: similarity (cosine) to the true caption minus that to its inversion.

    What lies right of zero is correct; an order-blind model piles up at zero. Seeds are pooled. The rows are
    ``model, task, left, right, share`` (%) and ``n``.
    """
    chosen = results[results["task"].isin(WORDINGS) & results["margin"].notna()]
    models = present(chosen["model"].unique(), MAIN)
    chosen = chosen[chosen["model"].isin(models)]
    reach = 1.02 * max(chosen["margin"].abs().max(), 1e-3)
    # An even number of bins keeps zero, which separates correct from wrong, an edge.
    edges = np.linspace(-reach, reach, BINS + 1)
    figure, parts = Figure(figsize=(COLUMN, 1.7)), []
    panels = dict(zip(WORDINGS, figure.subplots(1, len(WORDINGS), sharey=True), strict=True))
    for model, (task, axes) in itertools.product(models, panels.items()):
        found = chosen.loc[(chosen["model"] == model) & (chosen["task"] == task), "margin"]
        if found.empty:
            continue
        share, look = 100 * np.histogram(found, edges)[0] / len(found), MODELS[model]
        axes.stairs(share, edges, fill=True, color=look.colour, alpha=0.25, linewidth=0)
        axes.stairs(share, edges, color=look.colour, linestyle=look.line, linewidth=1.2)
        bins = {"left": edges[:-1], "right": edges[1:], "share": share, "n": len(found)}
        parts.append(pd.DataFrame({"model": model, "task": task, **bins}))
    for task, axes in panels.items():
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set(title=WORDINGS[task], xlim=(-reach, reach))
    axes.set_ylim(bottom=0)
    panels["2way_before"].set_ylabel("items per bin (%)")
    figure.supxlabel("order margin (cosine)", fontsize="medium")
    legend_above(figure, [key(m.label, color=m.colour, linestyle=m.line) for m in map(MODELS.get, models)])
    return figure, pd.concat(parts, ignore_index=True)


def similarity(cosines: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Cosine of captions (rows) and composites (columns), base beside T-CLAP, of the first seed and fold.

    Pairs stand forward and reversed in adjacent rows and columns, so that an order-blind model shows
    blocks of 2 by 2 (outlined) of one colour, and an order-aware one their diagonals.
    """
    models = present(cosines["model"].unique(), PAIR)
    rows = cosines[cosines["model"].isin(models)]
    for run in rows.columns.intersection(["seed", "fold"]):
        rows = rows[rows[run] == rows[run].min()].drop(columns=run)
    rows = rows.reset_index(drop=True)
    limits = dict(zip(("vmin", "vmax"), rows["similarity"].agg(["min", "max"]), strict=True))
    captions = rows.drop_duplicates("row").sort_values("row")["row_caption"].tolist()
    events = rows.drop_duplicates("column").sort_values("column")["column_event"]
    events = events.str.replace(" > ", " \N{RIGHTWARDS ARROW} ").tolist()
    figure = Figure(figsize=(TEXT, 1.4 + 0.16 * len(captions)))
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, model in zip(panels, models, strict=True):
        matrix = rows[rows["model"] == model].pivot(index="row", columns="column", values="similarity")
        image = axes.imshow(matrix.to_numpy(), aspect="auto", **limits)
        for corner in range(0, min(matrix.shape) - 1, 2):
            place = (corner - 0.5, corner - 0.5)
            axes.add_patch(Rectangle(place, 2, 2, fill=False, edgecolor="white", linewidth=1))
        axes.set_title(MODELS[model].label)
        axes.set_xticks(range(len(events)), events, rotation=90, parse_math=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_yticks(range(len(captions)), captions, parse_math=False)
    figure.colorbar(image, ax=panels, label="cosine", pad=0.01, fraction=0.04)
    return figure, rows


def composite(example: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Mel spectrograms of a composite and of its inversion, and both models' similarities to the captions.

    ``example``: :func:`figures.read.example`. Captions that are true of what is played are bold. The rows are
    ``view, caption, model, cosine``.
    """
    a, b, boundary = example["first"], example["second"], example["boundary_seconds"]
    seconds = example["forward_mel"].shape[1] * example["frame_seconds"]
    said = [(f"{x} before {y}", f"{y} after {x}") for x, y in ((a, b), (b, a))]
    # Of what is played, of the inversion, and the others; prompts may stand before.
    kinds = {c: next((n for n in (0, 1) if c.endswith(said[n])), 2) for c in example["captions"]}
    names = sorted(kinds, key=kinds.get)
    models = present({model for of in example["captions"].values() for model in of}, PAIR)
    loudest = max(example["forward_mel"].max(), example["reversed_mel"].max())
    figure, rows = Figure(figsize=(TEXT, 2.5)), []
    grid = figure.subplots(2, 2, width_ratios=(1.3, 1), sharex="col")
    # The inversion's own boundary: its first segment is the forward one's second.
    views = (("forward", "", (a, b), boundary), ("reversed", "_reversed", (b, a), seconds - boundary))
    for n, ((view, suffix, events, border), (left, right)) in enumerate(zip(views, grid, strict=True)):
        mel, captions = example[f"{view}_mel"], example[f"captions{suffix}"]
        scale = {"vmin": loudest - DEPTH, "vmax": loudest, "interpolation": "nearest"}
        extent = (0, seconds, 0, len(mel))
        image = left.imshow(mel, origin="lower", aspect="auto", extent=extent, **scale)
        left.axvline(border, color="white", linestyle="--", linewidth=1)
        for event, middle in zip(events, (border / 2, (border + seconds) / 2), strict=True):
            left.text(middle, 1.01 * len(mel), event, ha="center", va="bottom", parse_math=False)
        left.set_ylabel(f"{('composite', 'inversion')[n]}\nmel band", **TIGHT)
        for look, model in ((MODELS[model], model) for model in models):
            cosines = [captions[name][model] for name in names]
            right.plot(cosines, range(len(names)), look.marker, color=look.colour, markersize=3.4)
        right.set_yticks(range(len(names)), names, parse_math=False)
        for label in right.get_yticklabels():
            label.set_fontweight("bold" if kinds[label.get_text()] == n else "normal")
        for above, (one, other) in enumerate(itertools.pairwise(map(kinds.get, names))):
            if one != other:
                right.axhline(above + 0.5, color="#999999", linewidth=0.5)
        right.set_ylim(len(names) - 0.5, -0.5)
        right.tick_params(axis="y", length=0)
        right.grid(True, axis="x")
        rows += [(view, caption, *entry) for caption, of in captions.items() for entry in of.items()]
    grid[1, 0].set_xlabel("time (s)")
    grid[1, 1].set_xlabel("cosine (bold: true)")
    figure.colorbar(image, ax=grid[:, 0], label="dB", pad=0.01, fraction=0.03)
    legend_above(figure, [dot(MODELS[model]) for model in models])
    return figure, pd.DataFrame(rows, columns=["view", "caption", "model", "cosine"])
