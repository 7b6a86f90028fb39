"""What post-pretraining trains on, and what of."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tclap import files
from tclap.models.compact import Compact
from tclap.training import post_pretraining
from tclap.training.pool import Pool, batch_rows, make_pool
from tclap.training.post_pretraining import DROPOUT, post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_features import TextFeatures
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import VARIANTS, Variant, variant

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
        history = post_pretrain(
            self.model, settings, self.text, pool, validation, Schedule(steps, lr, validate_every=1),
            **{"batch": 3, "replay_batch": 4, "text_loss": self.lesson(), "text_loss_batch": 2} | options,
            seed=seed,
        )  # fmt: skip
        return history.drop(columns="items_per_second")  # the clock's, not the seed's

    def lesson(self) -> TextOnlyLoss:
        return TextOnlyLoss(self.model, self.text, ["bell", "crow", "dog", "rain"], seed=2)


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
    text_loss = sum(term.item() for term in setting.lesson().losses(0, 2).values())
    assert row["loss_text"] == pytest.approx(text_loss, abs=1e-5)
    assert row["loss"] == pytest.approx(total + text_loss, abs=1e-4)
    assert row["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_variants_tell_the_losses_apart(setting):
    losses = {
        name: setting.run(variant(name)).iloc[0]["loss_temporal"]
        for name in VARIANTS
        if name != "clap-continued"
    }
    # The replay adds to the temporal loss, and half of the classes is a matter of the pool.
    assert losses["t-clap"] == losses.pop("t-clap-no-replay") == losses.pop("t-clap-half")
    assert len({round(value, 5) for value in losses.values()}) == len(losses)


def test_the_replays_weight(setting):
    row = setting.run(Variant(replay=0.25), text_loss_batch=0).iloc[0]
    assert row["loss"] == pytest.approx(row["loss_temporal"] + 0.25 * row["loss_replay"], rel=1e-6)
    assert "loss_text" not in row


def test_the_control_has_claps_own_loss_on_as_many_items(setting):
    settings = variant("clap-continued")
    pool, validation = setting.pools[False]
    history = setting.run(settings, text_loss_batch=0)
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
    trunks = [files.hash_state(model.audio_trunk.state_dict()) for model in (setting.start, setting.model)]
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
    weights_of_first = files.hash_state(setting.model.own_state())
    pd.testing.assert_frame_equal(setting.run(settings, steps=3), first, check_exact=True)
    assert files.hash_state(setting.model.own_state()) == weights_of_first
    other = setting.run(settings, steps=3, seed=6)
    assert (other["loss_temporal"] != first["loss_temporal"]).all()


# A loss that is not finite


def test_items_that_are_not_finite_are_named(setting):
    pool, _ = setting.pools[False]
    rows = batch_rows(len(pool.composites), 3, 2, 5)
    pool.composites = pool.composites.clone()
    pool.composites[rows[1], 2, 0, 0] = math.nan  # the overlap view of a pair that the third step takes first
    with pytest.raises(FloatingPointError) as caught:
        setting.run(variant("t-clap-no-replay"), steps=4)
    drawn = [step for step in range(3) if rows[1] in batch_rows(len(pool.composites), 3, step, 5)]
    caption = pool.captions[rows[1]][2]
    assert f"at step {drawn[0]} (1 item(s) without a finite embedding: {caption!r} (audio))" in str(
        caught.value
    )
    assert all(torch.isfinite(parameter).all() for parameter in setting.model.parameters())


def test_captions_that_are_not_finite_are_named(setting):
    real = setting.text

    def text(captions: list[str]):
        tokens = real(captions)
        bad = torch.tensor(["bell" in caption for caption in captions])
        return tokens._replace(values=tokens.values.masked_fill(bad[:, None, None], math.inf))

    setting.text = text
    with pytest.raises(
        FloatingPointError, match=r"at step 0 \(\d+ item\(s\) without a finite embedding: .*bell.* \(text\)"
    ):
        setting.run(variant("clap-continued"), text_loss_batch=0)


def test_when_only_the_loss_is_not_finite_the_batch_is_named(setting, monkeypatch):
    pool, _ = setting.pools[False]
    monkeypatch.setattr(post_pretraining, "temporal_nce", lambda audio, *_, **__: audio.sum() * math.nan)
    caption = pool.captions[batch_rows(len(pool.composites), 3, 0, 5)[0]][0]
    with pytest.raises(FloatingPointError) as caught:
        setting.run(variant("t-clap-no-replay"))
    assert f"(all embeddings are finite; items {caption!r}, " in str(caught.value)
    assert " and 6 more)" in str(caught.value)


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
    assert len({files.hash_state({"mask": mask}) for mask in first}) == 4
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
    expected = setting.run(variant(name), steps=3, text_loss_batch=0)
    for model in (setting.model, setting.start):
        model.to("cuda")
    setting.text = OnDevice(setting.text, "cuda")
    before = torch.cuda.get_rng_state()
    found = setting.run(variant(name), steps=3, text_loss_batch=0)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert setting.model.log_scale.is_cuda and not setting.pools[False][0].base.is_cuda
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-3)
