"""Losses against a naive float64 double loop, and the identities the paper states."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tclap.losses import clip_loss, temporal_nce


def embeddings(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def naive_tnce(audio, text, tau, alphas, view_weights, events=None):
    """The loss written out term by term with plain floats."""
    same, cross, same_o, cross_o = alphas
    size = audio.shape[1]

    def weight(u, n, v, m):
        if u == v:
            return 1.0
        if 2 in (u, v):
            return same_o if n == m else cross_o
        return same if n == m else cross

    def direction(anchor, candidate):
        total = 0.0
        for u in range(3):
            if view_weights[u] == 0:
                continue
            for n in range(size):
                denominator = 0.0
                for v, m in itertools.product(range(3), range(size)):
                    own = (v, m) == (u, n)
                    if not own and events is not None and events[v, m] == events[u, n]:
                        continue
                    similarity = float(anchor[u, n] @ candidate[v, m])
                    denominator += weight(u, n, v, m) * math.exp(tau * similarity)
                own_similarity = float(anchor[u, n] @ candidate[u, n])
                loss = math.log(denominator) - tau * own_similarity
                total += view_weights[u] * loss / size
        return total / sum(view_weights)

    return 0.5 * (direction(text, audio) + direction(audio, text))


ALPHAS = [(1, 1, 1, 1), (0, 0, 0, 0), (0, 1, 1, 1), (1, 0, 1, 1), (0.5, 2.0, 0, 0.25), (3, 0, 0, 1)]
WEIGHTS = [(1, 1, 1), (1, 0, 0), (1, 1, 0), (0, 0, 2), (1, 0.5, 0.25)]
NAMES = ("alpha_same", "alpha_cross", "alpha_same_overlap", "alpha_cross_overlap")


def event_ids(kind, size):
    if kind is None:
        return None
    if kind == "distinct":
        return torch.arange(3 * size).reshape(3, size)
    if kind == "equal":
        return torch.zeros(3, size, dtype=torch.long)
    # The first and the last pair are inversions of each other, and so are their views.
    ids = torch.arange(3 * size).reshape(3, size)
    ids[0, -1], ids[1, -1] = ids[1, 0].item(), ids[0, 0].item()
    ids[2, -1] = ids[2, 0]
    return ids


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("kind", [None, "distinct", "duplicate", "equal"])
def test_temporal_nce_equals_the_double_loop(size, kind):
    audio, text = embeddings(3, size, 5, seed=size), embeddings(3, size, 5, seed=size + 100)
    events = event_ids(kind, size)
    for alphas, weights in itertools.product(ALPHAS, WEIGHTS):
        expected = naive_tnce(audio, text, 7.5, alphas, weights, events)
        options = dict(zip(NAMES, alphas, strict=True), view_weights=weights, events=events)
        value = temporal_nce(audio, text, 7.5, **options)
        assert value.item() == pytest.approx(expected, abs=1e-12)
        for chunk in (2, 1000):
            chunked = temporal_nce(audio, text, 7.5, chunk_size=chunk, **options)
            assert chunked.item() == pytest.approx(expected, abs=1e-12)


def test_clip_loss_equals_the_double_loop_and_torch():
    audio, text = embeddings(6, 5), embeddings(6, 5, seed=1)
    logits = 3.0 * text @ audio.T
    target = torch.arange(6)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))
    assert clip_loss(audio, text, 3.0).item() == pytest.approx(expected.item(), abs=1e-12)

    events = torch.tensor([0, 1, 0, 2, 2, 2])
    remove = (events[:, None] == events[None]) & ~torch.eye(6, dtype=torch.bool)
    logits = logits.masked_fill(remove, -math.inf)
    expected = 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))
    assert clip_loss(audio, text, 3.0, events).item() == pytest.approx(expected.item(), abs=1e-12)
    assert clip_loss(audio, text, 3.0, torch.zeros(6, dtype=torch.long)).item() == 0.0


@pytest.mark.parametrize("view", [0, 1, 2])
def test_one_view_without_time_is_clip_loss(view):
    audio, text = embeddings(3, 4, 6), embeddings(3, 4, 6, seed=1)
    weights = [0.0, 0.0, 0.0]
    weights[view] = 2.0
    value = temporal_nce(audio, text, 5.0, view_weights=tuple(weights), **dict.fromkeys(NAMES, 0.0))
    assert value.item() == pytest.approx(clip_loss(audio[view], text[view], 5.0).item(), abs=1e-14)


@pytest.mark.parametrize("kind", [None, "equal", "duplicate"])
def test_alpha_zero_has_finite_value_and_gradient(kind):
    size = 3
    audio = embeddings(3, size, 4).requires_grad_()
    text = embeddings(3, size, 4, seed=1).requires_grad_()
    tau = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    loss = temporal_nce(audio, text, tau, events=event_ids(kind, size), **dict.fromkeys(NAMES, 0.0))
    loss.backward()
    assert math.isfinite(loss.item())
    for tensor in (audio, text, tau):
        assert torch.isfinite(tensor.grad).all()
    if kind == "equal":
        assert loss.item() == 0.0
        assert tau.grad.item() == 0.0


def test_gradients_by_finite_differences():
    size = 3
    audio = embeddings(3, size, 4).requires_grad_()
    text = embeddings(3, size, 4, seed=1).requires_grad_()
    tau = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    events = event_ids("duplicate", size)

    def loss(a, t, s):
        options = dict(alpha_same=0.0, alpha_cross=0.5, alpha_same_overlap=2.0)
        return temporal_nce(a, t, s, view_weights=(1, 0.5, 0), events=events, **options)

    assert torch.autograd.gradcheck(loss, (audio, text, tau))


def test_permuting_the_batch_changes_nothing():
    audio, text = embeddings(3, 7, 5), embeddings(3, 7, 5, seed=1)
    events = event_ids("duplicate", 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    options = dict(alpha_same=0.5, alpha_cross=2.0, view_weights=(1, 0.5, 0.2))
    before = temporal_nce(audio, text, 6.0, events=events, **options)
    after = temporal_nce(audio[:, order], text[:, order], 6.0, events=events[:, order], **options)
    assert after.item() == pytest.approx(before.item(), abs=1e-13)
    assert clip_loss(audio[0][order], text[0][order], 6.0, events[0][order]).item() == pytest.approx(
        clip_loss(audio[0], text[0], 6.0, events[0]).item(), abs=1e-13
    )


def test_an_order_blind_model_pays_log_two():
    """Two identical ordered views and no other negative: the plateau a model without order sits on."""
    both = embeddings(1, 1, 4).expand(3, 1, 4)
    value = temporal_nce(
        both, both, 50.0, alpha_same_overlap=0.0, alpha_cross_overlap=0.0, view_weights=(1, 1, 0)
    )
    assert value.item() == pytest.approx(math.log(2), abs=1e-12)


def test_half_precision_is_computed_in_float32():
    audio, text = embeddings(3, 4, 16), embeddings(3, 4, 16, seed=1)
    half = temporal_nce(audio.bfloat16(), text.bfloat16(), 100.0)
    full = temporal_nce(audio.bfloat16().double(), text.bfloat16().double(), 100.0)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(alpha_same=-0.1), "alpha_same"),
        (dict(alpha_cross_overlap=math.nan), "alpha_cross_overlap"),
        (dict(view_weights=(0, 0, 0)), "view_weights"),
        (dict(view_weights=(1, -1, 1)), "view_weights"),
        (dict(view_weights=(1, 1)), "view_weights"),
        (dict(events=torch.zeros(4, dtype=torch.long)), "events"),
        (dict(events=torch.zeros(3, 4)), "events"),
        (dict(chunk_size=0), "chunk_size"),
    ],
)
def test_bad_options_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        temporal_nce(embeddings(3, 4, 5), embeddings(3, 4, 5), 1.0, **options)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="3 views"):
        temporal_nce(embeddings(2, 4, 5), embeddings(2, 4, 5), 1.0)
    with pytest.raises(ValueError, match=r"\[3, N, d\]"):
        temporal_nce(embeddings(3, 4, 5), embeddings(3, 5, 5), 1.0)
    with pytest.raises(ValueError, match=r"\[N, d\]"):
        clip_loss(embeddings(3, 4, 5), embeddings(3, 4, 5), 1.0)
    with pytest.raises(ValueError, match="logit_scale"):
        clip_loss(embeddings(4, 5), embeddings(4, 5), torch.ones(2))
    with pytest.raises(ValueError, match="events"):
        clip_loss(embeddings(4, 5), embeddings(4, 5), 1.0, torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="chunk_size"):
        clip_loss(embeddings(4, 5), embeddings(4, 5), 1.0, chunk_size=0)
