"""What stands side by side differs in lightness: a grey print or a colour-blind reader tells it apart."""

import itertools

import made_up
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from figures import concepts, style
from figures import registry as figures

APART = 10


def lightness(colour) -> float:
    """CIELAB's L* of an sRGB colour, what is left of it in a grey print."""
    values = np.array(to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return 116 * np.cbrt(luminance) - 16 if luminance > 216 / 24389 else 24389 / 27 * luminance


def test_lightness_is_what_is_known_of_it():
    # CIE 1976: white has 100, sRGB's red about 53.2, its blue 32.3.
    known = [lightness(colour) for colour in ("white", "black", "#FF0000", "#0000FF")]
    assert known == pytest.approx([100, 0, 53.2, 32.3], abs=0.1)


@pytest.mark.parametrize("name", figures.RESULTS)
def test_entries_of_a_legend_differ_in_lightness_or_mark(name, run):
    content = made_up.summary()
    content["models"] = dict.fromkeys(style.MODELS, content["models"]["t-clap"])
    content["controls"] = dict.fromkeys(style.MODELS, content["controls"]["t-clap"])
    made_up.write(run, content)
    figure = figures.build(name, run)
    lines = [line for legend in figure.legends for line in legend.legend_handles]
    assert len(lines) >= {"similarity": 0, "tasks": 7, "conditions": 6}.get(name, 2)
    looks = [(line.get_marker(), line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in lines]
    for (one, look), (other, another) in itertools.combinations(zip(lines, looks, strict=True), 2):
        apart = abs(lightness(one.get_color()) - lightness(other.get_color()))
        assert look != another or apart >= APART, (one, other)


@pytest.mark.parametrize(
    "colours",
    [
        [style.MODELS[name].colour for name in style.PLOTTED_MODELS],
        [concepts.FIRST, concepts.SECOND, "white"],
    ],
)
def test_colours_that_stand_side_by_side_differ_without_any_mark(colours):
    for one, other in itertools.combinations(colours, 2):
        assert abs(lightness(one) - lightness(other)) >= APART, (one, other)


def test_no_two_models_look_or_are_called_alike():
    for look in (lambda model: model.label, lambda model: (model.colour, model.marker)):
        assert len({look(model) for model in style.MODELS.values()}) == len(style.MODELS)
