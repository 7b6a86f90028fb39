"""What every audio-language model here can do, whichever it is.

An encoder is a **trunk**, frozen in post-pretraining, and a **head**, trained in it:

    waveforms --audio_trunk--> [N, T, D] ----audio_head--> [N, d]  \\
                                                                    τ · E_t E_aᵀ
    captions  --text_trunk --> tokens, lengths --text_head--> [N, d] /

Trunk outputs can be computed once and kept; an epoch of post-pretraining then costs the heads.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tclap import audio, paths, provenance

MAX_LOG_SCALE = math.log(100)  # CLIP's bound on log τ


class Tokens(NamedTuple):
    """A text trunk's outputs: ``values [N, L, D]``, right-padded, and ``lengths [N]``."""

    values: Tensor
    lengths: Tensor


class AudioTextModel(nn.Module):
    """Base of all models; a subclass sets the attributes and the four parts.

    Attributes:
        name: the model's name for :func:`load_model`.
        sample_rate: in Hz, of the waveforms its trunk takes.
        window: in seconds, the length of audio it hears at once.
        dim: d, the width of an embedding.
        config: plain values that build the model again.
    """

    name: str
    sample_rate: int
    window: float
    dim: int
    config: dict[str, Any]
    audio_trunk: nn.Module
    audio_head: nn.Module
    text_trunk: nn.Module
    text_head: nn.Module

    def __init__(self, initial_scale: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.max_log_scale = max(MAX_LOG_SCALE, math.log(initial_scale))

    @property
    def logit_scale(self) -> Tensor:
        """τ itself, with its gradient."""
        return self.log_scale.exp()

    def clamp_scale(self) -> None:
        """Keep log τ at most max(ln 100, the loaded value); to be called after every step."""
        with torch.no_grad():
            self.log_scale.clamp_(max=self.max_log_scale)

    def embed_audio(self, features: Tensor) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, from trunk outputs ``[N, T, D]``."""
        return nn.functional.normalize(self.audio_head(features), dim=-1)

    def embed_text(self, tokens: Tokens) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, from text trunk outputs."""
        return nn.functional.normalize(self.text_head(tokens), dim=-1)

    @torch.no_grad()
    def encode_audio(
        self,
        waveforms_or_paths: Tensor | np.ndarray | Sequence,
        sample_rate: int | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Embed audio: ``[N, d]``, L2-normalised.

        Args:
            waveforms_or_paths: ``[N, samples]``, or a sequence of 1-d waveforms or of file paths.
                A waveform of the window's length is embedded as it is; of a longer one the most
                energetic window is taken, a shorter one is repeated.
            sample_rate: of the waveforms in Hz; None: the model's own.
            batch_size: number of waveforms in memory at a time.

        Raises:
            ValueError: on empty, non-finite or wrongly shaped waveforms.
        """
        if isinstance(waveforms_or_paths, (str, Path)):
            raise TypeError(f"expected a sequence of paths or waveforms, got one path: {waveforms_or_paths}.")
        was_training = self.training
        self.eval()
        try:
            batches = [
                self.embed_audio(self.audio_trunk(batch))
                for batch in self._waveform_batches(waveforms_or_paths, sample_rate, batch_size)
            ]
        finally:
            self.train(was_training)
        return torch.cat(batches) if batches else self.log_scale.new_zeros(0, self.dim)

    def _waveform_batches(self, items, sample_rate: int | None, batch_size: int) -> Iterable[Tensor]:
        for start in range(0, len(items), batch_size):
            fitted = [self._fit(item, sample_rate) for item in items[start : start + batch_size]]
            yield torch.from_numpy(np.stack(fitted)).to(self.log_scale.device)

    def _fit(self, item, sample_rate: int | None) -> np.ndarray:
        if isinstance(item, (str, Path)):
            waveform = audio.read(item, self.sample_rate)
        else:
            waveform = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item)
            # Integers are samples of a PCM file that nobody has scaled to [-1, 1].
            floats = np.issubdtype(waveform.dtype, np.floating)
            if not floats or waveform.ndim != 1 or waveform.size == 0 or not np.isfinite(waveform).all():
                raise ValueError(
                    "a waveform must be a mono array [samples] of finite floats in [-1, 1] and not empty, "
                    f"got {waveform.dtype} of shape {waveform.shape}."
                )
            given = self.sample_rate if sample_rate is None else sample_rate
            waveform = audio.resample(waveform, given, self.sample_rate)
        samples = round(self.window * self.sample_rate)
        if len(waveform) < samples:
            return audio.repeat_to(waveform, samples)
        return audio.crop(waveform, audio.most_energetic_start(waveform, samples), samples)

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed captions: ``[N, d]``, L2-normalised.

        Raises:
            TypeError: when given one string instead of a sequence.
        """
        if isinstance(captions, str):
            raise TypeError(f"expected a sequence of captions, got one string: {captions!r}.")
        was_training = self.training
        self.eval()
        try:
            batches = [
                self.embed_text(self.text_trunk(list(captions[start : start + batch_size])))
                for start in range(0, len(captions), batch_size)
            ]
        finally:
            self.train(was_training)
        return torch.cat(batches) if batches else self.log_scale.new_zeros(0, self.dim)

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that post-pretraining trains: both heads and log τ."""
        return [*self.audio_head.parameters(), *self.text_head.parameters(), self.log_scale]

    def own_state(self) -> dict[str, Tensor]:
        """Weights a checkpoint holds: all but those of a pretrained text trunk.

        log τ has the key ``logit_scale``, as in the checkpoints of CLIP and CLAP.
        """
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.startswith("text_trunk.")
        }
        state["logit_scale"] = state.pop("log_scale")
        return state

    def load_own_state(self, state: dict[str, Tensor], where: str) -> None:
        """Load :meth:`own_state`; keys and shapes must fit exactly.

        Raises:
            ValueError: naming ``where`` and the first keys that are missing, unexpected or misshapen.
        """
        own = self.own_state()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        misshapen = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
        if missing or unexpected or misshapen:
            raise ValueError(
                f"{where} does not fit the model {self.name}: missing {missing[:3]}, "
                f"unexpected {unexpected[:3]}, of another shape {misshapen[:3]}."
            )
        renamed = {("log_scale" if k == "logit_scale" else k): v for k, v in state.items()}
        self.load_state_dict(renamed, strict=False)
        self.max_log_scale = max(MAX_LOG_SCALE, float(self.log_scale.detach()))

    def save(self, path: str | Path, **facts: Any) -> None:
        """Write weights (safetensors) and, beside them, ``<stem>.json`` with config and ``facts``."""
        path = Path(path)
        state = self.own_state()
        with paths.replacing(path) as temporary:
            save_file(state, temporary)
        sidecar = {"model": self.name, "config": self.config, "weights_hash": provenance.hash_state(state)}
        provenance.write_json(path.with_suffix(".json"), sidecar | facts)


def load_model(
    name: str, weights: str | Path | None = None, device: str | torch.device | None = None, **options: Any
) -> AudioTextModel:
    """Load a model by name.

    Args:
        name: ``compact``.
        weights: a ``.safetensors`` file written by :meth:`AudioTextModel.save`, with its ``.json``
            beside it; None: freshly initialised from torch's generator.
        device: where to put it; None: the CPU.
        options: configuration of a fresh model (see the model's own module).

    Raises:
        ValueError: on an unknown name, or weights of another model.
        FileNotFoundError: when the weights or their sidecar are missing.
    """
    from tclap.models.compact import Compact

    known = {Compact.name: Compact}
    if name not in known:
        raise ValueError(f"base model must be one of {', '.join(known)}, got {name!r}.")
    accepted = inspect.signature(known[name]).parameters
    strange = sorted(set(options) - set(accepted))
    if strange:
        raise ValueError(f"{name} has no option {strange[0]!r}, expected among {', '.join(accepted)}.")
    if weights is None:
        return known[name](**options).to(device).eval()
    weights = Path(weights)
    sidecar = weights.with_suffix(".json")
    for path in (weights, sidecar):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; a checkpoint is a .safetensors and a .json file.")
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        state = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{weights} is no readable checkpoint: {error}") from error
    if not isinstance(facts, dict) or not {"model", "config", "weights_hash"} <= facts.keys():
        raise ValueError(f"{sidecar} is no checkpoint's sidecar, expected model, config and weights_hash.")
    if facts["model"] != name:
        raise ValueError(f"{weights} holds weights of {facts['model']!r}, expected {name!r}.")
    if facts["weights_hash"] != provenance.hash_state(state):
        raise ValueError(f"{weights} is not what its sidecar describes: it is damaged or of another run.")
    model = known[name](**(facts["config"] | options))
    model.load_own_state(state, str(weights))
    return model.to(device).eval()
