"""The msclap models' encoders, each cut into a frozen trunk and a trained head.

They are made of the msclap package's own layers. The cut is that of the published preset of T-CLAP's
authors; the trunk keeps its time axis, which the published head then pools away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tclap.models.base import Tokens
from tclap.models.readouts import PublishedHead
from tclap.models.towers import TextTrunk, Trunk, first_output


class AudioTrunk(Trunk):
    """An msclap audio encoder up to its global pooling: ``[N, samples] -> [N, T, D]``.

    ``base`` is the package's module without the layers that belong to the head.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @property
    def front(self) -> nn.Module:
        """The module that has the spectrogram's layers."""
        return getattr(self.base, "htsat", self.base)

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return self.front.spectrogram_extractor.stft.hop_length

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB; a spectrum needs all of float32's digits."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.front.logmel_extractor(self.front.spectrogram_extractor(waveforms.float()))[:, 0]

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Normalised log-mel ``[N, 1, frames, bands]``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.front.bn0(self.decibels(waveforms)[:, None].transpose(1, 3)).transpose(1, 3)


class Cnn14Trunk(AudioTrunk):
    """Cnn14's maps, averaged over frequency: 2048 channels, a step every 32 frames (0.23 s)."""

    width = 2048

    def forward(self, waveforms: Tensor) -> Tensor:
        maps, device = self.log_mel(waveforms), waveforms.device.type
        for k in range(1, 7):
            # The first block is never in lower precision: a log-mel's small differences would be lost.
            with torch.autocast(device, enabled=k > 1 and torch.is_autocast_enabled(device)):
                block = getattr(self.base, f"conv_block{k}")
                maps = block(maps, pool_size=(2, 2) if k < 6 else (1, 1))
        return maps.mean(3).transpose(1, 2).float()


class HtsatTrunk(AudioTrunk):
    """HTSAT's tokens before the last norm: 32 steps in time, two frequency halves of 768 side by side.

    The spectrogram is stretched to 1024 frames, cut into four quarters, and these are stacked into
    a square picture: the token in row 2 · quarter + half is of the time 8 · quarter + column.
    """

    width = 2 * 768

    def forward(self, waveforms: Tensor) -> Tensor:
        htsat = self.base.htsat
        longest = htsat.spec_size * htsat.freq_ratio
        log_mel = self.log_mel(waveforms)
        if log_mel.shape[2] > longest:
            raise ValueError(
                f"HTSAT takes at most {longest} frames at once; {waveforms.shape[1]} samples give "
                f"{log_mel.shape[2]}. The msclap package averages several crops of longer audio, across "
                "which order is lost: use the window policy fit."
            )
        tokens = htsat.pos_drop(htsat.patch_embed(htsat.reshape_wav2img(log_mel)))
        for layer in htsat.layers:
            tokens, _ = layer(tokens)
        side = htsat.spec_size // 2 ** (len(htsat.layers) - 1) // htsat.patch_stride[0]
        quarters = htsat.freq_ratio
        grid = tokens.unflatten(1, (quarters, side // quarters, side))  # quarter, half, column
        return grid.transpose(2, 3).flatten(1, 2).flatten(2).float()


class Cnn14Head(PublishedHead):
    """Mean + maximum over time, ``fc1``, projection."""

    def __init__(self, fc1: nn.Module, projection: nn.Module, dim: int) -> None:
        super().__init__(projection, Cnn14Trunk.width, dim)
        self.fc1, self.dropout = fc1, nn.Dropout(0.5)

    def pooled(self, features: Tensor) -> Tensor:
        """The published input of the projection."""
        pooled = self.dropout(features.amax(1) + features.mean(1))
        return self.dropout(torch.relu(self.fc1(pooled)))


class Gpt2Trunk(TextTrunk):
    """GPT-2 with msclap's rules: an end-of-text token, "!" (id 0) as padding, and the token read out.

    msclap reads token *count(ids ≠ 0) − 1*, which in a caption with a "!" of its own is not the last
    one. Attention looks back only, so what comes after that token is cut off here.
    """

    suffix = " <|endoftext|>"

    def __init__(self, encoder: nn.Module, tokenizer, longest: int) -> None:
        super().__init__(encoder, tokenizer, longest)
        tokenizer.add_special_tokens({"pad_token": "!"})

    def lengths(self, encoded) -> Tensor:
        """Number of tokens ``[N]`` up to the one that is read out."""
        return (encoded["input_ids"] != 0).sum(1)


class Gpt2Head(nn.Module):
    """GPT-2's last block and norm, the last token, projection. Causal: padding is never looked at."""

    def __init__(self, layer: nn.Module, norm: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm, self.projection = layer, norm, projection

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        values = first_output(self.layer(values))
        last = values[torch.arange(len(values), device=values.device), lengths - 1]
        return self.projection(self.norm(last))
