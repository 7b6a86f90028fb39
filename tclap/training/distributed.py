"""The processes that train together: one, unless ``accelerate launch`` or ``torchrun`` started more.

A global batch is cut into contiguous slices, one per process. A loss over the whole batch gathers all
embeddings; afterwards the sums of the parameters' gradients are those of the same batch in one process.

Every method that talks to the other processes is a collective: all processes must call it, in the same
order. With one process all of them are identities, and Accelerate is not imported.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
# How long a process waits for the others. They work in step, so that the longest wait is for the main one to
# write a file; one that has died is waited for as long where no launcher ends the others.
PATIENCE = timedelta(minutes=30)


class Processes:
    """Which process of how many this is, its ``device``, and what they exchange.

    One process without Accelerate's ``state``. Rank 0 is the main process.
    """

    def __init__(self, state: "PartialState | None" = None) -> None:
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

    def on_main(self, work: Callable[[], T]) -> T:
        """What ``work()`` returns on the main process, which alone calls it, on all.

        Raises what ``work`` raises, on the other processes ChildProcessError.
        """
        if self.world_size == 1:
            return work()
        value, error = _attempt(work) if self.is_main else (None, None)
        told = [(value, _said(error))]
        torch.distributed.broadcast_object_list(told)
        return self._values(told, error)[0]

    def share(self, count: int, work: Callable[[int], T]) -> Iterator[T]:
        """``work(n)`` of every n below ``count``, in order, each computed by one process and given to all.

        The processes exchange what they have after one n each, so that none waits for long. Raises what
        ``work`` raises, on the other processes ChildProcessError.
        """
        if self.world_size == 1:
            yield from map(work, range(count))
            return
        for first in range(0, count, self.world_size):
            own = first + self.rank
            value, error = _attempt(work, own) if own < count else (None, None)
            told: list[Any] = [None] * self.world_size
            torch.distributed.all_gather_object(told, (value, _said(error)))
            yield from self._values(told, error)[: count - first]

    def _values(self, told: list[tuple[Any, str | None]], error: Exception | None) -> list[Any]:
        """The values that processes have told, by rank; raises their errors, first this one's own."""
        if error is not None:
            raise error
        for rank, (_, said) in enumerate(told):
            if said is not None:
                raise ChildProcessError(f"process {rank} of {self.world_size} failed: {said}")
        return [value for value, _ in told]


def _attempt(work: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    try:
        return work(*arguments), None
    except Exception as error:  # of any kind, because the others wait for this process
        return None, error


def _said(error: Exception | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"


def current() -> Processes:
    """The processes this one was started with, by the environment the launcher sets (``WORLD_SIZE``).

    They talk through NCCL on GPUs; without GPUs, or with ``ACCELERATE_USE_CPU=true``, through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    # Python's end does not join the backend's threads, which now and then abort the main process then.
    atexit.register(state.destroy_process_group)
    return Processes(state)
