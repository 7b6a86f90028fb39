"""Training curves: loss, validation accuracy, and the cosine of a composite and its inversion."""

import pandas as pd
from matplotlib.figure import Figure

from figures.marks import CHANCE, key, legend_above, nothing
from figures.style import MAIN, MODELS, TEXT, present

PANELS = {
    "loss": "training loss",
    "validation_two_way": "validation 2-way (%)",
    "cosine": "cosine(forward, reversed)",
}
QUANTITIES = {"loss": ("loss", "-"), "validation_two_way": ("validation_two_way", "-"),
              "cosine_audio": ("cosine", "-"), "cosine_text": ("cosine", "--")}  # fmt: skip
"""Columns of a history, each with its panel and its line."""
SMOOTHED = 10
"""Steps of one seed that a loss is the mean of."""


def curves(history: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Mean (line) and range (band) over seeds of the main models' training, else of the others.

    Losses of different models sum over different negatives: only their course compares. A cosine near 1 says
    that a tower cannot tell a composite from its inversion (solid: audio, dashed: text). The rows are
    ``model, quantity, step, mean, min, max``, one row per step that has a value.
    """
    trained = set(history["model"]) & set(MODELS)
    rows = history[history["model"].isin(trained & set(MAIN) or trained)].sort_values("step", kind="stable")
    losses = rows.groupby(["model", "seed"])["loss"]
    rows = rows.assign(loss=losses.transform(lambda loss: loss.rolling(SMOOTHED, min_periods=1).mean()))
    long = rows.melt(["model", "seed", "step"], list(QUANTITIES), "quantity").dropna(subset="value")
    rows = long.groupby(["model", "quantity", "step"])["value"].agg(["mean", "min", "max"]).reset_index()
    if rows.empty:
        return nothing(TEXT, "No training of the compared models to show."), rows
    figure = Figure(figsize=(TEXT, 1.75))
    panels = dict(zip(PANELS, figure.subplots(1, len(PANELS)), strict=True))
    for (model, quantity), curve in rows.groupby(["model", "quantity"]):
        (panel, style), look = QUANTITIES[quantity], {"color": MODELS[model].colour}
        marker = None if quantity == "loss" else MODELS[model].marker
        panels[panel].plot(curve["step"], curve["mean"], style, marker=marker, markersize=3, **look)
        panels[panel].fill_between(curve["step"], curve["min"], curve["max"], alpha=0.2, lw=0, **look)
    for panel, axes in panels.items():
        axes.set(title=PANELS[panel], xlabel="step")
        axes.grid(True)
    panels["validation_two_way"].axhline(50, **CHANCE)
    panels["validation_two_way"].set_ylim(0, 103)
    looks = [MODELS[model] for model in present(rows["model"])]
    keys = [key(look.label, color=look.colour, marker=look.marker, markersize=3) for look in looks]
    kinds = [key("audio", color="black"), key("text", color="black", linestyle="--"), key("chance", **CHANCE)]
    legend_above(figure, [*keys, *kinds])
    return figure, rows
