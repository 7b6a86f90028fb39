"""``sfx``: a pretrained, frozen encoder of sound effects, with small heads that are trained here.

Audio: the CNN9 of Ma and Lerch ("Representation Learning for the Automatic Indexing of Sound Effects
Libraries", ISMIR 2022, pp. 866-875), trained on the categories of nine sound-effects libraries, without its
maximum over time (the trunk); then a readout over time and a two-layer perceptron (the head). Text: as in
:mod:`~tclap.models.compact`. Of ``load_model("sfx")`` the trunks are pretrained and the heads untrained: it
is no CLAP before these have been trained.

Weights: ``checkpoint.pth`` of the PyPI package ``aisfx`` 0.1.2 (CC BY 4.0), of which no code is run and whose
pins need not hold: ``pip install --no-deps aisfx==0.1.2`` (23 MB).
"""

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from tclap import files
from tclap.arguments import at_least
from tclap.models.base import AudioTextModel
from tclap.models.compact import AudioHead, TextHead, TextTrunk
from tclap.models.towers import Trunk, power_spectrum
from tclap.models.weights import load_exactly

RELEASE = "aisfx 0.1.2"
SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"  # of the checkpoint
CHANNELS = (1, 64, 128, 256, 512)
LOG_MEL_SCALE = 9.457798957824707  # the largest log-mel that the encoder met in its training
HIDDEN = 64  # of each recurrent direction of a head


class Block(nn.Module):
    """Two convolutions over time and bands, each with a norm of fixed statistics."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(maps))))))


class AudioTrunk(Trunk):
    """CNN9's maps, averaged over bands: ``[N, samples] -> [N, T, 512]``, a step every 8 hops (0.186 s).

    A step depends on 0.8 s to either side of its middle, and on the whole by its peak, which is scaled to 1.

    Raises:
        ValueError: on waveforms that are shorter than one step.
    """

    width, hop = 512, 1024
    filters: Tensor
    hann: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filter_bank(1025, 96, 0.0, 22050.0, 44100, mel_scale="htk")
        filters = torch.from_numpy(filters / filters.sum(axis=0)).float()
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(2048), persistent=False)
        for k, (inputs, outputs) in enumerate(pairwise(CHANNELS), start=1):
            self.add_module(f"conv_block{k}", Block(inputs, outputs))

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """log10(1 + 10⁴ mel power) ``[N, frames, bands]`` of waveforms scaled to a peak of 1."""
        peak = waveforms.abs().amax(1, keepdim=True)
        scaled = waveforms / peak.where(peak > 0, 1.0)
        power = power_spectrum(scaled, self.hann, self.hop, pad_mode="constant") @ self.filters
        return (1 + 1e4 * power).log10()

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB, as the model gets it: not below -40."""
        return 10 * (self.log_mel(waveforms) - 4)

    def forward(self, waveforms: Tensor) -> Tensor:
        least = 7 * self.hop  # eight frames, of which the first is centred on the start
        if waveforms.shape[1] < least:
            raise ValueError(f"waveforms have {waveforms.shape[1]} samples, expected at least {least}.")
        maps = (self.log_mel(waveforms) / LOG_MEL_SCALE)[:, None].to(memory_format=torch.channels_last)
        for k in range(1, 4):
            maps = functional.max_pool2d(self.get_submodule(f"conv_block{k}")(maps), 2)
        return self.get_submodule("conv_block4")(maps).mean(3).transpose(1, 2)


class Sfx(AudioTextModel):
    """The model with trunk and heads of random weights; use :func:`tclap.load_model`.

    Args:
        readout: of the audio head, one of :data:`tclap.models.READOUTS`.
        window: of the audio, in seconds.
        dim: d.
        dropout: of the heads' readouts.

    Raises:
        ValueError: on another readout, or values out of range.
    """

    name = "sfx"
    pretrained = ("audio_trunk.", "text_trunk.")
    sample_rate = 44100
    batch_size = 16

    def __init__(
        self, readout: str = "segment-peaks", window: float = 5.0, dim: int = 128, dropout: float = 0.3
    ) -> None:
        at_least(1, dim=dim)
        at_least(1 / self.sample_rate, window=window)
        super().__init__()
        self.config = {"readout": readout, "window": window, "dim": dim, "dropout": dropout}
        self.window, self.dim = window, dim
        # On a CPU a fifth faster than with the channels first, in bfloat16 a third.
        trunk: Any = AudioTrunk().requires_grad_(False)  # torch's types of to() know no memory_format
        self.audio_trunk = trunk.to(memory_format=torch.channels_last)
        self.audio_head = AudioHead(readout, AudioTrunk.width, HIDDEN, dim, dropout)
        self.text_trunk = TextTrunk()
        self.text_head = TextHead(HIDDEN, dim, dropout)
        self.eval()

    @classmethod
    def from_pretrained(cls, weights: str | Path | None = None, **options: Any) -> Self:
        """The model on the published trunk, with heads of random weights.

        ``weights`` is the ``checkpoint.pth`` of aisfx 0.1.2; None: the installed package's. ``options`` are
        of the class. Errors as of :func:`tclap.load_model`.
        """
        path = _installed() if weights is None else Path(weights)
        model = cls(**options)
        load_exactly(model.audio_trunk, read_encoder(path), path)
        source = {"path": None, "package": RELEASE} if weights is None else {"path": str(path.resolve())}
        model.origin = {"revision": None, "sha256": SHA256, **source}
        model.config = model.config | {"origin": model.origin}
        return model


def _installed() -> Path:
    """The checkpoint of the installed package, which is not imported."""
    package = importlib.util.find_spec("aisfx")
    if package is None or not package.submodule_search_locations:
        raise OSError(
            "the weights of sfx are missing: pip install --no-deps aisfx==0.1.2, or give their path."
        )
    return Path(package.submodule_search_locations[0]) / "models" / "checkpoint.pth"


def read_encoder(path: Path) -> dict[str, Tensor]:
    """The encoder's weights, without its classifiers, from the checkpoint."""
    if (found := files.sha256_file(path)) != SHA256:
        raise ValueError(f"{path} has sha256 {found}, expected {SHA256} (of {RELEASE}).")
    # Beside the tensors the checkpoint has a few numbers of numpy's.
    scalar, dtype = np.int64().__reduce__()[0], np.dtype(np.int64)
    known: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), np.dtype, type(dtype)]
    with torch.serialization.safe_globals(known):
        state, _ = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "embedding_net."
    return {k.removeprefix(prefix): tensor for k, tensor in state.items() if k.startswith(prefix)}
