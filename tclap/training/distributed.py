"""The processes that train together: one, unless ``accelerate launch`` or ``torchrun`` started more.

A global batch is cut into contiguous slices, one per process. A loss over the whole batch gathers all
embeddings; afterwards the sums of the parameters' gradients are those of the same batch in one process.

Every method that talks to the other processes is a collective: all processes must call it, in the same
order. With one process all of them are identities, and Accelerate is not imported.
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from accelerate import PartialState


class Processes:
    """Which process of how many this is, its ``device``, and what they exchange.

    One process without Accelerate's ``state``. Rank 0 is the main process.
    """

    def __init__(self, state: "PartialState | None" = None) -> None:
        self._state = state
        self.world_size, self.rank = 1, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if state is not None:
            self.world_size, self.rank = state.num_processes, state.process_index
            # Accelerate numbers CPUs, tensors do not.
            self.device = torch.device("cpu") if state.device.type == "cpu" else state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def local_slice(self, size: int) -> slice:
        """This process's part of ``range(size)``; they differ by at most one item, the larger ones first."""
        each, more = divmod(size, self.world_size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def global_batch(
        self, audio: Tensor, text: Tensor, logit_scale: Tensor, events: Tensor, size: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a contrastive loss takes of a batch of ``size`` items, of which each process has its slice.

        Every process computes the whole loss. Only its own embeddings have a gradient, and τ on the main
        process, so that sums over the processes are the gradients of the whole.
        """
        if self.world_size == 1:
            return audio, text, logit_scale, events
        own = self.local_slice(size)
        others = (own.start, size - own.stop)

        def whole(part: Tensor, padding: Sequence[int]) -> Tensor:
            padded = pad(part, padding)
            return padded + (self.sum(padded) - padded).detach()

        audio, text = (whole(side, (0, 0, *others)) for side in (audio, text))
        return audio, text, logit_scale if self.is_main else logit_scale.detach(), whole(events, others)

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over the processes, the same bits on each, without gradient."""
        if self.world_size == 1:
            return tensor.detach()
        found = tensor.detach().to(self.device, copy=True).contiguous()
        torch.distributed.all_reduce(found)
        return found.to(tensor.device)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's ``grad`` by its sum; one that is missing everywhere stays missing."""
        parameters = list(parameters)
        if self.world_size == 1:
            return
        holders = self.sum(torch.tensor([int(p.grad is not None) for p in parameters])).tolist()
        for parameter in (p for p, count in zip(parameters, holders, strict=True) if count):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.sum(gradient)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by the main process's values."""
        if self.world_size == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(self.sum(tensor if self.is_main else torch.zeros_like(tensor)))

    def main_first(self) -> AbstractContextManager[None]:
        """In this context the main process runs the block before the others enter it."""
        return nullcontext() if self._state is None else self._state.main_process_first()


def current() -> Processes:
    """The processes this one was started with, by the environment the launcher sets (``WORLD_SIZE``).

    They talk through NCCL on GPUs; without GPUs, or with ``ACCELERATE_USE_CPU=true``, through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
    # Python's end does not join the backend's threads, which now and then abort the main process then.
    atexit.register(state.destroy_process_group)
    return Processes(state)
