import itertools

import numpy as np
import pytest
import torch

from figures import concepts
from figures import registry as figures
from tclap.losses import temporal_nce

VALUES = {"alpha_same": 0.8, "alpha_cross": 0.6, "alpha_same_overlap": 0.4, "alpha_cross_overlap": 0.2}


def measured(items: int) -> np.ndarray:
    """The weights ``[3 N, 3 N]`` of texts against sounds, by the gradients of the loss itself.

    With orthogonal embeddings all similarities are 0, so that the logits are log A. For anchors of one
    view the gradient of text u's embedding along audio v's is then ``½ A_uv / R_u``, the column's own
    anchor adding as much within the view, and ``1 / R_u − 1`` at the match, where R_u is the sum of row u.
    """
    weights = np.empty((3 * items, 3 * items))
    for view in range(3):
        text, audio = torch.eye(6 * items, dtype=torch.float64).reshape(2, 3, items, 6 * items)
        text.requires_grad_()
        anchors = tuple(float(v == view) for v in range(3))
        temporal_nce(audio, text, 1.0, view_weights=anchors, **VALUES).backward()
        gradient = items * text.grad[view, :, 3 * items :].numpy()
        own = slice(view * items, (view + 1) * items)
        block = 2 * gradient / (1 + gradient[:, own].diagonal())[:, None]
        block[:, own] /= 2
        block[:, own][np.diag_indices(items)] = 1.0
        weights[own] = block
    return weights


def test_the_loss_matrix_shows_the_weights_of_the_loss_and_marks_the_matches():
    axes = concepts.loss_matrix().axes[0]
    written = dict(zip([1.0, *VALUES.values()], dict.fromkeys(concepts.SYMBOLS), strict=True))
    expected = np.vectorize(lambda value: written[round(value, 9)])(measured(3))
    said = {(int(y), int(x)): text for text in axes.texts for x, y in (text.get_position(),)}
    assert {place: text.get_text() for place, text in said.items()} == dict(np.ndenumerate(expected))
    kinds = axes.collections[0].get_array()
    assert len(set(zip(expected.flat, kinds.flat, strict=True))) == 6, "a colour for each, the match apart"
    for (u, v), text in said.items():
        assert (text.get_color() == "white") == (kinds[u, v] == kinds[0, 0]) == (u == v)


@pytest.mark.parametrize("name", figures.CONCEPTS)
def test_words_stay_within_the_figure_and_apart(name, tmp_path):
    figure = figures.build(name, tmp_path / "nowhere")
    assert figure.get_figwidth() in (3.4, 7.0)
    figure.set_dpi(600)  # at few dots an inch, hinting makes words wider than they are printed
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text
        assert text.get_fontsize() >= 7
    for (one, a), (other, b) in itertools.combinations(
        [(t.get_text(), t.get_window_extent()) for t in texts], 2
    ):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, (one, other)
