"""The processes that train together: one, unless ``accelerate launch`` or ``torchrun`` started more.

A global batch is cut into contiguous slices, one per process. A loss over the whole batch gathers all
embeddings; afterwards the sums of the parameters' gradients are those of the same batch in one process.

Every method that talks to the other processes is a collective: all processes must call it, in the same
order. With one process all of them are identities, and Accelerate is not imported.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState


class Processes:
    """Which process of how many this is, its ``device``, and what they exchange.

    One process without Accelerate's ``state``. Rank 0 is the main process.
    """

    def __init__(self, state: PartialState | None = None) -> None:
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

    def gather(self, tensor: Tensor, dim: int) -> Tensor:
        """All tensors joined along ``dim``, where sizes may differ; only one's own has a gradient."""
        if self.world_size == 1:
            return tensor
        from accelerate.utils import gather

        sizes = gather(torch.tensor([tensor.shape[dim]], device=self.device)).tolist()
        shape = list(tensor.shape)
        shape[dim] = max(sizes)
        padded = tensor.new_zeros(shape, device=self.device)
        padded.narrow(dim, 0, tensor.shape[dim]).copy_(tensor.detach())
        # A leading dimension of processes, as Accelerate joins along the first one only.
        parts = [part.narrow(dim, 0, n) for part, n in zip(gather(padded[None]), sizes, strict=True)]
        parts[self.rank] = tensor.to(self.device)
        return torch.cat(parts, dim=dim).to(tensor.device)

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over the processes, the same bits on each, without gradient."""
        tensor = tensor.detach()
        if self.world_size == 1:
            return tensor
        from accelerate.utils import reduce

        return reduce(tensor.to(self.device).contiguous(), reduction="sum").to(tensor)

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
        from accelerate.utils import broadcast

        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(broadcast(tensor.detach().to(self.device).contiguous()))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others enter it, also where it fails in it."""
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:
            if self.is_main:
                self.wait()

    def wait(self) -> None:
        """Return once every process has called this."""
        if self._state is not None:
            self._state.wait_for_everyone()


def current() -> Processes:
    """The processes this one was started with, by the environment the launcher sets (``WORLD_SIZE``).

    They talk through NCCL on GPUs; without GPUs, or with ``ACCELERATE_USE_CPU=true``, through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    if parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available():
        state = PartialState(cpu=True, backend="gloo")
    else:
        state = PartialState()
    # Python's end does not join the backend's threads, which now and then abort the main process then.
    atexit.register(state.destroy_process_group)
    return Processes(state)
