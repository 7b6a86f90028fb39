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

PCM = (np.int16, np.int32)  # samples that soundfile and wave give unscaled


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

        Items are paths of audio files, or mono waveforms at ``sample_rate`` in Hz (None: the model's own), of
        floats or PCM; one that is empty, not finite or of another shape is a ValueError.
        """
        for start in range(0, len(items), size):
            numbered = enumerate(items[start : start + size], start)
            fitted = [self.fitted(self._waveform(item, n, sample_rate), n) for n, item in numbered]
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

    def _waveform(self, item, position: int, sample_rate: int | None) -> np.ndarray:
        if isinstance(item, (str, Path)):
            return audio.read(item, self.sample_rate)
        waveform = np.asarray(item.detach().cpu() if isinstance(item, torch.Tensor) else item)
        found = f"{waveform.dtype} of shape {waveform.shape}"
        if waveform.dtype in PCM:
            waveform = waveform / -float(np.iinfo(waveform.dtype).min)
        if waveform.dtype.kind == "f":
            with np.errstate(over="ignore"):
                waveform = waveform.astype(np.float32, copy=False)
        if waveform.dtype.kind != "f" or waveform.ndim != 1 or not waveform.size:
            advice = {0: ": of one waveform pass [waveform]", 2: ": average its channels first"}
            raise ValueError(
                f"item {position} is {found}, expected a path or a mono waveform [samples] of floats in "
                f"[-1, 1], int16 or int32{advice.get(waveform.ndim, '')}."
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"item {position} has samples that are not finite in float32, expected [-1, 1].")
        if not waveform.any():
            warnings.warn("a waveform is silent: all its samples are zero.", UserWarning, stacklevel=2)
        given = self.sample_rate if sample_rate is None else sample_rate
        return audio.resample(waveform, given, self.sample_rate)
