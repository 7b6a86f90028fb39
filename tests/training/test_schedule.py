"""Schedules by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tclap.training.schedule import PRESETS, Schedule


def test_the_rate_by_hand():
    schedule = Schedule(steps=10, lr=5.0, warmup=0.2)
    expected = {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5 + 0.25 * math.sqrt(2), 6: 0.5, 10: 0.0}
    assert {step: schedule.rate(step) for step in expected} == pytest.approx(expected)


def test_presets_are_plain_values_of_known_optimisers():
    weight = [torch.nn.Parameter(torch.zeros(1))]
    kinds = {name: type(Schedule.of(name, 1, 0.1).make_optimiser(weight)) for name in PRESETS}
    assert kinds == {"cosine": torch.optim.AdamW, "published": torch.optim.Adam}
    assert Schedule.of("cosine", 7, 0.1) == Schedule(7, 0.1) and json.loads(json.dumps(PRESETS)) == PRESETS
    with pytest.raises(ValueError, match="preset must be one of cosine, published, got 'paper'"):
        Schedule.of("paper", 1, 0.1)
