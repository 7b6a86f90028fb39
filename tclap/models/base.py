"""What every audio-language model here can do, whichever it is.

An encoder is a **trunk**, frozen in post-pretraining, and a **head**, trained in it:

    waveforms --audio_trunk--> [N, T, D] ----audio_head--> [N, d]  \\
                                                                    τ · E_t E_aᵀ
    captions  --text_trunk --> tokens, lengths --text_head--> [N, d] /

Trunk outputs can be computed once and kept; an epoch of post-pretraining then costs the heads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tclap import files
from tclap.models.windows import Windows

MAX_LOG_SCALE = math.log(100)  # CLIP's bound on log τ
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Tokens(NamedTuple):
    """A text trunk's outputs: ``values [N, L, D]``, right-padded, and ``lengths [N]``."""

    values: Tensor
    lengths: Tensor


class AudioTextModel(nn.Module):
    """Base of all models; a subclass sets the attributes and the four parts.

    Attributes:
        name: the model's name for :func:`~tclap.models.registry.load_model`.
        sample_rate: in Hz, of the waveforms its trunk takes.
        window: in seconds, the length of audio it hears at once.
        dim: d, the width of an embedding.
        config: plain values that build the model again.
        pretrained: the parts that come from somebody's published weights. They are frozen, stay in
            evaluation mode whatever :meth:`train` says, and are not written by :meth:`save`.
        origin: where those weights came from (a path or None for the hub, sha256, revision).
        batch_size: how many waveforms its trunk takes at once without much memory.
    """

    name: str
    pretrained: tuple[str, ...] = ("text_trunk.",)
    origin: dict[str, Any] | None = None
    batch_size: int = 64
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

    @classmethod
    def from_pretrained(cls, weights: str | Path | None = None, **options: Any) -> AudioTextModel:
        """The model on published weights; one that has none is freshly initialised."""
        return cls(**options)

    @classmethod
    def restored(cls, config: Mapping[str, Any], pretrained: str | Path | None = None) -> AudioTextModel:
        """The model that a checkpoint's ``config`` describes, its own weights not yet loaded.

        Args:
            config: of the checkpoint's sidecar.
            pretrained: where the published weights lie now; None: where they lay then.

        Raises:
            ValueError: when the published weights are others than those that were built upon.
        """
        config = dict(config)
        origin = config.pop("origin", None)
        if origin is None:
            return cls(**config)
        if pretrained is None:
            pretrained = origin["path"]
        if pretrained is None and origin.get("revision"):
            config["revision"] = origin["revision"]  # the hub's files of the commit that was used then
        model = cls.from_pretrained(pretrained, **config)
        if model.origin["sha256"] != origin["sha256"]:
            raise ValueError(
                f"{model.origin['path'] or 'the hub file'} has sha256 {model.origin['sha256'][:12]}, but "
                f"the checkpoint was made on published weights with sha256 {origin['sha256'][:12]}."
            )
        return model

    def train(self, mode: bool = True) -> AudioTextModel:
        """Set training mode of the parts that are trained; pretrained ones stay in evaluation mode."""
        super().train(mode)
        for prefix in self.pretrained:
            getattr(self, prefix.removesuffix(".")).eval()
        return self

    def with_own_heads(self) -> AudioTextModel:
        """A model that shares this one's trunks and has heads and τ of its own, equal to this one's."""
        other = copy.copy(self)
        other._parameters = {"log_scale": nn.Parameter(self.log_scale.detach().clone())}
        heads = {name: copy.deepcopy(getattr(self, name)) for name in ("audio_head", "text_head")}
        other._modules = dict(self._modules) | heads
        return other

    def with_readout(self, readout: str) -> AudioTextModel:
        """A model that shares this one's trunks, with heads of its own and another audio readout.

        Raises:
            ValueError: on a readout that the model does not have.
        """
        other = self.with_own_heads()
        other.audio_head.set_readout(readout)
        other.config = self.config | {"readout": readout}
        return other.eval()

    @property
    def is_published(self) -> bool:
        """Whether the audio trunk is somebody's published one, which no base training here made."""
        return "audio_trunk." in self.pretrained

    @property
    def logit_scale(self) -> Tensor:
        """τ itself, with its gradient."""
        return self.log_scale.exp()

    def clamp_scale(self) -> None:
        """Keep log τ at most max(ln 100, the loaded value); to be called after every step."""
        with torch.no_grad():
            self.log_scale.clamp_(max=self.max_log_scale)

    def embed_audio(self, features: Tensor) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, float32 at least, from trunk outputs ``[N, T, D]``."""
        return _normalised(self.audio_head(features))

    def embed_text(self, tokens: Tokens) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, float32 at least, from text trunk outputs."""
        return _normalised(self.text_head(tokens))

    def embed_captions(self, captions: Sequence[str], text: Callable[[list[str]], Tokens]) -> Tensor:
        """Embeddings ``[N, d]`` of captions; ``text`` makes their tokens: the trunk or what keeps them."""
        return self.embed_text(text(list(captions)))

    @torch.no_grad()
    def encode_audio(
        self,
        waveforms_or_paths: Tensor | np.ndarray | Sequence,
        sample_rate: int | None = None,
        batch_size: int | None = None,
        *,
        policy: str = "fit",
        seed: int = 0,
        precision: str = "fp32",
    ) -> Tensor:
        """Embed audio: float32 ``[N, d]``, L2-normalised.

        Args:
            waveforms_or_paths: ``[N, samples]``, or a sequence of 1-d waveforms or of file paths.
                One shorter than the window is repeated.
            sample_rate: of the waveforms in Hz; None: the model's own.
            batch_size: number of waveforms in memory at a time; None: the model's own.
            policy: what becomes of audio longer than the window: ``fit`` takes the most energetic
                window, ``full`` gives all of it to a model that can take it, ``msclap`` takes a
                window at random, drawn from ``seed`` and the item's position.
            seed: of the policy ``msclap``.
            precision: ``fp32``, or ``bf16`` for the trunk's products (its spectra and the head stay fp32).

        Raises:
            ValueError: on empty, non-finite or wrongly shaped waveforms, an unknown policy or
                precision, or audio longer than the model can take at once.
        """
        if isinstance(waveforms_or_paths, (str, Path)):
            raise TypeError(f"expected a sequence of paths or waveforms, got one path: {waveforms_or_paths}.")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
        was_training = self.training
        self.eval()
        windowed = Windows(self.sample_rate, self.window, policy, seed)
        device = self.log_scale.device
        try:
            batches = []
            for batch in windowed.batches(waveforms_or_paths, sample_rate, batch_size or self.batch_size):
                waveforms = torch.from_numpy(batch).to(device)
                with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
                    features = self.audio_trunk(waveforms)
                batches.append(self.embed_audio(features.float()))
        finally:
            self.train(was_training)
        return torch.cat(batches) if batches else self.log_scale.new_zeros(0, self.dim)

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embed captions: ``[N, d]``, L2-normalised. Captions of like length share a batch.

        Raises:
            TypeError: when given one string instead of a sequence.
        """
        if isinstance(captions, str):
            raise TypeError(f"expected a sequence of captions, got one string: {captions!r}.")
        was_training = self.training
        self.eval()
        order = sorted(range(len(captions)), key=lambda n: len(captions[n]))
        embeddings = self.log_scale.new_zeros(len(captions), self.dim)
        try:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                embeddings[rows] = self.embed_text(self.text_trunk([captions[n] for n in rows]))
        finally:
            self.train(was_training)
        return embeddings

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that post-pretraining trains: both heads and log τ."""
        return [*self.audio_head.parameters(), *self.text_head.parameters(), self.log_scale]

    def head_names(self) -> list[str]:
        """Names of what post-pretraining trains, in the order of :meth:`head_parameters`."""
        names = [
            f"{part}.{name}"
            for part in ("audio_head", "text_head")
            for name, _ in getattr(self, part).named_parameters()
        ]
        return [*names, "logit_scale"]

    def own_state(self) -> dict[str, Tensor]:
        """Weights a checkpoint holds: all but the pretrained parts'.

        log τ has the key ``logit_scale``, as in the checkpoints of CLIP and CLAP.
        """
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.startswith(self.pretrained)
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
        with files.replacing(path) as temporary:
            save_file(state, temporary)
        sidecar = {"model": self.name, "config": self.config, "weights_hash": files.hash_state(state)}
        files.write_json(path.with_suffix(".json"), sidecar | facts)


def _normalised(outputs: Tensor) -> Tensor:
    # What a head makes under autocast is bfloat16, whose unit vectors are off by up to 0.4 %.
    outputs = outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    return nn.functional.normalize(outputs, dim=-1)
