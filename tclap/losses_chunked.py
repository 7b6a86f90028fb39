"""The contrastive losses of :mod:`tclap.losses` without the matrix of all logits.

log A and the removal of equal events are symmetric, so that one matrix ``S = τ T Aᵀ + log A`` serves
both directions: its rows are text anchors, its columns audio anchors. Blocks of rows are made one at a
time. A row's logsumexp is complete within its block; the columns' are accumulated as a running maximum
and a running sum (online softmax: Milakov and Gimelshein, arXiv 1805.02867). The backward pass makes the
blocks again (as in gradient checkpointing: Chen et al., arXiv 1604.06174) with the gradient

    G = ½ w (softmax_row(S) + softmax_col(S)) − w on the diagonal,
    ∂T = τ G A,   ∂A = τ Gᵀ T,   ∂τ = Σ T ∘ (G A),

in which an entry with log A = −∞ is exactly 0. ∂τ is taken from the products, not from S, so that no
0 · ∞ arises. Memory is two matrices of a block's rows by all candidates, a mask of bytes, and vectors;
autograd under ``torch.utils.checkpoint`` would take more of it, and more time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Blocks = Callable[[Tensor, Tensor, Tensor], Iterator[tuple[slice, Tensor, Tensor]]]


def chunked_nce(
    audio: Tensor,
    text: Tensor,
    scale: Tensor,
    log_alpha: Sequence[Sequence[tuple[float, float]]],
    weights: Sequence[float],
    events: Tensor | None,
    chunk_size: int,
) -> Tensor:
    """Cross-entropy of the rows and columns of S against its diagonal, ``chunk_size`` rows at a time.

    The arguments are those of the dense form in :mod:`tclap.losses`.
    """
    views, size, _ = audio.shape
    audio, text = (at_least_float32(x.flatten(0, 1)) for x in (audio, text))
    table = audio.new_tensor(log_alpha)
    ids = None if events is None else events.flatten()

    def blocks(audio: Tensor, text: Tensor, scale: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The rows of each block, their logits, and as much room again; both are overwritten by the next."""
        room = audio.new_empty(2, min(chunk_size, len(text)), len(audio))
        for start in range(0, len(text), chunk_size):
            row = torch.arange(start, min(start + chunk_size, len(text)), device=audio.device)
            here, view, item = row - start, row // size, row % size
            logits, bias = room[:, : len(row)]
            bias.view(-1, views, size).copy_(table[view, :, :1])
            bias.view(-1, views, size)[here, :, item] = table[view, :, 1]
            if ids is not None:
                bias.masked_fill_(ids[row, None] == ids, -math.inf)
            bias[here, row] = 0.0  # of the match
            rows = slice(start, start + len(row))
            yield rows, torch.addmm(bias, scale * text[rows], audio.T, out=logits), bias

    row_weights = audio.new_tensor(weights).repeat_interleave(size) / size
    return _ChunkedNCE.apply(audio, text, scale, row_weights, blocks)


class _ChunkedNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, audio: Tensor, text: Tensor, scale: Tensor, weights: Tensor, blocks: Blocks
    ) -> Tensor:
        row_lse, match = torch.empty_like(weights), torch.empty_like(weights)
        peak, total = torch.full_like(weights, -math.inf), torch.zeros_like(weights)
        for rows, logits, room in blocks(audio, text, scale):
            match[rows] = logits.diagonal(rows.start)
            higher = torch.maximum(peak, logits.amax(0))
            # A column may have no candidate so far: −∞ − (−∞) would be no number.
            reference = higher.clamp_min(torch.finfo(higher.dtype).min)
            total.mul_((peak - reference).exp_())
            total.add_(torch.sub(logits, reference, out=room).exp_().sum(0))
            peak = higher
            highest = logits.amax(1, keepdim=True)
            row_lse[rows] = logits.sub_(highest).exp_().sum(1).log_().add_(highest[:, 0])
        column_lse = peak + total.log()
        ctx.save_for_backward(audio, text, scale, weights, row_lse, column_lse)
        ctx.blocks = blocks
        return (weights * (0.5 * (row_lse + column_lse) - match)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        audio, text, scale, weights, row_lse, column_lse = ctx.saved_tensors
        grad_audio, grad_text = torch.zeros_like(audio), torch.empty_like(text)
        grad_scale = torch.zeros_like(scale, dtype=audio.dtype)
        for rows, logits, room in ctx.blocks(audio, text, scale):
            torch.sub(logits, row_lse[rows, None], out=room).exp_().mul_(0.5 * weights[rows, None])
            gradient = logits.sub_(column_lse).exp_().mul_(0.5 * weights).add_(room)
            gradient.diagonal(rows.start).sub_(weights[rows])
            # Written where it stays: an out= is beyond autocast, and takes no further memory.
            products = torch.mm(gradient, audio, out=grad_text[rows])
            grad_scale += (products * text[rows]).sum()
            products.mul_(scale)
            grad_audio.addmm_(gradient.T, scale * text[rows])
        grads = [grad.mul_(grad_value) for grad in (grad_audio, grad_text, grad_scale)]
        return *grads[:2], grads[2].to(scale.dtype), None, None


def at_least_float32(embeddings: Tensor) -> Tensor:
    """Half precision as float32: at τ = 100 its logits would be off by whole units."""
    return embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
