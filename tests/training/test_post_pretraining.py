"""What post-pretraining trains, and on what."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tclap.losses import clip_loss, temporal_nce
from tclap.models.compact import Compact
from tclap.training.features import TextFeatures
from tclap.training.loop import order_metrics
from tclap.training.pool import Items, MelSource, Pool, batch_rows, make_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import Variant, variant


@dataclass
class Setting:
    """What post-pretraining is given; ``start`` is the model before it, ``pools`` are by ``distinct``."""

    model: Compact
    start: Compact
    text: TextFeatures
    pools: dict[bool, tuple[Pool, Pool]]

    def run(
        self, settings: Variant, steps: int = 1, seed: int = 5, lr: float = 0.01, **options
    ) -> pd.DataFrame:
        self.model.load_state_dict(self.start.state_dict())
        options = {"batch": 3, "replay_batch": 4, "text_loss_batch": 2, "seed": seed} | options
        schedule = Schedule(steps, lr, validate_every=1)
        inputs = (self.model, settings, self.text, *self.pools[settings.distinct], schedule)
        return post_pretrain(*inputs, text_loss=self.text_loss(), **options)

    def text_loss(self) -> TextOnlyLoss:
        return TextOnlyLoss(self.model, self.text, ["bell", "crow", "dog", "rain"], seed=2)

    def loss(self, model: Compact, items: Items, rows, count: int = 3, **options) -> float:
        """TNCE of three views, CLAP's loss of one, in float64, with the events' names as ids."""
        views = range(min(count, items.features.shape[1]))
        captions, events = (
            [[texts[r][v] for r in rows] for v in views] for texts in (items.captions, items.events)
        )
        names = sorted({name for view in events for name in view})
        ids = torch.tensor([[names.index(name) for name in view] for view in events])
        with torch.no_grad():
            audio = torch.stack([model.embed_features(items.features[rows, v]) for v in views]).double()
            words = torch.stack([model.embed_tokens(self.text(texts)) for texts in captions]).double()
        scale = model.logit_scale.item()
        if len(views) == 1:
            return clip_loss(audio[0], words[0], scale, ids[0]).item()
        return temporal_nce(audio, words, scale, events=ids, **options).item()


@pytest.fixture
def setting(tiny_model, banks) -> Setting:
    pools = {}
    for distinct in (False, True):
        post, check = MelSource(tiny_model, banks["post"]), MelSource(tiny_model, banks["validation"], False)
        pools[distinct] = (
            make_pool(post, pairs=14, base_items=20, seed=1, distinct=distinct),
            make_pool(check, pairs=7, base_items=9, seed=0, distinct=distinct, stage="validation"),
        )
    return Setting(tiny_model, copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk), pools)


NO_OVERLAP = {"alpha_same_overlap": 0.0, "alpha_cross_overlap": 0.0, "view_weights": (1, 1, 0)}
NO_INVERSION = {"alpha_same": 0.0, "alpha_cross": 0.0, "view_weights": (1, 0, 1)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t-clap", {}),
        ("t-clap-no-replay", {}),
        ("t-clap-no-inversion", NO_INVERSION),
        ("t-clap-no-overlap", NO_OVERLAP),
        ("t-clap-no-temporal-negatives", {"count": 1}),
        ("clap-ordered", {"count": 1}),
        ("t-clap-no-overlap-text-warm-up", NO_OVERLAP),
        ("t-clap-text-none", {}),
        ("t-clap-distinct", {}),
        ("t-clap-alpha-same-0", {"alpha_same": 0.0}),
        ("t-clap-alpha-cross-0", {"alpha_cross": 0.0}),
    ],
)
def test_the_first_step_of_each_variant(setting, name, options):
    settings = variant(name)
    pool, _ = setting.pools[settings.distinct]
    row = setting.run(settings, batch=4 if name == "clap-ordered" else 8).iloc[0]
    # The four classes make groups of two pairs; three times four ordered ones are as many items.
    size = 2 if settings.distinct else 12 if name == "clap-ordered" else 8
    rows = batch_rows(len(pool.composites), size, 0, 5, whole=settings.distinct)
    ordered = [events for r in rows for events in pool.composites.events[r][:2]]
    assert settings.distinct == (len(set(ordered)) == len(ordered))  # else some mean the same: no negatives
    expected = {"loss_temporal": setting.loss(setting.start, pool.composites, rows, **options)}
    if name != "t-clap-no-replay":
        expected["loss_replay"] = setting.loss(setting.start, pool.base, batch_rows(20, 4, 0, 5))
    setting.model.load_state_dict(setting.start.state_dict())
    if "text" not in name:
        expected["loss_text"] = sum(term.item() for term in setting.text_loss().losses(0, 2).values())
    assert {key for key in row.index if key.startswith("loss_")} == expected.keys()
    assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-5)
    assert row["loss"] == pytest.approx(sum(expected.values()), abs=1e-4)
    assert row["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_the_replays_weight(setting):
    row = setting.run(Variant(replay=0.25), text_loss_batch=0).iloc[0]
    assert row["loss"] == pytest.approx(row["loss_temporal"] + 0.25 * row["loss_replay"], rel=1e-6)


def test_the_control_has_claps_own_loss_on_as_many_items(setting):
    pool, validation = setting.pools[False]
    row = setting.run(variant("clap-continued"), text_loss_batch=0).iloc[0]
    assert [key for key in row.index if key.startswith("loss_")] == ["loss_clip"]
    rows = batch_rows(20, 3 * 3 + 4, 0, 5)
    assert row["loss"] == pytest.approx(setting.loss(setting.start, pool.base, rows), abs=1e-5)
    # Of 13 items asked for, the validation pool has 9.
    expected = setting.loss(setting.model, validation.base, np.arange(9))
    assert row["validation_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "t-clap-distinct"])
def test_the_model_ends_with_the_lowest_validation_loss(setting, name):
    settings = variant(name)
    # So fast that the last step is not the best, with either kind of batch.
    history = setting.run(settings, steps=6, lr=3.0 if settings.distinct else 10.0)
    _, validation = setting.pools[settings.distinct]
    batches = [[0, 1], [2, 3], [4, 5]] if settings.distinct else [[0, 1, 2], [3, 4, 5]]
    temporal = [setting.loss(setting.model, validation.composites, rows) for rows in batches]
    expected = np.mean(temporal) + setting.loss(setting.model, validation.base, range(4))
    losses = history["validation_loss"]
    assert losses.min() == pytest.approx(expected, abs=1e-4)
    assert losses.min() < losses.iloc[-1]


def test_the_order_metrics_are_of_all_validation_pairs(setting):
    row = setting.run(variant("t-clap")).iloc[0]
    items = setting.pools[False][1].composites
    with torch.no_grad():
        audio = torch.stack([setting.model.embed_features(items.features[:, v]) for v in range(3)])
        captions = [[texts[v] for texts in items.captions] for v in range(3)]
        words = torch.stack([setting.model.embed_tokens(setting.text(texts)) for texts in captions])
    expected = order_metrics(audio, words)
    assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_trunks_stay_and_heads_learn(setting, name):
    setting.run(variant(name), steps=2)
    before, after = setting.start.own_state(), setting.model.own_state()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"audio_head", "text_head", "logit_scale"}


def test_the_scale_is_clamped_after_every_step(setting):
    with torch.no_grad():
        setting.start.log_scale.fill_(math.log(400))
    history = setting.run(variant("t-clap"), steps=3)
    assert history["logit_scale"].iloc[0] == pytest.approx(400)
    assert history["logit_scale"].iloc[1:].max() <= 100 * (1 + 1e-6)
    assert setting.model.logit_scale.item() <= 100 * (1 + 1e-6)


# Dropout in the heads


class Dropping(nn.Module):
    """A head with dropout before it."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.drop = head, nn.Dropout(0.5)

    def forward(self, values):
        if torch.is_tensor(values):
            return self.head(self.drop(values))
        return self.head(values._replace(values=self.drop(values.values)))


@pytest.fixture
def dropping(setting) -> Setting:
    for model in (setting.model, setting.start):
        model.audio_head, model.text_head = Dropping(model.audio_head), Dropping(model.text_head)
    return setting


@pytest.mark.parametrize("name", ["t-clap", "clap-continued"])
def test_a_training_is_a_function_of_its_seed_and_leaves_torchs_generator_alone(dropping, name):
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
    pool, validation = dropping.pools[False]
    dropping.model.eval(), dropping.start.eval()
    expected = dropping.loss(dropping.model, validation.composites, range(7))
    assert row["validation_loss"] == pytest.approx(expected, abs=1e-5)
    plain = dropping.loss(dropping.start, pool.composites, batch_rows(len(pool.composites), 7, 0, 5))
    assert abs(row["loss_temporal"] - plain) > 1e-3  # the training loss is with it
