"""Parts of the two towers that several models share: spectra, text trunks and their heads."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tclap import files
from tclap.models.base import Tokens
from tclap.models.readouts import PublishedHead


def power_spectrum(waveforms: Tensor, window: Tensor, hop: int, pad_mode: str = "reflect") -> Tensor:
    """Power ``[N, frames, bins]`` of waveforms ``[N, samples]``, frames centred every ``hop`` samples."""
    spectrum = torch.stft(
        waveforms, len(window), hop, window=window, center=True, pad_mode=pad_mode, return_complex=True
    )
    return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)


class Trunk(nn.Module):
    """A frozen part of a published model."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and buffers, which nothing changes."""
        return files.hash_state(dict(self.named_parameters()) | dict(self.named_buffers()))


class HtsatHead(PublishedHead):
    """HTSAT's last norm, mean over time and frequency, projection: ``[N, T, F · C] -> [N, d]``."""

    def __init__(self, norm: nn.LayerNorm, projection: nn.Module, width: int, dim: int) -> None:
        super().__init__(projection, width, dim)
        self.norm = norm

    def pooled(self, features: Tensor) -> Tensor:
        return self.norm(features.unflatten(2, (-1, *self.norm.normalized_shape))).mean((1, 2))


class TextTrunk(Trunk):
    """A text encoder up to its last layer: captions to :class:`Tokens`, special tokens included.

    ``longest`` is the number of tokens at which a caption is cut; a warning says so, once.

    Raises:
        ValueError: when the tokenizer is of another vocabulary than the encoder.
    """

    suffix = ""  # appended to every caption
    longest: int | None = None  # the tokenizer's own
    _warned = False
    encoder: Any  # of transformers, as the tokenizer
    tokenizer: Any

    def __init__(self, encoder: Any, tokenizer: Any, longest: int) -> None:
        super().__init__()
        if len(tokenizer) != encoder.config.vocab_size:
            raise ValueError(
                f"the tokenizer of {tokenizer.name_or_path} has {len(tokenizer)} tokens, expected "
                f"{encoder.config.vocab_size}: its files are missing, damaged or another model's."
            )
        self.encoder, self.tokenizer, self.longest = encoder, tokenizer, longest

    def forward(self, captions: Sequence[str]) -> Tokens:
        options = {"truncation": True, "max_length": self.longest, "padding": True, "return_tensors": "pt"}
        encoded, encoder = self.tokenizer([c + self.suffix for c in captions], **options), self.encoder
        if not self._warned and any(row.overflowing for row in encoded.encodings):
            self._warned = True
            most = encoded["input_ids"].shape[1]
            warnings.warn(f"a caption is cut at the model's limit of {most} tokens.", stacklevel=2)
        encoded = encoded.to(next(encoder.parameters()).device)
        return Tokens(encoder(**encoded).last_hidden_state.float(), self.lengths(encoded))

    def lengths(self, encoded: Mapping[str, Tensor]) -> Tensor:
        """Number of tokens of each caption ``[N]``."""
        return encoded["attention_mask"].sum(1)


class FirstTokenHead(nn.Module):
    """A bidirectional text encoder's last layer, its first token (through a pooler, if any), projection."""

    def __init__(self, layer: nn.Module, projection: nn.Module, pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.pooler, self.projection = layer, pooler, projection

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
        mask = torch.zeros_like(values[..., 0]).masked_fill(padding, torch.finfo(values.dtype).min)
        values = first_output(self.layer(values, mask[:, None, None]))
        return self.projection(values[:, 0] if self.pooler is None else self.pooler(values))


def first_output(output: Tensor | tuple) -> Tensor:
    """A layer's hidden states, which transformers before version 5 returns in a tuple."""
    return output[0] if isinstance(output, tuple) else output
