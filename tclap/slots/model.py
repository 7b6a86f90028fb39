"""Order from text alone: slots in time for a model that has none.

A plain CLAP embeds a sound as one vector and a caption as another. Here a sound has three: the whole,
its first and its last part, each through the model's own frozen head from the frozen trunk's time
axis, ``[e_0; e_1; e_2] / √3``. A caption that says what comes when has the embeddings of its events,
as the model itself embeds their words, in the slots where they belong::

    "A before B", "B after A":  [0; ½ g(A); ½ g(B); r]      "the first sound is A":  [0; g(A); 0; 0]
    "A while B":                [0; ½ g(A and B); ½ g(A and B); r]
    any other caption c:        [g(c); 0; 0; 0]

``r`` fills a caption's vector to length 1, and its place in a sound's is 0. So a similarity is one dot
product of unit vectors, and for a caption that says nothing of time it is the model's own similarity over
√3: with τ√3 for τ, its own score. More slots than two are placed evenly over time, for captions of more
events; √3 is then √(slots + 1). Nothing about sound is trained, only a small
:class:`~tclap.slots.reader.CaptionReader`, on captions (:mod:`tclap.slots.training`). On a model that knows
order (T-CLAP) a part ``whole`` of a timed caption's weight may go to its own embedding of the whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tclap.arguments import at_least, strings_of
from tclap.data.composites import PROMPT
from tclap.models.base import AudioTextModel, Tokens
from tclap.slots import event_captions
from tclap.slots.event_captions import RELATIONS
from tclap.slots.reader import CaptionReader, canonical

PARTS = (0.2, 0.4, 0.5)  # fractions of the time at either end whose embeddings make one of two slots
BATCH = 256


class Reading(NamedTuple):
    """A relation of :data:`tclap.slots.event_captions.RELATIONS`, and its events' words in temporal order."""

    relation: str
    events: tuple[str, ...]


def _reading(caption: str, relation: str, spans: list[tuple[int, int]]) -> Reading:
    events = tuple(caption[start:end].strip() for start, end in spans)
    needed = {"plain": 0, "start": 1, "end": 1}.get(relation, 2)
    # What cannot be made sense of is left to the model itself.
    if relation == "plain" or len(events) < needed:
        return Reading("plain", ())
    return Reading(relation, events[::-1] if relation == "backward" else events)


def places(events: int, slots: int) -> list[tuple[int, int]]:
    """Which of a caption's events (from 0, in time) stand in which slots (from 1): both evenly over time.

    Of more events than slots some between are left out.
    """
    count = min(events, slots)
    steps = [n / (count - 1) for n in range(count)]
    return [(round(step * (events - 1)), 1 + round(step * (slots - 1))) for step in steps]


class SlotAudioHead(nn.Module):
    """Trunk outputs ``[N, T, D]`` to whole and slots ``[N, (slots + 1) d + 1]``, by the model's own head.

    A slot is the mean of its parts' embeddings; a part is a fraction of the time, later for a later slot.
    """

    def __init__(self, head: nn.Module, parts: Sequence[float], slots: int) -> None:
        super().__init__()
        self.head, self.parts, self.slots = head, tuple(parts), slots

    def forward(self, features: Tensor) -> Tensor:
        frames = features.shape[1]
        counts = [max(round(part * frames), 1) for part in self.parts]
        embedded = [normalize(self.head(features), dim=-1)]
        for slot in range(self.slots):
            starts = [round((frames - n) * slot / (self.slots - 1)) for n in counts]
            cut = [features[:, s : s + n].contiguous() for s, n in zip(starts, counts, strict=True)]
            embedded.append(normalize(sum(normalize(self.head(part), dim=-1) for part in cut), dim=-1))
        return torch.cat([*embedded, features.new_zeros(len(features), 1)], dim=1)


class SlotModel(AudioTextModel):
    """A model with slots in time around one without; use :func:`tclap.add_slots`.

    Args:
        base: the model; its trunks are shared, its heads are copied.
        parts: fractions of the time axis, whose embeddings together make a slot; None: :data:`PARTS`, for
            more slots narrower.
        whole: part of a timed caption's weight that its own embedding gets, in [0, 1).
        hidden: of the caption reader.
        prompt: with one ``{}``, in which the words of an event are embedded.
        closed_class: words that the reader knows; None: those of the wordings it learns from.
        slots: in time, at least 2: the first is at the start, the last at the end.

    Raises:
        ValueError: on a base that has slots, or options out of range.
    """

    text_batch_size = BATCH  # events that captions share are embedded once a batch

    def __init__(
        self,
        base: AudioTextModel,
        parts: Sequence[float] | None = None,
        whole: float = 0.0,
        hidden: int = 64,
        prompt: str = PROMPT,
        closed_class: Sequence[str] | None = None,
        slots: int = 2,
    ) -> None:
        if isinstance(base, SlotModel):
            raise ValueError(f"{base.name} has slots already.")
        at_least(2, slots=slots)
        at_least(1, hidden=hidden)
        parts = [part * 2 / slots for part in PARTS] if parts is None else parts
        if not parts or not all(0 < part <= 1 for part in parts):
            raise ValueError(f"parts is {parts}, expected fractions above 0 and at most 1.")
        if not 0 <= whole < 1:
            raise ValueError(f"whole is {whole}, expected at least 0 and below 1.")
        if prompt.count("{}") != 1:
            raise ValueError(f"prompt is {prompt!r}, expected one {{}} in it.")
        super().__init__(math.sqrt(slots + 1) * float(base.logit_scale.detach()))
        self.name, self.origin, self.pretrained = base.name, base.origin, base.pretrained
        self.sample_rate, self.window, self.batch_size = base.sample_rate, base.window, base.batch_size
        self.width, self.dim = base.dim, (slots + 1) * base.dim + 1
        self.slots, self.whole, self.prompt = slots, whole, prompt
        self.closed_class = list(event_captions.closed_class() if closed_class is None else closed_class)
        own = {"parts": list(parts), "whole": whole, "hidden": hidden, "prompt": prompt, "slots": slots}
        self.config = base.config | {"slots": own | {"closed_class": self.closed_class}}
        self.audio_trunk, self.text_trunk = base.audio_trunk, base.text_trunk
        self.audio_head = SlotAudioHead(copy.deepcopy(base.audio_head), parts, slots)
        self.text_head = copy.deepcopy(base.text_head)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.reader = CaptionReader(base.text_trunk.width, self.closed_class, hidden)
        self.requires_grad_(False)
        self.to(base.log_scale.device).eval()

    def embed_text(self, tokens: Tokens) -> Tensor:
        """Not to be had: which words name events is not in the tokens alone."""
        raise TypeError("a model with slots reads captions: call embed_captions or encode_text.")

    def plain_text(self, captions: Sequence[str], text: Callable[[list[str]], Tokens]) -> Tensor:
        """The model's own embeddings ``[N, d]`` of captions, without slots."""
        blocks = [list(captions[n : n + BATCH]) for n in range(0, len(captions), BATCH)]
        return torch.cat([normalize(self.text_head(text(block)).float(), dim=-1) for block in blocks])

    def read(
        self, captions: Sequence[str], text: Callable[[list[str]], Tokens] | None = None
    ) -> list[Reading]:
        """What captions say about time; ``text`` makes their tokens, None: the text trunk."""
        captions, text, spans = strings_of(captions, "captions"), text or self.text_trunk, []
        for n in range(0, len(captions), BATCH):
            block = captions[n : n + BATCH]
            spans += self.reader.spans(block, text(block), self.text_trunk.offsets(block))
        rest = [canonical(caption, found) for caption, found in zip(captions, spans, strict=True)]
        distinct, relations = list(dict.fromkeys(rest)), {}
        for n in range(0, len(distinct), BATCH):
            block = distinct[n : n + BATCH]
            with torch.no_grad():
                found = self.reader.relate(text(block)).argmax(-1).tolist()
            relations |= {caption: RELATIONS[kind] for caption, kind in zip(block, found, strict=True)}
        return [_reading(c, relations[r], s) for c, r, s in zip(captions, rest, spans, strict=True)]

    def embed_captions(self, captions: Sequence[str], text: Callable[[list[str]], Tokens]) -> Tensor:
        """Embeddings ``[N, (slots + 1) d + 1]``, L2-normalised, float32, of captions; ``text`` as above."""
        readings = self.read(captions, text)
        phrases: dict[str, int] = {}
        plans = [self._plan(caption, reading) for caption, reading in zip(captions, readings, strict=True)]
        for plan in plans:
            for phrase, _, _ in plan:
                phrases.setdefault(phrase, len(phrases))
        found = self.plain_text(list(phrases), text) if phrases else self.log_scale.new_zeros(0, 1)
        width = self.width
        rows = found.new_zeros(len(plans), self.dim)
        for n, plan in enumerate(plans):
            for phrase, slot, weight in plan:
                rows[n, slot * width : (slot + 1) * width] = weight * found[phrases[phrase]]
        rest = 1 - rows.double().square().sum(1)
        rows[:, -1] = rest.clamp_min(0).sqrt().float().masked_fill(rest < 1e-6, 0.0)
        return rows

    def _plan(self, caption: str, reading: Reading) -> list[tuple[str, int, float]]:
        """The phrases to embed, each with its slot and weight; weights sum to 1."""
        relation, events = reading
        if relation == "plain":
            return [(caption, 0, 1.0)]
        own = [(caption, 0, self.whole)] if self.whole else []
        rest = 1 - self.whole
        if relation in ("start", "end"):
            return [*own, (self.prompt.format(events[0]), 1 if relation == "start" else self.slots, rest)]
        if relation == "together":
            both = self.prompt.format(" and ".join(events))
            return [*own, *((both, slot, rest / self.slots) for slot in range(1, self.slots + 1))]
        placed = places(len(events), self.slots)
        return [*own, *((self.prompt.format(events[n]), slot, rest / len(placed)) for n, slot in placed)]
