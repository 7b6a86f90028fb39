"""Any object with embeddings of audio and text as a model of this library: :func:`wrap`.

Objects of other libraries are taken by their own methods:

=========================  ====================================  ==========================================
library                    audio                                 text
=========================  ====================================  ==========================================
(any)                      ``encode_audio(waveforms)``           ``encode_text(captions)``
laion_clap                 ``get_audio_embedding_from_data``     ``get_text_embedding``
msclap                     ``get_audio_embeddings(paths)``       ``get_text_embeddings``
sentence-transformers 5.4  ``encode([{"array", ...}])``          ``encode(captions)``
=========================  ====================================  ==========================================
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap import audio
from tclap.models.encoder import Encoder


def wrap(
    model: Any, sample_rate: int | None = None, window: float | None = None, **attributes: Any
) -> Encoder:
    """A model of this library around ``model``, which :func:`tclap.add_slots` and ``evaluate`` take.

    Args:
        model: an object with methods of the table above, which take a list of mono waveforms ``[samples]``
            (float32) or of captions and return ``[N, d]``.
        sample_rate: in Hz, of the waveforms that it takes; None: its attribute of this name.
        window: in seconds, the length of the waveforms that it is given: longer recordings are cut, shorter
            ones repeated; None: its attribute of this name.
        attributes: of :class:`~tclap.models.encoder.Encoder`: ``name``, ``padding``, ``batch_size``.

    Raises:
        TypeError: on an object without such methods, or an attribute that there is not.
        ValueError: when rate or window are unknown or not above 0.
    """
    return Wrapped(model, sample_rate, window, **attributes)


class Wrapped(Encoder):
    """See :func:`wrap`."""

    def __init__(self, model: Any, sample_rate: int | None, window: float | None, **attributes: Any) -> None:
        self.model, self.name = model, type(model).__name__
        self._audio, self._text = _methods(self, model)
        given = {"sample_rate": sample_rate, "window": window}
        for name, value in given.items():
            value = getattr(model, name, None) if value is None else value
            if value is None or not value > 0:
                raise ValueError(f"{name} is {value}, expected wrap(..., {name}=...) above 0.")
            setattr(self, name, value)
        unknown = sorted(attributes.keys() - {"name", "padding", "batch_size", "text_batch_size"})
        if unknown:
            raise TypeError(f"wrap got {unknown[0]}, expected name, padding, batch_size or text_batch_size.")
        vars(self).update(attributes)
        self.dim = self.embed_texts(["a sound"]).shape[1]

    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embeddings ``[N, d]`` of waveforms of one length ``[N, samples]``."""
        return _checked(self._audio(list(waveforms.numpy())), len(waveforms), "audio")

    def embed_texts(self, captions: list[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions."""
        return _checked(self._text(captions), len(captions), "text")


def _methods(wrapped: Wrapped, model: Any) -> tuple:
    """What gives embeddings of a list of waveforms, and of captions."""
    if hasattr(model, "encode_audio") and hasattr(model, "encode_text"):
        return model.encode_audio, model.encode_text
    if hasattr(model, "get_audio_embedding_from_data"):
        return (
            lambda waveforms: model.get_audio_embedding_from_data(waveforms, use_tensor=False),
            # laion_clap squeezes a single caption's embedding to [d].
            lambda captions: model.get_text_embedding([*captions, "-"], use_tensor=False)[: len(captions)],
        )
    if hasattr(model, "get_audio_embeddings"):
        return lambda waveforms: _by_files(model, waveforms, wrapped.sample_rate), model.get_text_embeddings
    if hasattr(model, "encode"):

        def encode(waveforms: list) -> Any:
            return model.encode([{"array": w, "sampling_rate": wrapped.sample_rate} for w in waveforms])

        return encode, model.encode
    raise TypeError(
        f"{type(model).__name__} has no methods that are known, expected encode_audio and encode_text, which "
        "take a list of waveforms or captions and return [N, d]."
    )


def _by_files(model: Any, waveforms: list, rate: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{n}.wav") for n in range(len(waveforms))]
        for path, waveform in zip(paths, waveforms, strict=True):
            audio.write_wav(path, waveform, rate, subtype="FLOAT")
        return model.get_audio_embeddings(paths)


def _checked(embeddings: Any, count: int, what: str) -> Tensor:
    found = torch.as_tensor(embeddings).detach().cpu().float()
    if found.ndim != 2 or len(found) != count:
        raise ValueError(f"{what} embeddings have shape {tuple(found.shape)}, expected [{count}, d].")
    return normalize(found, dim=-1)
