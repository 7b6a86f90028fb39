"""The interface of models that are cut into trunks and heads, for post-pretraining.

An encoder is a **trunk**, frozen in post-pretraining, and a **head**, trained in it::

    waveforms --audio_trunk--> [N, T, D] ----audio_head--> [N, d]  \\
                                                                    τ · E_t E_aᵀ
    captions  --text_trunk --> tokens, lengths --text_head--> [N, d] /

Trunk outputs can be computed once and kept; an epoch of post-pretraining then costs the heads.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from tclap import files
from tclap.models.encoder import Encoder
from tclap.models.weights import load_exactly, write_checkpoint

MAX_LOG_SCALE = math.log(100)  # CLIP's bound on log τ


class Tokens(NamedTuple):
    """A text trunk's outputs: ``values [N, L, D]``, right-padded, and ``lengths [N]``."""

    values: Tensor
    lengths: Tensor


class AudioTextModel(Encoder, nn.Module):
    """Base of the models that are cut into trunks and heads; a subclass sets the attributes and the parts."""

    config: dict[str, Any]  # plain values that build the model again
    # Prefixes of the parts that come from published weights. They are frozen, stay in evaluation mode
    # whatever train() says, and are not written by save().
    pretrained: tuple[str, ...] = ("text_trunk.",)
    is_published = False  # whether the heads have published weights too: a CLAP without any training here
    origin: dict[str, Any] | None = None  # of those weights: path (None: hub or package), sha256, revision
    # Modules; what they have beside forward() differs from model to model.
    audio_trunk: Any
    audio_head: Any
    text_trunk: Any
    text_head: Any

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.max_log_scale = MAX_LOG_SCALE

    def train(self, mode: bool = True) -> Self:
        """Set training mode of the parts that are trained; pretrained ones stay in evaluation mode."""
        super().train(mode)
        for prefix in self.pretrained:
            getattr(self, prefix.removesuffix(".")).eval()
        return self

    def with_own_heads(self) -> Self:
        """A model that shares this one's trunks and has heads and τ of its own, equal to this one's."""
        return copy.deepcopy(self, {id(trunk): trunk for trunk in (self.audio_trunk, self.text_trunk)})

    def with_readout(self, readout: str) -> Self:
        """A model that shares this one's trunks, with heads of its own and another audio readout."""
        other = self.with_own_heads()
        other.audio_head.set_readout(readout)
        other.config = self.config | {"readout": readout}
        return other.to(self.log_scale.device).eval()

    @property
    def has_pretrained_trunk(self) -> bool:
        """Whether the audio trunk is a published one, which is frozen also while a base model is trained."""
        return "audio_trunk." in self.pretrained

    @property
    def fingerprint(self) -> str:
        """Hash of all weights, the pretrained parts' among them."""
        trunks = [self.audio_trunk.fingerprint, self.text_trunk.fingerprint]
        return files.hash_json([files.hash_state(self.own_state()), *trunks])

    @property
    def logit_scale(self) -> Tensor:
        """τ itself, with its gradient."""
        return self.log_scale.exp()

    def clamp_scale(self) -> None:
        """Keep log τ at most max(ln 100, the loaded value); to be called after every step."""
        with torch.no_grad():
            self.log_scale.clamp_(max=self.max_log_scale)

    def embed_features(self, features: Tensor) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, float32 at least, from (kept) trunk outputs ``[N, T, D]``."""
        return _normalised(self.audio_head(features.to(self.log_scale)))

    def embed_tokens(self, tokens: Tokens) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, float32 at least, from text trunk outputs."""
        return _normalised(self.text_head(tokens))

    def embed_captions(self, captions: Sequence[str], text: Callable[[list[str]], Tokens]) -> Tensor:
        """Embeddings ``[N, d]`` of captions; ``text`` makes their tokens: the trunk or what keeps them."""
        return self.embed_tokens(text(list(captions)))

    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embeddings ``[N, d]`` of waveforms ``[N, samples]`` of one length: the trunk, then the head."""
        return self.embed_features(self.audio_trunk(waveforms.to(self.log_scale.device)))

    def embed_texts(self, captions: list[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions: the trunk, then the head."""
        return self.embed_captions(captions, self.text_trunk)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that post-pretraining trains: both heads and log τ."""
        return [*self.audio_head.parameters(), *self.text_head.parameters(), self.log_scale]

    def own_state(self) -> dict[str, Tensor]:
        """Weights a checkpoint holds: all but the pretrained parts'; log τ has the key ``logit_scale``."""
        state = self.state_dict()
        return {theirs: state[ours].detach().cpu().contiguous() for ours, theirs in self._own_names().items()}

    def load_own_state(self, state: dict[str, Tensor], where: str | Path) -> None:
        """Load :meth:`own_state` from ``where``; errors as of :func:`tclap.models.weights.load_exactly`."""
        load_exactly(self, state, where, self._own_names())
        self.max_log_scale = max(MAX_LOG_SCALE, float(self.log_scale.detach()))

    def _own_names(self) -> dict[str, str]:
        """Names in this module and in its checkpoint, where log τ has the key of CLIP's checkpoints."""
        names = [name for name in self.state_dict() if not name.startswith(self.pretrained)]
        return {name: "logit_scale" if name == "log_scale" else name for name in names}

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: a safetensors file of the weights, with the configuration in its header.

        Raises:
            ValueError: on a name that does not end in ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"a checkpoint is named *.safetensors, got {path}.")
        write_checkpoint(path, self.name, self.config, self.own_state())


def _normalised(outputs: Tensor) -> Tensor:
    # What a head makes under autocast is bfloat16, whose unit vectors are off by up to 0.4 %.
    outputs = outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    return nn.functional.normalize(outputs, dim=-1)
