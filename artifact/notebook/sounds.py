"""Sounds of a run to look at and listen to, as HTML that stays when the kernel is gone."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Audio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from artifact.evaluation import decibels
from artifact.experiment import DATA_SEED, Experiment
from figures.style import styled
from tclap import audio
from tclap.data.composites import POLICIES, place, render, render_single

DEPTH = 60.0  # dB below the loudest of a sound that its spectrogram shows
CARD = 340  # width of a card, in pixels


@dataclass(frozen=True)
class Sound:
    """What a model is given, and how it looks."""

    title: str
    waveform: np.ndarray  # [samples]
    sample_rate: int
    mel: np.ndarray  # [mels, frames] in dB, as the model receives it
    frame_seconds: float
    ends: tuple[float, ...] = ()  # where an event ends and the next begins, in seconds
    events: tuple[str, ...] = ()  # their names in time, one more than ends; empty: none are shown


def _sound(run: Experiment, waveform: np.ndarray, title: str, *events: tuple) -> Sound:
    model = run.reference
    step = model.audio_trunk.hop / model.sample_rate
    return Sound(title, waveform, model.sample_rate, decibels(model, waveform), step, *events)


def single(run: Experiment, clip: Mapping, title: str = "label") -> Sound:
    """A clip as the window policy ``fit`` plays it; ``title`` names its column."""
    waveform = render_single(run.audio(clip["clip_id"]), run.reference.window, run.reference.sample_rate)
    return _sound(run, waveform, clip[title])


def recording(run: Experiment, path: str | Path, title: str) -> Sound:
    """A file of any length, whole."""
    return _sound(run, audio.read(path, run.reference.sample_rate), title)


def composite(run: Experiment, pair: Mapping, view: str) -> Sound:
    """A view of a composite, with its events in time."""
    waveform, (a, b) = render(pair, view, run.audio), (pair["label_i"], pair["label_j"])
    if view == "overlap":
        return _sound(run, waveform, f"{a} and {b} at once")
    first, second, length = (a, b, "length_i") if view == "forward" else (b, a, "length_j")
    end = (pair[length] + pair["gap"] / 2 - max(pair["cut"], 0)) / pair["sample_rate"]
    return _sound(run, waveform, f"{first}, then {second}", (end,), (first, second))


def policies(run: Experiment, pair: Mapping) -> list[Sound]:
    """One composite under each window policy, which is its title."""
    window, sounds = run.reference.window, []
    for policy in POLICIES:
        placed = (
            place(pd.DataFrame([pair]), run.audio, window, policy=policy, seed=DATA_SEED).iloc[0].to_dict()
        )
        sounds.append(replace(composite(run, placed, "forward"), title=policy))
    return sounds


def picture(figure: Figure, alt: str) -> str:
    """A figure as HTML that holds it, as wide as what it stands in."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png")
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{alt}" style="width:100%" src="data:image/png;base64,{content}">'


def player(sound: Sound) -> str:
    """An HTML player as wide as what it stands in; it holds the sound, turned down to at most full scale."""
    samples = sound.waveform / max(1.0, np.abs(sound.waveform).max())
    source = Audio(samples, rate=sound.sample_rate, normalize=False).src_attr()
    return f'<audio controls style="width:100%" src="{source}"></audio>'


def draw_mel(axes: Axes, sound: Sound) -> None:
    """A sound's spectrogram, with its events and where they meet."""
    bands, seconds = len(sound.mel), sound.mel.shape[1] * sound.frame_seconds
    scale = {"vmin": sound.mel.max() - DEPTH, "vmax": sound.mel.max(), "interpolation": "nearest"}
    axes.imshow(sound.mel, origin="lower", aspect="auto", extent=(0, seconds, 0, bands), **scale)
    edges = [0.0, *np.clip(sound.ends, 0, seconds), seconds]
    for end in edges[1:-1]:
        axes.axvline(end, color="white", linestyle="--", linewidth=1)
    rim = [withStroke(linewidth=2, foreground="black")]
    look = {"ha": "center", "va": "top", "color": "white", "path_effects": rim, "clip_on": True}
    look |= {"parse_math": False}
    for name, start, end in zip(sound.events, edges, edges[1:], strict=False):
        axes.text((start + end) / 2, 0.95 * bands, name, **look)
    axes.set_yticks([])
    axes.set_xlabel("time (s)")


def cards(sounds: Sequence[Sound], columns: int = 3) -> HTML:
    """Sounds side by side, each with its title, its spectrogram and a player."""
    cells = []
    for sound in sounds:
        with styled():
            figure = Figure(figsize=(3.4, 1.2))
            draw_mel(figure.subplots(), sound)
        caption = f"<figcaption><b>{html.escape(sound.title)}</b></figcaption>"
        cells.append(
            f'<figure style="margin:0">{caption}{picture(figure, "spectrogram")}{player(sound)}</figure>'
        )
    grid = f"display:grid;grid-template-columns:repeat({columns},minmax(0,1fr));gap:12px"
    return HTML(f'<div style="{grid};max-width:{CARD * columns}px">{"".join(cells)}</div>')
