"""From files or waveforms of any length to windows of the length that a model takes at once."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tclap import audio
from tclap.arguments import at_least, one_of

PCM = (np.int16, np.int32)  # samples that soundfile and wave give unscaled
POLICIES = ("fit", "cover")


@dataclass(frozen=True)
class Windows:
    """A window policy: what becomes of audio that is not as long as the window.

    Of longer audio ``fit`` takes the most energetic window, ``cover`` windows a ``hop`` apart, of which the
    last ends with the recording. Shorter audio is repeated and cut (``repeat``), repeated as often as it
    fits whole and then padded (``repeat-whole``), or padded (``silence``).
    """

    sample_rate: int  # of the model, in Hz
    window: float  # in seconds
    policy: str = "fit"
    padding: str = "repeat"
    hop: float | None = None  # in seconds, of the policy cover; None: the window

    def __post_init__(self) -> None:
        one_of(POLICIES, policy=self.policy)
        at_least(1 / self.sample_rate, hop=self.hop)

    def fitted(self, waveform: np.ndarray) -> np.ndarray:
        """The one window that a model is given of a waveform ``[samples]``, under the policy fit."""
        return self.cut(waveform)[0]

    def cut(self, waveform: np.ndarray) -> list[np.ndarray]:
        """The windows that a model is given of a waveform ``[samples]``."""
        samples = round(self.window * self.sample_rate)
        if len(waveform) <= samples:
            return [self._padded(waveform, samples)]
        if self.policy == "fit":
            return [audio.crop(waveform, audio.most_energetic_start(waveform, samples), samples)]
        last = len(waveform) - samples
        hop = samples if self.hop is None else round(self.hop * self.sample_rate)
        return [waveform[start : start + samples] for start in (*range(0, last, hop), last)]

    def _padded(self, waveform: np.ndarray, samples: int) -> np.ndarray:
        if self.padding == "repeat":
            return audio.repeat_to(waveform, samples)
        whole = np.tile(waveform, samples // len(waveform) if self.padding == "repeat-whole" else 1)
        return np.pad(whole, (0, samples - len(whole)))


def recordings(items: Sequence, sample_rate: int | None, wanted: int) -> Iterator[np.ndarray]:
    """Mono waveforms ``[samples]`` at ``wanted`` Hz, one at a time.

    Items are paths of audio files, or mono waveforms at ``sample_rate`` in Hz (None: ``wanted``), of floats
    or PCM; one that is empty, not finite or of another shape is a ValueError.
    """
    for position, item in enumerate(items):
        if isinstance(item, (str, Path)):
            yield audio.read(item, wanted)
            continue
        waveform = np.asarray(item.detach().cpu() if isinstance(item, torch.Tensor) else item)
        found = f"{waveform.dtype} of shape {waveform.shape}"
        if waveform.dtype in PCM:
            waveform = waveform / -float(np.iinfo(waveform.dtype).min)
        if waveform.dtype.kind != "f" or waveform.ndim != 1 or not waveform.size:
            advice = {0: ": of one waveform pass [waveform]", 2: ": average its channels first"}
            raise ValueError(
                f"item {position} is {found}, expected a path or a mono waveform [samples] of floats in "
                f"[-1, 1], int16 or int32{advice.get(waveform.ndim, '')}."
            )
        with np.errstate(over="ignore"):
            waveform = waveform.astype(np.float32, copy=False)
        if not np.isfinite(waveform).all():
            raise ValueError(f"item {position} has samples that are not finite in float32, expected [-1, 1].")
        if not waveform.any():
            warnings.warn("a waveform is silent: all its samples are zero.", stacklevel=2)
        yield audio.resample(waveform, wanted if sample_rate is None else sample_rate, wanted)
