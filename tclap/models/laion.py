"""``laion-clap``: LAION's CLAP (HTSAT and RoBERTa) on its published weights, through transformers.

(Wu et al., ICASSP 2023, arXiv 2211.06687.) The architecture is transformers' ``ClapModel``, the default
weights are the hub's ``laion/clap-htsat-unfused``. Post-pretraining trains HTSAT's last norm, RoBERTa's
last layer and pooler, both projections and τ.

Not used is ``ClapFeatureExtractor`` as a whole: of audio longer than 10 s it takes a window at random.
Its log-mel is computed here. The variant *with* feature fusion (``clap-htsat-fused``), which was trained
on several random crops of long audio side by side, is refused.

LAION's checkpoints hold two temperatures, ``logit_scale_t`` and ``logit_scale_a``. As in ``ClapModel``,
the similarity of texts (rows) to audio is scaled by ``logit_scale_t``, and that one is τ here. The
other, of audio (rows) to texts, is the buffer ``logit_scale_a``: saved and loaded, used by nothing.
"""

from __future__ import annotations

import json
import pickle
import struct
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizerFast
from transformers.models.clap.modeling_clap import ClapAudioEncoder, ClapTextModel

from tclap import files
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.readouts import PublishedHead
from tclap.models.tokenizers import token_offsets, word_tokens

REPOSITORY = "laion/clap-htsat-unfused"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SETTINGS = ("config.json", "preprocessor_config.json")
TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

# Buffers that follow from the configuration; files of some versions of transformers lack them.
DERIVED = ("position_ids", "token_type_ids", "relative_position_index")

# What safetensors and torch.load raise on bytes that are no weights, or no longer.
UNREADABLE = (SafetensorError, struct.error, AssertionError, EOFError, LookupError, RuntimeError)
UNREADABLE += (TypeError, ValueError)


class LogMel(nn.Module):
    """Waveforms ``[N, samples]`` to log-mel power in dB, ``[N, frames, bands]``, float32.

    Equal to ``ClapFeatureExtractor``'s with ``truncation="rand_trunc"``, whose Slaney filters LAION's
    models without fusion were trained on, for a waveform that it neither cuts nor pads.
    """

    def __init__(self, settings: ClapFeatureExtractor) -> None:
        super().__init__()
        self.n_fft, self.hop = settings.fft_window_size, settings.hop_length
        self.register_buffer("filters", torch.from_numpy(settings.mel_filters_slaney).double())
        self.register_buffer("hann", torch.hann_window(self.n_fft, dtype=torch.float64))

    def forward(self, waveforms: Tensor) -> Tensor:
        # The extractor's spectrum is double; a quiet band beside a loud one needs it, and autocast spares it.
        spectrum = torch.stft(
            waveforms.double(),
            self.n_fft,
            self.hop,
            window=self.hann,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.abs().square().transpose(1, 2) @ self.filters
        return (10 * power.clamp(min=1e-10).log10()).float()


class AudioTrunk(nn.Module):
    """HTSAT before its last norm: ``[N, samples] -> [N, T, F · C]``.

    HTSAT cuts the spectrogram's time into blocks and stacks them into a square picture, so that a row
    of its grid is a frequency of one block. Here the T steps are in time order (32 of 0.3 s in LAION's
    models), each with its F frequency positions (2) of C channels (768) side by side.
    """

    def __init__(self, encoder: ClapAudioEncoder, settings: ClapFeatureExtractor) -> None:
        super().__init__()
        self.decibels, self.encoder = LogMel(settings), encoder
        self.hop, self.samples = settings.hop_length, settings.nb_max_samples

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the (frozen) weights and mel filters."""
        return files.hash_state(self.state_dict())

    def forward(self, waveforms: Tensor) -> Tensor:
        if waveforms.shape[1] != self.samples:
            # The encoder would stretch a shorter spectrogram in time.
            raise ValueError(
                f"LAION-CLAP hears exactly one window of {self.samples} samples, got {waveforms.shape[1]}; "
                "the window policy fit takes one from longer audio and repeats shorter."
            )
        maps = self.encoder(self.decibels(waveforms)[:, None]).last_hidden_state  # [N, C, F, T]
        return maps.permute(0, 3, 2, 1).flatten(2).float()


class AudioHead(PublishedHead):
    """Last norm, mean over time and frequency, projection: ``[N, T, F · C] -> [N, d]``."""

    def __init__(self, norm: nn.LayerNorm, projection: nn.Module, width: int, dim: int) -> None:
        super().__init__(projection, width, dim)
        self.norm = norm

    def pooled(self, features: Tensor) -> Tensor:
        """The published input of the projection."""
        return self.norm(features.unflatten(2, (-1, *self.norm.normalized_shape))).mean((1, 2))


class TextTrunk(nn.Module):
    """RoBERTa but for its last layer: captions to :class:`Tokens`, special tokens included.

    A caption is cut at the longest that the model has positions for.
    """

    def __init__(self, encoder: ClapTextModel, tokenizer: RobertaTokenizerFast) -> None:
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer
        self.width = encoder.config.hidden_size
        positions = encoder.config.max_position_embeddings - encoder.config.pad_token_id - 1
        self.longest = min(positions, tokenizer.model_max_length)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the (frozen) weights."""
        return files.hash_state(self.state_dict())

    def forward(self, captions: list[str]) -> Tokens:
        encoded = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        ).to(self.encoder.device)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        values = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return Tokens(values.float(), mask.sum(1))

    def offsets(self, captions: list[str]) -> list[list[tuple[int, int]]]:
        """Each token's characters, see :func:`tclap.models.tokenizers.token_offsets`."""
        return token_offsets(self.tokenizer, captions, self.longest)

    def whole_words(self) -> list[str]:
        """Tokens of the vocabulary that are words, see :func:`tclap.models.tokenizers.word_tokens`."""
        return word_tokens(self.tokenizer)


class TextHead(nn.Module):
    """RoBERTa's last layer, the pooler on its first token, projection."""

    def __init__(self, layer: nn.Module, pooler: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.layer, self.pooler, self.projection = layer, pooler, projection

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
        mask = torch.zeros_like(values[..., 0]).masked_fill(padding, torch.finfo(values.dtype).min)
        return self.projection(self.pooler(self.layer(values, mask[:, None, None])[0]))


class Laion(AudioTextModel):
    """LAION-CLAP; use :func:`tclap.load_model`.

    Args:
        network: transformers' model without feature fusion; it is taken apart.
        tokenizer: of its text encoder.
        settings: of its log-mel, rate and window.
        readout: ``published``, or ``residual-segments``: the published embedding plus an order head on
            the trunk's time axis that is zero at first.

    Raises:
        ValueError: on an unknown readout, feature fusion, or parts that do not belong together.
    """

    name = "laion-clap"
    pretrained = ("audio_trunk.", "text_trunk.")
    batch_size = 16

    def __init__(
        self,
        network: ClapModel,
        tokenizer: RobertaTokenizerFast,
        settings: ClapFeatureExtractor,
        readout: str = "published",
    ) -> None:
        _check(network.config, tokenizer, settings)
        super().__init__(1 / 0.07)
        with torch.no_grad():
            self.log_scale.copy_(network.logit_scale_t)
        self.max_log_scale = max(self.max_log_scale, float(self.log_scale.detach()))
        self.register_buffer("logit_scale_a", network.logit_scale_a.detach().clone())
        self.config = {"readout": readout}
        self.sample_rate, self.window = settings.sampling_rate, float(settings.max_length_s)
        self.dim = network.config.projection_dim

        hearing, reading = network.audio_model.audio_encoder, network.text_model
        norm, hearing.norm = hearing.norm, nn.Identity()
        bands = hearing.input_resolutions[-1][0] // hearing.freq_ratio
        width = bands * hearing.num_features
        self.audio_trunk = AudioTrunk(hearing, settings)
        self.audio_head = AudioHead(norm, network.audio_projection, width, self.dim)
        self.audio_head.set_readout(readout)

        layer, pooler = reading.encoder.layer[-1], reading.pooler
        del reading.encoder.layer[-1]
        reading.pooler = None
        self.text_trunk = TextTrunk(reading, tokenizer)
        self.text_head = TextHead(layer, pooler, network.text_projection)
        for part in (self.audio_trunk, self.text_trunk):
            part.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        readout: str = "published",
        revision: str | None = None,
    ) -> Laion:
        """The model on published weights.

        Args:
            weights: a folder as on the hub: ``config.json``, ``preprocessor_config.json``, the tokenizer's
                files and ``model.safetensors`` or ``pytorch_model.bin``; None: ``laion/clap-htsat-unfused``
                from the hub's cache or the hub.
            readout: see the class.
            revision: of the hub's files; None: the newest.

        Raises:
            FileNotFoundError: when the folder or one of its files is not to be had.
            ValueError: when a file is damaged, holds code, or is another model's.
        """
        folder = _official_folder(revision) if weights is None else Path(weights)
        file = _weights_file(folder)
        config, settings = (_read_json(folder / name) for name in SETTINGS)
        if config.get("model_type") != "clap":
            raise ValueError(f"{folder} holds a model of type {config.get('model_type')!r}, expected 'clap'.")
        network = ClapModel(ClapConfig.from_dict(config))
        _load(network, _read_weights(file), file)
        model = cls(network, _tokenizer(folder), ClapFeatureExtractor.from_dict(settings), readout)
        model.origin = {
            "path": None if weights is None else str(folder.resolve()),
            "revision": folder.name if weights is None else None,  # the cache keeps a commit's files under it
            "sha256": files.sha256_file(file),
        }
        model.config = model.config | {"origin": model.origin}
        return model


def _check(config: ClapConfig, tokenizer: RobertaTokenizerFast, settings: ClapFeatureExtractor) -> None:
    if config.audio_config.enable_fusion:
        raise ValueError(
            "LAION-CLAP with feature fusion (clap-htsat-fused) is not supported: it hears random crops of "
            f"long audio; expected one without, such as {REPOSITORY}."
        )
    if config.audio_config.num_mel_bins != settings.feature_size:
        raise ValueError(
            f"preprocessor_config.json has {settings.feature_size} mel bands, expected the "
            f"{config.audio_config.num_mel_bins} of config.json."
        )
    if len(tokenizer) > config.text_config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, expected at most "
            f"{config.text_config.vocab_size} as in config.json."
        )


def _official_folder(revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        wanted = [*SETTINGS, *TOKENIZER, WEIGHTS[0]]
        folder = Path(snapshot_download(REPOSITORY, revision=revision, allow_patterns=wanted))
        if not (folder / WEIGHTS[0]).is_file():
            hf_hub_download(REPOSITORY, WEIGHTS[1], revision=folder.name)
    except OSError as error:
        raise FileNotFoundError(
            f"{REPOSITORY} is not (or not wholly) in the hub's cache and cannot be downloaded "
            f"({str(error).splitlines()[0]}); give a folder with its files as weights."
        ) from error
    return folder


def _weights_file(folder: Path) -> Path:
    """The file of weights in a folder that has all it needs."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder, expected one with LAION-CLAP's files as on the hub.")
    needed = [[[name]] for name in SETTINGS] + [[[name] for name in WEIGHTS], [TOKENIZER[:1], TOKENIZER[1:3]]]
    for choices in needed:
        if not any(all((folder / name).is_file() for name in files) for files in choices):
            wanted = " or ".join(" and ".join(files) for files in choices)
            raise FileNotFoundError(f"{folder} lacks {wanted}, expected LAION-CLAP's files as on the hub.")
    return next(folder / name for name in WEIGHTS if (folder / name).is_file())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content


def _tokenizer(folder: Path) -> RobertaTokenizerFast:
    for path in (folder / name for name in TOKENIZER if name.endswith(".json")):
        if path.is_file():
            _read_json(path)
    return RobertaTokenizerFast.from_pretrained(folder)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which could be code, and is not loaded."
        ) from error
    except UNREADABLE as error:
        raise ValueError(f"{path} is no readable file of weights: it is truncated or damaged.") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f"{path} holds no named tensors, expected the weights of a ClapModel.")
    return state


def _load(network: ClapModel, state: dict[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    missing = sorted(k for k in own.keys() - state.keys() if not k.endswith(DERIVED))
    unexpected = sorted(state.keys() - own.keys())
    misshapen = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if missing or unexpected or misshapen:
        raise ValueError(
            f"{path} does not fit its config.json: missing {missing[:3]}, unexpected {unexpected[:3]}, "
            f"of another shape {misshapen[:3]}."
        )
    network.load_state_dict(state, strict=False)
