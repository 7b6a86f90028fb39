"""The contrastive loss over one large batch without the matrix of its logits.

log A and the removal of equal events are symmetric, so that one matrix ``S = τ T Aᵀ + log A`` serves
both directions: its rows are text anchors, its columns audio anchors. Blocks of rows are made one at a
time. A row's logsumexp is complete within its block; the columns' are accumulated as a running maximum
and a running sum (online softmax: Milakov and Gimelshein, arXiv 1805.02867). The backward pass makes the
blocks again (as in gradient checkpointing: Chen et al., arXiv 1604.06174) with the gradient

    G = ½ (w_row softmax_row(S) + w_col softmax_col(S)) − w on the diagonal,
    ∂T = τ G A,   ∂A = τ Gᵀ T,   ∂τ = Σ T ∘ (G A),

in which an entry with log A = −∞ is exactly 0. ∂τ is taken from the products, not from S, so that no
0 · ∞ arises. Memory is two matrices of a block's rows by all candidates, a mask of bytes, and vectors.

Several processes each hold the rows of their own share against all candidates. They exchange the audio,
the columns' logsumexps, the value, and the audio's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tclap.training.distributed import Processes

CHUNK_SIZE = 512
"""Anchors of a block unless told otherwise: enough for a matrix product at full speed."""


def blockwise_nce(
    audio: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    *,
    log_alpha: Sequence[Sequence[tuple[float, float]]],
    weights: Sequence[float],
    events: Tensor | None = None,
    chunk_size: int = CHUNK_SIZE,
    processes: Processes | None = None,
) -> Tensor:
    """Cross-entropy of rows and columns of S against its diagonal, for a batch of V views.

    Args:
        audio, text: ``[V, n, d]``, this process's share of the N items; n may be 0 on some process.
        logit_scale: τ, 0-d.
        log_alpha: for views u and v (log α of other pairs, log α of the same pair), −∞ to remove;
            symmetric, and (0, 0) where u = v.
        weights: each view's weight in the mean over its N anchors, summing to 1.
        events: integer ids ``[V, n]``; items with equal ids are no negatives of each other.
        chunk_size: rows of a block.
        processes: who shares the batch.

    Returns:
        The global batch's loss, the same on every process. Its backward pass is a collective too: it
        gives the share's whole gradient for the embeddings, and this process's part for τ.

    Raises:
        ValueError: where no process has an item.
    """
    processes = Processes() if processes is None else processes
    with torch.no_grad():
        candidates, all_events = audio, events
        first = 0
        if processes.count > 1:
            candidates = processes.gather(audio, dim=1)
            all_events = None if events is None else processes.gather(events, dim=1)
            sizes = processes.gather(torch.tensor([audio.shape[1]], device=audio.device))
            first = int(sizes[: processes.rank].sum())
        if candidates.numel() == 0:
            raise ValueError("audio and text must have an item on some process, got none on any.")
        blocks = _Blocks(
            views=audio.shape[0],
            rows=audio.shape[1],
            items=candidates.shape[1],
            first=first,
            log_alpha=log_alpha,
            events=_shared_ids(all_events),
            chunk_size=chunk_size,
        )
        candidates = candidates.flatten(0, 1)
    return _BlockwiseNCE.apply(
        audio.flatten(0, 1), text.flatten(0, 1), logit_scale, candidates, blocks, tuple(weights), processes
    )


@dataclass(frozen=True)
class _Blocks:
    """The blocks of rows of S that this process makes.

    ``rows`` anchors of each view, the first of them item ``first`` of ``items``; ``events`` are ids of
    all candidates ``[V * items]``.
    """

    views: int
    rows: int
    items: int
    first: int
    log_alpha: Sequence[Sequence[tuple[float, float]]]
    events: Tensor | None
    chunk_size: int

    def __iter__(self) -> Iterator[tuple[int, slice, slice]]:
        """View, local rows and global rows of each block. None spans two views."""
        for view in range(self.views):
            for start in range(0, self.rows, self.chunk_size):
                size = min(self.chunk_size, self.rows - start)
                local, whole = view * self.rows + start, view * self.items + self.first + start
                yield view, slice(local, local + size), slice(whole, whole + size)

    def buffers(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Room for the logits of the largest block, for one temporary, and for a mask."""
        shape = (min(self.chunk_size, self.rows), self.views * self.items)
        mask = None if self.events is None else like.new_empty(shape, dtype=torch.bool)
        return like.new_empty(shape), like.new_empty(shape), mask

    def logits(
        self, anchors: Tensor, candidates: Tensor, view: int, rows: slice, out: Tensor, mask: Tensor | None
    ) -> Tensor:
        """S of one block, ``[rows, V * items]``, written into ``out``; ``anchors`` are τ T already.

        Returns a view of the entries of the anchors' own matches, ``[rows]``.
        """
        torch.mm(anchors, candidates.T, out=out)
        item = rows.start - view * self.items
        for other, (cross, same) in enumerate(self.log_alpha[view]):
            part = out[:, other * self.items : (other + 1) * self.items]
            same_pair = part.diagonal(item)
            kept = same_pair + same
            if cross != 0:
                part.add_(cross)
            if same != cross:
                same_pair.copy_(kept)
        match = out.diagonal(rows.start)
        if self.events is not None:
            kept = match.clone()
            torch.eq(self.events[rows, None], self.events[None, :], out=mask)
            out.masked_fill_(mask, -math.inf)
            match.copy_(kept)
        return match


class _BlockwiseNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        audio: Tensor,
        text: Tensor,
        scale: Tensor,
        candidates: Tensor,
        blocks: _Blocks,
        weights: tuple[float, ...],
        processes: Processes,
    ) -> Tensor:
        columns = at_least_float32(candidates)
        matrix, spare, mask = blocks.buffers(columns)
        row_lse, match = columns.new_empty(len(text)), columns.new_empty(len(text))
        peak = columns.new_full((len(columns),), -math.inf)
        total = torch.zeros_like(peak)
        for view, local, whole in blocks:
            anchors = at_least_float32(text[local]) * scale
            size = len(anchors)
            logits, work = matrix[:size], spare[:size]
            block_mask = None if mask is None else mask[:size]
            match[local] = blocks.logits(anchors, columns, view, whole, logits, block_mask)

            higher = torch.maximum(peak, logits.amax(0))
            # A column without any candidate so far: −∞ − (−∞) would be no number.
            reference = higher.masked_fill(higher == -math.inf, 0.0)
            total.mul_(peak.sub_(reference).exp_())
            total.add_(torch.sub(logits, reference, out=work).exp_().sum(0))
            peak = higher

            highest = logits.amax(1)
            row_lse[local] = logits.sub_(highest[:, None]).exp_().sum(1).log_().add_(highest)
        column_lse = peak + total.log()
        if processes.count > 1:
            column_lse = processes.gather(column_lse[None]).logsumexp(0)

        value = columns.new_zeros(())
        for view, local, whole in blocks:
            losses = 0.5 * (row_lse[local] + column_lse[whole]) - match[local]
            value += (weights[view] / blocks.items) * losses.sum()
        ctx.save_for_backward(text, scale, candidates, row_lse, column_lse)
        ctx.blocks, ctx.weights, ctx.processes, ctx.audio_dtype = blocks, weights, processes, audio.dtype
        return processes.sum(value)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_value: Tensor):
        text, scale, candidates, row_lse, column_lse = ctx.saved_tensors
        blocks, processes = ctx.blocks, ctx.processes
        columns = at_least_float32(candidates)
        matrix, spare, mask = blocks.buffers(columns)
        shares = [weight / blocks.items for weight in ctx.weights]
        half_weights = columns.new_tensor(shares).mul_(0.5).repeat_interleave(blocks.items)
        grad_text, grad_columns = torch.empty_like(text), torch.zeros_like(columns)
        grad_scale = torch.zeros_like(scale, dtype=columns.dtype)
        room = columns.new_empty(len(matrix), columns.shape[1])
        for view, local, whole in blocks:
            rows = at_least_float32(text[local])
            anchors = rows * scale
            size = len(rows)
            logits, work = matrix[:size], spare[:size]
            blocks.logits(anchors, columns, view, whole, logits, None if mask is None else mask[:size])

            torch.sub(logits, row_lse[local, None], out=work).exp_()
            gradient = logits.sub_(column_lse).exp_().mul_(half_weights)
            gradient.add_(work, alpha=0.5 * shares[view])
            gradient.diagonal(whole.start).sub_(shares[view])

            products = torch.mm(gradient, columns, out=room[:size])
            grad_scale += (products * rows).sum()
            grad_text[local] = products.mul_(scale * grad_value)
            grad_columns.addmm_(gradient.T, anchors)
        grad_audio = grad_columns.mul_(grad_value)
        if processes.count > 1:
            grad_audio = processes.sum(grad_audio).unflatten(0, (blocks.views, blocks.items))
            grad_audio = grad_audio[:, blocks.first : blocks.first + blocks.rows].flatten(0, 1)
        grad_scale = (grad_scale * grad_value).to(scale.dtype)
        return grad_audio.to(ctx.audio_dtype), grad_text, grad_scale, None, None, None, None


def at_least_float32(embeddings: Tensor) -> Tensor:
    # Half-precision logits at τ = 100 are off by whole units.
    return embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings


def _shared_ids(events: Tensor | None) -> Tensor | None:
    # Small ids compare faster; no two equal, there is nothing to remove.
    if events is None:
        return None
    distinct, ids = torch.unique(events.flatten(), return_inverse=True)
    return None if len(distinct) == ids.numel() else ids.int()
