"""The training loop by hand, and what each phase trains on."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import provenance
from tclap.data.batches import SegmentBank, base_batch
from tclap.data.composites import draw_pairs
from tclap.features import TextFeatures
from tclap.language import OrderLesson
from tclap.models.compact import Compact
from tclap.pool import Pool, batch_rows, make_pool
from tclap.training import (
    BASE_ITEMS,
    DROPOUT,
    Schedule,
    optimise,
    order_facts,
    post_pretrain,
    train_base,
)
from tclap.variants import VARIANTS, Variant, variant

# Losses in plain loops, in float64


def slow_loss(
    audio: Tensor, text: Tensor, scale: float, events: list[list[str]], weight, view_weights: list[float]
) -> float:
    """The two directions' mean of the view-weighted mean over anchors of ``[V, N, d]`` embeddings.

    ``weight(u, v, same_pair)`` is what an item of view v counts in the denominator of an anchor of view u.
    """
    audio, text = audio.detach().double(), text.detach().double()
    views, size = audio.shape[:2]
    total = 0.0
    for anchors, others in ((text, audio), (audio, text)):
        for u in range(views):
            for n in range(size):
                match = math.exp(scale * float(anchors[u, n] @ others[u, n]))
                denominator = match
                for v in range(views):
                    for m in range(size):
                        if events[v][m] != events[u][n]:
                            similarity = scale * float(anchors[u, n] @ others[v, m])
                            denominator += weight(u, v, n == m) * math.exp(similarity)
                total -= view_weights[u] / sum(view_weights) / size * math.log(match / denominator) / 2
    return total


def slow_temporal(
    model, text: TextFeatures, pool: Pool, rows, alphas: tuple, view_weights: list[float]
) -> float:
    """TNCE of a pool's rows; ``alphas`` are same, cross, same_overlap, cross_overlap."""

    def weight(u: int, v: int, same_pair: bool) -> float:
        if u == v:
            return 1.0
        same, cross = alphas[2:] if 2 in (u, v) else alphas[:2]
        return same if same_pair else cross

    with torch.no_grad():
        audio = torch.stack([model.embed_audio(pool.composites[rows, v]) for v in range(3)])
        words = [model.embed_text(text([pool.captions[r][v] for r in rows])) for v in range(3)]
    events = [[pool.events[r][v] for r in rows] for v in range(3)]
    return slow_loss(audio, torch.stack(words), model.logit_scale.item(), events, weight, view_weights)


def slow_clip(model, text: TextFeatures, features: Tensor, captions: list[str], events: list[str]) -> float:
    with torch.no_grad():
        audio, words = model.embed_audio(features), model.embed_text(text(captions))
    scale = model.logit_scale.item()
    return slow_loss(audio[None], words[None], scale, [events], lambda *_: 1.0, [1.0])


def slow_base(model, text: TextFeatures, pool: Pool, rows) -> float:
    captions, events = ([getattr(pool, f"base_{name}")[r] for r in rows] for name in ("captions", "events"))
    return slow_clip(model, text, pool.base[rows], captions, events)


# The schedule


def test_the_rate_by_hand():
    schedule = Schedule(steps=10, lr=5.0, warmup=0.2)
    expected = {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5 + 0.25 * math.sqrt(2), 6: 0.5, 10: 0.0}
    assert {step: schedule.rate(step) for step in expected} == pytest.approx(expected)
    rates = [schedule.rate(step) for step in range(2, 11)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_rate_of_few_steps(steps):
    rates = [Schedule(steps=steps, lr=1.0).rate(step) for step in range(steps)]
    assert rates[0] == 1.0 and all(0 < rate <= 1 for rate in rates)


def test_the_published_schedule():
    schedule = Schedule.published(epochs=4, epoch=25)
    assert schedule == Schedule(
        steps=100, lr=0.001, weight_decay=0.0, clip_norm=0.5, validate_every=25, recipe="published", epoch=25
    )
    expected = {0: 1.0, 24: 1.0, 25: 0.95, 49: 0.95, 50: 0.9025, 99: 0.857375}
    assert {step: schedule.rate(step) for step in expected} == pytest.approx(expected, rel=1e-12)
    assert (schedule.loss_scale, Schedule(1, 0.1).loss_scale) == (0.8, 1.0)
    kinds = [type(s.optimiser([nn.Parameter(torch.zeros(1))])) for s in (schedule, Schedule(1, 0.1))]
    assert kinds == [torch.optim.Adam, torch.optim.AdamW]


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
    schedule = Schedule.published(epochs=4, epoch=3, lr=0.02)

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
        best=module,
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
        best=module,
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


def test_order_facts_by_hand():
    x, y = [1.0, 0.0], [0.0, 1.0]
    audio = torch.tensor([[x, x, x], [y, y, x]])  # the third pair sounds alike in both orders
    text = torch.tensor([[x, y, x], [y, x, y]])  # the second pair's captions are the wrong way round
    facts = order_facts(audio, text)
    # Forward and reversed, six anchors: both right, both wrong, and 1 > 0 but 0 < 1.
    assert facts["validation_two_way"] == pytest.approx(100 * 3 / 6)
    assert facts["cosine_audio"] == pytest.approx(1 / 3)
    assert facts["cosine_text"] == 0.0
    ties = order_facts(torch.tensor([[x], [x]]), torch.tensor([[x], [x]]))
    assert ties["validation_two_way"] == 0.0
    overlap = torch.cat([audio, torch.full((1, 3, 2), 9.0)])
    assert order_facts(overlap, torch.cat([text, torch.full((1, 3, 2), 9.0)])) == facts


# Post-pretraining


@dataclass
class Setting:
    """What post-pretraining is given; ``start`` is the model before it."""

    model: Compact
    start: Compact
    text: TextFeatures
    pools: dict[bool, tuple[Pool, Pool]]

    def run(
        self, settings: Variant, steps: int = 1, seed: int = 5, lr: float = 0.01, **options
    ) -> pd.DataFrame:
        self.model.load_state_dict(self.start.state_dict())
        pool, validation = self.pools[settings.distinct]
        return post_pretrain(
            self.model, settings, self.text, pool, validation, Schedule(steps, lr, validate_every=1),
            **{"batch": 3, "replay_batch": 4, "lesson": self.lesson(), "lesson_batch": 2} | options,
            seed=seed,
        )  # fmt: skip

    def lesson(self) -> OrderLesson:
        return OrderLesson(self.model, self.text, ["bell", "crow", "dog", "rain"], seed=2)


@pytest.fixture
def banks(tiny_model, tiny_clips, tiny_audio) -> dict[str, SegmentBank]:
    mel = tiny_model.audio_trunk.mel
    return {
        stage: SegmentBank(tiny_clips[tiny_clips["split"] == stage], tiny_audio, mel, tiny_model.window)
        for stage in ("base", "post", "validation")
    }


@pytest.fixture
def setting(tiny_model, banks) -> Setting:
    pools = {}
    for distinct in (False, True):
        pool = make_pool(tiny_model, banks["post"], pairs=14, base_items=20, seed=1, distinct=distinct)
        options = {"seed": 0, "distinct": distinct, "augment": False, "stage": "validation"}
        pools[distinct] = (pool, make_pool(tiny_model, banks["validation"], pairs=7, base_items=9, **options))
    return Setting(tiny_model, copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk, []), pools)


EVERY, NONE = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "alphas", "view_weights"),
    [
        ("t-clap", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-no-replay", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-no-overlap", (1.0, 1.0, 0.0, 0.0), [1.0, 1.0, 0.0]),
        ("t-clap-no-time", NONE, [1.0, 0.0, 0.0]),
        ("t-clap-distinct", EVERY, [1.0, 1.0, 1.0]),
        ("t-clap-alpha-same-0", (0.0, 1.0, 1.0, 1.0), [1.0, 1.0, 1.0]),
        ("t-clap-alpha-cross-0", (1.0, 0.0, 1.0, 1.0), [1.0, 1.0, 1.0]),
    ],
)
def test_the_first_step_of_each_variant_by_hand(setting, name, alphas, view_weights):
    settings = variant(name)
    pool, _ = setting.pools[settings.distinct]
    row = setting.run(settings, batch=8).iloc[0]
    size = 2 if settings.distinct else 8  # the four classes make groups of two pairs
    rows = batch_rows(len(pool.composites), size, 0, 5, whole=settings.distinct)
    ordered = [events for r in rows for events in pool.events[r][:2]]
    assert settings.distinct == (len(set(ordered)) == len(ordered))  # else some mean the same: no negatives
    temporal = slow_temporal(setting.start, setting.text, pool, rows, alphas, view_weights)
    assert row["loss_temporal"] == pytest.approx(temporal, abs=1e-5)
    total = temporal
    if name == "t-clap-no-replay":
        assert "loss_replay" not in row
    else:
        replay = slow_base(setting.start, setting.text, pool, batch_rows(20, 4, 0, 5))
        assert row["loss_replay"] == pytest.approx(replay, abs=1e-5)
        total += replay
    setting.model.load_state_dict(setting.start.state_dict())
    lesson = sum(term.item() for term in setting.lesson().losses(0, 2).values())
    assert row["loss_lesson"] == pytest.approx(lesson, abs=1e-5)
    assert row["loss"] == pytest.approx(total + lesson, abs=1e-4)
    assert row["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_variants_tell_the_losses_apart(setting):
    losses = {
        name: setting.run(variant(name)).iloc[0]["loss_temporal"]
        for name in VARIANTS
        if name != "clap-continued"
    }
    assert losses["t-clap"] == losses["t-clap-no-replay"]
    different = {round(value, 5) for value in losses.values()}
    assert len(different) == len(losses) - 1


def test_the_replays_weight(setting):
    row = setting.run(Variant(replay=0.25), lesson_batch=0).iloc[0]
    assert row["loss"] == pytest.approx(row["loss_temporal"] + 0.25 * row["loss_replay"], rel=1e-6)
    assert "loss_lesson" not in row


def test_the_control_has_claps_own_loss_on_as_many_items(setting):
    settings = variant("clap-continued")
    pool, validation = setting.pools[False]
    history = setting.run(settings, lesson_batch=0)
    assert "loss_temporal" not in history and "loss_replay" not in history
    rows = batch_rows(20, 3 * 3 + 4, 0, 5)
    expected = slow_base(setting.start, setting.text, pool, rows)
    assert history.iloc[0]["loss"] == pytest.approx(expected, abs=1e-5)
    # Of 13 items asked for, the validation pool has 9.
    expected = slow_base(setting.model, setting.text, validation, np.arange(9))
    assert history.iloc[0]["validation_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "t-clap-distinct"])
def test_the_model_ends_with_the_lowest_validation_loss(setting, name):
    settings = variant(name)
    # So fast that the last step is not the best, with either kind of batch.
    history = setting.run(settings, steps=6, lr=3.0 if settings.distinct else 10.0)
    _, validation = setting.pools[settings.distinct]
    size = 2 if settings.distinct else 3
    batches = (
        [np.arange(n, n + size) for n in (0, 2, 4) if n + size <= 6] if size == 2 else [[0, 1, 2], [3, 4, 5]]
    )
    temporal = [slow_temporal(setting.model, setting.text, validation, b, EVERY, [1.0] * 3) for b in batches]
    expected = float(np.mean(temporal)) + slow_base(setting.model, setting.text, validation, np.arange(4))
    losses = history["validation_loss"]
    assert losses.min() == pytest.approx(expected, abs=1e-4)
    assert losses.min() < losses.iloc[-1]


def test_the_order_facts_are_of_all_validation_pairs(setting):
    row = setting.run(variant("t-clap")).iloc[0]
    _, validation = setting.pools[False]
    with torch.no_grad():
        audio = [setting.model.embed_audio(validation.composites[:, v]) for v in range(3)]
        words = [
            setting.model.embed_text(setting.text([c[v] for c in validation.captions])) for v in range(3)
        ]
    right = sum(
        float(audio[u][n] @ words[u][n]) > float(audio[u][n] @ words[1 - u][n])
        for u in (0, 1)
        for n in range(7)
    )
    assert row["validation_two_way"] == pytest.approx(100 * right / 14)
    assert row["cosine_text"] == pytest.approx(float((words[0] * words[1]).sum(1).mean()), abs=1e-5)
    assert row["cosine_audio"] == pytest.approx(float((audio[0] * audio[1]).sum(1).mean()), abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_trunks_stay_and_heads_learn(setting, name):
    setting.run(variant(name), steps=2)
    before, after = setting.start.own_state(), setting.model.own_state()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"audio_head", "text_head", "logit_scale"}
    trunks = [
        provenance.hash_state(model.audio_trunk.state_dict()) for model in (setting.start, setting.model)
    ]
    assert trunks[0] == trunks[1]


def test_the_scale_is_clamped_after_every_step(setting):
    with torch.no_grad():
        setting.start.log_scale.fill_(math.log(400))
    history = setting.run(variant("t-clap"), steps=3)
    assert history["logit_scale"].iloc[0] == pytest.approx(400)
    assert history["logit_scale"].iloc[1:].max() <= 100 * (1 + 1e-6)
    assert setting.model.logit_scale.item() <= 100 * (1 + 1e-6)


def test_the_same_seed_the_same_history(setting):
    settings = variant("t-clap")
    first = setting.run(settings, steps=3)
    weights_of_first = provenance.hash_state(setting.model.own_state())
    pd.testing.assert_frame_equal(setting.run(settings, steps=3), first, check_exact=True)
    assert provenance.hash_state(setting.model.own_state()) == weights_of_first
    other = setting.run(settings, steps=3, seed=6)
    assert (other["loss_temporal"] != first["loss_temporal"]).all()


# Dropout in the heads, and devices


class Dropping(nn.Module):
    """A head with dropout before it, which keeps what it let through in training."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.let_through = head, []

    def forward(self, values):
        if not torch.is_tensor(values):
            return self.head(values._replace(values=nn.functional.dropout(values.values, 0.5, self.training)))
        dropped = nn.functional.dropout(values, 0.5, self.training)
        if self.training:
            self.let_through.append(dropped != 0)
        return self.head(dropped)


@pytest.fixture
def dropping(setting) -> Setting:
    for model in (setting.model, setting.start):
        model.audio_head, model.text_head = Dropping(model.audio_head), Dropping(model.text_head)
    return setting


def test_a_steps_dropout_is_drawn_from_its_seed_and_number(dropping):
    """The same draw whatever came before: other steps, other numbers, another state of torch."""
    head, pool = dropping.model.audio_head, dropping.pools[False][0]

    def drawn(**options) -> list[Tensor]:
        head.let_through.clear()
        dropping.run(variant("t-clap-no-replay"), **options)
        return list(head.let_through)

    torch.manual_seed(1)
    first = drawn(steps=4, lr=0.01)
    for step, mask in enumerate(first):
        rows = batch_rows(len(pool.composites), 3, step, 5)
        values = pool.composites[rows].transpose(0, 1).flatten(0, 1)
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng([5, DROPOUT, step]).integers(2**62)))
            expected = nn.functional.dropout(values, 0.5) != 0
        assert torch.equal(mask, expected) and 0.4 < mask.float().mean() < 0.6
    assert len({provenance.hash_state({"mask": mask}) for mask in first}) == 4
    torch.manual_seed(2)
    again = drawn(steps=6, lr=0.1)
    assert all(torch.equal(*masks) for masks in zip(first, again, strict=False)) and len(again) == 6
    assert not torch.equal(drawn(steps=1, seed=6)[0], first[0])


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_dropout_leaves_torchs_own_generator_alone(dropping, name):
    histories = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        histories.append(dropping.run(variant(name), steps=3))
        assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert not dropping.model.training
    other = dropping.run(variant(name), steps=3, seed=6)
    assert (other["loss"] != histories[0]["loss"]).all()


def test_validation_is_without_dropout(dropping):
    row = dropping.run(variant("t-clap-no-replay"), batch=7).iloc[0]
    _, validation = dropping.pools[False]
    dropping.model.eval()
    temporal = slow_temporal(dropping.model, dropping.text, validation, np.arange(7), EVERY, [1.0] * 3)
    assert row["validation_loss"] == pytest.approx(temporal, abs=1e-5)
    dropping.start.eval()
    rows = batch_rows(len(dropping.pools[False][0].composites), 7, 0, 5)
    plain = slow_temporal(dropping.start, dropping.text, dropping.pools[False][0], rows, EVERY, [1.0] * 3)
    assert abs(row["loss_temporal"] - plain) > 1e-3  # the training loss is with it


class OnDevice:
    """Captions' features where the model is."""

    def __init__(self, text: TextFeatures, device: str) -> None:
        self.text, self.device = text, device

    def __call__(self, captions):
        return type(found := self.text(captions))(*(tensor.to(self.device) for tensor in found))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_a_model_on_another_device_trains_on_features_from_the_cpu(setting, name):
    expected = setting.run(variant(name), steps=3, lesson_batch=0)
    for model in (setting.model, setting.start):
        model.to("cuda")
    setting.text = OnDevice(setting.text, "cuda")
    before = torch.cuda.get_rng_state()
    found = setting.run(variant(name), steps=3, lesson_batch=0)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert setting.model.log_scale.is_cuda and not setting.pools[False][0].base.is_cuda
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-3)


# Base training


def base_training(model, banks, seed: int = 3, steps: int = 3, lr: float = 0.01) -> pd.DataFrame:
    text = TextFeatures(model.text_trunk, [])
    pairs = draw_pairs(banks["validation"].clips, "validation", 6, seed=0)
    schedule = Schedule(steps, lr, validate_every=1)
    return train_base(model, text, banks["base"], banks["validation"], pairs, schedule, batch=5, seed=seed)


def test_base_training_has_claps_own_loss_on_base_items(tiny_model, banks):
    start, text = copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk, [])
    row = base_training(tiny_model, banks).iloc[0]
    log = start.audio_trunk.mel.log
    items = base_batch(banks["base"], 5, log, np.random.default_rng([3, BASE_ITEMS, 0]))
    with torch.no_grad():
        features = start.audio_trunk.from_log_mel(items.log_mel)
    expected = slow_clip(start, text, features, items.captions, items.events)
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
