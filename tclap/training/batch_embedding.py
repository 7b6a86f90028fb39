"""How the embeddings of a global batch are computed: by which processes, in how many pieces.

A contrastive loss needs every embedding of a batch at once, but not everything that led to them. Each
process embeds its part of the batch, a micro-batch at a time; the activations of a micro-batch are
dropped and computed again in the backward pass, so that memory is bounded by the micro-batch while the
in-batch negatives are those of the whole batch (gradient caching, Gao et al., arXiv 2101.06983, by
activation checkpointing, Chen et al., arXiv 1604.06174). The result is that of the batch done at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tclap.arguments import at_least
from tclap.training.distributed import Processes
from tclap.training.dropout import ItemDropout

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
Embed = Callable[[np.ndarray], tuple[Tensor, Tensor]]  # rows to audio and text embeddings [..., n, d]


@dataclass(frozen=True)
class BatchEmbedder:
    """How batches are embedded in training.

    Attributes:
        processes: that share a batch.
        micro_batch: rows that go through the towers at a time; None: all of a process's at once.
        precision: ``fp32``, or ``bf16`` for the products of the towers; embeddings are float32 always.
    """

    processes: Processes = field(default_factory=Processes)
    micro_batch: int | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        at_least(1, micro_batch=self.micro_batch)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}.")

    def embed_local(
        self, embed: Embed, rows: np.ndarray, device: torch.device, seed: Sequence[int]
    ) -> list[Tensor]:
        """Audio and text embeddings of this process's part of a batch, of which ``rows`` are all.

        Dropout draws from ``seed`` and an item's place in the global batch, so that it is the same however
        the batch is cut, and in the computation again in the backward pass.
        """
        part = self.processes.local_slice(len(rows))

        def run(start: int, stop: int) -> tuple[Tensor, Tensor]:
            with ItemDropout(seed, start, stop - start), self._products(device):
                return embed(rows[start:stop])

        if part.start == part.stop:  # a process without rows: the embeddings of none of one
            return [side[..., :0, :] for side in run(0, 1)]
        step = self.micro_batch or len(rows)
        pieces = [(n, min(n + step, part.stop)) for n in range(part.start, part.stop, step)]
        if len(pieces) == 1:
            return list(run(*pieces[0]))
        embedded = [checkpoint(run, *p, use_reentrant=False, preserve_rng_state=False) for p in pieces]
        return [torch.cat(side, dim=-2) for side in zip(*embedded, strict=True)]

    def embed_all(self, embed: Embed, rows: np.ndarray, device: torch.device) -> list[Tensor]:
        """Audio and text embeddings of all rows, on every process; for validation, without gradient."""
        step = self.micro_batch or len(rows)
        with torch.no_grad(), self._products(device):
            embedded = [embed(rows[n : n + step]) for n in range(0, len(rows), step)]
        return [torch.cat(side, dim=-2) for side in zip(*embedded, strict=True)]

    def _products(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32")
