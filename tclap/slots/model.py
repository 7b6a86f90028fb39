"""Order from text alone: slots in time for any CLAP, without training it (:func:`add_slots`).

A plain CLAP embeds a sound as one vector and a caption as another. Here a sound has three: the whole, its
first and its last part, each embedded by the model itself, ``[e_0; e_1; e_2] / √3``. A caption that says what
comes when has the embeddings of its events, as the model itself embeds their words, in the slots where they
belong::

    "A before B", "B after A":  [0; ½ g(A); ½ g(B); r]      "the first sound is A":  [0; g(A); 0; 0]
    "A while B":                [0; ½ g(A and B); ½ g(A and B); r]
    any other caption c:        [g(c); 0; 0; 0]

``r`` fills a caption's vector to length 1, and its place in a sound's is 0. So a similarity is one dot
product of unit vectors, and for a caption that says nothing of time it is the model's own similarity over
√3: with τ√3 for τ, its own score. More slots than two are placed evenly over time, for captions of more
events; √3 is then √(slots + 1). What a caption says is read by the :mod:`~tclap.slots.reader`.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap import files
from tclap.arguments import at_least, is_number, rows_of
from tclap.data.composites import PROMPT
from tclap.models.base import AudioTextModel
from tclap.models.encoder import Encoder
from tclap.models.registry import load_model
from tclap.models.windows import Windows
from tclap.models.wrapped import wrap
from tclap.slots.reader import Reader, Reading, load_reader

# Fractions of the time at either end whose embeddings make one of two slots: 5 embeddings a recording.
PARTS = (0.35, 0.5)
SOURCES = ("waveform", "trunk")
SETTINGS = ("parts", "slots", "whole", "source", "hop")  # that a file holds
_packaged_reader = cache(load_reader)  # one for all models


def places(steps: int, slots: int) -> list[tuple[int, int]]:
    """Which of a caption's steps (from 0, in time) stand in which slots (from 1): both evenly over time.

    Of more steps than slots some between are left out.
    """
    count = min(steps, slots)
    at = [n / (count - 1) for n in range(count)]
    return [(round(step * (steps - 1)), 1 + round(step * (slots - 1))) for step in at]


class SlotModel(Encoder):
    """A model with slots in time around one without; use :func:`add_slots`.

    A recording of any length is embedded as a whole and in parts of its own duration; what is longer than
    the model's window is the mean over windows that cover it, so that nothing is left out. With the source
    ``waveform`` each part is embedded as a recording of its own: ``1 + slots · len(parts)`` embeddings a
    recording. With ``trunk`` the frozen trunk's time axis is cut: one, and equal where a frame of the trunk
    depends on what is near (convolutions), wrong where it attends to the whole window (transformers).

    Args:
        base: the model.
        reader: of captions.
        parts: fractions of the duration, whose embeddings together make a slot; None: :data:`PARTS`, for
            more slots narrower.
        slots: in time, at least 2: the first is at the start, the last at the end.
        whole: part of a timed caption's weight that its own embedding gets, in [0, 1); above 0 for a model
            that knows order (T-CLAP).
        source: one of :data:`SOURCES`.
        hop: in seconds, from window to window of what is longer than one; None: the window.

    Raises:
        ValueError: on a base that has slots or no trunk for that source, or options out of range.
    """

    text_batch_size = 256  # events that captions share are embedded once a batch

    def __init__(
        self,
        base: Encoder,
        reader: Reader,
        parts: Sequence[float] | None = None,
        slots: int = 2,
        whole: float = 0.0,
        source: str = "waveform",
        hop: float | None = None,
    ) -> None:
        if isinstance(base, SlotModel):
            raise ValueError(f"{base.name} has slots already.")
        at_least(2, slots=slots)
        parts = [part * 2 / slots for part in PARTS] if parts is None else rows_of(parts, "parts")
        if not parts or not all(is_number(part) and 0 < part <= 1 for part in parts):
            raise ValueError(f"parts is {parts}, expected fractions above 0 and at most 1.")
        if not is_number(whole) or not 0 <= whole < 1:
            raise ValueError(f"whole is {whole!r}, expected at least 0 and below 1.")
        if source not in SOURCES or (source == "trunk" and not isinstance(base, AudioTextModel)):
            raise ValueError(f"source is {source!r}, expected waveform, or trunk of a model that has one.")
        self.base: Any = base  # an Encoder; with the source trunk, an AudioTextModel
        self.reader, self.parts, self.slots = reader, parts, slots
        self.whole, self.source, self.hop = whole, source, hop
        self.name, self.sample_rate, self.window = base.name, base.sample_rate, base.window
        self.padding, self.batch_size = base.padding, base.batch_size
        self.dim = (slots + 1) * base.dim + 1
        self._cover = Windows(self.sample_rate, self.window, "cover", self.padding, hop)

    @property
    def logit_scale(self) -> Tensor:
        """τ of the base times √(slots + 1): scores of captions without time are then the base's own."""
        return math.sqrt(self.slots + 1) * self.base.logit_scale

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Fractions of a recording's duration that are embedded: the whole, then each slot's parts."""
        starts = [(slot / (self.slots - 1), part) for slot in range(self.slots) for part in self.parts]
        return [(0.0, 1.0), *(((1 - part) * at, (1 - part) * at + part) for at, part in starts)]

    @torch.no_grad()
    def encode_audio(  # type: ignore[override]  # no policy: nothing of a recording is left out
        self,
        waveforms_or_paths: Tensor | np.ndarray | Sequence,
        sample_rate: int | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Embed recordings of any length: ``[N, (slots + 1) d + 1]``, L2-normalised.

        Arguments and errors as of :meth:`tclap.models.encoder.Encoder.encode_audio`.
        """
        found = self.recordings(waveforms_or_paths, sample_rate)
        if self.source == "trunk":
            rows = [self._from_trunk(waveform, batch_size) for waveform in found]
            return torch.cat(rows) if rows else torch.zeros(0, self.dim)
        groups = (self._cover.cut(part) for waveform in found for part in self.cut(waveform))
        embedded = self.base.embed_groups(groups, batch_size)
        return self.join(embedded.view(-1, len(self.spans), self.base.dim))

    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embeddings ``[N, dim]`` of waveforms ``[N, samples]``."""
        return self.encode_audio(waveforms)

    def cut(self, waveform: np.ndarray) -> list[np.ndarray]:
        """The whole and the parts of a waveform ``[samples]``, in the order of :attr:`spans`."""
        count = len(waveform)
        ends = [(round(start * count), round(end * count)) for start, end in self.spans]
        return [waveform[start : max(end, start + 1)] for start, end in ends]

    def join(self, embedded: Tensor) -> Tensor:
        """Base embeddings ``[N, len(spans), d]`` to embeddings ``[N, dim]``: a slot is its parts' mean."""
        parts = embedded[:, 1:].unflatten(1, (self.slots, -1)).mean(2)
        rows = torch.cat([embedded[:, :1], normalize(parts, dim=-1)], dim=1).flatten(1)
        return torch.cat([rows / math.sqrt(self.slots + 1), rows.new_zeros(len(rows), 1)], dim=1)

    def from_frames(self, features: Tensor, whole: Tensor | None = None) -> Tensor:
        """Embeddings ``[N, dim]`` from the base's trunk outputs ``[N, T, D]``, cut in time.

        ``whole``: the embeddings ``[N, d]`` of the whole; None: those of all the frames.
        """
        count = features.shape[1]
        embedded = [self.base.embed_features(features) if whole is None else whole]
        for start, end in self.spans[1:]:
            length = max(round((end - start) * count), 1)
            first = round(start / max(1 - (end - start), 1e-9) * (count - length))
            embedded.append(self.base.embed_features(features[:, first : first + length].contiguous()))
        return self.join(torch.stack(embedded, dim=1))

    def _from_trunk(self, waveform: np.ndarray, batch_size: int | None) -> Tensor:
        """The embedding ``[1, dim]`` of one recording of any length, through the trunk."""
        samples, device = round(self.window * self.sample_rate), self.base.log_scale.device
        # A window apart, whatever the hop: their frames are joined.
        cover = Windows(self.sample_rate, self.window, "cover", self.padding)
        windows = torch.from_numpy(np.stack(cover.cut(waveform)))
        with self.base.evaluating():
            blocks = windows.split(batch_size or self.batch_size)
            frames = torch.cat([self.base.audio_trunk(block.to(device)) for block in blocks])
            whole = normalize(self.base.embed_features(frames).mean(0, keepdim=True), dim=-1)
            # The last window overlaps the one before it, and what is shorter than a window is padded.
            rest = len(waveform) - (len(windows) - 1) * samples
            new = max(round(frames.shape[1] * rest / samples), 1)
            last = frames[-1, :new] if len(windows) == 1 else frames[-1, -new:]
            return self.from_frames(torch.cat([*frames[:-1], last])[None], whole)

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """What captions say about time."""
        return self.reader.read(captions)

    def embed_texts(self, captions: list[str]) -> Tensor:
        """Embeddings ``[N, dim]`` of captions."""
        return self.embed_captions(captions, self.base.encode_text)

    def embed_captions(self, captions: Sequence[str], embed: Callable[[list[str]], Tensor]) -> Tensor:
        """Embeddings ``[N, dim]``, L2-normalised; ``embed`` gives the base's own of a list of captions."""
        plans = [self._plan(*pair) for pair in zip(captions, self.read(captions), strict=True)]
        phrases = list(dict.fromkeys(phrase for plan in plans for phrase, _, _ in plan))
        embedded, width = embed(phrases), self.base.dim
        found, rows = dict(zip(phrases, embedded, strict=True)), embedded.new_zeros(len(plans), self.dim)
        for row, plan in zip(rows, plans, strict=True):
            for phrase, slot, weight in plan:
                row[slot * width : (slot + 1) * width] = weight * found[phrase]
        rest = 1 - rows.double().square().sum(1)
        rows[:, -1] = rest.clamp_min(0).sqrt().float().masked_fill(rest < 1e-6, 0.0)
        return rows

    def _plan(self, caption: str, reading: Reading) -> list[tuple[str, int, float]]:
        """The phrases to embed, each with its slot and weight; weights sum to 1."""
        if reading.relation == "plain":
            return [(caption, 0, 1.0)]
        own = [(caption, 0, self.whole)] if self.whole else []
        steps: list[list[str]] = [[] for _ in range(max(reading.steps) + 1)]
        for event, step in zip(reading.events, reading.steps, strict=True):
            steps[step].append(event)
        phrases = [PROMPT.format(" and ".join([*step, *reading.throughout])) for step in steps]
        if reading.relation in ("start", "end"):
            placed = [(0, 1 if reading.relation == "start" else self.slots)]
        elif reading.relation == "together":
            placed = [(0, slot) for slot in range(1, self.slots + 1)]
        else:
            placed = places(len(phrases), self.slots)
        return [*own, *((phrases[n], slot, (1 - self.whole) / len(placed)) for n, slot in placed)]

    def save(self, path: str | Path, name: str, weights: str | Path | None = None) -> None:
        """Write a json file of the settings and of how the base model is loaded; none of its weights.

        :func:`load` reads it; the reader is then the package's own.

        Args:
            path: of the file, ``*.json``.
            name, weights: with which :func:`tclap.load_model` gives the base model.

        Raises:
            ValueError: on another suffix, a reader that is not the package's, or another base model.
        """
        if Path(path).suffix != ".json":
            raise ValueError(f"a model with slots is saved as *.json, got {path}.")
        if self.reader is not _packaged_reader():
            raise ValueError("its reader is not the package's: keep the reader's file, and add slots again.")
        if not isinstance(self.base, AudioTextModel):
            raise ValueError(f"{self.name} is no model of tclap.load_model: make it, and add slots again.")
        settings = {setting: getattr(self, setting) for setting in SETTINGS}
        weights = None if weights is None else Path(weights).resolve()
        base = {"name": name, "weights": weights, "fingerprint": self.base.fingerprint}
        files.write_hashed(path, {"base": base, "slots": settings})


def add_slots(model: Any, reader: Reader | None = None, **options: Any) -> SlotModel:
    """A model with a sense of time around ``model``, which is left as it is; nothing is trained.

    Args:
        model: a model of :func:`tclap.load_model`, or any object that :func:`tclap.wrap` takes.
        reader: of captions; None: the one that comes with the package.
        options: of :class:`SlotModel`.

    Raises:
        ValueError: on a model that has slots, or options out of range; TypeError on what is no model.
    """
    base = model if isinstance(model, Encoder) else wrap(model)
    return SlotModel(base, _packaged_reader() if reader is None else reader, **options)


def load(path: str | Path, device: str | torch.device | None = None) -> SlotModel:
    """The model of a file that :meth:`SlotModel.save` wrote, its base by :func:`tclap.load_model`.

    Raises:
        ValueError: when the file is no such or was edited, or the base model's weights are not those of then.
        OSError: when a file is missing.
    """
    content = files.read_hashed(path)
    try:
        wanted, settings = content["base"], {name: content["slots"][name] for name in SETTINGS}
        name, weights, fingerprint = wanted["name"], wanted["weights"], wanted["fingerprint"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no model with slots, expected what its save() wrote.") from error
    base = load_model(name, weights, device)
    if base.fingerprint != fingerprint:
        now = weights or "load_model without weights"
        raise ValueError(f"{path} is of {name} with other weights than {now} gives.")
    return SlotModel(base, _packaged_reader(), **settings)
