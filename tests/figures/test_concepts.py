from __future__ import annotations

import itertools

import numpy as np
import pytest

from figures import concepts
from figures import registry as figures


def by_definition(items: int, same: float, cross: float, same_overlap: float, cross_overlap: float):
    """A as the loss's docstring write it, block by block."""
    eye, ones = np.eye(items), np.ones((items, items))
    time = cross * ones + (same - cross) * eye
    overlap = cross_overlap * ones + (same_overlap - cross_overlap) * eye
    return np.block([[ones, time, overlap], [time, ones, overlap], [overlap, overlap, ones]])


@pytest.mark.parametrize("items", [2, 3, 5])
def test_the_measured_weights_are_those_of_the_definition(items):
    values = [value for value, _ in concepts.ALPHAS.values()]
    assert len({1.0, *values}) == 5, "told apart by value"
    assert concepts.loss_weights(items) == pytest.approx(by_definition(items, *values), abs=1e-9)


def test_the_weights_are_measured_on_the_loss(monkeypatch):
    """A loss that weighs otherwise gives another matrix."""
    from tclap import losses

    shipped = losses.temporal_nce

    def without_time(*embeddings, **options):
        return shipped(*embeddings, **options | {"alpha_same": 0.3})

    monkeypatch.setattr(losses, "temporal_nce", without_time)
    found = concepts.loss_weights(2)
    assert found[0, 2] == pytest.approx(0.3) and found[2, 0] == pytest.approx(0.3)
    assert found[0, 3] == pytest.approx(0.6) and found[0, 4] == pytest.approx(0.4)


def test_the_loss_matrix_writes_each_weight_in_its_cell_and_marks_the_matches():
    axes = concepts.figure_loss_matrix().axes[0]
    cells = [patch for patch in axes.patches if patch.get_width() == patch.get_height() == 0.29]
    assert len(cells) == 81
    found = {}
    for patch in cells:
        x, y = patch.get_xy()
        row, column = round((3.0 - y) / 0.29) - 1, round((x - 0.68) / 0.29)
        (text,) = (t for t in axes.texts if patch.contains_point(axes.transData.transform(t.get_position())))
        found[row, column] = text.get_text(), patch.get_facecolor(), text.get_color()
    symbols = dict(enumerate(["1", *(symbol for _, symbol in concepts.ALPHAS.values())]))
    for u, v in itertools.product(range(9), repeat=2):
        same_view, same_pair, overlap = u // 3 == v // 3, u % 3 == v % 3, 2 in (u // 3, v // 3)
        number = 0 if same_view else 1 + 2 * overlap + (not same_pair)
        assert found[u, v][0] == symbols[number], (u, v)
        assert (found[u, v][2] == "white") == (u == v)
    assert len({colour for (u, v), (_, colour, _) in found.items() if u == v}) == 1
    assert len({colour for _, colour, _ in found.values()}) == 6


@pytest.mark.parametrize("name", figures.CONCEPTS)
def test_words_stay_within_the_figure_and_apart(name):
    figure = figures.CONCEPTS[name]()
    assert figure.get_figwidth() in (3.4, 7.0)
    figure.set_dpi(600)  # at few dots an inch, hinting makes words wider than they are printed
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = {}
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text
        assert text.get_fontsize() >= 7
        boxes[text] = box
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, (one.get_text(), other.get_text())


def test_concepts_need_no_run(tmp_path):
    for name in figures.CONCEPTS:
        assert figures.build(name, tmp_path / "nowhere").axes
