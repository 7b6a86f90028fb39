"""What the two phases of a base model train, and on what."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from tclap.data.batches import base_batch
from tclap.data.composites import draw_pairs
from tclap.losses import clip_loss
from tclap.training.base import BASE_ITEMS, train_base, warm_up_text
from tclap.training.features import TextFeatures
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss

LABELS = ["crow", "dog", "rain"]


def train(model, banks, steps: int = 3) -> pd.DataFrame:
    text = TextFeatures(model.text_trunk)
    pairs = draw_pairs(banks["validation"].clips, "validation", 6, seed=0)
    schedule = Schedule(steps, 0.01, validate_every=1)
    return train_base(model, text, banks["base"], banks["validation"], pairs, schedule, batch=5, seed=3)


def warm_up(model, banks, steps: int = 2) -> pd.DataFrame:
    loss = TextOnlyLoss(model, TextFeatures(model.text_trunk), LABELS, seed=0)
    return warm_up_text(loss, Schedule(steps, 0.02, validate_every=30), batch=8)


def test_base_training_has_claps_own_loss_on_base_items(tiny_model, banks):
    start, text = copy.deepcopy(tiny_model), TextFeatures(tiny_model.text_trunk, [])
    row = train(tiny_model, banks).iloc[0]
    log = start.audio_trunk.mel.log
    items = base_batch(banks["base"], 5, log, np.random.default_rng([3, BASE_ITEMS, 0]))
    ids = [sorted(items.events).index(event) for event in items.events]
    with torch.no_grad():
        features = start.audio_trunk.from_log_mel(items.log_mel)
        expected = clip_loss(
            start.embed_features(features), start.embed_tokens(text(items.captions)), start.logit_scale, ids
        )
    assert row["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert {"validation_loss", "validation_two_way", "cosine_audio", "cosine_text"} <= set(row.index)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [(train, {"audio_trunk", "audio_head", "text_head", "logit_scale"}), (warm_up, {"text_head"})],
)
def test_what_each_phase_changes(tiny_model, banks, phase, expected):
    before = {key: tensor.clone() for key, tensor in tiny_model.own_state().items()}
    phase(tiny_model, banks)
    after = tiny_model.own_state()
    assert {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])} == expected


def test_base_training_learns_what_sounds(tiny_model, banks):
    history = train(tiny_model, banks, steps=80)
    assert history["validation_loss"].min() < 0.8 * history["validation_loss"].iloc[0]


def test_the_warm_up_learns_the_words_for_order(tiny_model, banks):
    history = warm_up(tiny_model, banks, steps=60)
    for name in ("loss", "loss_contrast", "loss_slots"):
        assert history[name].tail(10).mean() < 0.6 * history[name].iloc[0]
    accuracies = history["validation_accuracy"].dropna()
    assert list(accuracies.index) == [29, 59] and accuracies.iloc[-1] > 80
