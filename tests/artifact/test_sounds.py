"""Sounds in a page: what is heard is what was given, and titles are no markup."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

from artifact.notebook.sounds import Html, Sound, cards, draw_mel, wav


def sound(waveform: np.ndarray, title: str = "a", ends=(), events=()) -> Sound:
    return Sound(title, waveform, 8000, np.zeros((8, 50)), 0.02, ends, events)


def heard(content: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(content))


def test_a_sound_is_heard_as_it_is_and_a_loud_one_turned_down():
    quiet = np.array([0.0, 0.25, -0.5], dtype=np.float32)
    samples, rate = heard(wav(sound(quiet)))
    assert rate == 8000
    np.testing.assert_allclose(samples, quiet, atol=1 / 32767)
    np.testing.assert_allclose(heard(wav(sound(8 * quiet)))[0], 2 * quiet, atol=2 / 32767)


def test_cards_have_a_title_a_picture_and_a_player_each():
    page = cards(
        [sound(np.full(9, level), title) for level, title in ((0.1, "one"), (0.2, "<two>"))], columns=2
    )
    assert isinstance(page, Html) and page._repr_html_() == page
    players = re.findall(r'<audio [^>]*src="data:audio/wav;base64,([^"]+)"', page)
    levels = [heard(base64.b64decode(content))[0].mean() for content in players]
    assert levels == pytest.approx([0.1, 0.2], abs=1e-4)
    pictures = re.findall(r'<img [^>]*src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 2 and base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert "<b>one</b>" in page and "<b>&lt;two&gt;</b>" in page
    with pytest.raises(ValueError, match="no sound to show"):
        cards([])


@pytest.mark.parametrize(
    ("ends", "line", "middles"), [((0.25,), 0.25, [0.125, 0.625]), ((-0.3,), 0.0, [0.0, 0.5])]
)
def test_events_stand_over_their_time(ends, line, middles):
    """An event that the window has cut away has none."""
    axes = Figure().subplots()
    draw_mel(axes, sound(np.zeros(9), ends=ends, events=("dog", "rain")))
    assert axes.get_xlim() == (0, 1.0)  # 50 frames of 20 ms
    (drawn,) = axes.lines
    assert drawn.get_xdata() == [line, line]
    assert [(t.get_text(), t.get_position()[0]) for t in axes.texts] == [
        ("dog", middles[0]), ("rain", middles[1]),
    ]  # fmt: skip
