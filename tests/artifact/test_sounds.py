"""Sounds in a page: they are the evaluation's, named as they are played, and titles are no markup."""

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

from artifact.notebook.sounds import Sound, cards, composite, draw_mel, policies, single
from tclap.data.composites import POLICIES, VIEWS, draw_pairs, place, render, render_single

RATE, WINDOW = 8000, 0.5  # of the small model


@pytest.fixture
def run(tiny_model, tiny_clips, tiny_audio):
    """As much of a run as is played; its clips are half a second long."""
    return SimpleNamespace(clips=tiny_clips, audio=tiny_audio, reference=tiny_model)


@pytest.fixture
def pair(run):
    clips = run.clips.assign(split=run.clips["split"].replace("validation", "test"))
    return place(draw_pairs(clips, "test", 5, seed=1), run.audio, WINDOW, gap_ms=(50, 50)).iloc[0].to_dict()


def test_a_clip(run):
    clip = run.clips.iloc[-1].to_dict()
    sound = single(run, clip)
    assert (sound.title, sound.events) == ("rain", ())
    assert single(run, clip, title="clip_id").title == clip["clip_id"]
    np.testing.assert_array_equal(sound.waveform, render_single(run.audio(clip["clip_id"]), WINDOW, RATE))


def test_views_are_named_in_the_order_in_which_they_sound(run, pair):
    a, b = pair["label_i"], pair["label_j"]
    forward, inverse, overlap = three = [composite(run, pair, view) for view in VIEWS]
    for view, sound in zip(VIEWS, three, strict=True):
        np.testing.assert_array_equal(sound.waveform, render(pair, view, run.audio))
        assert sound.mel.shape[1] * sound.frame_seconds == pytest.approx(WINDOW, abs=0.02)
    assert (forward.title, forward.events) == (f"{a}, then {b}", (a, b))
    assert (inverse.title, inverse.events) == (f"{b}, then {a}", (b, a))
    assert (overlap.title, overlap.events, overlap.ends) == (f"{a} and {b} at once", (), ())
    # In the middle of the gap, after the event that sounds first.
    ends = [(pair[f"length_{end}"] + 200) / RATE for end in "ij"]
    assert ends[0] != ends[1] and (forward.ends, inverse.ends) == ((ends[0],), (ends[1],))


def test_policies(run, pair):
    fit, full, msclap = policies(run, pair)
    assert [sound.title for sound in (fit, full, msclap)] == list(POLICIES)
    assert [len(sound.waveform) for sound in (fit, full, msclap)] == [4000, 8000, 4000]
    assert WINDOW / 4 < fit.ends[0] < 3 * WINDOW / 4 and full.ends == (0.5,)  # whole clips of half a second
    # The random window is a part of the whole, and the events meet in it where they do there.
    begin = round((full.ends[0] - msclap.ends[0]) * RATE)
    parts = [full.waveform[begin : begin + 4000], msclap.waveform]
    part, cut = (waveform / np.linalg.norm(waveform) for waveform in parts)
    np.testing.assert_allclose(cut, part, atol=1e-4)


def made_up(waveform, title: str = "a", ends=(), events=()) -> Sound:
    return Sound(title, np.asarray(waveform, np.float32), RATE, np.zeros((8, 50)), 0.02, ends, events)


def test_cards_have_a_title_a_picture_and_a_player_each():
    shown = cards([made_up(np.full(9, 0.1), "one"), made_up(np.full(9, 2.0), "<two>")], columns=2)
    page = shown.data
    players = re.findall(r"audio/wav;base64,([^\"]+)", page)
    played = [soundfile.read(io.BytesIO(base64.b64decode(player))) for player in players]
    assert {rate for _, rate in played} == {RATE}
    assert [wave.mean() for wave, _ in played] == pytest.approx([0.1, 1], abs=1e-4), "turned down"
    pictures = re.findall(r'<img [^>]*src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 2 and base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert "<b>one</b>" in page and "<b>&lt;two&gt;</b>" in page


@pytest.mark.parametrize(
    ("ends", "line", "middles"), [((0.25,), 0.25, [0.125, 0.625]), ((-0.3,), 0.0, [0.0, 0.5])]
)
def test_events_stand_over_their_time(ends, line, middles):
    """An event that the window has cut away has none."""
    axes = Figure().subplots()
    draw_mel(axes, made_up(np.zeros(9), ends=ends, events=("dog", "rain")))
    assert axes.get_xlim() == (0, 1.0)  # 50 frames of 20 ms
    assert [drawn.get_xdata() for drawn in axes.lines] == [[line, line]]
    places = [(text.get_text(), text.get_position()[0]) for text in axes.texts]
    assert places == list(zip(("dog", "rain"), middles, strict=True))
