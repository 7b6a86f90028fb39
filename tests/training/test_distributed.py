"""Real processes on this machine, against one. Run as a script, this file is one of those processes."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tclap.losses import clip_loss, temporal_nce
from tclap.training.distributed import Processes, current

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.int64)
NO_TIME = dict.fromkeys(("alpha_same", "alpha_cross", "alpha_same_overlap", "alpha_cross_overlap"), 0.0)
CASES = {
    "plain": (7, {}),
    "fewer items than processes": (3, {"view_weights": (1, 0.5, 0.25)}),
    "one item": (1, {}),
    "weighted": (7, {"alpha_same": 0.0, "alpha_cross": 0.3, "alpha_same_overlap": 2.0, "chunk_size": 1}),
    "no overlap view": (6, {"alpha_same_overlap": 0, "alpha_cross_overlap": 0, "view_weights": (1, 1, 0)}),
    "no time": (5, {**NO_TIME, "view_weights": (0, 1, 1), "chunk_size": 2}),
    "duplicates": (7, {"events": 5}),
    "all equal": (4, {"events": 1, "chunk_size": 1}),
}


def own(rank: int, rows: int, dtype=torch.float64) -> torch.Tensor:
    """What a process brings to an exchange: ``[2, rows, 3]``."""
    return (100 * rank + torch.arange(6 * rows).reshape(2, rows, 3)).to(dtype)


def train_step(case: str, processes: Processes) -> dict[str, torch.Tensor]:
    """Losses, and gradients of two linear towers and the temperature, of a batch shared by processes."""
    size, options = CASES[case]
    generator = torch.Generator().manual_seed(len(case))
    features = torch.randn(2, 3, size, 6, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, options.get("events", 1000), (3, size), generator=generator)
    options = options | ({"events": ids[:, processes.share(size)]} if "events" in options else {})

    towers = [torch.nn.Parameter(w.clone()) for w in weights]
    log_scale = torch.nn.Parameter(torch.tensor(1.9, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.zeros(2))
    views = [
        torch.nn.functional.normalize(x[:, processes.share(size)] @ tower, dim=-1)
        for x, tower in zip(features, towers, strict=True)
    ]
    loss = temporal_nce(*views, log_scale.exp(), processes=processes, **options)
    replay = clip_loss(views[0][0], views[1][0], log_scale.exp(), processes=processes)
    (0.8 * (loss + 0.5 * replay)).backward()
    processes.sum_gradients([*towers, log_scale, unused])
    assert unused.grad is None
    names = ("loss", "replay", "audio tower", "text tower", "log scale")
    return dict(
        zip(names, (loss.detach(), replay.detach(), *(p.grad for p in [*towers, log_scale])), strict=True)
    )


def gradients(rank: int) -> list[torch.nn.Parameter]:
    """Parameters of two dtypes; the second has a gradient on the last process only, the third on none."""
    count = int(os.environ["WORLD_SIZE"])
    generator = torch.Generator().manual_seed(rank)
    parameters = [torch.nn.Parameter(torch.zeros(s)) for s in ((401, 3), (), (2,))]
    parameters.append(torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64)))
    for n in (0, 1, 3):
        if n != 1 or rank == count - 1:
            parameters[n].grad = torch.randn(
                parameters[n].shape, generator=generator, dtype=parameters[n].dtype
            )
    return parameters


def one_process(folder: Path) -> None:
    """The work of one of the processes; saves what it saw."""
    torch.set_num_threads(1)
    # Registered first, it runs last at exit.
    left = folder / f"left{os.environ['RANK']}"
    atexit.register(lambda: left.write_text(str(not torch.distributed.is_initialized())))
    here = current()
    rank, seen = here.rank, {}
    seen["who"] = (here.count, here.rank, here.is_main, str(here.device), [here.share(n) for n in range(9)])

    # Process 1 has nothing, the others 2 and 3 rows in turn.
    rows = 0 if rank == 1 else 2 + rank % 2
    for dtype in DTYPES:
        seen["gather", dtype] = here.gather(own(rank, rows, dtype), dim=1)
        seen["gather last", dtype] = here.gather(own(rank, rows, dtype).transpose(1, 2), dim=-1)
        seen["gather even", dtype] = here.gather(own(rank, 1, dtype))
        seen["gather nothing", dtype] = here.gather(own(rank, 0, dtype), dim=1)
        seen["sum", dtype] = here.sum(own(rank, 2, dtype))
    seen["no gradient"] = not here.gather(torch.ones(2, requires_grad=True)).requires_grad
    seen["sum in bf16"] = here.sum(torch.tensor([256.0 if rank == 0 else 1.0], dtype=torch.bfloat16))

    parameters = gradients(rank)
    here.sum_gradients(parameters)
    seen["gradients"] = [p.grad for p in parameters]

    tensors = [torch.nn.Parameter(own(rank, 1)), own(rank, 2, torch.int64)[:, :, 1], torch.tensor(rank == 0)]
    here.broadcast(tensors)
    seen["broadcast"] = [t.detach() for t in tensors]

    with here.main_first():
        if here.is_main:
            alone = not list(folder.glob("entered*"))
            sum(range(2_000_000))  # enough for the others to come in, if they could
            (folder / "first").write_text(str(alone and not list(folder.glob("entered*"))))
        (folder / f"entered{rank}").touch()
        seen["main first"] = (folder / "first").read_text()
    try:
        with here.main_first():
            if here.is_main:
                raise OSError("as an example")
    except OSError:
        seen["main failed"] = True
    here.wait()

    for case in CASES:
        seen[case] = train_step(case, here)
    torch.save(seen, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def ran(request, tmp_path_factory):
    """What each of 2 or 4 processes saw, started with the environment that ``accelerate launch`` sets."""
    count, folder = request.param, tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = dict(WORLD_SIZE=count, LOCAL_WORLD_SIZE=count, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    common |= dict(OMP_NUM_THREADS=1, ACCELERATE_USE_CPU="true")
    started = []
    for rank in range(count):
        environment = {k: str(v) for k, v in dict(common, RANK=rank, LOCAL_RANK=rank).items()}
        command = [sys.executable, __file__, str(folder)]
        started.append(subprocess.Popen(command, env=os.environ | environment))
    try:
        codes = [process.wait(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0] * count
    # A group that is still there at exit has threads, which may abort the process.
    assert [(folder / f"left{rank}").read_text() for rank in range(count)] == ["True"] * count
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def test_each_knows_who_it_is(ran):
    for rank, seen in enumerate(ran):
        count, own_rank, is_main, device, shares = seen["who"]
        assert (count, own_rank, is_main, device) == (len(ran), rank, rank == 0, "cpu")
        for size, share in enumerate(shares):
            assert list(range(size))[share] == np.array_split(np.arange(size), count)[rank].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_joins_uneven_sizes_in_the_order_of_ranks(ran, dtype):
    count = len(ran)
    parts = [own(rank, 0 if rank == 1 else 2 + rank % 2, dtype) for rank in range(count)]
    for seen in ran:
        assert torch.equal(seen["gather", dtype], torch.cat(parts, 1))
        assert torch.equal(seen["gather last", dtype], torch.cat(parts, 1).transpose(1, 2))
        assert torch.equal(seen["gather even", dtype], torch.cat([own(r, 1, dtype) for r in range(count)]))
        assert seen["gather nothing", dtype].shape == (2, 0, 3)
        assert seen["gather", dtype].dtype == seen["gather nothing", dtype].dtype == dtype
        assert seen["no gradient"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_adds_elementwise(ran, dtype):
    expected = sum(own(rank, 2) for rank in range(len(ran))).to(dtype)
    for seen in ran:
        assert seen["sum", dtype].dtype == dtype
        assert torch.equal(seen["sum", dtype], expected)
        # 259 of 4 processes is 260 in bfloat16, but 256 + 1 is 256.
        assert seen["sum in bf16"].item() == (256 if len(ran) == 2 else 260)


def test_gradients_are_summed_with_the_same_bits_everywhere(ran, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(len(ran)))
    local = [gradients(rank) for rank in range(len(ran))]
    for n, found in enumerate(ran[0]["gradients"]):
        present = [p[n].grad for p in local if p[n].grad is not None]
        if not present:
            assert n == 2
            assert all(seen["gradients"][n] is None for seen in ran)
            continue
        torch.testing.assert_close(found, sum(present), rtol=0, atol=1e-6)
        assert all(torch.equal(seen["gradients"][n], found) for seen in ran)


def test_broadcast_gives_the_main_process_s_values(ran):
    for seen in ran:
        parameter, integers, flag = seen["broadcast"]
        assert torch.equal(parameter, own(0, 1))
        assert torch.equal(integers, own(0, 2, torch.int64)[:, :, 1])
        assert flag.item() is True


def test_main_goes_first_and_frees_the_others_when_it_fails(ran):
    assert all(seen["main first"] == "True" for seen in ran)
    assert [seen.get("main failed", False) for seen in ran] == [True] + [False] * (len(ran) - 1)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_one_process(ran, case):
    expected = train_step(case, Processes())
    for seen in ran:
        assert seen[case].keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(seen[case][name], ran[0][case][name])
            torch.testing.assert_close(seen[case][name], value, rtol=0, atol=1e-10)


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setitem(sys.modules, "accelerate.utils", None)
    alone = current()
    assert (alone.count, alone.rank, alone.is_main, alone.share(5)) == (1, 0, True, slice(0, 5))
    assert alone.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    tensor = torch.ones(2, requires_grad=True)
    tensor.sum().backward()
    for same in (alone.gather(tensor, dim=0), alone.sum(tensor)):
        assert same.data_ptr() == tensor.data_ptr()
        assert not same.requires_grad
    alone.sum_gradients([tensor, torch.zeros(1)])
    alone.broadcast([tensor])
    with alone.main_first():
        alone.wait()
    assert tensor.tolist() == tensor.grad.tolist() == [1.0, 1.0]
    assert not torch.distributed.is_initialized()


if __name__ == "__main__":
    one_process(Path(sys.argv[1]))
