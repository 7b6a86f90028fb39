"""Batches embedded in pieces against the same batch at once."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tclap.losses import clip_loss
from tclap.training.batch_embedding import BatchEmbedder

CPU = torch.device("cpu")


class Towers(nn.Module):
    """Two small towers with dropout between their layers; counts the rows of each call."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.audio = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)).double()
        self.text = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.inputs = torch.randn(2, 20, 4, dtype=torch.float64)
        self.calls: list[int] = []

    def forward(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        self.calls.append(len(rows))
        sides = (self.audio(self.inputs[0, rows]), self.text(self.inputs[1, rows]))
        return tuple(nn.functional.normalize(side, dim=-1) for side in sides)


def gradient(towers: Towers, embedding: BatchEmbedder, rows: np.ndarray) -> tuple[float, Tensor]:
    towers.zero_grad()
    loss = clip_loss(*embedding.embed_local(towers, rows, CPU, (1, 2)), 5.0)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in towers.parameters()])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("micro_batch", [1, 3, 7, 100])
def test_pieces_give_the_loss_and_gradient_of_the_whole(micro_batch, dropout):
    towers, rows = Towers(dropout), np.array([3, 1, 4, 15, 9, 2, 6])
    loss, expected = gradient(towers, BatchEmbedder(), rows)
    towers.calls.clear()
    again, found = gradient(towers, BatchEmbedder(micro_batch=micro_batch), rows)
    assert again == pytest.approx(loss, abs=1e-14)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    pieces = math.ceil(7 / micro_batch)
    sizes = [min(micro_batch, 7 - n * micro_batch) for n in range(pieces)]
    assert sorted(towers.calls) == sorted(sizes * (2 if pieces > 1 else 1))  # computed twice, or once


def test_little_is_kept_of_the_pieces():
    towers, rows = Towers(), np.arange(20)

    def kept(embedding: BatchEmbedder) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            embedding.embed_local(towers, rows, CPU, (1,))
        return sum(sizes)

    assert kept(BatchEmbedder(micro_batch=2)) < kept(BatchEmbedder()) / 5


def test_bf16_products_and_float32_embeddings(tiny_model):
    features = torch.randn(5, 7, 8)
    seen = []
    tiny_model.audio_head.mlp[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))

    def embed(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        audio = tiny_model.embed_features(features[rows])
        return audio, audio

    half, full = (
        BatchEmbedder(precision=name).embed_local(embed, np.arange(5), CPU, (0,))[0]
        for name in ("bf16", "fp32")
    )
    assert seen == [torch.bfloat16, torch.float32] and half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(5), rtol=0, atol=1e-6)
    assert 1e-6 < 1 - (half * full).sum(1).min().item() < 1e-2
    half.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in tiny_model.audio_head.parameters())
