"""Readouts: how a sequence of trunk outputs becomes one vector.

Whether an embedding can depend on order is decided here. A mean over time, which is what CLAP models
use, is the same for [a ; b] and [b ; a] up to the frames near the boundary; a readout that keeps the
ends apart is not. Every readout maps ``values [N, T, D]`` to ``[N, width]``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from tclap.arguments import one_of
from tclap.models import PUBLISHED_READOUTS, READOUTS


class Segments(nn.Module):
    """Means of ``count`` equal segments, concatenated; of one segment it is order-blind.

    With ``peaks``, mean plus maximum, as Cnn14 pools the whole (Kong et al., arXiv 1912.10211).
    """

    def __init__(self, dim: int, count: int = 4, peaks: bool = False) -> None:
        super().__init__()
        self.width, self.count, self.peaks = count * dim, count, peaks

    def forward(self, values: Tensor) -> Tensor:
        length, found = values.shape[1], []
        position = torch.arange(length, device=values.device)[:, None]
        for k in range(self.count):
            # A sequence shorter than their number repeats a position rather than leave a segment empty.
            start = k * length // self.count
            inside = (position >= start) & (position < max((k + 1) * length // self.count, start + 1))
            found.append((values * inside).sum(1) / inside.sum())
            if self.peaks:
                found[-1] = found[-1] + values.masked_fill(~inside, -torch.inf).amax(1)
        return torch.cat(found, dim=1)


HEADS = 4  # of attention


class Attention(nn.Module):
    """One transformer layer over all frames ``[N, T, width]``, with their positions (sinusoidal)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % HEADS:
            raise ValueError(f"width is {width}, expected a multiple of {HEADS} for attention.")
        self.layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, features: Tensor) -> Tensor:
        frames, width = features.shape[1:]
        at = torch.arange(frames, device=features.device)[:, None]
        angles = at * torch.exp(torch.arange(0, width, 2, device=features.device) * (-math.log(1e4) / width))
        return self.layer(features + torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1))


class AttendedMean(nn.Sequential):
    """Mean of the outputs of a transformer layer with positions, which may hold the order."""

    def __init__(self, dim: int) -> None:
        super().__init__(Attention(dim), Segments(dim, count=1))
        self.width = dim


class Ends(nn.Module):
    """A bidirectional GRU's two end states: the past at the last step, the future at the first.

    Positions from a row's length on (``lengths [N]``; None: all T) are padding, which it does not see.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.width = 2 * hidden
        self.gru = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        packed: Tensor | PackedSequence = values
        if lengths is not None:
            # Packed, so that neither direction's state passes over padding.
            packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, states = self.gru(packed)
        return states.transpose(0, 1).flatten(1)


class ResidualSegments(nn.Module):
    """An order head to be added to a published embedding: ``[N, T, D] -> [N, d]``, zero at first.

    Its input is how each of four segments' means differs from the mean of all, which is what a global
    pooling loses; the last layer starts at zero, so that training starts from the published model.
    """

    def __init__(self, dim: int, out: int, hidden: int = 256) -> None:
        super().__init__()
        self.segments = Segments(dim)
        self.norm = nn.LayerNorm(self.segments.width)
        self.inner = nn.Linear(self.segments.width, hidden)
        self.outer = nn.Linear(hidden, out, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, values: Tensor) -> Tensor:
        means = self.segments(values).unflatten(1, (self.segments.count, -1))
        deviations = (means - means.mean(1, keepdim=True)).flatten(1)
        return self.outer(nn.functional.gelu(self.inner(self.norm(deviations))))


class PublishedHead(nn.Module):
    """An audio head as published, with or without an order head beside it: ``[N, T, D] -> [N, d]``.

    A subclass defines :meth:`pooled`.
    """

    def __init__(self, projection: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.projection, self.width, self.dim = projection, width, dim
        self.order: nn.Module | None = None

    def set_readout(self, readout: str) -> None:
        """Take the published readout, or add a fresh order head to it; ValueError on another name."""
        one_of(PUBLISHED_READOUTS, readout=readout)
        residual = readout == "residual-segments"
        self.order = ResidualSegments(self.width, self.dim) if residual else None

    def pooled(self, features: Tensor) -> Tensor:
        """The published input ``[N, width]`` of the projection."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        published = self.projection(self.pooled(features))
        return published if self.order is None else published + self.order(features)


def make_readout(name: str, dim: int, hidden: int) -> Segments | AttendedMean | Ends:
    """A readout of trunk outputs ``dim`` wide, by name; ``hidden`` is the width of a recurrent state."""
    one_of(READOUTS, readout=name)
    if name == "ends":
        return Ends(dim, hidden)
    if name == "attention":
        return AttendedMean(dim)
    count = 1 if name in ("mean", "mean-max") else 4
    return Segments(dim, count, peaks=name in ("mean-max", "segment-peaks"))
