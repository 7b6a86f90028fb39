"""One model's embeddings of sounds and captions by name, each computed once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tclap import files
from tclap.models.weights import read_checkpoint, write_checkpoint
from tclap.models.wrapped import checked
from tclap.progress import progress

KEPT = "embeddings"  # in the header of a file that is kept
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


def read_kept(folder: Path) -> dict[str, Tensor]:
    """Embeddings by name of all files in a folder; what is damaged, or another's, is passed over."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            config, state = read_checkpoint(path, KEPT)
            found |= zip(config["names"], state["embeddings"], strict=True)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def keep(folder: Path, names: Sequence[str], embeddings: Tensor) -> None:
    """Add a file of embeddings to a folder."""
    path = folder / f"{files.hash_json(list(names))[:32]}.safetensors"
    write_checkpoint(path, KEPT, {"names": list(names)}, {"embeddings": embeddings})


class ModelEmbeddings(Embeddings):
    """Embeddings by any object's ``encode_audio`` and ``encode_text``, checked and L2-normalised.

    Args:
        model: the object.
        names: of sounds.
        load: gives a named sound as ``encode_audio`` takes it: a waveform or a path.
        folders: where this model's embeddings of these sounds and of captions are kept: what is there is
            not computed again, what is computed is added; None: nothing is kept.

    Raises:
        TypeError: on an object without these methods.
        ValueError: on embeddings of a wrong shape, or with values that are not finite.
    """

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        load: Callable[[str], Any],
        folders: tuple[Path, Path] | None = None,
    ) -> None:
        if not all(callable(getattr(model, name, None)) for name in ("encode_audio", "encode_text")):
            kind = type(model).__name__
            raise TypeError(
                f"{kind} has no encode_audio and encode_text, expected a model, or tclap.wrap of one."
            )
        self._model, self._folders = model, folders
        audio = read_kept(folders[0]) if folders else {}
        missing = [name for name in names if name not in audio]
        bar = progress(range(0, len(missing), BLOCK), "test audio", quiet=len(missing) < 4 * BLOCK)
        written = 0
        for first in bar:
            block = missing[first : first + BLOCK]
            found = model.encode_audio([load(name) for name in block])
            audio |= zip(block, checked(found, len(block), "audio"), strict=True)
            done = first + len(block)
            if folders and (done - written >= FILE or done == len(missing)):
                new, written = missing[written:done], done
                keep(folders[0], new, torch.stack([audio[name] for name in new]))
        self._dim = len(next(iter(audio.values())))
        super().__init__(names, torch.stack([audio[name] for name in names]))
        if folders:
            self._text |= read_kept(folders[1])

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]``, L2-normalised, on the CPU."""
        found = checked(self._model.encode_text(list(captions)), len(captions), "text", self._dim)
        if self._folders:
            keep(self._folders[1], captions, found)
        return found
