"""The state of a training on disk, from which one that was killed continues.

A checkpoint is one file ``step-<updates>.pt``: what ``torch.save`` makes of the state, then the SHA-256
of that. It is written beside its place, synced and renamed, so that a file of that name is whole whenever
the writer is killed; a damaged one is recognised by its hash. The last two are kept.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tclap import files

log = logging.getLogger(__name__)

KEPT = 2
DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """A folder of the last checkpoints of one training. Only one process at a time may save.

    ``identity`` tells trainings apart, such as a hash of all that one is a function of; ``newest`` is the
    last checkpoint that was written or loaded. OSError when the folder cannot be written.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = Path(folder), identity
        self.newest: Path | None = None
        files.check_writable(self.folder)

    def save(self, step: int, state: dict[str, Any]) -> bool:
        """Write the state after ``step`` updates; where the disk refuses it, log that and return False."""
        path = self.folder / f"step-{step:08d}.pt"
        temporary, buffer = path.with_suffix(".part"), io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        content = buffer.getvalue()
        try:
            with open(temporary, "wb") as file:
                file.write(content + hashlib.sha256(content).digest())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            log.warning(
                "the checkpoint of step %d could not be written to %s: %s; the last good one is %s",
                *(step, self.folder, error.strerror or error, self.newest or "none"),
            )
            return False
        self.newest = path
        # Only what is older: a later one is damaged, or it would have been continued.
        for older in [found for found in self._found() if found.name < path.name][KEPT - 1 :]:
            older.unlink(missing_ok=True)
        return True

    def load(self) -> dict[str, Any] | None:
        """The last good state, on the CPU, or None; ValueError when it is another training's."""
        for path in self._found():
            content = path.read_bytes()
            content, digest = content[:-DIGEST], content[-DIGEST:]
            if hashlib.sha256(content).digest() != digest:
                log.warning("%s is damaged; the one before it is tried", path)
                continue
            found = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
            if found["identity"] != self.identity:
                raise ValueError(
                    f"{self.folder} holds the training {found['identity'][:12]}, not {self.identity[:12]}: "
                    "choose another folder or remove it."
                )
            self.newest = path
            return found["state"]
        return None

    def _found(self) -> list[Path]:
        """What stands under a checkpoint's name, the newest first."""
        return sorted(self.folder.glob("step-????????.pt"), reverse=True)
