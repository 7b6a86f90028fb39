"""The training loop by hand, stopped and killed."""

import io
import math
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import files
from tclap.progress import step_listener
from tclap.training.dropout import ItemDropout
from tclap.training.loop import optimise, order_metrics
from tclap.training.schedule import Schedule


def weights(*values: float) -> nn.Linear:
    module = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([values]))
    return module


def run(module: nn.Module, schedule: Schedule, losses=None, **options) -> pd.DataFrame:
    """A training on the sum of the weights, or other losses."""
    losses = losses or (lambda step: {"loss": module.weight.sum()})
    return optimise(module.parameters(), losses, schedule, "a phase", module=module, **options)


def test_one_step_of_adamw_by_hand():
    module = weights(1.0, -2.0)

    def losses(step: int) -> dict[str, Tensor]:
        return {"loss": (3 * module.weight).square().sum() / 2, "other": module.weight.sum()}

    history = run(module, Schedule(steps=1, lr=0.1, weight_decay=0.5), losses)
    # Adam's first step is the gradient's sign times the rate; weights decay by rate times decay first.
    assert module.weight[0].tolist() == pytest.approx([1 * 0.95 - 0.1, -2 * 0.95 + 0.1])
    row = history.iloc[0].to_dict()
    norm = math.hypot(9 * 1, 9 * 2)
    assert row == pytest.approx({"step": 0, "lr": 0.1, "grad_norm": norm, "loss": 22.5, "other": -1.0})


def test_the_published_preset_on_one_weight_by_hand():
    """Adam of Kingma and Ba (arXiv 1412.6980) in float64, on 0.8 of the loss, its gradient at most 0.5."""
    schedule = Schedule.of("published", 12, 0.02, epoch=3, validate_every=3)

    def slope(x: float, step: int) -> float:  # now steeper than the bound allows, now flatter
        return (3.0 if step % 3 else 0.1) * (x - 2.0)

    x, mean, square, path, norms = 1.0, 0.0, 0.0, [], []
    for step in range(12):
        gradient = 0.8 * slope(x, step)
        norms.append(abs(gradient))
        gradient *= min(1.0, 0.5 / (abs(gradient) + 1e-6))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        m, v = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.999 ** (step + 1))
        x -= 0.02 * 0.95 ** (step // 3) * m / (math.sqrt(v) + 1e-8)
        path.append(x)
    assert min(norms) < 0.1 and max(norms) > 2

    module, found, checks = weights(1.0).double(), [], iter([2.0, 1.0, 3.0, 1.5])
    history = run(
        module,
        schedule,
        lambda step: {"loss": (3.0 if step % 3 else 0.1) * (module.weight - 2).square().sum() / 2},
        validate=lambda: {"validation_loss": next(checks)},
        after_step=lambda: found.append(module.weight.item()),
    )
    assert found == pytest.approx(path, rel=1e-9)
    assert list(history["grad_norm"]) == pytest.approx(norms, rel=1e-6)  # before the bound
    assert history["loss"].iloc[0] == pytest.approx(0.05)  # the loss itself, not 0.8 of it
    assert list(history["lr"]) == pytest.approx([0.02 * 0.95 ** (step // 3) for step in range(12)])
    assert list(history["validation_loss"].dropna().index) == [2, 5, 8, 11]  # after each epoch
    assert module.weight.item() == found[5]  # the best of the four


@pytest.mark.parametrize(("name", "kept"), [("validation_loss", 1), ("validation_accuracy", 3)])
def test_the_weights_of_the_lowest_validation_loss_or_the_last(name, kept):
    module, seen, losses = weights(0.0), [], iter([3.0, 1.0, 2.0, 1.0])

    def validate() -> dict[str, float]:
        assert not torch.is_grad_enabled()
        seen.append(module.weight.item())
        return {name: next(losses)}

    schedule = Schedule(steps=7, lr=0.1, validate_every=2)
    history = run(module, schedule, validate=validate)
    assert list(history[name].dropna().index) == [1, 3, 5, 6]  # every second, and the last
    assert len(set(seen)) == 4 and module.weight.item() == seen[kept]


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (lambda w: w.sum() * math.nan, "loss nan"),
        (lambda w: w.sum() * math.inf, "loss (-?inf|nan)"),
        (lambda w: (w - w.detach()).sum().abs().sqrt(), "loss 0.0 and gradient norm (nan|inf)"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_the_training(bad, found):
    module, before = weights(1.0), []

    def losses(step: int) -> dict[str, Tensor]:
        before.append(module.weight.item())
        return {"loss": bad(module.weight) if step == 2 else module.weight.sum()}

    with pytest.raises(FloatingPointError, match=f"a phase: {found}.* at step 2, expected finite numbers"):
        run(module, Schedule(steps=5, lr=0.1), losses)
    assert module.weight.item() == before[-1]


# Resuming


def trained(folder: Path | None, stop: Callable[[int], None] = lambda done: None):
    """A training with dropout; ``stop(updates)`` may end it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 1))
    inputs, done = torch.randn(30, 4), []

    def losses(step: int) -> dict[str, Tensor]:
        module.train()
        with ItemDropout((8, step)):
            return {"loss": module(inputs[step : step + 8]).square().mean(), "other": torch.tensor(step)}

    def validate() -> dict[str, float]:
        module.eval()
        return {"validation_loss": module(inputs).sub(1).square().mean().item()}

    def after_step() -> None:
        done.append(1)
        stop(len(done))

    history = run(
        module,
        Schedule(steps=11, lr=0.3, validate_every=3),
        losses,
        validate=validate,
        after_step=after_step,
        checkpoint=None if folder is None else folder / "state.pt",
    )
    return files.hash_state(module.state_dict()), history, len(done)


class Stopped(Exception):
    pass


def stop_after(updates: int) -> Callable[[int], None]:
    def stop(done: int) -> None:
        if done == updates:
            raise Stopped

    return stop


@pytest.mark.parametrize("stops", [[1], [3], [4], [8], [11], [2, 4, 1, 5, 3]])
def test_a_training_that_was_stopped_ends_in_the_same_bits(tmp_path, stops):
    expected, history, _ = trained(None)
    assert history["validation_loss"].idxmin() == 5  # the best weights must survive the last stops
    for updates in stops:
        with pytest.raises(Stopped):
            trained(tmp_path, stop_after(updates))
    found, again, done = trained(tmp_path)
    assert found == expected
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    if len(stops) == 1:  # the update that was cut off is not yet validated
        assert done == 11 - 3 * ((stops[0] - 1) // 3)
    assert trained(tmp_path)[0::2] == (expected, 0)  # a finished training is not done again


def test_two_trainings_in_one_folder_end_in_the_same_bits(tmp_path):
    """The second runs from its start to its end, which removes the state, within the first."""
    expected, history, _ = trained(None)
    others = []

    def another(done: int) -> None:
        if done == 7:
            others.append(trained(tmp_path)[0])
            for path in tmp_path.iterdir():
                path.unlink()

    found, again, _ = trained(tmp_path, another)
    assert [found, *others] == [expected, expected]
    pd.testing.assert_frame_equal(again, history, check_exact=True)


def test_listeners_get_the_whole_history_also_after_a_stop(tmp_path):
    """Every row once, with the metrics of its validation; those before the stop from the checkpoint."""
    seen = []
    with step_listener(lambda what, row: seen.append({"what": what} | dict(row))):
        with pytest.raises(Stopped):
            trained(tmp_path, stop_after(8))
        assert [row["step"] for row in seen] == [*range(7)]
        seen.clear()
        _, history, _ = trained(tmp_path)
    pd.testing.assert_frame_equal(pd.DataFrame(seen), history.assign(what="a phase")[["what", *history]])


@pytest.mark.parametrize("moment", ["step", "file", "name"])
def test_a_killed_training_ends_in_the_same_bits(tmp_path, monkeypatch, moment):
    """SIGKILL while computing, while a checkpoint's file is written, and before it gets its name."""
    expected, history, _ = trained(None)
    child = os.fork()
    if child == 0:
        calls = []

        def kill_at_third(function):
            def wrapped(*arguments):
                calls.append(1)
                if len(calls) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments)

            return wrapped

        if moment != "step":
            call = {"file": "fsync", "name": "replace"}[moment]
            monkeypatch.setattr(os, call, kill_at_third(getattr(os, call)))
        trained(tmp_path, kill_at_third(lambda done: None) if moment == "step" else lambda done: None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    found, again, _ = trained(tmp_path)
    assert found == expected
    pd.testing.assert_frame_equal(again, history, check_exact=True)


@pytest.mark.parametrize("room", [0, 300])
def test_a_full_disk_stops_nothing_and_leaves_the_state_before(tmp_path, caplog, room):
    """No file may grow beyond ``room`` bytes once the first state is kept."""
    expected, _, _ = trained(None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int) -> None:
        if done == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))

    try:
        assert trained(tmp_path, fill)[0] == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "state.pt is not written (File too large); the state before is kept" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert torch.load(tmp_path / "state.pt")["step"] == 3


def flipped(content: bytes) -> bytes:
    """The last byte of the first weight in the file is another."""
    at = content.index(torch.load(io.BytesIO(content))["module"]["0.weight"][0, 0].numpy().tobytes()) + 3
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def code(content: bytes) -> bytes:
    """A pickle that could run a function."""
    buffer = io.BytesIO()
    torch.save({"step": os.system}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("damaged", [lambda content: content[:-100], lambda _: b"", flipped, code])
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, caplog, damaged):
    expected, history, _ = trained(tmp_path)
    newest, before = tmp_path / "state.pt", tmp_path / "state.before.pt"
    assert [torch.load(path)["step"] for path in (newest, before)] == [11, 9]
    bad = damaged(newest.read_bytes())
    newest.write_bytes(bad)
    found, again, done = trained(tmp_path)
    assert (found, done) == (expected, 2) and f"{newest} is damaged, continues" in caplog.text
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    for path in (newest, before):
        path.write_bytes(bad)
    with pytest.raises(OSError, match="before.pt could not be loaded .*; remove it, and the training"):
        trained(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file cannot be written"):
        trained(tmp_path / "file", lambda done: pytest.fail("a step was taken"))


def test_order_metrics_by_hand():
    x, y = [1.0, 0.0], [0.0, 1.0]
    audio = torch.tensor([[x, x, x], [y, y, x]])  # the third pair sounds alike in both orders
    text = torch.tensor([[x, y, x], [y, x, y]])  # the second pair's captions are the wrong way round
    metrics = order_metrics(audio, text)
    # Forward and reversed, six anchors: both right, both wrong, and 1 > 0 but 0 < 1.
    assert metrics["validation_two_way"] == pytest.approx(100 * 3 / 6)
    assert metrics["cosine_audio"] == pytest.approx(1 / 3)
    assert metrics["cosine_text"] == 0.0
    ties = order_metrics(torch.tensor([[x], [x]]), torch.tensor([[x], [x]]))
    assert ties["validation_two_way"] == 0.0
    overlap = torch.cat([audio, torch.full((1, 3, 2), 9.0)])
    assert order_metrics(overlap, torch.cat([text, torch.full((1, 3, 2), 9.0)])) == metrics
