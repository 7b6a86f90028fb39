"""What the notebooks let one hear of a run: the sounds are the evaluation's, and named as they are played."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from artifact.notebook import listening
from tclap.data.composites import POLICIES, VIEWS, draw_pairs, place, render, render_single

RATE, WINDOW = 8000, 0.5  # of the small model


@pytest.fixture
def run(tiny_model, tiny_clips, tiny_audio):
    """As much of a run as is heard; its test clips are half a second long."""
    clips = tiny_clips.assign(split=tiny_clips["split"].replace("validation", "test"))
    return SimpleNamespace(
        clips=clips, audio=tiny_audio, reference=tiny_model, config=SimpleNamespace(data_seed=3)
    )


@pytest.fixture
def pair(run):
    pairs = place(draw_pairs(run.clips, "test", 5, seed=1), run.audio, WINDOW, gap_ms=(50, 50))
    return pairs.iloc[0].to_dict()


def test_one_clip_of_each_class_and_some_of_one(run):
    shown = listening.one_of_each(run)
    assert [sound.title for sound in shown] == ["bell", "crow", "dog", "rain"]
    clip = render_single(run.audio("dog-validation-0"), WINDOW, RATE)
    np.testing.assert_array_equal(shown[2].waveform, clip)
    assert [sound.title for sound in listening.one_of_each(run, most=2)] == ["bell", "crow"]
    assert [sound.title for sound in listening.takes(run, "rain", 2)] == [
        "rain-validation-0", "rain-validation-1",
    ]  # fmt: skip


def test_views_are_named_in_the_order_in_which_they_sound(run, pair):
    a, b = pair["label_i"], pair["label_j"]
    forward, inverse, overlap = listening.views(run, pair)
    for view, sound in zip(VIEWS, (forward, inverse, overlap), strict=True):
        np.testing.assert_array_equal(sound.waveform, render(pair, view, run.audio))
        assert sound.mel.shape[1] * sound.frame_seconds == pytest.approx(WINDOW, abs=0.02)
    assert (forward.title, forward.events) == (f"{a}, then {b}", (a, b))
    assert (inverse.title, inverse.events) == (f"{b}, then {a}", (b, a))
    assert (overlap.title, overlap.events, overlap.ends) == (f"{a} and {b} at once", (), ())
    # Both events are as long, so that the gap's middle is the window's.
    assert forward.ends == inverse.ends == (WINDOW / 2,)


def test_events_of_unlike_length_meet_where_the_first_one_ends(pair):
    row = pair | {"length_i": 1000, "length_j": 2600, "gap": 400, "sample_rate": 8000}
    assert listening.described(row, "forward")[1] == (0.15,)
    assert listening.described(row, "reversed")[1] == (0.35,)


def test_policies(run, pair):
    fit, full, msclap = listening.policies(run, pair)
    assert [sound.title for sound in (fit, full, msclap)] == list(POLICIES)
    assert [len(sound.waveform) for sound in (fit, full, msclap)] == [4000, 8000, 4000]
    assert fit.ends == (WINDOW / 2,) and full.ends == (0.5,)  # whole clips of half a second
    # The random window is a part of the whole, and the events meet in it where they do there.
    begin = round((full.ends[0] - msclap.ends[0]) * RATE)
    part = full.waveform[begin : begin + 4000]
    np.testing.assert_allclose(
        msclap.waveform / np.linalg.norm(msclap.waveform), part / np.linalg.norm(part), atol=1e-4
    )
