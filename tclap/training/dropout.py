"""Dropout that each item of a batch draws for itself.

Torch draws a batch's masks one after the other, so that an item's depends on what shares the batch: a
training would change with the micro-batch and the number of processes. Here a mask is a hash, computed in
integers and the same on every device, of the seed, the call and the value's place in its item.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

BITS = 53


class ItemDropout(TorchFunctionMode):
    """In the block every dropout, also attention's, draws from ``seed`` and an item's place in the batch.

    The first dimension of what is dropped from holds ``count`` items, the first of them at ``start`` in the
    batch, or a multiple of that: views, all items of the first, then all of the second. By default each row
    is a view of one item. Torch's own generators are not used.
    """

    def __init__(self, seed: Sequence[int], start: int = 0, count: int = 1) -> None:
        super().__init__()
        self._seed, self._start, self._count, self._calls = list(seed), start, count, 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.dropout:
            return self._dropout(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return function(*args, **kwargs)

    def _dropout(
        self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return values
        dropped = values.masked_fill(~self._kept(values, p), 0.0)
        return dropped / (1 - p) if p < 1 else dropped

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, **options: Any,
    ) -> Tensor:  # fmt: skip
        if dropout_p == 0:
            given = {"attn_mask": attn_mask, "is_causal": is_causal, "scale": scale} | options
            return functional.scaled_dot_product_attention(query, key, value, **given)
        # By its definition, as the fused ones draw for themselves.
        logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=logits.dtype).masked_fill(~attn_mask, -math.inf)
        weights = (logits if attn_mask is None else logits + attn_mask).softmax(-1)
        return self._dropout(weights, dropout_p).to(value.dtype) @ value

    def _kept(self, values: Tensor, p: float) -> Tensor:
        drawn = np.random.default_rng([*self._seed, self._calls]).integers(2**62)
        self._calls += 1
        state = torch.tensor(int(drawn), device=values.device)
        # An axis at a time, so that a place's bits do not depend on how far its item is padded.
        for axis, size in enumerate((len(values) // self._count, self._count, *values.shape[1:])):
            first = self._start if axis == 1 else 0
            state = _mixed(state[..., None] + torch.arange(first, first + size, device=values.device))
        return ((state >> (64 - BITS)) & (2**BITS - 1)).reshape(values.shape) >= round(p * 2**BITS)


def _mixed(state: Tensor) -> Tensor:
    """The last step of SplitMix64 (Steele et al., OOPSLA 2014); int64 wraps as its unsigned integers do."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ ((state >> shift) & (2 ** (64 - shift) - 1))) * (factor - 2**64)
    return state ^ ((state >> 31) & (2**33 - 1))
