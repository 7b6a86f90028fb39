"""Schedules by hand."""

import json
import math

import pytest

from tclap.training.schedule import PRESETS, Schedule


def test_the_rate_by_hand():
    schedule = Schedule(steps=10, lr=5.0, warmup=0.2)
    expected = {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5 + 0.25 * math.sqrt(2), 6: 0.5, 10: 0.0}
    assert {step: schedule.rate(step) for step in expected} == pytest.approx(expected)


def test_presets_are_plain_values():
    assert Schedule.of("cosine", 7, 0.1) == Schedule(7, 0.1) and json.loads(json.dumps(PRESETS)) == PRESETS
    with pytest.raises(ValueError, match="preset must be one of cosine, published, got 'paper'"):
        Schedule.of("paper", 1, 0.1)
