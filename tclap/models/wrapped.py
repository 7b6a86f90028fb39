"""Any object with embeddings of audio and text as a model of this library: :func:`wrap`.

Objects of other libraries are taken by their own methods:

=========================  ====================================  ==========================================
library                    audio                                 text
=========================  ====================================  ==========================================
(any)                      ``encode_audio(waveforms)``           ``encode_text(captions)``
laion_clap                 ``get_audio_embedding_from_data``     ``get_text_embedding``
sentence-transformers 5.4  ``encode([{"array", ...}])``          ``encode(captions)``
=========================  ====================================  ==========================================
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.arguments import at_least, is_number
from tclap.models.encoder import Encoder

METHODS = (
    "encode_audio", "encode_text", "get_audio_embedding_from_data", "get_text_embedding", "encode",
)  # fmt: skip


def wrap(model: Any, sample_rate: int | None = None, window: float | None = None) -> Encoder:
    """A model of this library around ``model``, which :func:`tclap.add_slots` and ``evaluate`` take.

    Args:
        model: an object with methods of the table above, which take a list of mono waveforms ``[samples]``
            (float32) or of captions and return ``[N, d]``.
        sample_rate: in Hz, of the waveforms that it takes; None: its attribute of this name.
        window: in seconds, the length of the waveforms that it is given: longer recordings are cut, shorter
            ones repeated; None: its attribute of this name.

    Raises:
        TypeError: on an object without such methods.
        ValueError: when rate or window are unknown or not above 0.
    """
    return Wrapped(model, sample_rate, window)


class Wrapped(Encoder):
    """See :func:`wrap`."""

    def __init__(self, model: Any, sample_rate: int | None, window: float | None) -> None:
        self.model, self.name = model, type(model).__name__
        self._audio, self._text = self._methods()
        self.sample_rate = given(model, "sample_rate", sample_rate)
        self.window = given(model, "window", window)
        at_least(1 / self.sample_rate, window=self.window)
        self.dim = checked(self._text(["a sound"]), 1, "text").shape[1]

    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embeddings ``[N, d]`` of waveforms of one length ``[N, samples]``."""
        return checked(self._audio(list(waveforms.numpy())), len(waveforms), "audio", self.dim)

    def embed_texts(self, captions: list[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions."""
        return checked(self._text(captions), len(captions), "text", self.dim)

    def _methods(self) -> tuple[Callable, Callable]:
        """What gives embeddings of a list of waveforms, and of captions."""
        model = self.model
        known = {name for name in METHODS if callable(getattr(model, name, None))}
        if isinstance(model, str | type):  # a str has an encode of its own
            known = set()
        if {"encode_audio", "encode_text"} <= known:
            return model.encode_audio, model.encode_text
        if {"get_audio_embedding_from_data", "get_text_embedding"} <= known:
            return (
                lambda waveforms: model.get_audio_embedding_from_data(waveforms, use_tensor=False),
                # laion_clap squeezes a single caption's embedding to [d].
                lambda captions: model.get_text_embedding([*captions, "-"], use_tensor=False)[:-1],
            )
        if "encode" in known:
            return self._by_dicts, model.encode
        raise TypeError(
            f"{self.name} has no methods that are known, expected encode_audio and encode_text, which take a "
            "list of waveforms or captions and return [N, d]."
        )

    def _by_dicts(self, waveforms: list) -> Any:
        return self.model.encode([{"array": w, "sampling_rate": self.sample_rate} for w in waveforms])


def given(model: Any, name: str, value: float | None) -> Any:
    """A value, or where it is None the model's attribute ``name``; ValueError unless a number above 0."""
    found: Any = getattr(model, name, None) if value is None else value
    if not is_number(found) or found <= 0:
        raise ValueError(f"{name} is {found}, expected the argument {name} or the model's own above 0.")
    return found


def checked(embeddings: Any, count: int, what: str, dim: int | None = None) -> Tensor:
    """Embeddings ``[count, d]`` on the CPU, L2-normalised; d is ``dim`` where that is given.

    Raises ValueError on what is no array of real numbers, another shape, NaN and infinity.
    """
    try:
        found = torch.as_tensor(embeddings).detach()
    except Exception as error:  # torch raises errors of five kinds on what is no array
        kind = type(embeddings).__name__
        raise ValueError(f"{what} embeddings are {kind}, expected floats [{count}, d].") from error
    if found.is_complex() or found.layout != torch.strided:
        raise ValueError(f"{what} embeddings are {found.layout} of {found.dtype}, expected dense floats.")
    found = found.cpu().float()
    if found.ndim != 2 or len(found) != count or not found.shape[1] or dim not in (None, found.shape[1]):
        expected = f"expected [{count}, {dim or 'd'}]."
        raise ValueError(f"{what} embeddings have shape {tuple(found.shape)}, {expected}")
    if not found.isfinite().all():
        raise ValueError(f"{what} embeddings have values that are not finite.")
    return normalize(found, dim=-1)
