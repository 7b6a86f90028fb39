"""What every model does, whatever it is made of: recordings and captions to embeddings.

A subclass embeds batches of windows and of captions; reading files, resampling, windows, batches and checks
are here, so that any CLAP takes what people have.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.arguments import at_least, rows_of, strings_of
from tclap.models import windows
from tclap.models.windows import Windows

MOST_CHANNELS = 8  # of one recording that is taken for a list of waveforms


class Encoder(ABC):
    """Base of everything with ``encode_audio`` and ``encode_text``."""

    name: str
    sample_rate: int  # in Hz, of the waveforms that the model takes
    window: float  # in seconds, the length of audio that it takes at once
    dim: int  # d, the width of an embedding
    padding: str = "repeat"  # what becomes of audio below the window: one of tclap.models.windows.PADDINGS
    batch_size: int = 64  # how many windows it takes at once without much memory
    text_batch_size: int = 64  # and how many captions
    loaded_from: dict[str, Any] | None = None  # the arguments of tclap.load_model
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
        seed: int = 0,
        hop: float | None = None,
    ) -> Tensor:
        """Embed audio: float32 ``[N, d]``, L2-normalised.

        A model takes windows of one length. A shorter recording is repeated, or padded as the model's own
        library does it. Of a longer one the default, ``policy="fit"``, embeds the most energetic window
        alone (a warning says so where more than half is dropped); ``policy="cover"`` embeds all of it, as
        the mean over windows.

        Args:
            waveforms_or_paths: ``[N, samples]``, or a list, array or Series (by rows, whatever its index)
                of mono waveforms ``[samples]`` or of file paths. Waveforms are floats in [-1, 1], or int16
                or int32 PCM, which is scaled to that range.
            sample_rate: of the waveforms in Hz; None: the model's own.
            batch_size: number of windows in memory at a time; None: the model's own.
            policy, seed, hop: which windows, see :class:`~tclap.models.windows.Windows`.

        Raises:
            TypeError: on one path, or what is no list.
            ValueError: on empty, non-finite or wrongly shaped waveforms, samples so large that the
                embedding overflows, an unknown policy, a batch size below 1, or audio longer than the
                model can take at once.
        """
        cutter = Windows(self.sample_rate, self.window, policy, seed, hop, self.padding)
        found = self.recordings(waveforms_or_paths, sample_rate)
        cut = (cutter.cut(waveform, n) for n, waveform in enumerate(self._heeded(found, policy)))
        return self.embed_groups(cut, batch_size)

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
        return torch.cat(found)[np.argsort(order)] if found else self._nothing()

    def is_as_loaded(self) -> bool:
        """Whether ``tclap.load_model`` made this model and its weights are those that it loaded."""
        return self.loaded_from is not None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The state in which a model embeds."""
        yield

    def _nothing(self) -> Tensor:
        return torch.zeros(0, self.dim)

    def recordings(self, waveforms_or_paths: Any, sample_rate: int | None) -> Iterator[np.ndarray]:
        """Recordings ``[samples]`` at the model's rate, one at a time."""
        shape = getattr(waveforms_or_paths, "shape", ())
        if len(shape) == 2 and shape[1] <= MOST_CHANNELS < shape[0]:
            raise ValueError(
                f"got [samples, channels] = {list(shape)}, expected [N, samples]: average the channels and "
                "pass [waveform]."
            )
        return windows.recordings(
            rows_of(waveforms_or_paths, "waveforms or paths"), sample_rate, self.sample_rate
        )

    def _heeded(self, found: Iterable[np.ndarray], policy: str) -> Iterator[np.ndarray]:
        """The same; says once, of a policy that leaves audio out, that more than half of one is."""
        longest = 2 * self.window * self.sample_rate
        for waveform in found:
            if policy in ("fit", "msclap") and len(waveform) > longest and not self._warned:
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
        size, sums, owners, waiting = batch_size or self.batch_size, [], [], []

        def embed() -> None:
            batch = np.stack(waiting)
            found = self.embed_windows(torch.from_numpy(batch))
            if not found.isfinite().all():
                peak = np.abs(batch).max()
                raise ValueError(f"samples of up to {peak:g} have no finite embedding, expected [-1, 1].")
            for owner, row in zip(owners, found, strict=True):
                sums[owner] = row if sums[owner] is None else sums[owner] + row
            owners.clear(), waiting.clear()

        single = True
        with self.evaluating():
            for number, group in enumerate(groups):
                sums.append(None)
                single &= len(group) == 1
                for waveform in group:
                    # A batch has one length.
                    if waiting and (len(waiting) == size or len(waveform) != len(waiting[0])):
                        embed()
                    owners.append(number), waiting.append(waveform)
            if waiting:
                embed()
        if not sums:
            return self._nothing()
        found = torch.stack(sums)
        return found if single else normalize(found, dim=-1)
