"""Contrastive losses: CLAP's own, and temporal noise-contrastive estimation (TNCE).

Conventions
-----------
Embeddings are L2-normalised. ``logit_scale`` is τ, the inverse temperature, a float or
a 0-d tensor with its gradient, never its logarithm. A loss is the mean of its two directions
(text anchors against all audio, audio anchors against all text), computed in float32 at least.

``events`` are integer ids of what a caption means: "a dog before rain" and "rain after a dog"
share one id. Wherever an anchor meets another item with its own id, that item is a true match
and is removed from the anchor's negatives.

With a ``chunk_size`` the matrix of all logits is never held (:mod:`tclap.losses_chunked`). Processes that
share a batch pass the whole of it (:meth:`tclap.training.distributed.Processes.global_batch`).

TNCE stacks three views of a batch of N pairs, in this order: *forward* (the composite and its
caption), *reversed* (its sequential inversion Π) and *overlap* (both sounds at once, Ω). The
logits of the 3N texts against the 3N audio are ``S = τ Z_t Z_aᵀ + log A`` with the block matrix

=========  =============================  =============================  ==================
A          forward                        reversed                       overlap
=========  =============================  =============================  ==================
forward    1                              α_same (n = m), α_cross        overlap's own α
reversed   α_same (n = m), α_cross        1                              overlap's own α
overlap    overlap's own α                overlap's own α                1
=========  =============================  =============================  ==================

and the loss is the cross-entropy of rows and columns of ``S`` against its diagonal. This is
InfoNCE (van den Oord et al., arXiv 1807.03748) with weighted time-inverted negatives, after the
video-language loss of Bagad et al. (arXiv 2301.02074), extended by the overlap view.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tclap.arguments import at_least, is_number, rows_of
from tclap.losses_chunked import at_least_float32, chunked_nce

VIEWS = ("forward", "reversed", "overlap")


def clip_loss(
    audio: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    events: Tensor | ArrayLike | None = None,
    *,
    chunk_size: int | None = None,
) -> Tensor:
    """CLAP's symmetric cross-entropy over a batch of audio-text pairs.

    Args:
        audio, text: ``[N, d]``, L2-normalised; row n of both is a true pair.
        logit_scale: τ, finite and above 0.
        events: integer ids ``[N]``, a tensor, array or list; items with equal ids are no negatives
            of each other.
        chunk_size: number of text anchors whose logits are held at a time; the backward pass
            recomputes them. Changes memory, and value and gradient only by rounding.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not match, a τ that is not above 0, or a chunk size below 1.
    """
    scale, events = _checked(audio, text, logit_scale, events, chunk_size, shape=("N", "d"))
    events = None if events is None else events[None]
    return _nce(audio[None], text[None], scale, [[(0.0, 0.0)]], [1.0], events, chunk_size)


def temporal_nce(
    audio: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    *,
    alpha_same: float = 1.0,
    alpha_cross: float = 1.0,
    alpha_same_overlap: float = 1.0,
    alpha_cross_overlap: float = 1.0,
    view_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    events: Tensor | ArrayLike | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Temporal noise-contrastive estimation over the three views of N composites.

    The value is ``½ Σ_direction Σ_v w_v mean_n TNCE_{v,n} / Σ_v w_v``. With one view weighted
    and every α zero it is :func:`clip_loss` of that view.

    Args:
        audio, text: ``[3, N, d]``, L2-normalised, views in the order of :data:`VIEWS`.
        logit_scale: τ, finite and above 0.
        alpha_same: weight of a pair's own inversion among its negatives, ≥ 0.
        alpha_cross: weight of other pairs' inversions, ≥ 0.
        alpha_same_overlap, alpha_cross_overlap: the same between the overlap view and the two
            ordered views.
        view_weights: weight of each view's anchors (1, β, γ), ≥ 0, not all 0. A view of weight 0
            has no anchors; its items stay negatives of the others unless their α are 0.
        events: integer ids ``[3, N]`` of the canonical events, a tensor, array or nested list.
        chunk_size: number of text anchors whose logits are held at a time; the backward pass
            recomputes them. Changes memory, and value and gradient only by rounding.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not match, a τ that is not above 0, a negative or non-finite
            weight, weights that sum to 0, or a chunk size below 1.
    """
    scale, events = _checked(audio, text, logit_scale, events, chunk_size, shape=(len(VIEWS), "N", "d"))
    view_weights = tuple(rows_of(view_weights, "view_weights"))
    numbers = (alpha_same, alpha_cross, alpha_same_overlap, alpha_cross_overlap, *view_weights)
    if not all(is_number(number) and number >= 0 for number in numbers):
        raise ValueError(f"α and view_weights must be finite numbers of at least 0, got {numbers}.")
    if len(view_weights) != len(VIEWS) or sum(view_weights) == 0:
        raise ValueError(f"view_weights must be 3 numbers that are not all 0, got {view_weights}.")

    within = (0.0, 0.0)
    ordered = (_log(alpha_cross), _log(alpha_same))
    mixed = (_log(alpha_cross_overlap), _log(alpha_same_overlap))
    log_alpha = [[within, ordered, mixed], [ordered, within, mixed], [mixed, mixed, within]]
    weights = [weight / sum(view_weights) for weight in view_weights]

    # A view that is neither anchor nor negative of any would only add removed rows and columns.
    anchored = [v for v in range(len(VIEWS)) if weights[v] > 0]
    used = [v for v in range(len(VIEWS)) if any(max(log_alpha[u][v]) > -math.inf for u in anchored)]
    if len(used) < len(VIEWS):
        audio, text = audio[used], text[used]
        events = None if events is None else events[used]
        log_alpha = [[log_alpha[u][v] for v in used] for u in used]
        weights = [weights[v] for v in used]
    return _nce(audio, text, scale, log_alpha, weights, events, chunk_size)


def _nce(
    audio: Tensor,
    text: Tensor,
    scale: Tensor,
    log_alpha: Sequence[Sequence[tuple[float, float]]],
    weights: Sequence[float],
    events: Tensor | None,
    chunk_size: int | None,
) -> Tensor:
    """The definition: cross-entropy of the rows and columns of ``S = τ T Aᵀ + log A`` against its diagonal.

    Args:
        audio, text: ``[V, N, d]``.
        log_alpha: for views u and v (log α of other pairs, log α of the same pair), −∞ to remove;
            symmetric, and (0, 0) where u = v.
        weights: each view's weight in the mean over its N anchors, summing to 1.
        events: integer ids ``[V, N]``.
    """
    if chunk_size is not None:
        return chunked_nce(audio, text, scale, log_alpha, weights, events, chunk_size)
    views, size, _ = audio.shape
    audio, text = (at_least_float32(x.flatten(0, 1)) for x in (audio, text))
    with torch.autocast(audio.device.type, enabled=False):
        logits = scale * text @ audio.T
    table = logits.new_tensor(log_alpha)
    log_weight = table[:, None, :, None, 0].repeat(1, size, 1, size)
    log_weight.diagonal(dim1=1, dim2=3).copy_(table[:, :, 1, None])
    logits = logits + log_weight.reshape(logits.shape)
    if events is not None:
        ids = events.flatten()
        true_match = (ids[:, None] == ids[None, :]).fill_diagonal_(False)
        logits = logits.masked_fill(true_match, -math.inf)
    losses = -0.5 * (logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal())
    return (losses * losses.new_tensor(weights).repeat_interleave(size)).sum() / size


def _log(alpha: float) -> float:
    return math.log(alpha) if alpha > 0 else -math.inf


def _checked(
    audio: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    events: Tensor | ArrayLike | None,
    chunk_size: int | None,
    shape: tuple[int | str, ...],
) -> tuple[Tensor, Tensor | None]:
    """τ in the precision of the logits, and the events as a tensor; ValueError on what is out of range."""
    expected = f"[{', '.join(map(str, shape))}]"
    sides = (audio, text)
    kinds = [at_least_float32(x).dtype if isinstance(x, Tensor) else type(x).__name__ for x in sides]
    if kinds[0] != kinds[1] or kinds[0] not in (torch.float32, torch.float64):
        raise ValueError(
            f"audio and text must both be float tensors {expected}, got {kinds[0]} and {kinds[1]}."
        )
    views_fit = isinstance(shape[0], str) or audio.shape[0] == shape[0]
    if audio.shape != text.shape or audio.dim() != len(shape) or not views_fit or audio.numel() == 0:
        shapes = f"audio {list(audio.shape)} and text {list(text.shape)}"
        raise ValueError(f"audio and text must both be {expected} and not empty, got {shapes}.")
    if events is not None:
        events = _ids(events, audio)
    at_least(1, chunk_size=chunk_size)
    tau: Any = logit_scale
    if isinstance(logit_scale, Tensor) and logit_scale.dim() == 0:
        tau = logit_scale.item()
    if not is_number(tau) or tau <= 0:
        raise ValueError(f"logit_scale must be one finite number above 0, got {logit_scale}.")
    dtype = logit_scale.dtype if isinstance(logit_scale, Tensor) else at_least_float32(audio).dtype
    scale = torch.as_tensor(logit_scale, dtype=dtype)
    return at_least_float32(scale.to(audio.device)), events


def _ids(events: Tensor | ArrayLike, audio: Tensor) -> Tensor:
    """The events as a tensor on the device of the embeddings that they are of."""
    try:
        ids = torch.as_tensor(events, device=audio.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"events must be integers, got {type(events).__name__} of something else.") from None
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"events must be integers, got {ids.dtype}.")
    if ids.shape != audio.shape[:-1]:
        raise ValueError(f"events must be {list(audio.shape[:-1])}, got {list(ids.shape)}.")
    return ids
