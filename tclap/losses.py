"""Contrastive losses: CLAP's own, and temporal noise-contrastive estimation (TNCE).

Conventions
-----------
Embeddings are L2-normalised. ``logit_scale`` is the temperature's inverse τ itself, a float or
a 0-d tensor with its gradient, never its logarithm. A loss is the mean of its two directions
(text anchors against all audio, audio anchors against all text), computed in float32 at least.

``events`` are integer ids of what a caption means: "a dog before rain" and "rain after a dog"
share one id. Wherever an anchor meets another item with its own id, that item is a true match
and is removed from the anchor's negatives.

Both losses have a plain form, which holds the matrix of all logits, and a blockwise one
(:mod:`tclap.losses_chunked`), which does not: given a ``chunk_size``, or where several ``processes`` share
the batch. Then every process passes its own share of the items, in the order of ranks, and gets the
loss of the global batch. After ``backward`` the embeddings' gradients are complete, while τ and
everything before the embeddings have this process's part: the parameters' gradients of the global batch
are the sums over the processes (``Processes.sum_gradients``). Every process must
call the loss and ``backward``, one with an empty share too.

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

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tclap.losses_chunked import CHUNK_SIZE, at_least_float32, blockwise_nce
from tclap.training.distributed import Processes

VIEWS = ("forward", "reversed", "overlap")


def clip_loss(
    audio: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    events: Tensor | None = None,
    *,
    chunk_size: int | None = None,
    processes: Processes | None = None,
) -> Tensor:
    """CLAP's symmetric cross-entropy over a batch of audio-text pairs.

    Args:
        audio, text: ``[N, d]``, L2-normalised; row n of both is a true pair.
        logit_scale: τ > 0.
        events: integer ids ``[N]``; items with equal ids are no negatives of each other.
        chunk_size: number of text anchors whose logits are held at a time; the backward pass
            recomputes them. Changes memory, and value and gradient only by rounding.
        processes: who shares the batch; N is then this process's share, and may be 0.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not fit, or a chunk size below 1.
    """
    _check_embeddings(audio, text, dimensions=2, expected="[N, d]", processes=processes)
    _check_events(events, tuple(audio.shape[:1]))
    _check_chunk_size(chunk_size)
    events = None if events is None else events[None]
    scale = _check_scale(logit_scale, audio)
    return _nce(audio[None], text[None], scale, [[(0.0, 0.0)]], [1.0], events, chunk_size, processes)


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
    events: Tensor | None = None,
    chunk_size: int | None = None,
    processes: Processes | None = None,
) -> Tensor:
    """Temporal noise-contrastive estimation over the three views of N composites.

    The value is ``½ Σ_direction Σ_v w_v mean_n TNCE_{v,n} / Σ_v w_v``. With one view weighted
    and every α zero it is :func:`clip_loss` of that view.

    Args:
        audio, text: ``[3, N, d]``, L2-normalised, views in the order of :data:`VIEWS`.
        logit_scale: τ > 0.
        alpha_same: weight of a pair's own inversion among its negatives, ≥ 0.
        alpha_cross: weight of other pairs' inversions, ≥ 0.
        alpha_same_overlap, alpha_cross_overlap: the same between the overlap view and the two
            ordered views.
        view_weights: weight of each view's anchors (1, β, γ), ≥ 0, not all 0. A view of weight 0
            has no anchors; its items stay negatives of the others unless their α are 0.
        events: integer ids ``[3, N]`` of the canonical events.
        chunk_size: number of text anchors whose logits are held at a time; the backward pass
            recomputes them. Changes memory, and value and gradient only by rounding.
        processes: who shares the batch; N is then this process's share, and may be 0. Means are
            over the global batch.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not fit, a negative or non-finite weight, weights that sum
            to 0, or a chunk size below 1.
    """
    _check_embeddings(audio, text, dimensions=3, expected="[3, N, d]", processes=processes)
    views, size, _ = audio.shape
    if views != len(VIEWS):
        raise ValueError(f"audio and text need 3 views (forward, reversed, overlap), got {views}.")
    _check_events(events, (views, size))
    scale = _check_scale(logit_scale, audio)
    alphas = {
        "alpha_same": alpha_same,
        "alpha_cross": alpha_cross,
        "alpha_same_overlap": alpha_same_overlap,
        "alpha_cross_overlap": alpha_cross_overlap,
    }
    for name, value in alphas.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value}.")
    if len(view_weights) != len(VIEWS) or not all(math.isfinite(w) and w >= 0 for w in view_weights):
        raise ValueError(f"view_weights must be 3 finite numbers of at least 0, got {view_weights}.")
    if sum(view_weights) == 0:
        raise ValueError(f"view_weights must not all be 0, got {view_weights}.")
    _check_chunk_size(chunk_size)

    within = (0.0, 0.0)
    ordered = (_log(alpha_cross), _log(alpha_same))
    mixed = (_log(alpha_cross_overlap), _log(alpha_same_overlap))
    log_alpha = [[within, ordered, mixed], [ordered, within, mixed], [mixed, mixed, within]]
    weights = [weight / sum(view_weights) for weight in view_weights]

    # A view that is neither anchor nor negative of any would only add removed rows and columns.
    anchored = [v for v in range(views) if weights[v] > 0]
    used = [v for v in range(views) if any(max(log_alpha[u][v]) > -math.inf for u in anchored)]
    if len(used) < views:
        audio, text = audio[used], text[used]
        events = None if events is None else events[used]
        log_alpha = [[log_alpha[u][v] for v in used] for u in used]
        weights = [weights[v] for v in used]
    return _nce(audio, text, scale, log_alpha, weights, events, chunk_size, processes)


def _nce(
    audio: Tensor,
    text: Tensor,
    scale: Tensor,
    log_alpha: Sequence[Sequence[tuple[float, float]]],
    weights: Sequence[float],
    events: Tensor | None,
    chunk_size: int | None,
    processes: Processes | None,
) -> Tensor:
    """Cross-entropy of V views ``[V, N, d]``; the arguments are those of ``blockwise_nce``."""
    shared = processes is not None and processes.count > 1
    if chunk_size is None and not shared:
        return _dense_nce(audio, text, scale, log_alpha, weights, events)
    return blockwise_nce(
        audio,
        text,
        scale,
        log_alpha=log_alpha,
        weights=weights,
        events=events,
        chunk_size=chunk_size or CHUNK_SIZE,
        processes=processes,
    )


def _dense_nce(
    audio: Tensor,
    text: Tensor,
    scale: Tensor,
    log_alpha: Sequence[Sequence[tuple[float, float]]],
    weights: Sequence[float],
    events: Tensor | None,
) -> Tensor:
    """The definition: rows and columns of ``S = τ T Aᵀ + log A`` against its diagonal."""
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


def _check_embeddings(
    audio: Tensor, text: Tensor, dimensions: int, expected: str, processes: Processes | None
) -> None:
    sizes = list(audio.shape)
    if processes is not None and processes.count > 1:
        # The share's items may be none: blockwise_nce refuses an empty global batch.
        del sizes[-2:-1]
    if audio.shape != text.shape or audio.dim() != dimensions or 0 in sizes:
        shapes = f"audio {list(audio.shape)} and text {list(text.shape)}"
        raise ValueError(f"audio and text must both be {expected} and not empty, got {shapes}.")


def _check_chunk_size(chunk_size: int | None) -> None:
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}.")


def _check_events(events: Tensor | None, shape: tuple[int, ...]) -> None:
    if events is None:
        return
    if tuple(events.shape) != shape or events.is_floating_point():
        found = f"{list(events.shape)} of {events.dtype}"
        raise ValueError(f"events must be integers of shape {list(shape)}, got {found}.")


def _check_scale(logit_scale: float | Tensor, audio: Tensor) -> Tensor:
    scale = torch.as_tensor(logit_scale, device=audio.device)
    if scale.dim() != 0:
        raise ValueError(f"logit_scale must be a number or a 0-d tensor, got shape {list(scale.shape)}.")
    if not scale.is_floating_point() or scale.dtype in (torch.float16, torch.bfloat16):
        scale = scale.float()
    return scale
