"""Contrastive losses: CLAP's own, and temporal noise-contrastive estimation (TNCE).

Conventions
-----------
Embeddings are L2-normalised. ``logit_scale`` is the temperature's inverse τ itself, a float or
a 0-d tensor with its gradient, never its logarithm. A loss is the mean of its two directions
(text anchors against all audio, audio anchors against all text), computed in float32 at least.

``events`` are integer ids of what a caption means: "a dog before rain" and "rain after a dog"
share one id. Wherever an anchor meets another item with its own id, that item is a true match
and is removed from the anchor's negatives.

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

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

VIEWS = ("forward", "reversed", "overlap")
OVERLAP = VIEWS.index("overlap")


def clip_loss(
    audio: Tensor, text: Tensor, logit_scale: float | Tensor, events: Tensor | None = None
) -> Tensor:
    """CLAP's symmetric cross-entropy over a batch of audio-text pairs.

    Args:
        audio, text: ``[N, d]``, L2-normalised; row n of both is a true pair.
        logit_scale: τ > 0.
        events: integer ids ``[N]``; items with equal ids are no negatives of each other.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not fit.
    """
    _check_embeddings(audio, text, dimensions=2, expected="[N, d]")
    size = audio.shape[0]
    _check_events(events, (size,))
    logit_scale = _check_scale(logit_scale, audio)
    items = torch.arange(size, device=audio.device)

    def direction(anchors: Tensor, candidates: Tensor) -> Tensor:
        return _anchor_losses(anchors, candidates, logit_scale, items, items, None, events).mean()

    audio, text = _at_least_float32(audio), _at_least_float32(text)
    return 0.5 * (direction(text, audio) + direction(audio, text))


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
        chunk_size: number of anchors whose logits are held at a time; the backward pass
            recomputes them. Changes memory, and value and gradient only by rounding.

    Returns:
        A scalar, 0 when no negative is left.

    Raises:
        ValueError: on shapes that do not fit, a negative or non-finite weight, weights that sum
            to 0, or a chunk size below 1.
    """
    _check_embeddings(audio, text, dimensions=3, expected="[3, N, d]")
    views, size, width = audio.shape
    if views != len(VIEWS):
        raise ValueError(f"audio and text need 3 views (forward, reversed, overlap), got {views}.")
    _check_events(events, (views, size))
    logit_scale = _check_scale(logit_scale, audio)
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
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}.")

    # [ordered or overlap][other pair or same pair] -> log α
    log_alpha = torch.tensor(
        [[alpha_cross, alpha_same], [alpha_cross_overlap, alpha_same_overlap]],
        dtype=torch.float64,
        device=audio.device,
    ).log()
    items = torch.arange(views * size, device=audio.device)
    flat_events = None if events is None else events.reshape(-1)
    anchored = torch.tensor([w > 0 for w in view_weights], device=audio.device)
    anchors_used = items[anchored[items // size]]
    weights = torch.tensor(view_weights, dtype=torch.float64, device=audio.device)
    weights = (weights / weights.sum() / size)[anchors_used // size]

    def direction(anchors: Tensor, candidates: Tensor) -> Tensor:
        total = anchors.new_zeros(())
        step = chunk_size or len(anchors_used)
        for start in range(0, len(anchors_used), step):
            rows = anchors_used[start : start + step]
            arguments = (anchors[rows], candidates, logit_scale, rows, items, log_alpha, flat_events)
            if chunk_size is None:
                losses = _anchor_losses(*arguments)
            else:
                losses = checkpoint(_anchor_losses, *arguments, use_reentrant=False)
            total = total + (losses * weights[start : start + step].to(losses.dtype)).sum()
        return total

    flat_audio = _at_least_float32(audio.reshape(views * size, width))
    flat_text = _at_least_float32(text.reshape(views * size, width))
    return 0.5 * (direction(flat_text, flat_audio) + direction(flat_audio, flat_text))


def _anchor_losses(
    anchors: Tensor,
    candidates: Tensor,
    logit_scale: Tensor,
    rows: Tensor,
    items: Tensor,
    log_alpha: Tensor | None,
    events: Tensor | None,
) -> Tensor:
    """Negative log-probability of each anchor's match: ``[rows]``.

    ``rows`` are the anchors' positions among ``items``, the candidates' positions. The block
    matrix A and the events are symmetric, so one function serves both directions.
    """
    logits = logit_scale * anchors @ candidates.T
    match = rows[:, None] == items[None, :]
    if log_alpha is not None:
        size = len(items) // len(VIEWS)
        row_view, item_view = rows // size, items // size
        same_pair = (rows[:, None] % size) == (items[None, :] % size)
        overlap = (row_view == OVERLAP)[:, None] | (item_view == OVERLAP)[None, :]
        log_weight = log_alpha[overlap.long(), same_pair.long()].to(logits.dtype)
        logits = logits + log_weight.masked_fill(row_view[:, None] == item_view[None, :], 0.0)
    if events is not None:
        true_match = (events[rows][:, None] == events[None, :]) & ~match
        logits = logits.masked_fill(true_match, -math.inf)
    return torch.logsumexp(logits, dim=1) - logits.gather(1, rows[:, None]).squeeze(1)


def _at_least_float32(embeddings: Tensor) -> Tensor:
    # Half-precision logits at τ = 100 are off by whole units.
    return embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings


def _check_embeddings(audio: Tensor, text: Tensor, dimensions: int, expected: str) -> None:
    if audio.shape != text.shape or audio.dim() != dimensions or audio.numel() == 0:
        shapes = f"audio {list(audio.shape)} and text {list(text.shape)}"
        raise ValueError(f"audio and text must both be {expected} and not empty, got {shapes}.")


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
