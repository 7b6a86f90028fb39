"""One model's embeddings of sounds and captions by name, each computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.progress import progress

BLOCK = 16  # sounds that a model is given at a time


class Embeddings(ABC):
    """Embeddings that the tasks, controls and galleries are answered from.

    Args:
        names: of sounds.
        audio: their embeddings ``[len(names), d]``, L2-normalised, on the CPU.
    """

    def __init__(self, names: Iterable[str], audio: Tensor) -> None:
        self._audio: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}
        self.add_sounds(names, audio)

    @abstractmethod
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions, L2-normalised, on the CPU."""

    def add_sounds(self, names: Iterable[str], audio: Tensor) -> None:
        """Add embeddings of further sounds."""
        self._audio |= zip(names, audio, strict=True)

    def add_captions(self, captions: Iterable[str]) -> None:
        """Embed captions that are not there yet, all at once."""
        if new := sorted(set(captions) - self._text.keys()):
            self._text |= zip(new, self.embed_captions(new), strict=True)

    def sounds(self, names: Iterable[str]) -> Tensor:
        """Embeddings ``[N, d]`` of sounds by name, in order."""
        return torch.stack([self._audio[name] for name in names])

    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions, in order."""
        self.add_captions(captions)
        return torch.stack([self._text[caption] for caption in captions])


class ModelEmbeddings(Embeddings):
    """Embeddings by any object's ``encode_audio`` and ``encode_text``, checked and L2-normalised.

    Args:
        model: the object.
        names: of sounds.
        load: gives a named sound as ``encode_audio`` takes it: a waveform or a path.

    Raises:
        ValueError: on embeddings of a wrong shape, or with values that are not finite.
    """

    def __init__(self, model: Any, names: Sequence[str], load: Callable[[str], Any]) -> None:
        self._model = model
        blocks = [names[n : n + BLOCK] for n in range(0, len(names), BLOCK)]
        audio = [
            _checked(model.encode_audio([load(name) for name in block]), len(block), "encode_audio")
            for block in progress(blocks, "test audio", quiet=len(blocks) < 4)
        ]
        self._dim = audio[0].shape[1]
        super().__init__(names, torch.cat(audio))

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, on the CPU."""
        found = _checked(self._model.encode_text(list(captions)), len(captions), "encode_text")
        if found.shape[1] != self._dim:
            raise ValueError(
                f"encode_text gave {found.shape[1]} dimensions, encode_audio {self._dim}; expected one space."
            )
        return found


def _checked(embeddings: Any, count: int, method: str) -> Tensor:
    found = torch.as_tensor(embeddings).detach().cpu().float()
    if found.ndim != 2 or len(found) != count:
        raise ValueError(f"{method} gave {tuple(found.shape)} for {count} items, expected [{count}, d].")
    if not found.isfinite().all():
        raise ValueError(f"{method} gave values that are not finite.")
    return normalize(found, dim=-1)
