"""Trunk outputs, computed once.

Trunks are frozen in post-pretraining, so what they make of a caption or of a composite does not
change from step to step or from variant to variant.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tclap import paths, provenance
from tclap.models.base import Tokens
from tclap.progress import progress

log = logging.getLogger(__name__)


class TextFeatures:
    """A text trunk's outputs by caption, in memory, and on disk between runs.

    The whole list of captions is encoded in one fixed way, so that the same list gives the same
    bits whichever process does it.

    Args:
        text_trunk: captions to :class:`Tokens`, with a ``fingerprint`` of its weights.
        captions: every caption that will be asked for; others are encoded when they come.
        folder: where the outputs are kept; None: nowhere.
    """

    BATCH = 128

    def __init__(self, text_trunk: nn.Module, captions: Sequence[str], folder: Path | None = None) -> None:
        self._trunk = text_trunk
        wanted = sorted(set(captions))
        key = provenance.hash_json([text_trunk.fingerprint, wanted])
        self.path = None if folder is None else folder / f"text-{key[:16]}.safetensors"
        self._rows: dict[str, Tensor] = {}
        if self.path is not None and self._read(wanted):
            return
        self._encode(wanted)
        if self.path is not None:
            self._write(wanted)

    def __call__(self, captions: Sequence[str]) -> Tokens:
        """Right-padded trunk outputs of these captions."""
        self._encode(sorted({c for c in captions if c not in self._rows}))
        rows = [self._rows[caption] for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        return Tokens(pad_sequence(rows, batch_first=True), lengths)

    def _encode(self, captions: Sequence[str]) -> None:
        # Neighbours in length share a batch: little padding.
        ordered = sorted(captions, key=lambda caption: (len(caption.split()), caption))
        starts = range(0, len(ordered), self.BATCH)
        for start in progress(starts, "captions through the text trunk", quiet=len(starts) < 8):
            batch = ordered[start : start + self.BATCH]
            values, lengths = self._trunk(batch)
            for caption, row, length in zip(batch, values, lengths, strict=True):
                self._rows[caption] = row[:length].detach().cpu().clone()

    def _write(self, captions: Sequence[str]) -> None:
        rows = [self._rows[caption] for caption in captions]
        tensors = {"values": torch.cat(rows), "lengths": torch.tensor([len(row) for row in rows])}
        metadata = {"captions": json.dumps(captions), "hash": provenance.hash_state(tensors)}
        with paths.replacing(self.path) as temporary:
            save_file(tensors, temporary, metadata)
        log.info("kept %d captions in %s", len(rows), self.path)

    def _read(self, captions: Sequence[str]) -> bool:
        if not self.path.is_file():
            return False
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                metadata = file.metadata() or {}
        except SafetensorError:
            metadata = {}
        if metadata.get("hash") is None or provenance.hash_state(tensors) != metadata["hash"]:
            log.warning("%s is damaged; its captions are encoded again", self.path)
            return False
        rows = tensors["values"].split(tensors["lengths"].tolist())
        self._rows = dict(zip(json.loads(metadata["captions"]), rows, strict=True))
        return set(captions) <= self._rows.keys()
