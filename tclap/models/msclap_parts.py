"""The msclap models' encoders, each cut into a frozen trunk and a trained head.

They are made of the msclap package's own layers. The cut is that of the published preset of T-CLAP's
authors; the trunk keeps its time axis, which the published head then pools away.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tclap import files
from tclap.models.base import Tokens
from tclap.models.readouts import PublishedHead
from tclap.models.tokenizers import token_offsets, word_tokens


class AudioTrunk(nn.Module):
    """An msclap audio encoder up to its global pooling: ``[N, samples] -> [N, T, D]``.

    ``base`` is the package's module without the layers that belong to the head.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the (frozen) weights."""
        return files.hash_state(self.state_dict())

    @property
    def front(self) -> nn.Module:
        """The module that has the spectrogram's layers."""
        return getattr(self.base, "htsat", self.base)

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return self.front.spectrogram_extractor.stft.hop_length

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB; a spectrum needs all of float32's digits.

        The package multiplies by a matrix of sines. In lower precision, where the last digits do not
        matter, a fast Fourier transform takes its place.
        """
        fast = torch.is_autocast_enabled(waveforms.device.type) and self._is_fourier
        with torch.autocast(waveforms.device.type, enabled=False):
            extractor = self.front.spectrogram_extractor
            spectrum = self._fast_spectrum(waveforms.float()) if fast else extractor(waveforms.float())
            return self.front.logmel_extractor(spectrum)[:, 0]

    def _fast_spectrum(self, waveforms: Tensor) -> Tensor:
        size = self.front.spectrogram_extractor.stft.n_fft
        window = torch.hann_window(size, device=waveforms.device)
        spectrum = torch.stft(
            waveforms, size, self.hop, window=window, center=True, pad_mode="reflect", return_complex=True
        )
        return spectrum.abs().square().transpose(1, 2)[:, None]

    @cached_property
    def _is_fourier(self) -> bool:
        """Whether the loaded matrices are those of a Fourier transform under a Hann window."""
        stft = self.front.spectrogram_extractor.stft
        size = stft.n_fft
        window = torch.hann_window(size, dtype=torch.float64)
        spectrum = torch.fft.rfft(torch.diag(window), dim=0)
        loaded = torch.complex(stft.conv_real.weight[:, 0].double(), stft.conv_imag.weight[:, 0].double())
        return bool((loaded.cpu().abs() - spectrum.abs()).abs().max() < 1e-4)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Normalised log-mel ``[N, 1, frames, bands]``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.front.bn0(self.decibels(waveforms)[:, None].transpose(1, 3)).transpose(1, 3)


class Cnn14Trunk(AudioTrunk):
    """Cnn14's maps, averaged over frequency: 2048 channels, a step every 32 frames (0.23 s)."""

    width = 2048

    def forward(self, waveforms: Tensor) -> Tensor:
        maps = self.log_mel(waveforms)
        device = waveforms.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._low(maps, torch.get_autocast_dtype(device))
        for k in range(1, 7):
            maps = getattr(self.base, f"conv_block{k}")(maps, pool_size=(2, 2) if k < 6 else (1, 1))
        return maps.mean(3).transpose(1, 2).float()

    def _low(self, maps: Tensor, dtype: torch.dtype) -> Tensor:
        """The same in lower precision, with each norm folded into its convolution: fewer roundings.

        The first block is computed in full: a log-mel's small differences would be lost.
        """
        for k in range(1, 7):
            block = getattr(self.base, f"conv_block{k}")
            for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
                weight, bias = fuse_conv_bn_weights(
                    conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                kind = torch.float32 if k == 1 else dtype
                maps = torch.relu_(conv2d(maps.to(kind), weight.to(kind), bias.to(kind), padding=1))
            maps = avg_pool2d(maps, 2) if k < 6 else maps
        return maps.float().mean(3).transpose(1, 2)


class HtsatTrunk(AudioTrunk):
    """HTSAT's tokens before the last norm: 32 steps in time, two frequency halves of 768 side by side.

    The spectrogram is stretched to 1024 frames, cut into four quarters, and these are stacked into
    a square picture: the token in row 2 · quarter + half hears the time 8 · quarter + column.
    """

    width = 2 * 768

    def forward(self, waveforms: Tensor) -> Tensor:
        htsat = self.base.htsat
        longest = htsat.spec_size * htsat.freq_ratio
        log_mel = self.log_mel(waveforms)
        if log_mel.shape[2] > longest:
            raise ValueError(
                f"HTSAT hears at most {longest} frames at once; {waveforms.shape[1]} samples give "
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

    def __init__(self, encoder: nn.Module, dim: int) -> None:
        super().__init__(encoder.projection, Cnn14Trunk.width, dim)
        self.fc1, self.dropout = encoder.base.fc1, nn.Dropout(0.5)
        encoder.base.fc1 = nn.Identity()

    def pooled(self, features: Tensor) -> Tensor:
        """The published input of the projection."""
        pooled = self.dropout(features.amax(1) + features.mean(1))
        return self.dropout(torch.relu(self.fc1(pooled)))


class HtsatHead(PublishedHead):
    """Norm, mean over all tokens, projection."""

    def __init__(self, encoder: nn.Module, dim: int) -> None:
        super().__init__(encoder.projection, HtsatTrunk.width, dim)
        self.norm = encoder.base.htsat.norm
        encoder.base.htsat.norm = nn.Identity()

    def pooled(self, features: Tensor) -> Tensor:
        """The published input of the projection."""
        return self.norm(features.unflatten(2, (2, -1))).mean((1, 2))


class TextTrunk(nn.Module):
    """A text encoder but for its last layer: captions to :class:`Tokens`, padded to the longest only."""

    width = 768
    suffix = ""

    def __init__(self, base: nn.Module, tokenizer) -> None:
        super().__init__()
        self.base, self.tokenizer = base, tokenizer
        self.longest = base.config.max_position_embeddings

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the (frozen) weights."""
        return files.hash_state(self.state_dict())

    def tokenize(self, captions: list[str]):
        """Ids and attention mask ``[N, L]``."""
        encoded = self.tokenizer(
            [caption + self.suffix for caption in captions],
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        return encoded.to(next(self.base.parameters()).device)

    def forward(self, captions: list[str]) -> Tokens:
        encoded = self.tokenize(captions)
        values = self.base(**encoded).last_hidden_state
        return Tokens(values, encoded["attention_mask"].sum(1))

    def offsets(self, captions: list[str]) -> list[list[tuple[int, int]]]:
        """Each token's characters, see :func:`tclap.models.tokenizers.token_offsets`."""
        return token_offsets(self.tokenizer, captions, self.longest, self.suffix)

    def whole_words(self) -> list[str]:
        """Tokens of the vocabulary that are words, see :func:`tclap.models.tokenizers.word_tokens`."""
        return word_tokens(self.tokenizer)


class Gpt2Trunk(TextTrunk):
    """GPT-2 with msclap's rules: an end-of-text token, "!" (id 0) as padding, and the token read out.

    msclap reads token *count(ids ≠ 0) − 1*, which in a caption with a "!" of its own is not the last
    one. Attention looks back only, so what comes after that token is cut off here.
    """

    suffix = " <|endoftext|>"

    def forward(self, captions: list[str]) -> Tokens:
        encoded = self.tokenize(captions)
        values = self.base(**encoded).last_hidden_state
        return Tokens(values, (encoded["input_ids"] != 0).sum(1))


class BertHead(nn.Module):
    """BERT's last layer, its first token, projection."""

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.layer, self.projection = encoder.encoder.layer[-1], projection
        del encoder.encoder.layer[-1]

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
        mask = torch.zeros_like(values[..., 0]).masked_fill(padding, torch.finfo(values.dtype).min)
        return self.projection(self.layer(values, mask[:, None, None])[0][:, 0])


class Gpt2Head(nn.Module):
    """GPT-2's last block and norm, the last token, projection. Causal: padding is never looked at."""

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm, self.projection = encoder.h[-1], encoder.ln_f, projection
        del encoder.h[-1]
        encoder.ln_f = nn.Identity()

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        last = self.layer(values)[0][torch.arange(len(values), device=values.device), lengths - 1]
        return self.projection(self.norm(last))
