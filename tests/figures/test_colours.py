"""What stands side by side can be told apart in a grey print and without the receptors for green light.

Deuteranopia: Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, severity 1.0, for linear RGB.
Differences are Euclidean in CIELAB (D65, CIE 1976).
"""

from __future__ import annotations

import itertools

import made_up
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Patch

from figures import concepts, style
from figures import registry as figures

ALL = np.eye(3)
NO_GREEN = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
APART, APART_IN_GREY = 15, 10


def lab(colour, eyes=ALL) -> np.ndarray:
    """CIELAB of a colour; the first is lightness, what is left of it in a grey print."""
    values = np.array(to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ (eyes @ linear).clip(0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def told_apart(one, other) -> bool:
    seen = min(np.linalg.norm(lab(one, eyes) - lab(other, eyes)) for eyes in (ALL, NO_GREEN))
    return seen >= APART and abs(lab(one)[0] - lab(other)[0]) >= APART_IN_GREY


def test_the_simulation_knows_what_is_known():
    # CIE 1976: white is (100, 0, 0) and sRGB's red about (53.2, 80.1, 67.2).
    assert lab("white") == pytest.approx([100, 0, 0], abs=1e-3)
    assert lab("#FF0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert told_apart("#0000FF", "#FFFF00") and not told_apart("#DD2200", "#886600")


def looks(figure):
    """Colour and what else marks each entry of a figure's legends: marker, line, hatch."""
    for handle in (handle for legend in figure.legends for handle in legend.legend_handles):
        if isinstance(handle, Patch):
            yield handle.get_facecolor(), handle.get_hatch() or "plain"
        else:
            line = handle.get_linestyle(), str(handle._unscaled_dash_pattern)
            yield to_rgba(handle.get_color()), (handle.get_marker(), *line)


ENTRIES = {"similarity": 0, "tasks": 7, "conditions": 5}


@pytest.mark.parametrize("name", figures.RESULTS)
def test_legends_of_all_figures_can_be_read_by_all(name, run):
    content = made_up.summary()
    content["models"] = dict.fromkeys(style.MODELS, content["models"]["t-clap"])
    content["controls"] = dict.fromkeys(style.MODELS, content["controls"]["t-clap"])
    made_up.write(run, content)
    entries = list(looks(figures.build(name, run)))
    assert len(entries) >= ENTRIES.get(name, 2)
    for (one, mark), (other, another) in itertools.combinations(entries, 2):
        assert mark != another or told_apart(one, other), (mark, one, other)


@pytest.mark.parametrize(
    "colours",
    [
        [style.MODELS[name].colour for name in style.PLOTTED_MODELS],
        [concepts.FIRST, concepts.SECOND, "white"],
    ],
)
def test_colours_that_stand_side_by_side_differ_without_any_mark(colours):
    for one, other in itertools.combinations(colours, 2):
        assert told_apart(one, other), (one, other)


def test_no_two_models_look_or_are_called_alike():
    for look in (lambda model: model.label, lambda model: (model.colour, model.marker)):
        assert len({look(model) for model in style.MODELS.values()}) == len(style.MODELS)
