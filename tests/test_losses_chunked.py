"""The blockwise loss against the dense one and the double loop, in one process and in simulated shares."""

from __future__ import annotations

import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tclap.losses import clip_loss, temporal_nce
from tclap.training.distributed import Processes

NAMES = ("alpha_same", "alpha_cross", "alpha_same_overlap", "alpha_cross_overlap")


def embeddings(*shape, seed=0, dtype=torch.float64):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1).to(dtype)


def value_and_gradients(loss, audio, text, tau=9.0, scale_dtype=None, **options):
    """The loss and its gradients by audio, text and τ, times an arbitrary 0.8."""
    audio, text = (x.detach().clone().requires_grad_() for x in (audio, text))
    tau = torch.tensor(tau, dtype=scale_dtype or torch.float64, requires_grad=True)
    value = loss(audio, text, tau, **options)
    (0.8 * value).backward()
    return value.detach(), audio.grad, text.grad, tau.grad


def assert_equal(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def naive(audio, text, tau, options):
    """Value, from the definition, in plain floats."""
    views, size, _ = audio.shape
    events = options.get("events")
    weights = options["view_weights"]

    def alpha(u, n, v, m):
        if u == v:
            return 1.0
        return options[NAMES[2 * (2 in (u, v)) + (n != m)]]

    total = 0.0
    for anchors, candidates in ((text, audio), (audio, text)):
        similarity = torch.einsum("und,vmd->unvm", anchors, candidates).tolist()
        for u, n in itertools.product(range(views), range(size)):
            terms = [
                alpha(u, n, v, m) * math.exp(tau * (similarity[u][n][v][m] - similarity[u][n][u][n]))
                for v, m in itertools.product(range(views), range(size))
                if (u, n) == (v, m) or events is None or events[u, n] != events[v, m]
            ]
            total += weights[u] / sum(weights) / size * math.log(sum(terms)) / 2
    return total


@st.composite
def problems(draw):
    """A batch and options of ``temporal_nce``."""
    size = draw(st.integers(1, 4))
    amount = st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5])
    weights = draw(st.tuples(amount, amount, amount).filter(any))
    options = {name: draw(amount) for name in NAMES} | {"view_weights": weights}
    if draw(st.booleans()):
        ids = draw(st.lists(st.integers(-2, 5), min_size=3 * size, max_size=3 * size))
        options["events"] = torch.tensor(ids).reshape(3, size)
    seed = draw(st.integers(0, 1000))
    return embeddings(3, size, 3, seed=seed), embeddings(3, size, 3, seed=seed + 1), options


@settings(max_examples=80, deadline=None)
@given(problem=problems(), chunk=st.integers(1, 5))
def test_blockwise_is_dense_is_the_double_loop(problem, chunk):
    audio, text, options = problem
    dense = value_and_gradients(temporal_nce, audio, text, **options)
    assert dense[0].item() == pytest.approx(naive(audio, text, 9.0, options), abs=1e-12)
    assert_equal(
        value_and_gradients(temporal_nce, audio, text, chunk_size=chunk, **options), dense, tolerance=1e-12
    )


class Share(Processes):
    """One of several processes, played by threads of this one."""

    def __init__(self, count, rank, board, barrier):
        self.count, self.rank, self.board, self.barrier = count, rank, board, barrier
        self.device = torch.device("cpu")

    def exchange(self, tensor):
        self.board[self.rank] = tensor.detach().clone()
        self.barrier.wait()
        parts = list(self.board)
        self.barrier.wait()
        return parts

    def gather(self, tensor, dim=0):
        return torch.cat(self.exchange(tensor), dim)

    def sum(self, tensor):
        return torch.stack(self.exchange(tensor)).sum(0)


def shared(loss, audio, text, sizes, **options):
    """Value and global gradients of shares of the given sizes."""
    count = len(sizes)
    board, barrier = [None] * count, threading.Barrier(count, timeout=20)
    edges = [0, *itertools.accumulate(sizes)]
    events = options.pop("events", None)

    def work(rank):
        part = slice(edges[rank], edges[rank + 1])
        own = {} if events is None else {"events": events[..., part]}
        share = Share(count, rank, board, barrier)
        return value_and_gradients(
            loss, audio[..., part, :], text[..., part, :], processes=share, **options, **own
        )

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(work, range(count)))
    assert len({value.item() for value, *_ in found}) == 1
    joined = [torch.cat([gradients[i] for gradients in found], dim=-2) for i in (1, 2)]
    return found[0][0], *joined, sum(gradients[3] for gradients in found)


@settings(max_examples=40, deadline=None)
@given(problem=problems(), data=st.data())
def test_shares_add_up_to_the_dense_gradient(problem, data):
    audio, text, options = problem
    size = audio.shape[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, size), min_size=1, max_size=3)))
    sizes = [b - a for a, b in itertools.pairwise([0, *cuts, size])]
    chunk = data.draw(st.sampled_from([None, 1, 2, 3]))
    assert_equal(
        shared(temporal_nce, audio, text, sizes, chunk_size=chunk, **options),
        value_and_gradients(temporal_nce, audio, text, **options),
        tolerance=1e-12,
    )


@pytest.mark.parametrize("sizes", [None, (3, 0, 4)])
@pytest.mark.parametrize("events", [None, [0, 1, 0, 2, 3, 2, 2], [5] * 7])
def test_clip_loss_in_blocks(events, sizes):
    audio, text = embeddings(7, 4), embeddings(7, 4, seed=1)
    options = {} if events is None else {"events": torch.tensor(events)}
    dense = value_and_gradients(clip_loss, audio, text, **options)
    for chunk in (1, 2, 3, 100):
        if sizes is None:
            found = value_and_gradients(clip_loss, audio, text, chunk_size=chunk, **options)
        else:
            found = shared(clip_loss, audio, text, sizes, chunk_size=chunk, **options)
        assert_equal(found, dense, tolerance=1e-12)
    if events == [5] * 7:
        assert all(not x.any() for x in found)


@pytest.mark.parametrize("chunk", [1, 2, 33, 1000])
def test_float32_is_dense_within_rounding(chunk):
    audio, text = (embeddings(3, 50, 16, seed=s, dtype=torch.float32) for s in (0, 1))
    events = torch.arange(150).reshape(3, 50) % 70
    options = dict(alpha_same=0.5, alpha_cross=0.0, events=events, scale_dtype=torch.float32, tau=50.0)
    dense = value_and_gradients(temporal_nce, audio, text, **options)
    found = value_and_gradients(temporal_nce, audio, text, chunk_size=chunk, **options)
    assert found[0].dtype == found[1].dtype == found[3].dtype == torch.float32
    assert_equal(found, dense, tolerance=1e-5)
    double = value_and_gradients(
        temporal_nce, audio.double(), text.double(), **options | {"scale_dtype": None}
    )
    assert_equal([x.double() for x in found], double, tolerance=1e-5)


def test_gradients_by_finite_differences():
    events = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 0]])
    inputs = (embeddings(3, 3, 4), embeddings(3, 3, 4, seed=1), torch.tensor(4.0, dtype=torch.float64))
    inputs = tuple(x.requires_grad_() for x in inputs)
    options = dict(alpha_same=0.0, alpha_cross=0.5, alpha_same_overlap=2.0, view_weights=(1, 0.5, 0))

    def loss(audio, text, tau):
        return temporal_nce(audio, text, tau, events=events, chunk_size=2, **options)

    assert torch.autograd.gradcheck(loss, inputs)


def test_nothing_left_but_the_match_is_exactly_zero():
    audio, text = embeddings(3, 5, 4, dtype=torch.float32), embeddings(3, 5, 4, seed=1, dtype=torch.float32)
    options = dict(view_weights=(1, 0.7, 0.3), events=torch.zeros(3, 5, dtype=torch.long), tau=100.0)
    for found in (
        value_and_gradients(temporal_nce, audio, text, chunk_size=2, **options),
        shared(temporal_nce, audio, text, (2, 0, 3), **options),
    ):
        assert all(not x.any() for x in found)


def test_logits_far_apart_do_not_overflow():
    """A column whose every entry is e⁻¹⁸⁰ of its rows' maxima keeps its place in the loss."""
    audio = torch.tensor([[1.0, 0.0], [-0.8, 0.6]]).expand(3, 2, 2).contiguous()
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(3, 2, 2).contiguous()
    options = dict(view_weights=(1, 0, 0), tau=100.0, scale_dtype=torch.float32) | dict.fromkeys(NAMES, 0.0)
    found = value_and_gradients(temporal_nce, audio, text, chunk_size=1, **options)
    # Rows: log(1 + e⁻¹⁸⁰) and 180 + log(1 + e⁻¹⁸⁰); columns: log 2 twice.
    assert found[0].item() == pytest.approx((180 + 2 * math.log(2)) / 4, rel=1e-6)
    double = dict(options, scale_dtype=torch.float64)
    expected = value_and_gradients(temporal_nce, audio.double(), text.double(), **double)
    # Half a unit in the last place of a logit of 180 is 8e-6, which gradients of 20 are off by in proportion.
    assert_equal([x.double() for x in found], expected, tolerance=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [None, (1, 4)])
def test_half_precision_is_computed_in_float32(dtype, sizes):
    audio, text = embeddings(3, 5, 16, dtype=dtype), embeddings(3, 5, 16, seed=1, dtype=dtype)
    options = dict(tau=100.0, scale_dtype=torch.float32, chunk_size=2)
    if sizes is None:
        found = value_and_gradients(temporal_nce, audio, text, **options)
    else:
        found = shared(temporal_nce, audio, text, sizes, **options)
    full = value_and_gradients(temporal_nce, audio.double(), text.double(), tau=100.0)
    assert found[0].dtype == torch.float32
    assert found[1].dtype == found[2].dtype == dtype
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
    if chunk is not None:  # even a backward pass under autocast, which torch advises against
        with torch.autocast("cpu", torch.bfloat16):
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
    # The next largest are the embeddings.
    assert largest(chunk_size=chunk) <= max(chunk * 3 * size * 4, 3 * size * 16 * 4)


def test_an_empty_global_batch_is_refused():
    nothing = torch.zeros(3, 0, 4)
    with pytest.raises(ValueError, match="must have an item"):
        shared(temporal_nce, nothing, nothing, (0, 0))
    with pytest.raises(ValueError, match="not empty"):
        temporal_nce(nothing, nothing, 1.0, chunk_size=2)
