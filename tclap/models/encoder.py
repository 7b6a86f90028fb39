"""What every model does, whatever it is made of: recordings and captions to embeddings.

A subclass embeds batches of windows and of captions; reading files, resampling, windows, batches and checks
are here, so that any CLAP takes what people have.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.arguments import at_least, rows_of, strings_of
from tclap.models.windows import Windows, recordings

MOST_CHANNELS = 8  # of one recording that is taken for a list of waveforms


class Encoder(ABC):
    """Base of everything with ``encode_audio`` and ``encode_text``."""

    name: str
    sample_rate: int  # in Hz, of the waveforms that the model takes
    window: float  # in seconds, the length of audio that it takes at once
    dim: int  # d, the width of an embedding
    padding: str = "repeat"  # what becomes of audio below the window: see tclap.models.windows
    batch_size: int = 64  # how many windows it takes at once without much memory
    text_batch_size: int = 64  # and how many captions
    _warned = False

    @abstractmethod
    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, of waveforms of one length ``[N, samples]`` on the CPU."""

    @abstractmethod
    def embed_texts(self, captions: list[str]) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, of captions."""

    @torch.no_grad()
    def encode_audio(
        self,
        waveforms_or_paths: Tensor | np.ndarray | Sequence,
        sample_rate: int | None = None,
        batch_size: int | None = None,
        *,
        policy: str = "fit",
    ) -> Tensor:
        """Embed audio: float32 ``[N, d]``, L2-normalised.

        A shorter recording than the model's window is repeated, or padded as the model's own library does
        it. Of a longer one ``policy="fit"`` embeds the most energetic window alone (a warning says so where
        more than half is dropped), ``policy="cover"`` all of it, as the mean over windows.

        Args:
            waveforms_or_paths: ``[N, samples]``, or a list, array or Series (by rows, whatever its index)
                of mono waveforms ``[samples]`` or of file paths. Waveforms are floats in [-1, 1], or int16
                or int32 PCM, which is scaled to that range.
            sample_rate: of the waveforms in Hz; None: the model's own.
            batch_size: number of windows in memory at a time; None: the model's own.
            policy: ``fit`` or ``cover``, see above.

        Raises:
            TypeError: on one path, or what is no list.
            ValueError: on empty, non-finite or wrongly shaped waveforms, samples so large that the
                embedding overflows, an unknown policy, or a batch size below 1.
        """
        windows = Windows(self.sample_rate, self.window, policy, self.padding)
        found = self.recordings(waveforms_or_paths, sample_rate)
        heeded = self._heeded(found) if policy == "fit" else found
        return self.embed_groups(map(windows.cut, heeded), batch_size)

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str], batch_size: int | None = None) -> Tensor:
        """Embed captions: ``[N, d]``, L2-normalised. Captions of like length share a batch.

        ``captions`` are a list, array or Series (by rows, whatever its index) of strings; TypeError on one
        string, or what is no list of strings, ValueError on a batch size below 1.
        """
        captions = strings_of(captions, "captions")
        at_least(1, batch_size=batch_size)
        size = batch_size or self.text_batch_size
        order = sorted(range(len(captions)), key=lambda n: len(captions[n]))
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        with self.evaluating():
            found = [self.embed_texts([captions[n] for n in block]) for block in blocks]
        return torch.cat(found)[np.argsort(order)] if found else torch.zeros(0, self.dim)

    def evaluating(self) -> AbstractContextManager:
        """The state in which a model embeds."""
        return nullcontext()

    def recordings(self, waveforms_or_paths: Any, sample_rate: int | None) -> Iterator[np.ndarray]:
        """Recordings ``[samples]`` at the model's rate, one at a time."""
        shape: tuple[int, ...] = getattr(waveforms_or_paths, "shape", ())
        if len(shape) == 2 and shape[1] <= MOST_CHANNELS < shape[0]:
            raise ValueError(
                f"got [samples, channels] = {list(shape)}, expected [N, samples]: average the channels and "
                "pass [waveform]."
            )
        at_least(1.0, sample_rate=sample_rate)
        items = rows_of(waveforms_or_paths, "waveforms or paths")
        return recordings(items, sample_rate, self.sample_rate)

    def _heeded(self, found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same; says once that more than half of one is left out."""
        for waveform in found:
            if len(waveform) > 2 * self.window * self.sample_rate and not self._warned:
                self._warned = True
                warnings.warn(
                    f"a recording lasts {len(waveform) / self.sample_rate:.1f} s, of which one window of "
                    f"{self.window:g} s is embedded: policy='cover' embeds all of it.",
                    UserWarning,
                    stacklevel=6,
                )
            yield waveform

    def embed_groups(self, groups: Iterable[list[np.ndarray]], batch_size: int | None) -> Tensor:
        """The mean of each group's windows ``[len(groups), d]``, L2-normalised; groups share batches."""
        at_least(1, batch_size=batch_size)
        rows, owners = [], []
        windows = ((number, window) for number, group in enumerate(groups) for window in group)
        with self.evaluating():
            while block := list(islice(windows, batch_size or self.batch_size)):
                numbers, batch = zip(*block, strict=True)
                rows.append(self.embed_windows(torch.from_numpy(np.stack(batch))))
                if not rows[-1].isfinite().all():
                    peak = np.abs(batch).max()
                    raise ValueError(f"samples of up to {peak:g} have no finite embedding, expected [-1, 1].")
                owners += numbers
        if not rows:
            return torch.zeros(0, self.dim)
        found, count = torch.cat(rows), owners[-1] + 1
        if count == len(found):
            return found
        owner = torch.tensor(owners, device=found.device)
        return normalize(found.new_zeros(count, self.dim).index_add_(0, owner, found), dim=-1)
