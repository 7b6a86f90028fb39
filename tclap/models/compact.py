"""``compact``: a CLAP small enough to train from scratch in a minute on one CPU core.

Audio: log-mel, a two-layer convolution stem (the trunk), then a readout over time and a
two-layer perceptron (the head). Text: the frozen MiniLM sentence encoder's token outputs (the
trunk; Wang et al., arXiv 2002.10957), then a recurrent readout of both ends and a projection (the
head). It is a scale model of a CLAP: the same two-tower shape, the same losses, 1/400 of the weights.
No layer mixes the items of a batch.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from tclap import files
from tclap.arguments import at_least, one_of
from tclap.models import minilm, towers
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.readouts import Attention, make_readout
from tclap.models.towers import power_spectrum

# Typical mean and spread of a log-mel value at TARGET_RMS; fixed, so that a clip's level still counts.
LOG_MEL_MEAN, LOG_MEL_SCALE = -4.0, 3.0
LOG_FLOOR = 1e-6


class LogMel(nn.Module):
    """Waveforms ``[N, samples]`` to mel power ``[N, frames, mels]``; :meth:`log` to model input."""

    filters: Tensor
    hann: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop: int, mels: int) -> None:
        super().__init__()
        filters = mel_filter_bank(
            n_fft // 2 + 1, mels, 50.0, sample_rate / 2, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.hop = hop
        # Slaney's norm makes a filter's area 1 per Hz; back to a mean over bins, near the signal's power.
        filters = torch.from_numpy(filters).float() * (sample_rate / n_fft)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        # The frame centred on the end is dropped: frames then add up when segments are joined.
        frames = max(waveforms.shape[1] // self.hop, 1)
        return power_spectrum(waveforms, self.hann, self.hop)[:, :frames] @ self.filters

    @staticmethod
    def log(power: Tensor) -> Tensor:
        """Normalised log-mel."""
        return (power + LOG_FLOOR).log().sub_(LOG_MEL_MEAN).div_(LOG_MEL_SCALE)


CONTEXTS = ("local", "attention")


class AudioTrunk(nn.Module):
    """Log-mel, convolution stem and context: ``[N, samples] -> [N, frames / 8, width]``."""

    def __init__(self, sample_rate: int, n_fft: int, hop: int, mels: int, width: int, context: str) -> None:
        super().__init__()
        self.mel = LogMel(sample_rate, n_fft, hop, mels)
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=5, stride=4, padding=2),
            nn.GroupNorm(4, 32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.ReLU(inplace=True),
        )
        bands = math.ceil(math.ceil(mels / 4) / 2)
        self.project = nn.Linear(64 * bands, width)
        self.context = Attention(width) if context == "attention" else nn.Identity()
        self.hop = hop

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, which base training changes."""
        return files.hash_state(self.state_dict())

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, mels]`` in dB, a frame every ``hop`` samples."""
        return 10 * (self.mel(waveforms) + LOG_FLOOR).log10()

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.from_log_mel(self.mel.log(self.mel(waveforms)))

    def from_log_mel(self, log_mel: Tensor) -> Tensor:
        """Trunk outputs from normalised log-mel ``[N, frames, mels]``."""
        # A third faster on a CPU than with the channels first.
        maps = self.stem(log_mel[:, None].to(memory_format=torch.channels_last))  # [N, 64, T, bands]
        return self.context(self.project(maps.transpose(1, 2).flatten(2)))


class AudioHead(nn.Module):
    """Readout over time, dropout, then a two-layer perceptron: ``[N, T, width] -> [N, d]``."""

    def __init__(self, readout: str, width: int, hidden: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes, self.dropout = (width, hidden, dim), nn.Dropout(dropout)
        self.set_readout(readout)

    def set_readout(self, readout: str) -> None:
        """Take another readout; all weights are drawn anew."""
        width, hidden, dim = self.sizes
        self.readout = make_readout(readout, width, hidden)
        self.mlp = nn.Sequential(nn.Linear(self.readout.width, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(self.dropout(self.readout(torch.relu(features))))


class TextHead(nn.Module):
    """Recurrent readout of both ends of the tokens, dropout, then a projection to d."""

    def __init__(self, hidden: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.readout, self.dropout = make_readout("ends", minilm.WIDTH, hidden), nn.Dropout(dropout)
        self.project = nn.Linear(self.readout.width, dim)

    def forward(self, tokens: Tokens) -> Tensor:
        return self.project(self.dropout(self.readout(tokens.values, tokens.lengths)))


class TextTrunk(towers.TextTrunk):
    """Frozen MiniLM's token outputs of a list of captions, special tokens included."""

    fingerprint = minilm.SHA256

    def __init__(self) -> None:
        nn.Module.__init__(self)  # MiniLM is loaded on first use: where all captions are stored, never
        self._device = nn.Buffer(torch.empty(0), persistent=False)

    @property
    def encoder(self) -> Any:
        """MiniLM, where this module is."""
        return minilm.load()[0].to(self._device.device)

    @property
    def tokenizer(self) -> Any:
        """MiniLM's tokenizer."""
        return minilm.load()[1]


class Compact(AudioTextModel):
    """The compact model.

    Args:
        window, sample_rate: of the audio, in seconds and Hz.
        n_fft, hop, mels: of the spectrogram: frame and hop in samples, number of mel bands.
        width, hidden, dim: of the trunk's outputs, of each recurrent direction, d.
        readout: of the audio head, one of :data:`tclap.models.READOUTS`.
        context: what a frame of the trunk depends on: ``local``, about a quarter of a second around it (and
            the level of the whole, by the norms), or ``attention``, all other frames.

    Raises:
        ValueError: on another readout or context, or sizes out of range.
    """

    name = "compact"

    def __init__(
        self,
        window: float = 4.0,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop: int = 320,
        mels: int = 64,
        width: int = 192,
        hidden: int = 48,
        dim: int = 128,
        readout: str = "segments",
        context: str = "local",
    ) -> None:
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        one_of(CONTEXTS, context=context)
        at_least(2, n_fft=n_fft)
        at_least(1, sample_rate=sample_rate, hop=hop)
        at_least(1, mels=mels, width=width, hidden=hidden, dim=dim)
        at_least(1 / sample_rate, window=window)
        super().__init__()
        self.config = config
        self.window, self.sample_rate, self.dim = window, sample_rate, dim
        self.audio_trunk = AudioTrunk(sample_rate, n_fft, hop, mels, width, context)
        self.audio_head = AudioHead(readout, width, hidden, dim)
        self.text_trunk = TextTrunk()
        self.text_head = TextHead(hidden, dim)

    def with_readout(self, readout: str) -> Self:
        """A model that shares this one's trunks, with a fresh audio head, drawn with a whole model."""
        other = self.with_own_heads()
        other.config = self.config | {"readout": readout}
        other.audio_head = Compact(**other.config).audio_head.to(self.log_scale.device)
        return other.eval()
