"""Figures of rows and arrays: order margins, similarity matrices, training curves, one composite."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from figures.marks import CHANCE, TIGHT, bar_look, legend_above, line, nothing, spread, swatches
from figures.read import Example
from figures.style import COLUMN, MAIN, MODELS, TEXT, present, styled

WORDINGS = {"2way_before": "\u201cA before B\u201d", "2way_after": "\u201cB after A\u201d"}
BINS = 40
DEPTH = 60  # dB below the loudest that a composite's spectrograms show


def rows_margins(results: pd.DataFrame) -> pd.DataFrame:
    """Histograms of the order margin: ``model, task, left, right`` (cosine), ``share`` (%) and ``n``.

    ``results``: rows of all items with ``model, task, margin`` (cosine units), seeds pooled.
    """
    rows = results[results["task"].isin(WORDINGS) & results["margin"].notna()]
    models = present(rows["model"].unique(), MAIN)
    rows = rows[rows["model"].isin(models)]
    reach = 1.02 * max(rows["margin"].abs().max(), 1e-3)
    # An even number of bins keeps zero, which splits right from wrong, an edge.
    edges = np.linspace(-reach, reach, BINS + 1)
    parts = []
    for model, task in itertools.product(models, WORDINGS):
        margins = rows.loc[(rows["model"] == model) & (rows["task"] == task), "margin"].to_numpy()
        if len(margins):
            share = 100 * np.histogram(margins, edges)[0] / len(margins)
            bins = {"left": edges[:-1], "right": edges[1:], "share": share, "n": len(margins)}
            parts.append(pd.DataFrame({"model": model, "task": task, **bins}))
    return pd.concat(parts, ignore_index=True)


def figure_margins(results: pd.DataFrame) -> Figure:
    """Distributions of the order margin, similarity to the true caption minus to its inversion.

    Of :func:`rows_margins`. What lies right of zero is right; an order-blind model piles up at zero.
    """
    with styled():
        rows = rows_margins(results)
        models = list(rows["model"].unique())
        figure = Figure(figsize=(COLUMN, 1.9))
        panels = figure.subplots(1, len(WORDINGS), sharey=True)
        for axes, (task, title) in zip(panels, WORDINGS.items(), strict=True):
            for model, bins in rows[rows["task"] == task].groupby("model", sort=False):
                edges, look = [*bins["left"], bins["right"].iloc[-1]], MODELS[model]
                axes.stairs(bins["share"], edges, fill=True, color=look.colour, alpha=0.25, linewidth=0)
                axes.stairs(bins["share"], edges, color=look.colour, linestyle=look.line, linewidth=1.2)
            axes.axvline(0, color="black", linewidth=0.6)
            axes.set_title(title)
            axes.set_xlim(rows["left"].min(), rows["right"].max())
        # After both panels: a limit that is set ends the shared axis's fitting to what comes later.
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("items a bin (%)")
        figure.supxlabel("order margin (cosine)", fontsize="medium")
        legend_above(figure, [line(model) for model in models], 3)
    return figure


def rows_similarity(similarity: pd.DataFrame) -> pd.DataFrame:
    """Cosines of captions and composites of base and T-CLAP, first seed only:
    ``model, row, column, row_caption, column_event, similarity``."""
    models = present(similarity["model"].unique(), ("clap", "t-clap"))
    rows = similarity[similarity["model"].isin(models) & (similarity["seed"] == similarity["seed"].min())]
    columns = ["model", "row", "column", "row_caption", "column_event", "similarity"]
    return rows[columns].reset_index(drop=True)


def figure_similarity(similarity: pd.DataFrame) -> Figure:
    """Cosine of captions (rows) and composites (columns), base beside T-CLAP on one colour scale.

    Pairs stand forward and reversed in adjacent rows and columns, so that an order-blind model shows
    blocks of 2 by 2 (outlined) of one colour, and an order-aware one their diagonals. First seed only.
    """
    with styled():
        rows = rows_similarity(similarity)
        models = present(rows["model"].unique(), ("clap", "t-clap"))
        limits = rows["similarity"].min(), rows["similarity"].max()
        captions = rows.drop_duplicates("row").sort_values("row")["row_caption"].tolist()
        events = rows.drop_duplicates("column").sort_values("column")["column_event"]
        events = events.str.replace(" > ", " \N{RIGHTWARDS ARROW} ").tolist()
        figure = Figure(figsize=(TEXT, 1.4 + 0.16 * len(captions)))
        panels = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
        for axes, model in zip(panels, models, strict=True):
            part = rows[rows["model"] == model]
            matrix = part.pivot(index="row", columns="column", values="similarity").to_numpy()
            image = axes.imshow(matrix, vmin=limits[0], vmax=limits[1], aspect="auto")
            for corner in range(0, min(matrix.shape) - 1, 2):
                outline = Rectangle(
                    (corner - 0.5, corner - 0.5), 2, 2, fill=False, edgecolor="white", linewidth=1
                )
                axes.add_patch(outline)
            axes.set_title(MODELS[model].label)
            axes.set_xticks(range(len(events)), events, rotation=90)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        panels[0].set_yticks(range(len(captions)), captions)
        figure.colorbar(image, ax=panels, label="cosine", pad=0.01, fraction=0.04)
    return figure


CURVES = {
    "loss": "training loss",
    "validation_two_way": "validation 2-way (%)",
    "cosine": "cosine(forward, reversed)",
}
QUANTITIES = {"loss": ("loss", "-"), "validation_two_way": ("validation_two_way", "-"),
              "cosine_audio": ("cosine", "-"), "cosine_text": ("cosine", "--")}  # fmt: skip
"""Columns of a history, each with its panel of CURVES and its line."""


def rows_curves(history: pd.DataFrame, smooth: int = 10) -> pd.DataFrame:
    """Mean and range over seeds of the main models' training, of others' where none of these was trained:
    ``model, quantity, step, mean, min, max``, one row a step that has a value.

    The loss is a mean over ``smooth`` steps of one seed.
    """
    trained = set(history["model"]) & set(MODELS)
    rows = history[history["model"].isin(trained & set(MAIN) or trained)].sort_values("step", kind="stable")
    smoothed = rows.groupby(["model", "seed"])["loss"].transform(
        lambda loss: loss.rolling(smooth, min_periods=1).mean()
    )
    long = rows.assign(loss=smoothed).melt(["model", "seed", "step"], list(QUANTITIES), "quantity")
    found = long.dropna(subset="value").groupby(["model", "quantity", "step"])["value"]
    return found.agg(["mean", "min", "max"]).reset_index()


def figure_curves(history: pd.DataFrame, smooth: int = 10) -> Figure:
    """Loss, validation two-way accuracy and forward-to-reversed cosine while training.

    Of :func:`rows_curves`: lines are means over seeds, bands their range. Losses of different models sum
    over different negatives, so only their course compares. A cosine near 1 says that a tower cannot tell
    a composite from its inversion (solid: audio, dashed: text).
    """
    with styled():
        rows = rows_curves(history, smooth)
        if rows.empty:
            return nothing(TEXT, "No training of the compared models to show.")
        models = present(rows["model"])
        figure = Figure(figsize=(TEXT, 2.0))
        panels = dict(zip(CURVES, figure.subplots(1, len(CURVES)), strict=True))
        for model, (quantity, (panel, style)) in itertools.product(models, QUANTITIES.items()):
            curve = rows[(rows["model"] == model) & (rows["quantity"] == quantity)]
            look = {"color": MODELS[model].colour}
            marker = None if quantity == "loss" else MODELS[model].marker
            axes = panels[panel]
            axes.plot(curve["step"], curve["mean"], style, marker=marker, markersize=3, **look)
            axes.fill_between(curve["step"], curve["min"], curve["max"], alpha=0.2, lw=0, **look)
        for panel, axes in panels.items():
            axes.set_title(CURVES[panel])
            axes.set_xlabel("step")
            axes.grid(True)
        panels["validation_two_way"].axhline(50, zorder=0.9, **CHANCE)
        panels["validation_two_way"].set_ylim(0, 103)
        models = [line(m, linestyle="-", marker=MODELS[m].marker, markersize=3) for m in models]
        kinds = [
            Line2D([], [], color="black", label="audio"),
            Line2D([], [], color="black", linestyle="--", label="text"),
            Line2D([], [], **CHANCE, label="chance"),
        ]
        legend_above(figure, models + kinds, 6)
    return figure


def rows_composite(example: Example) -> pd.DataFrame:
    """The spectrograms (dB) and the captions' cosines:
    ``view, quantity, second, band, caption, model, value``."""
    parts = []
    for view, mel, captions in (
        ("forward", example.forward_mel, example.captions),
        ("reversed", example.reversed_mel, example.captions_reversed),
    ):
        band, frame = np.indices(mel.shape)
        levels = {
            "second": (frame * example.frame_seconds).ravel(),
            "band": band.ravel(),
            "value": mel.ravel(),
        }
        parts.append(pd.DataFrame({"view": view, "quantity": "level"} | levels))
        cosines = [(caption, model, c) for caption, of in captions.items() for model, c in of.items()]
        cosines = pd.DataFrame(cosines, columns=["caption", "model", "value"])
        parts.append(cosines.assign(view=view, quantity="cosine"))
    columns = ["view", "quantity", "second", "band", "caption", "model", "value"]
    return pd.concat(parts, ignore_index=True)[columns].astype({"band": "Int64"})


def captions_in_groups(example: Example) -> list[list[str]]:
    """The captions that say the order that was played, those of the inversion, and the others."""
    orders = ((example.first, example.second), (example.second, example.first))
    said = [[f"{a} before {b}", f"{b} after {a}"] for a, b in orders]
    # Prompts may stand before them.
    groups = [[c for w in wordings for c in example.captions if c.endswith(w)] for wordings in said]
    others = [c for c in example.captions if not any(c in group for group in groups)]
    return [*groups, others]


def figure_composite(example: Example) -> Figure:
    """Mel spectrograms of a composite and of its inversion, and what both models make of the captions.

    The captions that are right of what is played are bold.
    """
    with styled():
        a, b = example.first, example.second
        seconds = example.forward_mel.shape[1] * example.frame_seconds
        # The inversion's own boundary: its first segment is the forward one's second.
        views = (
            ("composite", (a, b), example.boundary_seconds, example.forward_mel, example.captions),
            (
                "inversion",
                (b, a),
                seconds - example.boundary_seconds,
                example.reversed_mel,
                example.captions_reversed,
            ),
        )
        groups = captions_in_groups(example)
        names = [caption for group in groups for caption in group]
        models = present({model for of in example.captions.values() for model in of}, ("clap", "t-clap"))
        figure = Figure(figsize=(TEXT, 3.3))
        grid = figure.subplots(2, 2, width_ratios=(1.3, 1), sharex="col")
        loudest = max(example.forward_mel.max(), example.reversed_mel.max())
        for n, ((left, right), (view, events, boundary, mel, captions)) in enumerate(
            zip(grid, views, strict=True)
        ):
            extent = (0, seconds, 0, len(mel))
            scale = {"vmin": loudest - DEPTH, "vmax": loudest, "interpolation": "nearest"}
            image = left.imshow(mel, origin="lower", aspect="auto", extent=extent, **scale)
            left.axvline(boundary, color="white", linestyle="--", linewidth=1)
            for event, middle in zip(events, (boundary / 2, (boundary + seconds) / 2), strict=True):
                left.text(middle, 1.01 * len(mel), event, ha="center", va="bottom")
            left.set_ylabel(f"{view}\nmel band", **TIGHT)
            for index, model in enumerate(models):
                y = np.arange(len(names)) + spread(index, len(models), 0.38)
                right.barh(y, [captions[name][model] for name in names], 0.36, **bar_look(model))
            right.set_yticks(range(len(names)), names)
            for label in right.get_yticklabels():
                label.set_fontweight("bold" if label.get_text() in groups[n] else "normal")
            for size in np.cumsum([len(group) for group in groups])[:-1]:
                right.axhline(size - 0.5, color="#999999", linewidth=0.5)
            right.set_ylim(len(names) - 0.5, -0.5)
            right.tick_params(axis="y", length=0)
            right.axvline(0, color="black", linewidth=0.6)
            right.margins(x=0.04)
            right.grid(True, axis="x")
        grid[1, 0].set_xlabel("time (s)")
        grid[1, 1].set_xlabel("cosine (bold: right)")
        figure.colorbar(image, ax=grid[:, 0], label="dB", pad=0.01, fraction=0.03)
        legend_above(figure, swatches(models), 2)
    return figure
