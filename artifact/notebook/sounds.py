"""Sounds to look at and listen to in a notebook: one block of HTML, which stays when the kernel is gone."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from figures.style import styled

DEPTH = 60.0  # dB below the loudest of a sound that its spectrogram shows
WIDTH = 3.4  # of a card's spectrogram, in inches
CARD = 340  # width of a card, in pixels
RIM = [withStroke(linewidth=2, foreground="black")]


@dataclass(frozen=True)
class Sound:
    """What a model is given to hear, and how it looks.

    Attributes:
        title: what it is.
        waveform: ``[samples]``.
        sample_rate: in Hz.
        mel: mel spectrogram ``[mels, frames]`` in dB.
        frame_seconds: between two frames.
        ends: where an event ends and the next begins, in seconds.
        events: their names in time, one more than ``ends``; empty: none are shown.
    """

    title: str
    waveform: np.ndarray
    sample_rate: int
    mel: np.ndarray
    frame_seconds: float
    ends: tuple[float, ...] = ()
    events: tuple[str, ...] = ()


def wav(sound: Sound) -> bytes:
    """The sound as a WAV file of 16 bits, turned down where it would clip."""
    buffer = io.BytesIO()
    samples = sound.waveform / max(1, np.abs(sound.waveform).max())
    soundfile.write(buffer, samples, sound.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that holds it, for a page without files beside it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def player(sound: Sound) -> str:
    """An HTML player that holds the sound."""
    source = data_uri(wav(sound), "audio/wav")
    return f'<audio controls preload="metadata" style="width:100%;height:36px" src="{source}"></audio>'


def draw_mel(axes, sound: Sound) -> None:
    """A sound's spectrogram, with its events and where they meet."""
    seconds = sound.mel.shape[1] * sound.frame_seconds
    loudest = sound.mel.max()
    axes.imshow(
        sound.mel,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(sound.mel)),
        vmin=loudest - DEPTH,
        vmax=loudest,
        interpolation="nearest",
    )
    edges = [0.0, *(min(max(end, 0.0), seconds) for end in sound.ends), seconds]
    for end in edges[1:-1]:
        axes.axvline(end, color="white", linestyle="--", linewidth=1)
    for name, start, end in zip(sound.events, edges, edges[1:], strict=False):
        look = {"ha": "center", "va": "top", "color": "white", "path_effects": RIM, "clip_on": True}
        axes.text((start + end) / 2, 0.95 * len(sound.mel), name, **look)
    axes.set_yticks([])
    axes.set_xlabel("time (s)")


def cards(sounds: Sequence[Sound], columns: int = 3) -> Html:
    """Sounds side by side, each with its title, its spectrogram and a player.

    Raises:
        ValueError: when there is no sound.
    """
    if not sounds:
        raise ValueError("there is no sound to show; expected at least one.")
    cells = []
    for sound in sounds:
        with styled():
            figure = Figure(figsize=(WIDTH, 1.2))
            draw_mel(figure.subplots(), sound)
        title, picture = html.escape(sound.title), data_uri(png(figure), "image/png")
        cells.append(
            f'<figure style="margin:0"><figcaption><b>{title}</b></figcaption>'
            f'<img alt="spectrogram" style="width:100%" src="{picture}">{player(sound)}</figure>'
        )
    grid = f"display:grid;grid-template-columns:repeat({columns},minmax(0,1fr));gap:12px"
    return Html(f'<div style="{grid};max-width:{CARD * columns}px">{"".join(cells)}</div>')


class Html(str):
    """HTML that a notebook shows as such."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)
