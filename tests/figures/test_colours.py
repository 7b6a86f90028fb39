"""What is told apart in a legend stays so for colour-blind readers and in a grey print."""

from __future__ import annotations

import itertools

import made_up
import numpy as np
import pytest
import vision
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from figures import concepts, style
from figures import registry as figures
from figures.connectives import LOOKS

APART, APART_IN_GREY = 15, 10
"""Least difference in CIELAB, and least difference of lightness."""


def test_the_simulation_knows_what_is_known():
    # CIE 1976: white is (100, 0, 0) and sRGB's red about (53.2, 80.1, 67.2).
    assert vision.lab(vision.linear("white")) == pytest.approx([100, 0, 0], abs=1e-3)
    assert vision.lab(vision.linear("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert vision.lightness("#777777") == pytest.approx(50.03, abs=0.02)
    # Greys stay grey to all eyes, red and green come together, blue and yellow do not.
    for eyes in ("no green", "no red"):
        assert vision.difference("#808080", "#808080", eyes) == 0
        assert np.abs(vision.lab(vision.EYES[eyes] @ vision.linear("#808080"))[1:]).max() < 0.1
        assert (
            vision.difference("#DD2200", "#886600", eyes) < vision.difference("#DD2200", "#886600", "all") / 2
        )
        assert vision.difference("#0000FF", "#FFFF00", eyes) > 100


def told_apart(one, other) -> bool:
    """By colour in all eyes and in grey."""
    seen = min(vision.difference(one, other, eyes) for eyes in vision.EYES)
    return seen >= APART and abs(vision.lightness(one) - vision.lightness(other)) >= APART_IN_GREY


def looks(figure):
    """Colour and what else marks each entry of a figure's legends: marker, line, hatch."""
    for legend in figure.legends:
        for handle in legend.legend_handles:
            if isinstance(handle, Patch):
                yield handle.get_facecolor(), ("bar", handle.get_hatch() or "")
            else:
                line = handle.get_linestyle()
                yield (
                    to_rgba(handle.get_color()),
                    (handle.get_marker(), line, str(handle._unscaled_dash_pattern)),
                )


def check(figure, name: str) -> int:
    entries = list(looks(figure))
    for (one, mark), (other, another) in itertools.combinations(entries, 2):
        assert mark != another or told_apart(one, other), (name, mark, one, other)
    return len(entries)


EVERY_MODEL = made_up.summary() | {
    "models": dict.fromkeys(style.MODELS, made_up.summary()["models"]["t-clap"])
}


def asked_of_all(summary: dict) -> dict:
    """With controls of all models that any figure shows."""
    some = summary["controls"]["t-clap"]
    return summary | {"controls": dict.fromkeys(style.MODELS, some)}


@pytest.mark.parametrize("name", figures.RESULTS)
def test_legends_of_all_figures_can_be_read_by_all(name, run):
    source = figures.RESULTS[name].source
    content = asked_of_all(EVERY_MODEL) if source == "summary" else figures.RESULTS[name].read(run)
    count = check(figures.RESULTS[name].draw(content), name)
    expected = {
        "ablation": 0,
        "similarity": 0,
        "slot_ablation": 0,
        "tasks": 6,
        "conditions": 5,
        "hold_out": 5,
    }
    assert count >= expected.get(name, 2)


@pytest.mark.parametrize(
    "colours",
    [
        [style.MODELS[name].colour for name in style.ASKED],
        [concepts.FIRST, concepts.SECOND, "white"],
        [colour for colour, _ in LOOKS.values()],
    ],
)
def test_colours_that_stand_side_by_side_differ_without_any_mark(colours):
    for one, other in itertools.combinations(colours, 2):
        assert told_apart(one, other), (one, other)


@pytest.mark.parametrize("name", ["similarity", "composite"])
def test_pictures_get_lighter_in_one_direction_for_all_eyes(name, run):
    figure = figures.build(name, run)
    for axes in figure.axes:
        for image in axes.get_images():
            colours = image.get_cmap()(np.linspace(0, 1, 17))[:, :3]
            for matrix in vision.EYES.values():
                levels = [vision.lab(matrix @ vision.linear(colour))[0] for colour in colours]
                assert np.diff(levels).min() > 0
