"""What each variant is, by its name; its loss is tested in ``test_post_pretraining.py``."""

from dataclasses import replace
from itertools import product

import pytest

from tclap.training.variants import FACTORIAL, VARIANTS, variant

VIEWS = ("", "-no-inversion", "-no-overlap", "-no-temporal-negatives")
TEXT = {
    "": {},
    "-text-warm-up": {"text_loss": False},
    "-text-none": {"text_loss": False, "base": "clap-no-text-loss"},
}


def test_the_factorial_crosses_views_with_text_and_has_its_controls_beside_it():
    cells = product(VIEWS, TEXT)
    assert {f"t-clap{v}{t}": replace(VARIANTS[f"t-clap{v}"], **TEXT[t]) for v, t in cells} == FACTORIAL
    assert len(set(FACTORIAL.values())) == 12 and FACTORIAL.items() <= VARIANTS.items()
    controls = {"clap-continued", "clap-ordered", "t-clap-no-replay", "t-clap-more-wordings"}
    distinct = {"t-clap-distinct", "t-clap-alpha-same-0", "t-clap-alpha-cross-0"}
    assert VARIANTS.keys() - FACTORIAL.keys() == controls | distinct
    assert VARIANTS["clap-ordered"] == replace(VARIANTS["t-clap-no-temporal-negatives"], pairs=3)


@pytest.mark.parametrize(
    "change",
    [{"view_weights": (1.0, 0.5, 0.0)}, {"view_weights": (1.0, 0.0, 0.5)}]
    + [{f"alpha_{kind}": 0.5} for kind in ("same", "cross", "same_overlap", "cross_overlap")],
)
def test_a_view_that_has_anchors_or_is_a_negative_is_taken(change):
    assert variant("clap-ordered").views == 1 and replace(variant("clap-ordered"), **change).views == 3
