"""From files or waveforms of any length to batches of the length that a model takes at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tclap import audio
from tclap.data.composites import POLICIES


@dataclass(frozen=True)
class Windows:
    """A window policy: what becomes of audio that is not as long as the window.

    Shorter audio is repeated. Of longer audio ``fit`` takes the most energetic window, ``full`` all, for
    a model that can take it, ``msclap`` one at random, drawn from ``seed`` and the item's position.
    """

    sample_rate: int  # of the model, in Hz
    window: float  # in seconds
    policy: str = "fit"  # one of tclap.data.composites.POLICIES
    seed: int = 0  # of the policy msclap

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"window policy must be one of {', '.join(POLICIES)}, got {self.policy!r}.")

    def batches(self, items: Sequence, sample_rate: int | None, size: int) -> Iterator[np.ndarray]:
        """Waveforms ``[n ≤ size, samples]`` of one length each, in the order of the items.

        Items are paths of audio files, or 1-d waveforms at ``sample_rate`` in Hz (None: the model's own);
        one that is empty, not finite or of another shape is a ValueError.
        """
        for start in range(0, len(items), size):
            waveforms = (self._waveform(item, sample_rate) for item in items[start : start + size])
            fitted = [self.fitted(waveform, n) for n, waveform in enumerate(waveforms, start)]
            # Under "full" lengths differ, and a batch has one.
            one_length = len({len(waveform) for waveform in fitted}) == 1
            for group in [fitted] if one_length else [[waveform] for waveform in fitted]:
                yield np.stack(group)

    def fitted(self, waveform: np.ndarray, position: int = 0) -> np.ndarray:
        """The part of a waveform ``[samples]`` that the model is given; ``position`` is the item's."""
        samples = round(self.window * self.sample_rate)
        if len(waveform) <= samples:
            return audio.repeat_to(waveform, samples)
        if self.policy == "full":
            return waveform
        if self.policy == "msclap":
            generator = np.random.default_rng([self.seed, position])
            start = int(generator.integers(len(waveform) - samples, endpoint=True))
        else:
            start = audio.most_energetic_start(waveform, samples)
        return audio.crop(waveform, start, samples)

    def _waveform(self, item, sample_rate: int | None) -> np.ndarray:
        if isinstance(item, (str, Path)):
            return audio.read(item, self.sample_rate)
        waveform = np.asarray(item.detach().cpu() if isinstance(item, torch.Tensor) else item)
        # Integers are samples of a PCM file that nobody has scaled to [-1, 1].
        floats = np.issubdtype(waveform.dtype, np.floating)
        if not floats or waveform.ndim != 1 or waveform.size == 0 or not np.isfinite(waveform).all():
            raise ValueError(
                "a waveform must be a mono array [samples] of finite floats in [-1, 1] and not empty, "
                f"got {waveform.dtype} of shape {waveform.shape}."
            )
        if not waveform.any():
            warnings.warn("a waveform is silent: all its samples are zero.", UserWarning, stacklevel=2)
        given = self.sample_rate if sample_rate is None else sample_rate
        return audio.resample(waveform, given, self.sample_rate)
