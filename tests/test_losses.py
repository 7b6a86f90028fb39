"""Losses against a naive float64 double loop, at once and in chunks."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from tclap.losses import clip_loss, temporal_nce

NAMES = ("alpha_same", "alpha_cross", "alpha_same_overlap", "alpha_cross_overlap")
NO_TIME = dict.fromkeys(NAMES, 0.0)


def embeddings(*shape, seed=0, dtype=torch.float64):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(x, dim=-1).to(dtype)


def value_and_gradients(loss, audio, text, tau=9.0, scale_dtype=torch.float64, **options):
    """The loss and its gradients by audio, text and τ, times an arbitrary 0.8."""
    inputs = [
        x.detach().clone().requires_grad_() for x in (audio, text, torch.tensor(tau, dtype=scale_dtype))
    ]
    value = loss(*inputs, **options)
    (0.8 * value).backward()
    return value.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in inputs)


def assert_equal(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance, check_dtype=False)


def naive(audio, text, tau, view_weights, events=None, **alphas):
    """The loss written out term by term in plain floats."""
    views, size, _ = audio.shape

    def alpha(u, n, v, m):
        return 1.0 if u == v else alphas[NAMES[2 * (2 in (u, v)) + (n != m)]]

    total = 0.0
    for anchors, candidates in ((text, audio), (audio, text)):
        similarity = torch.einsum("und,vmd->unvm", anchors, candidates).tolist()
        for u, n in itertools.product(range(views), range(size)):
            terms = [
                alpha(u, n, v, m) * math.exp(tau * (similarity[u][n][v][m] - similarity[u][n][u][n]))
                for v, m in itertools.product(range(views), range(size))
                if (u, n) == (v, m) or events is None or events[u, n] != events[v, m]
            ]
            total += view_weights[u] / sum(view_weights) / size * math.log(sum(terms)) / 2
    return total


@st.composite
def problems(draw):
    """A batch and options of ``temporal_nce``."""
    size = draw(st.integers(1, 4))
    amount = st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5])
    options = {name: draw(amount) for name in NAMES}
    options["view_weights"] = draw(st.tuples(amount, amount, amount).filter(any))
    if draw(st.booleans()):
        ids = draw(st.lists(st.integers(-2, 5), min_size=3 * size, max_size=3 * size))
        options["events"] = torch.tensor(ids).reshape(3, size)
    seed = draw(st.integers(0, 1000))
    return embeddings(3, size, 3, seed=seed), embeddings(3, size, 3, seed=seed + 1), options


@settings(max_examples=80, deadline=None)
@given(problem=problems(), chunk=st.integers(1, 5))
def test_dense_is_the_double_loop_and_chunks_are_dense(problem, chunk):
    audio, text, options = problem
    dense = value_and_gradients(temporal_nce, audio, text, **options)
    assert dense[0].item() == pytest.approx(naive(audio, text, 9.0, **options), abs=1e-12)
    chunked = value_and_gradients(temporal_nce, audio, text, chunk_size=chunk, **options)
    assert_equal(chunked, dense, tolerance=1e-12)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("tau", [1 / 0.07, np.float32(14.3), 14, torch.tensor(1 / 0.07)])
def test_a_plain_tau_has_the_precision_of_the_embeddings(tau, chunk):
    audio, text = embeddings(3, 4, 5), embeddings(3, 4, 5, seed=1)
    found = temporal_nce(audio, text, tau, chunk_size=chunk).item()
    plain = dict.fromkeys(NAMES, 1.0)
    assert found == pytest.approx(naive(audio, text, float(tau), (1, 1, 1), **plain), rel=1e-12)
    found = clip_loss(audio[0], text[0], tau, chunk_size=chunk).item()
    assert found == pytest.approx(naive(audio[:1], text[:1], float(tau), (1,)), rel=1e-12)


def test_events_as_lists_and_arrays():
    audio, text, ids = embeddings(3, 4, 5), embeddings(3, 4, 5, seed=1), torch.arange(12).reshape(3, 4) % 5
    expected = temporal_nce(audio, text, 9.0, events=ids)
    for events in (ids.tolist(), ids.numpy(), ids.int()):
        assert temporal_nce(audio, text, 9.0, events=events) == expected
    assert clip_loss(audio[0], text[0], 9.0, ids[0].tolist()) == clip_loss(audio[0], text[0], 9.0, ids[0])


@pytest.mark.parametrize("events", [None, [0, 1, 0, 2, 2, 2], [5] * 6])
def test_clip_loss_is_torchs_cross_entropy(events):
    audio, text = embeddings(6, 5), embeddings(6, 5, seed=1)
    logits, target, options = 3.0 * text @ audio.T, torch.arange(6), {}
    if events is not None:
        options["events"] = ids = torch.tensor(events)
        logits = logits.masked_fill((ids[:, None] == ids) & ~torch.eye(6, dtype=torch.bool), -math.inf)
    expected = 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))
    dense = value_and_gradients(clip_loss, audio, text, tau=3.0, **options)
    assert dense[0].item() == pytest.approx(expected.item(), abs=1e-12)
    for chunk in (1, 4, 100):
        found = value_and_gradients(clip_loss, audio, text, tau=3.0, chunk_size=chunk, **options)
        assert_equal(found, dense, tolerance=1e-12)


def test_two_pairs_by_hand():
    """Six orthogonal embeddings and τ = log 2: exp of a logit is 2 on the diagonal and its α elsewhere."""
    both = torch.eye(6, dtype=torch.float64).reshape(3, 2, 6)
    options = dict(zip(NAMES, (1.0, 2.0, 3.0, 4.0), strict=True)) | {"view_weights": (1.0, 0.5, 0.25)}
    # Beside its match an ordered anchor has 1 of its own view, 1 + 2 of the inversions and 3 + 4 of the
    # overlaps, and an overlap 1 of its own view and twice 3 + 4.
    ordered, overlap = math.log((2 + 1 + 3 + 7) / 2), math.log((2 + 1 + 14) / 2)
    found = temporal_nce(both, both, math.log(2), **options).item()
    assert found == pytest.approx((1.5 * ordered + 0.25 * overlap) / 1.75, abs=1e-12)
    # The second pair's forward view means what the first one's inversion does: neither has the other's 2.
    matched = (ordered + math.log((2 + 1 + 1 + 7) / 2)) / 2
    found = temporal_nce(both, both, math.log(2), events=[[0, 1], [1, 2], [3, 4]], **options).item()
    assert found == pytest.approx((1.5 * matched + 0.25 * overlap) / 1.75, abs=1e-12)


@pytest.mark.parametrize("options", [{}, NO_TIME], ids=["all weights", "no time"])
def test_nothing_left_but_the_match_is_exactly_zero(options):
    audio, text = (embeddings(3, 5, 4, seed=seed, dtype=torch.float32) for seed in (0, 1))
    options = options | dict(
        view_weights=(1, 0.7, 0.3), events=torch.zeros(3, 5, dtype=torch.long), tau=100.0
    )
    for chunk in (None, 2):
        found = value_and_gradients(temporal_nce, audio, text, chunk_size=chunk, **options)
        assert all(not x.any() for x in found)


def test_logits_far_apart_do_not_overflow():
    """A column whose every entry is e⁻¹⁸⁰ of its rows' maxima keeps its place in the loss."""
    audio = torch.tensor([[1.0, 0.0], [-0.8, 0.6]]).expand(3, 2, 2).contiguous()
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(3, 2, 2).contiguous()
    options = dict(view_weights=(1, 0, 0), tau=100.0) | NO_TIME
    found = value_and_gradients(temporal_nce, audio, text, chunk_size=1, scale_dtype=torch.float32, **options)
    # Rows: log(1 + e⁻¹⁸⁰) and 180 + log(1 + e⁻¹⁸⁰); columns: log 2 twice.
    assert found[0].item() == pytest.approx((180 + 2 * math.log(2)) / 4, rel=1e-6)
    # Half a unit in the last place of a logit of 180 is 8e-6, which gradients of 20 are off by in proportion.
    expected = value_and_gradients(temporal_nce, audio.double(), text.double(), **options)
    assert_equal(found, expected, tolerance=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk", [None, 2])
def test_half_precision_is_computed_in_float32(dtype, chunk):
    audio, text = embeddings(3, 5, 16, dtype=dtype), embeddings(3, 5, 16, seed=1, dtype=dtype)
    options = dict(tau=100.0, scale_dtype=torch.float32, chunk_size=chunk)
    full = value_and_gradients(temporal_nce, audio.double(), text.double(), tau=100.0)
    found = value_and_gradients(temporal_nce, audio, text, **options)
    assert (found[0].dtype, found[1].dtype, found[2].dtype) == (torch.float32, dtype, dtype)
    assert found[0].item() == pytest.approx(full[0].item(), rel=1e-5)
    for half, double in zip(found[1:3], full[1:3], strict=True):
        torch.testing.assert_close(half.double(), double, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("chunk", [None, 3])
def test_autocast_does_not_reach_the_logits(chunk):
    audio, text = (embeddings(3, 8, 16, seed=s, dtype=torch.float32) for s in (0, 1))

    def loss(*inputs, **options):
        with torch.autocast("cpu", torch.bfloat16):
            return temporal_nce(*inputs, **options)

    options = dict(tau=100.0, scale_dtype=torch.float32, chunk_size=chunk)
    plain = value_and_gradients(temporal_nce, audio, text, **options)
    assert_equal(value_and_gradients(loss, audio, text, **options), plain, tolerance=1e-6)


def test_the_logits_of_the_whole_batch_are_never_held():
    size, chunk = 200, 10
    audio, text = (embeddings(3, size, 16, seed=s, dtype=torch.float32) for s in (0, 1))
    events = torch.arange(3 * size).reshape(3, size) // 2

    def largest(**options):
        """Bytes of the largest piece of memory that any operation asks for."""
        with torch.profiler.profile(profile_memory=True) as profile:
            value_and_gradients(temporal_nce, audio, text, events=events, **options)
        return max(event.self_cpu_memory_usage for event in profile.events())

    assert largest() >= (3 * size) ** 2 * 4
    assert largest(chunk_size=chunk) <= 2 * chunk * 3 * size * 4  # a block and room for another


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(alpha_same=-0.1), "α and view_weights"),
        (dict(alpha_cross_overlap=math.nan), "α and view_weights"),
        (dict(view_weights=(1, -1, 1)), "α and view_weights"),
        (dict(view_weights=(0, 0, 0)), "view_weights must be 3 numbers that are not all 0"),
        (dict(view_weights=(1, 1)), "view_weights must be 3"),
        (dict(events=torch.zeros(4, dtype=torch.long)), r"events must be \[3, 4\]"),
        (dict(chunk_size=0), "chunk_size"),
        *(
            (dict(logit_scale=tau), "logit_scale must be one finite number above 0")
            for tau in (0, math.nan, math.inf, torch.ones(2), torch.tensor(-1.0))
        ),
        (dict(audio=embeddings(2, 4, 5), text=embeddings(2, 4, 5)), r"\[3, N, d\]"),
        (dict(text=embeddings(3, 5, 5)), r"\[3, N, d\]"),
        (dict(audio=embeddings(3, 0, 5), text=embeddings(3, 0, 5)), "not empty"),
    ],
)
def test_bad_input_is_named(options, word):
    inputs = dict(audio=embeddings(3, 4, 5), text=embeddings(3, 4, 5), logit_scale=1.0)
    with pytest.raises(ValueError, match=word):
        temporal_nce(**inputs | options)
    with pytest.raises(ValueError, match=r"\[N, d\]"):
        clip_loss(**inputs)
