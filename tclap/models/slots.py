"""Order from text alone: slots in time for a model that has none.

A plain CLAP embeds a sound as one vector and a caption as another. Here a sound has three: the whole,
its first and its last part, each through the model's own frozen head from the frozen trunk's time
axis, ``[e_0; e_1; e_2] / √3``. A caption that says what comes when has the embeddings of its events,
as the model itself embeds their words, in the slots where they belong::

    "A before B", "B after A":  [0; ½ g(A); ½ g(B); r]      "the first sound is A":  [0; g(A); 0; 0]
    "A while B":                [0; ½ g(A and B); ½ g(A and B); r]
    any other caption c:        [g(c); 0; 0; 0]

``r`` fills a caption's vector to length 1, and its place in a sound's is 0. So a similarity is one dot
product of unit vectors, an index stays an index, and for a caption that says nothing of time it is the
model's own similarity over √3: with τ√3 for τ, its own score. Nothing about sound is trained. What is
trained, on captions, is a small :class:`CaptionReader` that finds in the frozen text trunk's tokens
which words name events and how they relate (:mod:`tclap.slots`).

On a model that knows order (T-CLAP) a share ``whole`` of a timed caption's weight may go to its own
embedding of the whole, in the first slot.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tclap.data import event_captions
from tclap.data.composites import PROMPT
from tclap.data.event_captions import RELATIONS, WORD
from tclap.models.base import AudioTextModel, Tokens

OUTSIDE, BEGIN, INSIDE = range(3)  # of an event's words
PARTS = (0.2, 0.5)  # shares of the time at either end whose embeddings make a slot
BATCH = 256
EVENT = "a sound"  # stands for each event where only the relation is read
Offsets = Sequence[tuple[int, int]]


class Reading(NamedTuple):
    """What a caption says: a relation of :data:`tclap.data.event_captions.RELATIONS` and its events' words,
    in the order in which they sound."""

    relation: str
    events: tuple[str, ...]


class CaptionReader(nn.Module):
    """Finds the events of a caption and how they relate in time, in token outputs ``[N, L, D]``.

    One recurrent layer says of each token whether it is outside of events, begins one or goes on with it;
    beside the token it sees which word of a closed class it belongs to, if any (*before*, *then*, *first*,
    a comma). The caption with "a sound" for each event then goes through the text trunk once more, and
    another recurrent layer says what the rest of it means: so the relation cannot depend on the events.

    Args:
        dim: D, of the text trunk.
        closed_class: words in lower case.
        hidden: of each direction.
        dropout: of tokens, in training; half of it is the share of closed-class words that are hidden.
    """

    def __init__(self, dim: int, closed_class: Sequence[str], hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.numbers = {word: n for n, word in enumerate(closed_class, 1)}
        self.drop = nn.Dropout(dropout)
        self.closed = nn.Embedding(len(closed_class) + 1, hidden // 2)
        self.words = nn.GRU(dim + hidden // 2, hidden, batch_first=True, bidirectional=True)
        self.to_label = nn.Linear(2 * hidden, 3)
        self.rest = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)
        self.to_relation = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, len(RELATIONS)))

    def closed_words(self, caption: str, offsets: Offsets) -> Tensor:
        """Number of each token's word in the closed class, 0 for others and for special tokens ``[L]``."""
        at = {}
        for word in WORD.finditer(caption):
            number = self.numbers.get(word.group().lower(), 0)
            at |= dict.fromkeys(range(word.start(), word.end()), number)
        return torch.tensor(
            [at.get(_first(caption, span), 0) if span[1] > span[0] else 0 for span in offsets]
        )

    def label(self, tokens: Tokens, closed: Tensor) -> Tensor:
        """Logits ``[N, L, 3]`` of each token's label; ``closed [N, L]`` from :meth:`closed_words`."""
        if self.training:
            closed = closed * (torch.rand(closed.shape, device=closed.device) >= self.drop.p / 2)
        values = torch.cat([self.drop(tokens.values), self.closed(closed)], dim=-1)
        outputs, _ = self.words(_packed(values, tokens.lengths))
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=values.shape[1])
        return self.to_label(outputs)

    def relate(self, tokens: Tokens) -> Tensor:
        """Logits ``[N, 6]`` of the relation, from captions with "a sound" for each event."""
        _, states = self.rest(_packed(self.drop(tokens.values), tokens.lengths))
        return self.to_relation(states.transpose(0, 1).flatten(1))

    @torch.no_grad()
    def spans(self, captions: Sequence[str], tokens: Tokens, offsets: Sequence[Offsets]) -> list[list]:
        """Where the events stand in each caption."""
        closed = [self.closed_words(c, places) for c, places in zip(captions, offsets, strict=True)]
        width, device = tokens.values.shape[1], tokens.values.device
        padded = torch.stack(
            [nn.functional.pad(row[:width], (0, width - len(row[:width]))) for row in closed]
        )
        labels = self.label(tokens, padded.to(device)).argmax(-1).tolist()
        return [
            spans_of(caption, row[:length], places)
            for caption, row, length, places in zip(
                captions, labels, tokens.lengths.tolist(), offsets, strict=True
            )
        ]


def _packed(values: Tensor, lengths: Tensor) -> PackedSequence:
    return pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)


def _first(caption: str, span: tuple[int, int]) -> int:
    """The first character of a token that is no space: some tokenizers give a word the space before it."""
    text = caption[span[0] : span[1]]
    return span[0] + len(text) - len(text.lstrip())


def canonical(caption: str, spans: Sequence[tuple[int, int]]) -> str:
    """The caption with "a sound" in each event's place."""
    pieces, last = [], 0
    for start, end in spans:
        pieces += [caption[last:start], EVENT]
        last = end
    return "".join([*pieces, caption[last:]])


def spans_of(caption: str, labels: Sequence[int], offsets: Offsets) -> list[tuple[int, int]]:
    """Where the events stand in a caption, from its tokens' labels.

    A word has the label of its first piece, so that no event starts or ends within one.
    """
    spans: list[list[int]] = []
    inside, last = False, -1
    for label, (start, end) in zip(labels, offsets, strict=False):
        if end <= start:
            continue
        goes_on = start == last and caption[start].isalnum() and caption[start - 1].isalnum()
        last = end
        if goes_on:
            if inside:
                spans[-1][1] = end
        elif label == OUTSIDE:
            inside = False
        elif label == BEGIN or not inside:
            spans.append([start, end])
            inside = True
        else:
            spans[-1][1] = end
    return [(start, end) for start, end in spans]


def _reading(caption: str, relation: str, spans: list[tuple[int, int]]) -> Reading:
    events = tuple(caption[start:end].strip() for start, end in spans)
    needed = {"plain": 0, "start": 1, "end": 1}.get(relation, 2)
    # What cannot be made sense of is left to the model itself.
    if relation == "plain" or len(events) < needed:
        return Reading("plain", ())
    return Reading(relation, events[::-1] if relation == "backward" else events)


class SlotAudioHead(nn.Module):
    """Trunk outputs ``[N, T, D]`` to the three slots ``[N, 3 d + 1]``, by the model's own head."""

    def __init__(self, head: nn.Module, parts: Sequence[float]) -> None:
        super().__init__()
        self.head, self.parts = head, tuple(parts)

    def forward(self, features: Tensor) -> Tensor:
        frames = features.shape[1]
        counts = [max(round(part * frames), 1) for part in self.parts]
        whole = normalize(self.head(features), dim=-1)
        first = sum(normalize(self.head(features[:, :n].contiguous()), dim=-1) for n in counts)
        last = sum(normalize(self.head(features[:, frames - n :].contiguous()), dim=-1) for n in counts)
        slots = [whole, normalize(first, dim=-1), normalize(last, dim=-1), whole.new_zeros(len(whole), 1)]
        return torch.cat(slots, dim=1)


class SlotModel(AudioTextModel):
    """A model with slots in time around one without; use :func:`tclap.add_slots`.

    Args:
        base: the model; its trunks are shared, its heads are copied.
        parts: shares of the time axis at either end, whose embeddings together make a slot.
        whole: share of a timed caption's weight that its own embedding gets, in [0, 1).
        hidden: of the caption reader.
        prompt: with one ``{}``, in which the words of an event are embedded.
        closed_class: words that the reader knows; None: those of the wordings it learns from.

    Raises:
        ValueError: on a base that has slots, or options out of range.
    """

    def __init__(
        self,
        base: AudioTextModel,
        parts: Sequence[float] = PARTS,
        whole: float = 0.0,
        hidden: int = 64,
        prompt: str = PROMPT,
        closed_class: Sequence[str] | None = None,
    ) -> None:
        if isinstance(base, SlotModel):
            raise ValueError(f"{base.name} has slots already.")
        if not parts or not all(0 < part <= 1 for part in parts):
            raise ValueError(f"parts is {parts}, expected shares above 0 and at most 1.")
        if not 0 <= whole < 1:
            raise ValueError(f"whole is {whole}, expected at least 0 and below 1.")
        if prompt.count("{}") != 1:
            raise ValueError(f"prompt is {prompt!r}, expected one {{}} in it.")
        super().__init__(math.sqrt(3) * float(base.logit_scale.detach()))
        self.name, self.origin, self.pretrained = base.name, base.origin, base.pretrained
        self.sample_rate, self.window, self.batch_size = base.sample_rate, base.window, base.batch_size
        self.dim, self.whole, self.prompt = 3 * base.dim + 1, whole, prompt
        self.closed_class = list(event_captions.closed_class() if closed_class is None else closed_class)
        slots = {"parts": list(parts), "whole": whole, "hidden": hidden, "prompt": prompt}
        self.config = base.config | {"slots": slots | {"closed_class": self.closed_class}}
        self.audio_trunk, self.text_trunk = base.audio_trunk, base.text_trunk
        self.audio_head = SlotAudioHead(copy.deepcopy(base.audio_head), parts)
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
        text, spans = text or self.text_trunk, []
        for n in range(0, len(captions), BATCH):
            block = list(captions[n : n + BATCH])
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
        """Embeddings ``[N, 3 d + 1]``, L2-normalised, float32, of captions.

        Args:
            captions: N strings.
            text: captions to the text trunk's outputs: the trunk itself, or what keeps them.
        """
        readings = self.read(captions, text)
        phrases: dict[str, int] = {}
        plans = [self._plan(caption, reading) for caption, reading in zip(captions, readings, strict=True)]
        for plan in plans:
            for phrase, _, _ in plan:
                phrases.setdefault(phrase, len(phrases))
        found = self.plain_text(list(phrases), text) if phrases else self.log_scale.new_zeros(0, 1)
        width = self.dim // 3
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
        named = [self.prompt.format(event) for event in events]
        if relation in ("start", "end"):
            return [*own, (named[0], 1 if relation == "start" else 2, rest)]
        if relation == "together":
            both = self.prompt.format(" and ".join(events))
            return [*own, (both, 1, rest / 2), (both, 2, rest / 2)]
        return [*own, (named[0], 1, rest / 2), (named[-1], 2, rest / 2)]

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str], batch_size: int = BATCH) -> Tensor:
        """Embed captions: ``[N, 3 d + 1]``, L2-normalised.

        Raises:
            TypeError: when given one string instead of a sequence.
        """
        if isinstance(captions, str):
            raise TypeError(f"expected a sequence of captions, got one string: {captions!r}.")
        if not len(captions):
            return self.log_scale.new_zeros(0, self.dim)
        return self.embed_captions(list(captions), self.text_trunk)
