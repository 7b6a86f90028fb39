"""What each variant is, by its name."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tclap.training.variants import FACTORIAL, VARIANTS, Variant

VIEWS = ("", "-no-inversion", "-no-overlap", "-no-temporal-negatives")
TEXT = ("", "-text-warm-up", "-text-none")


@pytest.mark.parametrize("text", TEXT)
@pytest.mark.parametrize("views", VIEWS)
def test_a_cell_of_the_factorial_differs_from_t_clap_as_it_is_named(views, text):
    expected = asdict(Variant())
    if views in ("-no-inversion", "-no-temporal-negatives"):
        expected |= {"alpha_same": 0.0, "alpha_cross": 0.0}
    if views in ("-no-overlap", "-no-temporal-negatives"):
        expected |= {"alpha_same_overlap": 0.0, "alpha_cross_overlap": 0.0}
    weights = {"-no-inversion": (1, 0, 1), "-no-overlap": (1, 1, 0), "-no-temporal-negatives": (1, 0, 0)}
    expected["view_weights"] = weights.get(views, (1, 1, 1))
    expected |= {"text_loss": text == "", "base": "clap-no-text-loss" if text == "-text-none" else "clap"}
    assert asdict(VARIANTS[f"t-clap{views}{text}"]) == expected
    assert VARIANTS[f"t-clap{views}{text}"].views == (1 if views == "-no-temporal-negatives" else 3)


def test_the_factorial_is_complete_and_has_its_controls_beside_it():
    assert FACTORIAL.keys() == {f"t-clap{views}{text}" for views in VIEWS for text in TEXT}
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
    assert replace(VARIANTS["clap-ordered"], **change).views == 3
