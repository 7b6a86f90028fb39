"""One model's embeddings of sounds and captions by name, each computed once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from tclap import files
from tclap.progress import progress

BLOCK = 16  # sounds that a model is given at a time
FILE = 1024  # embeddings of sounds in one file, of those that are kept


class Embeddings(ABC):
    """Embeddings that the tasks, controls and galleries are answered from.

    Args:
        names: of sounds.
        audio: their embeddings ``[len(names), d]``, L2-normalised, on the CPU.
    """

    def __init__(self, names: Iterable[str], audio: Tensor) -> None:
        self._audio: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}
        self.add_sounds(names, audio)

    @abstractmethod
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions, L2-normalised, on the CPU."""

    def add_sounds(self, names: Iterable[str], audio: Tensor) -> None:
        """Add embeddings of further sounds."""
        self._audio |= zip(names, audio, strict=True)

    def add_captions(self, captions: Iterable[str]) -> None:
        """Embed captions that are not there yet, all at once."""
        if new := sorted(set(captions) - self._text.keys()):
            self._text |= zip(new, self.embed_captions(new), strict=True)

    def sounds(self, names: Iterable[str]) -> Tensor:
        """Embeddings ``[N, d]`` of sounds by name, in order."""
        return torch.stack([self._audio[name] for name in names])

    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]`` of captions, in order."""
        self.add_captions(captions)
        return torch.stack([self._text[caption] for caption in captions])


class Kept:
    """Embeddings by name in a folder's files, each written aside and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Tensor]:
        """All that is there; a damaged file's are left out."""
        found: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as opened:
                    names = json.loads(opened.metadata()["names"])
                    found |= zip(names, opened.get_tensor("embeddings"), strict=True)
            except (SafetensorError, ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)
        return found

    def write(self, names: Sequence[str], embeddings: Tensor) -> None:
        """Add a file of these."""
        with files.replacing(self.folder / f"{files.hash_json(list(names))[:32]}.safetensors") as aside:
            save_file({"embeddings": embeddings}, aside, metadata={"names": json.dumps(list(names))})


class ModelEmbeddings(Embeddings):
    """Embeddings by any object's ``encode_audio`` and ``encode_text``, checked and L2-normalised.

    Args:
        model: the object.
        names: of sounds.
        load: gives a named sound as ``encode_audio`` takes it: a waveform or a path.
        keep: folders of this model's embeddings of these sounds and of captions: what is there is not
            computed again, what is computed is added; None: nothing is kept.

    Raises:
        ValueError: on embeddings of a wrong shape, or with values that are not finite.
    """

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        load: Callable[[str], Any],
        keep: tuple[Path, Path] | None = None,
    ) -> None:
        self._model, self._kept = model, None if keep is None else Kept(keep[1])
        sounds = None if keep is None else Kept(keep[0])
        audio = {} if sounds is None else sounds.read()
        missing = [name for name in names if name not in audio]
        bar = progress(range(0, len(missing), BLOCK), "test audio", quiet=len(missing) < 4 * BLOCK)
        written = 0
        for first in bar:
            block = missing[first : first + BLOCK]
            found = model.encode_audio([load(name) for name in block])
            audio |= zip(block, _checked(found, len(block), "encode_audio"), strict=True)
            done = first + len(block)
            if sounds is not None and (done - written >= FILE or done == len(missing)):
                new, written = missing[written:done], done
                sounds.write(new, torch.stack([audio[name] for name in new]))
        self._dim = len(next(iter(audio.values())))
        super().__init__(names, torch.stack([audio[name] for name in names]))
        if self._kept is not None:
            self._text |= self._kept.read()

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, on the CPU."""
        found = self._embedded(captions)
        if self._kept is not None:
            self._kept.write(captions, found)
        return found

    def _embedded(self, captions: Sequence[str]) -> Tensor:
        found = _checked(self._model.encode_text(list(captions)), len(captions), "encode_text")
        if found.shape[1] != self._dim:
            raise ValueError(
                f"encode_text gave {found.shape[1]} dimensions, encode_audio {self._dim}; expected one space."
            )
        return found


def _checked(embeddings: Any, count: int, method: str) -> Tensor:
    found = torch.as_tensor(embeddings).detach().cpu().float()
    if found.ndim != 2 or len(found) != count:
        raise ValueError(f"{method} gave {tuple(found.shape)} for {count} items, expected [{count}, d].")
    if not found.isfinite().all():
        raise ValueError(f"{method} gave values that are not finite.")
    return normalize(found, dim=-1)
