"""The processes that train together: one, unless ``accelerate launch`` or ``torchrun`` started more.

``accelerate launch --multi_gpu --num_processes K`` starts K processes, without GPUs too (then they talk
through gloo); with ``--cpu`` it would start a single one.

A global batch is cut into contiguous shares, one a process (:meth:`Processes.share`). A loss over the
whole batch gathers what its candidates need; afterwards :meth:`Processes.sum_gradients` adds up the
parameters' gradients, which are then those of the same batch in one process, on every process alike.

Every method that talks to the other processes is a collective: all processes must call it, in the same
order. With one process all of them are identities, and Accelerate is not imported.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState

HALF = (torch.float16, torch.bfloat16)


class Processes:
    """Which process of how many this is, and what they exchange.

    Args:
        state: Accelerate's; one process without it.

    Attributes:
        count: number of processes.
        rank: this one's number, from 0; 0 is the main process.
        device: this process's device. With one process the GPU if there is one, for information only.
    """

    def __init__(self, state: PartialState | None = None) -> None:
        self._state = state
        self.count = 1 if state is None else state.num_processes
        self.rank = 0 if state is None else state.process_index
        if state is None:
            self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        else:
            # Accelerate numbers CPUs, tensors do not.
            self.device = torch.device("cpu") if state.device.type == "cpu" else state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """This process's contiguous part of ``range(size)``.

        Shares differ by at most one item, the larger ones first; some are empty where size < count.
        """
        each, more = divmod(size, self.count)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def gather(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """The processes' tensors one after another along ``dim``, without gradient.

        Sizes may differ along ``dim``, down to 0, and nowhere else.
        """
        tensor = tensor.detach()
        if self.count == 1:
            return tensor
        from accelerate.utils import gather

        size = tensor.shape[dim]
        sizes = gather(torch.tensor([size], device=self.device)).tolist()
        largest = max(sizes)
        padded = tensor.to(self.device)
        if size < largest:
            shape = list(tensor.shape)
            shape[dim] = largest
            padded = tensor.new_zeros(shape, device=self.device)
            padded.narrow(dim, 0, size).copy_(tensor)
        # A leading dimension of processes, as Accelerate joins along the first one only.
        parts = gather(padded[None])
        joined = [part.narrow(dim, 0, size) for part, size in zip(parts, sizes, strict=True)]
        return torch.cat(joined, dim=dim).to(tensor.device)

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over the processes, the same bits on each, without gradient.

        Half precision is added up in float32 and rounded once.
        """
        tensor = tensor.detach()
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        terms = tensor.float() if tensor.dtype in HALF else tensor
        return reduce(terms.to(self.device), reduction="sum").to(tensor)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's ``grad`` by its sum over the processes.

        The parameters must come in the same order everywhere. A missing gradient counts as zeros where
        another process has one; missing everywhere, it stays missing.
        """
        parameters = list(parameters)
        if self.count == 1 or not parameters:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int64)
        used = [p for p, holders in zip(parameters, self.sum(present).tolist(), strict=True) if holders]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        _in_place([p.grad for p in used], self.sum)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors, in the same order everywhere, by the main process's values."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        _in_place(tensors, lambda flat: broadcast(flat.to(self.device)).to(flat.device))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others enter it.

        They enter it also where the main process failed in it, as waiting would be for ever.
        """
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
    """The processes this one was started with, by the environment the launcher sets.

    With ``WORLD_SIZE`` above 1, joins the others through ``accelerate.PartialState``: NCCL on GPUs, gloo on
    the CPU, which is taken without GPUs or with ``ACCELERATE_USE_CPU=true``. Otherwise a single process.
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


def _in_place(tensors: Iterable[Tensor], collective: Callable[[Tensor], Tensor]) -> None:
    # One call for each dtype: a collective costs its latency, not its size, for small tensors.
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    with torch.no_grad():
        for group in groups.values():
            flat = collective(torch.cat([tensor.reshape(-1) for tensor in group]))
            for tensor, values in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(values.view_as(tensor))
