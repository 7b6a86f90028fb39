"""Stands for a model in tests: an embedding has one axis per meaning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.evaluation.embeddings import Embeddings

DIM = 256


class Meanings(Embeddings):
    """Embeddings of sounds and captions by what they say.

    Args:
        sounds: weight of each meaning, by the sound's name.
        read: a caption's meaning; None where it says nothing.
    """

    def __init__(
        self, sounds: Mapping[str, Mapping[Hashable, float]], read: Callable[[str], Hashable | None]
    ) -> None:
        self.axes: dict[Hashable, int] = {}
        self.read = read
        super().__init__(sounds, self.embed(*sounds.values()))

    def embed(self, *said: Mapping[Hashable, float]) -> Tensor:
        rows = torch.zeros(len(said), DIM)
        for row, meanings in zip(rows, said, strict=True):
            for meaning, weight in meanings.items():
                row[self.axes.setdefault(meaning, len(self.axes))] = weight
        return normalize(rows, dim=1)

    def embed_captions(self, captions):
        read = [self.read(caption) for caption in captions]
        return self.embed(*({} if meaning is None else {meaning: 1.0} for meaning in read))


class Random(Embeddings):
    """Random directions."""

    def __init__(self, names, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        super().__init__(names, self.embed_captions(names))

    def embed_captions(self, captions):
        return normalize(torch.randn(len(captions), 128, generator=self.generator), dim=1)
