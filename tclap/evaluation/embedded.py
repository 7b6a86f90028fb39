"""One model's embeddings of sounds and captions by name, each computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from tclap.evaluation import tasks as zste


class Embedded(ABC):
    """Embeddings that the tasks, controls and galleries are answered from.

    Args:
        audio_rows: row of ``audio`` by the sound's name.
        audio: ``[A, d]``, L2-normalised, on the CPU.
    """

    def __init__(self, audio_rows: Mapping[str, int], audio: Tensor) -> None:
        self.audio_rows, self.audio = dict(audio_rows), audio
        self.text_rows: dict[str, int] = {}
        self.text = torch.empty(0, audio.shape[1])

    @abstractmethod
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions, on the CPU."""

    def add_captions(self, captions: Sequence[str]) -> None:
        """Embed the captions that are not there yet."""
        new = sorted(set(captions) - self.text_rows.keys())
        if not new:
            return
        embedded = self.embed_captions(new)
        self.text_rows |= {caption: len(self.text_rows) + n for n, caption in enumerate(new)}
        self.text = torch.cat([self.text, embedded])

    def add_sounds(self, names: Sequence[str], audio: Tensor) -> None:
        """Add embeddings ``[len(names), d]`` of further sounds."""
        self.audio_rows |= {name: len(self.audio) + n for n, name in enumerate(names)}
        self.audio = torch.cat([self.audio, audio])

    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings of captions, in order."""
        self.add_captions(captions)
        return self.text[[self.text_rows[c] for c in captions]]

    def sounds(self, names: Sequence[str]) -> Tensor:
        """Embeddings of sounds by name, in order."""
        return self.audio[[self.audio_rows[n] for n in names]]

    def answers(self, items: pd.DataFrame) -> pd.DataFrame:
        """Rows of :func:`tclap.evaluation.tasks.score_items`."""
        self.add_captions([c for candidates in items["candidates"] for c in candidates])
        return zste.score_items(items, self.audio_rows, self.audio, self.text_rows, self.text)
