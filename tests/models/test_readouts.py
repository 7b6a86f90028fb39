"""Readouts against slow oracles that treat one row at a time, without padding."""

import math

import pytest
import torch
from torch import nn

from tclap.models import READOUTS
from tclap.models.readouts import make_readout

LENGTHS = [7, 1, 2, 3, 4, 5, 10]


def sequences(seed: int = 0, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), max(LENGTHS), dim, generator=generator), torch.tensor(LENGTHS)


def readout(name: str, dim: int = 4, hidden: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return make_readout(name, dim, hidden).eval()


def slow_segments(row: torch.Tensor, peaks: bool = False) -> torch.Tensor:
    """Four means (plus maxima) of a row ``[T, D]``; the bounds are written out for all of LENGTHS."""
    bounds = {
        1: [(0, 1), (0, 1), (0, 1), (0, 1)],
        2: [(0, 1), (0, 1), (1, 2), (1, 2)],
        3: [(0, 1), (0, 1), (1, 2), (2, 3)],
        4: [(0, 1), (1, 2), (2, 3), (3, 4)],
        5: [(0, 1), (1, 2), (2, 3), (3, 5)],
        7: [(0, 1), (1, 3), (3, 5), (5, 7)],
        10: [(0, 2), (2, 5), (5, 7), (7, 10)],
    }[len(row)]
    parts = [torch.stack([row[t] for t in range(a, b)]) for a, b in bounds]
    return torch.cat([part.mean(0) + (part.max(0).values if peaks else 0) for part in parts])


def slow_ends(module: nn.Module):
    """The GRU's recurrence cell by cell: once from the front, once from the back."""

    def cell(suffix: str) -> nn.GRUCell:
        cell = nn.GRUCell(module.gru.input_size, module.gru.hidden_size)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(module.gru, f"{name}_l0{suffix}") for name in names})
        return cell

    def last(cell: nn.GRUCell, steps) -> torch.Tensor:
        state = torch.zeros(1, module.gru.hidden_size)
        for step in steps:
            state = cell(step[None], state)
        return state[0]

    front, back = cell(""), cell("_reverse")
    return lambda row: torch.cat([last(front, row), last(back, row.flip(0))])


def slow_attention(module: nn.Module):
    """Positions, a transformer layer head by head, and the mean."""

    def read(row: torch.Tensor) -> torch.Tensor:
        layer, dim = module[0].layer, row.shape[1]
        angles = [[t / 10_000 ** (2 * (d // 2) / dim) for d in range(dim)] for t in range(len(row))]
        at = [[math.cos(a) if d % 2 else math.sin(a) for d, a in enumerate(of)] for of in angles]
        row = row + torch.tensor(at)
        attention, normed = layer.self_attn, layer.norm1(row)
        query, key, value = (
            normed @ attention.in_proj_weight[n * dim : (n + 1) * dim].T
            + attention.in_proj_bias[n * dim : (n + 1) * dim]
            for n in range(3)
        )
        heads = []
        for own in torch.arange(dim).chunk(4):
            scores = query[:, own] @ key[:, own].T / math.sqrt(len(own))
            heads.append(torch.softmax(scores, dim=1) @ value[:, own])
        row = row + attention.out_proj(torch.cat(heads, dim=1))
        return (row + layer.linear2(torch.relu(layer.linear1(layer.norm2(row))))).mean(0)

    return read


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_sequence_is_read_as_an_oracle_does_it(name, length):
    module, values = readout(name), sequences()[0][:, :length]
    slow = {
        "mean": lambda row: row.mean(0),
        "mean-max": lambda row: row.mean(0) + row.max(0).values,
        "attention": slow_attention(module),
        "segments": slow_segments,
        "segment-peaks": lambda row: slow_segments(row, peaks=True),
        "ends": slow_ends(module) if name == "ends" else None,
    }[name]
    found = module(values)
    assert found.shape == (len(LENGTHS), module.width)
    torch.testing.assert_close(found, torch.stack([slow(row) for row in values]), atol=1e-6, rtol=0)


def test_ends_do_not_see_padding():
    module, (values, lengths) = readout("ends"), sequences()
    slow = slow_ends(module)
    expected = torch.stack([slow(row[:length]) for row, length in zip(values, lengths, strict=True)])
    torch.testing.assert_close(module(values, lengths), expected, atol=1e-6, rtol=0)
