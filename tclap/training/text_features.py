"""What text trunks make of captions, computed once.

Trunks are frozen in post-pretraining, so what they make of a caption does not change from step to
step or from variant to variant. (:mod:`tclap.training.audio_features` does the same for audio trunks.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tclap import files
from tclap.models.base import Tokens
from tclap.progress import progress
from tclap.training.store import FeatureStore, RowFile, StoredRows, content_key, dtype_name, kept

log = logging.getLogger(__name__)


class TextFeatures:
    """A text trunk's outputs by caption, in memory, and on disk between runs.

    The whole list of captions is encoded in one fixed way, so that the same list gives the same
    bits whichever process does it.

    Args:
        text_trunk: captions to :class:`Tokens`, with a ``fingerprint`` of its weights.
        captions: every caption that will be asked for; others are encoded when they come.
        folder: where the outputs are kept; None: nowhere.
        device: where :class:`Tokens` are returned; what is kept stays on the CPU.
        dtype: what is kept: float16, bfloat16 or float32; what is returned is float32.

    Raises:
        ValueError: on any other dtype, or values too large for it.
    """

    BATCH = 128

    def __init__(
        self,
        text_trunk: nn.Module,
        captions: Sequence[str],
        folder: Path | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._trunk, self._device, self._dtype = text_trunk, device, dtype
        self._folder = folder
        self._rows: dict[str, Tensor] = {}
        self.path = self.add(captions)

    def add(self, captions: Iterable[str]) -> Path | None:
        """Make the rows of a list's captions that are not there yet, or read them; the file they are in."""
        wanted = sorted(set(captions) - self._rows.keys())
        # A file a list, and all of it encoded again when any of it is damaged: a trunk's last bits
        # depend on what shares the batch, so rows of several lists would depend on which came first.
        key = files.hash_json([self._trunk.fingerprint, wanted, dtype_name(self._dtype)])
        path = None if self._folder is None else self._folder / f"text-{key[:16]}.safetensors"
        if path is not None and self._read(path, wanted):
            return path
        self._encode(wanted)
        if path is not None and wanted:
            RowFile.write(path, {caption: self._rows[caption] for caption in wanted})
            log.info("kept %d captions in %s", len(wanted), path)
        return path

    def __call__(self, captions: Sequence[str]) -> Tokens:
        """Right-padded trunk outputs of these captions, float32."""
        self._encode(sorted({c for c in captions if c not in self._rows}))
        rows = [self._rows[caption] for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        values = pad_sequence(rows, batch_first=True)
        return Tokens(values.to(self._device).float(), lengths.to(self._device))

    def _encode(self, captions: Sequence[str]) -> None:
        # Neighbours in length share a batch: little padding.
        ordered = sorted(captions, key=lambda caption: (len(caption.split()), caption))
        starts = range(0, len(ordered), self.BATCH)
        for start in progress(starts, "captions through the text trunk", quiet=len(starts) < 8):
            batch = ordered[start : start + self.BATCH]
            values, lengths = self._trunk(batch)
            for caption, row, length in zip(batch, values, lengths.tolist(), strict=True):
                self._rows[caption] = kept(row[:length], self._dtype)

    def _read(self, path: Path, captions: Sequence[str]) -> bool:
        if not path.is_file():
            return False
        try:
            file = RowFile(path, self._dtype)
            whole = len(file.sound(range(len(file.keys)))) == len(file.keys)
        except ValueError:
            whole = False
        if not whole:
            log.warning("%s is damaged; its captions are encoded again", path)
            return False
        rows = {key: file.row(row) for row, key in enumerate(file.keys)}
        if not set(captions) <= rows.keys():
            return False
        self._rows |= rows
        return True


class StoredText:
    """A text trunk's outputs by caption, kept in a store that any run and list of captions may share.

    For trunks that are slow. A row's last bits depend on which captions shared its batch when it
    was first made.

    Args:
        text_trunk: captions to :class:`Tokens`, with a ``fingerprint`` of its weights.
        store: keeps the outputs.
        captions: those that are made at once; others are made when they come.
        device: where :class:`Tokens` are returned; None: where the trunk's weights are.
    """

    BATCH = 64

    def __init__(
        self,
        text_trunk: nn.Module,
        store: FeatureStore,
        captions: Iterable[str] = (),
        *,
        device: torch.device | str | None = None,
    ) -> None:
        self._trunk, self._store = text_trunk, store
        self._made_by = (files.hash_code("models"), text_trunk.fingerprint)
        self._device = next(text_trunk.parameters()).device if device is None else device
        self._places: dict[str, tuple[StoredRows, int]] = {}
        self.add(captions)

    def add(self, captions: Iterable[str]) -> None:
        """Make the rows of captions that are not there yet."""
        new = {caption for caption in captions if caption not in self._places}
        if not new:
            return
        ordered = sorted(new, key=lambda caption: (len(caption.split()), caption))
        keys = [content_key(*self._made_by, caption) for caption in ordered]

        def make(positions: list[int]) -> list[Tensor]:
            with torch.inference_mode():
                values, lengths = self._trunk([ordered[n] for n in positions])
            return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]

        rows = self._store.fetch(keys, make, what="captions through the text trunk", batch=self.BATCH)
        self._places |= {caption: (rows, n) for n, caption in enumerate(ordered)}

    def __call__(self, captions: Sequence[str]) -> Tokens:
        """Right-padded trunk outputs of these captions, float32."""
        self.add(captions)
        places = [self._places[caption] for caption in captions]
        rows = [stored.row(n) for stored, n in places]
        lengths = torch.tensor([len(row) for row in rows])
        return Tokens(pad_sequence(rows, batch_first=True).to(self._device), lengths.to(self._device))
