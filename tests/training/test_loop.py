"""The training loop by hand, and what each phase trains on."""

from __future__ import annotations

import copy
import errno
import itertools
import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import files
from tclap.data.batches import base_batch
from tclap.data.composites import draw_pairs
from tclap.progress import step_listener
from tclap.training import loop as training
from tclap.training.checkpoints import Checkpoints
from tclap.training.loop import BASE_ITEMS, optimise, order_metrics, train_base
from tclap.training.schedule import Schedule
from tclap.training.text_features import TextFeatures

# The loop


def weights(*values: float) -> nn.Linear:
    module = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([values]))
    return module


def test_one_step_of_adamw_by_hand():
    module = weights(1.0, -2.0)
    history = optimise(
        module.parameters(),
        lambda step: {"loss": (3 * module.weight).square().sum() / 2, "other": module.weight.sum()},
        Schedule(steps=1, lr=0.1, weight_decay=0.5),
        "test",
    )
    # Adam's first step is the gradient's sign times the rate; weights decay by rate times decay first.
    assert module.weight[0].tolist() == pytest.approx([1 * 0.95 - 0.1, -2 * 0.95 + 0.1])
    row = history.iloc[0].to_dict()
    norm = math.hypot(9 * 1, 9 * 2)
    assert row == pytest.approx({"step": 0, "lr": 0.1, "grad_norm": norm, "loss": 22.5, "other": -1.0})


def test_the_rate_of_each_step_is_the_schedules():
    module = weights(1.0)
    schedule = Schedule(steps=10, lr=0.5, warmup=0.2)
    history = optimise(module.parameters(), lambda step: {"loss": module.weight.sum()}, schedule, "test")
    assert list(history["step"]) == list(range(10))
    assert list(history["lr"]) == pytest.approx([0.5 * schedule.rate(step) for step in range(10)])


def test_large_gradients_are_bounded_together():
    # AdamW divides by its running norm, so that a bound shows where gradients of two sizes meet.
    def end(clip_norm: float) -> float:
        module = weights(0.0)
        sizes = [1.0, 1000.0]
        schedule = Schedule(steps=2, lr=0.1, warmup=0, weight_decay=0, clip_norm=clip_norm)
        optimise(
            module.parameters(), lambda step: {"loss": sizes[step] * module.weight.sum()}, schedule, "test"
        )
        return module.weight.item()

    assert end(1.0) == pytest.approx(-0.1 * (1 + Schedule(2, 1.0, warmup=0).rate(1)), abs=1e-5)
    assert end(1e9) > end(1.0) + 0.01


def test_the_published_recipe_on_one_weight_by_hand():
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

    def losses(step: int) -> dict[str, Tensor]:
        steepness = 3.0 if step % 3 else 0.1
        return {"loss": steepness * (module.weight - 2).square().sum() / 2}

    history = optimise(
        module.parameters(),
        losses,
        schedule,
        "test",
        validate=lambda: {"validation_loss": next(checks)},
        module=module,
        keep_best=True,
        after_step=lambda: found.append(module.weight.item()),
    )
    assert found == pytest.approx(path, rel=1e-9)
    assert list(history["grad_norm"]) == pytest.approx(norms, rel=1e-6)  # before the bound
    assert history["loss"].iloc[0] == pytest.approx(0.05)  # the loss itself, not 0.8 of it
    assert list(history["lr"]) == pytest.approx([0.02 * 0.95 ** (step // 3) for step in range(12)])
    assert list(history["validation_loss"].dropna().index) == [2, 5, 8, 11]  # after each epoch
    assert module.weight.item() == found[5]  # the best of the four


def test_the_weights_of_the_lowest_validation_loss_are_kept():
    module, seen, calls = weights(0.0), [], []
    losses = iter([3.0, 1.0, 2.0, 1.0])

    def validate() -> dict[str, float]:
        seen.append(module.weight.item())
        return {"validation_loss": next(losses)}

    history = optimise(
        module.parameters(),
        lambda step: {"loss": module.weight.sum()},
        Schedule(steps=7, lr=0.1, validate_every=2),
        "test",
        validate=validate,
        module=module,
        keep_best=True,
        after_step=lambda: calls.append(1),
    )
    assert list(history["validation_loss"].dropna().index) == [1, 3, 5, 6]  # every second, and the last
    assert len(set(seen)) == 4
    assert module.weight.item() == seen[1]
    assert len(calls) == 7


def test_without_best_the_last_weights_stay():
    module, seen = weights(0.0), []

    def validate() -> dict[str, float]:
        seen.append(module.weight.item())
        return {"validation_loss": float(len(seen))}

    schedule = Schedule(steps=3, lr=0.1, validate_every=1)
    optimise(
        module.parameters(), lambda step: {"loss": module.weight.sum()}, schedule, "test", validate=validate
    )
    assert module.weight.item() == seen[-1]


def test_no_gradient_is_taken_of_the_validation():
    module = weights(2.0)

    def validate() -> dict[str, float]:
        assert not torch.is_grad_enabled()
        return {"validation_loss": 0.0}

    optimise(
        module.parameters(),
        lambda s: {"loss": module.weight.sum()},
        Schedule(2, 0.1),
        "test",
        validate=validate,
    )


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
        optimise(module.parameters(), losses, Schedule(steps=5, lr=0.1), "a phase")
    assert module.weight.item() == before[-1]


# Resuming


def trained(folder: Path | None, stop: Callable[[int], None] | None = None, sign: int = 1):
    """A training with dropout from torch's own generator; ``stop(step)`` may end it after an update."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 1))
    inputs = torch.randn(30, 4)
    done = []

    def losses(step: int) -> dict[str, Tensor]:
        module.train()
        return {"loss": module(inputs[step : step + 8]).square().mean(), "other": torch.rand(())}

    def validate() -> dict[str, float]:
        module.eval()
        return {"validation_loss": sign * module(inputs).sub(1).square().mean().item()}

    def after_step() -> None:
        done.append(1)
        if stop is not None:
            stop(len(done))

    history = optimise(
        module.parameters(),
        losses,
        Schedule(steps=11, lr=0.3, validate_every=3),
        "test",
        module=module,
        validate=validate,
        keep_best=True,
        after_step=after_step,
        checkpoints=None if folder is None else Checkpoints(folder, "same"),
    )
    return files.hash_state(module.state_dict()), history, len(done)


def kill_after(updates: int) -> Callable[[int], None]:
    return lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == updates else None


class Stopped(Exception):
    pass


def stop_after(updates: int) -> Callable[[int], None]:
    def stop(done: int) -> None:
        if done == updates:
            raise Stopped

    return stop


@pytest.mark.parametrize("updates", [1, 2, 3, 4, 6, 8, 11])
def test_a_training_that_was_stopped_ends_in_the_same_bits(tmp_path, updates):
    expected, history, _ = trained(None)
    with pytest.raises(Stopped):
        trained(tmp_path, stop_after(updates))
    found, again, done = trained(tmp_path)
    assert found == expected
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    # The update that was cut off is not yet validated, so a checkpoint is of a step before it.
    assert done == 11 - 3 * ((updates - 1) // 3)


def test_who_watches_gets_the_whole_history_also_after_a_stop(tmp_path):
    """Every row once, with the facts of its validation; those before the stop again, from the checkpoint."""
    seen = []
    with step_listener(lambda what, row: seen.append({"what": what} | dict(row))):
        with pytest.raises(Stopped):
            trained(tmp_path, stop_after(8))
        assert [row["step"] for row in seen] == [*range(7)]
        seen.clear()
        _, history, _ = trained(tmp_path)
    pd.testing.assert_frame_equal(pd.DataFrame(seen), history.assign(what="test")[["what", *history]])


def test_a_training_stopped_again_and_again(tmp_path):
    expected, history, _ = trained(None)
    for updates in (2, 4, 1, 5, 3):
        with pytest.raises(Stopped):
            trained(tmp_path, stop_after(updates))
    found, again, _ = trained(tmp_path)
    assert found == expected
    pd.testing.assert_frame_equal(again, history, check_exact=True)


def test_a_finished_training_is_not_done_again(tmp_path):
    expected, history, _ = trained(tmp_path)
    found, again, done = trained(tmp_path)
    assert (found, done) == (expected, 0)
    pd.testing.assert_frame_equal(again, history, check_exact=True)


def test_the_best_weights_survive_a_stop(tmp_path):
    expected, history, _ = trained(None, sign=-1)
    losses = history["validation_loss"].dropna()
    assert losses.idxmin() < 8  # the best is early
    with pytest.raises(Stopped):
        trained(tmp_path, stop_after(10), sign=-1)
    assert trained(tmp_path, sign=-1)[0] == expected


@pytest.mark.parametrize("moment", ["step", "file", "folder"])
def test_a_killed_training_ends_in_the_same_bits(tmp_path, monkeypatch, moment):
    """SIGKILL while computing, while a checkpoint's file is written, and before it gets its name."""
    expected, history, _ = trained(None)
    folder = tmp_path / "checkpoints"
    child = os.fork()
    if child == 0:
        calls = []

        def kill_at_second(function):
            def wrapped(*arguments, **options):
                calls.append(1)
                if len(calls) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return wrapped

        if moment == "file":
            monkeypatch.setattr(os, "fsync", kill_at_second(os.fsync))
        if moment == "folder":
            monkeypatch.setattr(os, "replace", kill_at_second(os.replace))
            monkeypatch.setattr(os, "rename", kill_at_second(os.rename))
        trained(folder, kill_after(8) if moment == "step" else None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    found, again, _ = trained(folder)
    assert found == expected
    pd.testing.assert_frame_equal(again, history, check_exact=True)


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, caplog):
    expected, history, _ = trained(None)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = Checkpoints(tmp_path, "same")
    assert made.load() is None
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Checkpoints, "__init__", lambda self, *_, **__: self.__dict__.update(made.__dict__))
    found, again, _ = trained(tmp_path)
    assert found == expected
    assert "No space left on device" in caplog.text


def test_a_loss_that_is_not_finite_names_items_and_the_last_good_state(tmp_path):
    module = weights(1.0)
    checkpoints = Checkpoints(tmp_path, "same")

    def losses(step: int) -> dict[str, Tensor]:
        return {"loss": module.weight.sum() * (math.nan if step == 5 else 1.0)}

    with pytest.raises(FloatingPointError) as caught:
        optimise(
            module.parameters(),
            losses,
            Schedule(steps=9, lr=0.1, validate_every=2),
            "a phase",
            module=module,
            items_of=lambda step: f"the items of {step}",
            checkpoints=checkpoints,
        )
    assert re.fullmatch(
        r"a phase: loss nan and gradient norm nan at step 5 \(the items of 5\), expected finite numbers; "
        r"the last good state is .*step-0*4\.",
        str(caught.value),
    )
    assert Checkpoints(tmp_path, "same").load().step == 4


def test_the_rate_of_items(monkeypatch):
    module, clock = weights(1.0), itertools.count(10, 0.5)
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    history = optimise(
        module.parameters(), lambda step: {"loss": module.weight.sum()}, Schedule(2, 0.1), "test", items=6
    )
    assert history["items_per_second"].tolist() == [12.0, 12.0]


def test_order_facts_by_hand():
    x, y = [1.0, 0.0], [0.0, 1.0]
    audio = torch.tensor([[x, x, x], [y, y, x]])  # the third pair sounds alike in both orders
    text = torch.tensor([[x, y, x], [y, x, y]])  # the second pair's captions are the wrong way round
    facts = order_metrics(audio, text)
    # Forward and reversed, six anchors: both right, both wrong, and 1 > 0 but 0 < 1.
    assert facts["validation_two_way"] == pytest.approx(100 * 3 / 6)
    assert facts["cosine_audio"] == pytest.approx(1 / 3)
    assert facts["cosine_text"] == 0.0
    ties = order_metrics(torch.tensor([[x], [x]]), torch.tensor([[x], [x]]))
    assert ties["validation_two_way"] == 0.0
    overlap = torch.cat([audio, torch.full((1, 3, 2), 9.0)])
    assert order_metrics(overlap, torch.cat([text, torch.full((1, 3, 2), 9.0)])) == facts


# Base training


def base_training(model, banks, seed: int = 3, steps: int = 3, lr: float = 0.01) -> pd.DataFrame:
    text = TextFeatures(model.text_trunk, [])
    pairs = draw_pairs(banks["validation"].clips, "validation", 6, seed=0)
    schedule = Schedule(steps, lr, validate_every=1)
    history = train_base(model, text, banks["base"], banks["validation"], pairs, schedule, batch=5, seed=seed)
    return history.drop(columns="items_per_second")


def test_base_training_has_claps_own_loss_on_base_items(tiny_model, banks):
    start, text = copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk, [])
    row = base_training(tiny_model, banks).iloc[0]
    log = start.audio_trunk.mel.log
    items = base_batch(banks["base"], 5, log, np.random.default_rng([3, BASE_ITEMS, 0]))
    with torch.no_grad():
        features = start.audio_trunk.from_log_mel(items.log_mel)
        audio, words = start.embed_audio(features).double(), start.embed_text(text(items.captions)).double()
    logits = start.logit_scale.item() * words @ audio.T
    for n, m in itertools.permutations(range(5), 2):
        if items.events[n] == items.events[m]:
            logits[n, m] = -math.inf
    both = [torch.nn.functional.cross_entropy(side, torch.arange(5)) for side in (logits, logits.T)]
    expected = float(sum(both)) / 2
    assert row["loss"] == pytest.approx(expected, abs=1e-5)
    assert {"validation_loss", "validation_two_way", "cosine_audio", "cosine_text"} <= set(row.index)


def test_base_training_learns_both_towers_and_the_scale(tiny_model, banks):
    before = tiny_model.own_state()
    before = {key: tensor.clone() for key, tensor in before.items()}
    base_training(tiny_model, banks)
    after = tiny_model.own_state()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"audio_trunk", "audio_head", "text_head", "logit_scale"}


def test_base_training_learns_what_sounds(tiny_model, banks):
    history = base_training(tiny_model, banks, steps=80)
    assert history["validation_loss"].min() < 0.8 * history["validation_loss"].iloc[0]


def test_base_training_is_a_function_of_the_seed(tiny_model, banks):
    start = copy.deepcopy(tiny_model.state_dict())
    histories = []
    for seed in (3, 3, 4):
        tiny_model.load_state_dict(start)
        histories.append(base_training(tiny_model, banks, seed=seed))
    pd.testing.assert_frame_equal(histories[0], histories[1], check_exact=True)
    assert (histories[0]["loss"] != histories[2]["loss"]).all()
