"""What a caption says about time: a small recurrent reader on a frozen text trunk's token outputs.

It marks which words name events, and says how these relate; :mod:`tclap.slots.model` puts it to use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from tclap.models.base import Tokens
from tclap.slots.event_captions import RELATIONS, WORD

OUTSIDE, BEGIN, INSIDE = range(3)  # of an event's words
EVENT = "a sound"  # stands for each event where only the relation is read
Offsets = Sequence[tuple[int, int]]


class CaptionReader(nn.Module):
    """Finds the events of a caption and how they relate in time, in token outputs ``[N, L, D]``.

    One recurrent layer says of each token whether it is outside of events, begins one or goes on with it;
    beside the token it sees which word of a closed class it belongs to, if any (*before*, *then*, *first*,
    a comma). The caption with "a sound" for each event then goes through the text trunk once more, and
    another recurrent layer says what the rest of it means: so the relation cannot depend on the events.

    ``closed_class`` is in lower case, ``hidden`` the width of each direction, ``dropout`` that of tokens in
    training; closed-class words are hidden with half of this probability.
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
            [at.get(first_character(caption, span), 0) if span[1] > span[0] else 0 for span in offsets]
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
        padded = pad_sequence([row[: tokens.values.shape[1]] for row in closed], batch_first=True)
        labels = self.label(tokens, padded.to(tokens.values.device)).argmax(-1).tolist()
        rows = zip(captions, labels, tokens.lengths.tolist(), offsets, strict=True)
        return [spans_of(caption, row[:length], places) for caption, row, length, places in rows]


def _packed(values: Tensor, lengths: Tensor) -> PackedSequence:
    return pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)


def first_character(caption: str, span: tuple[int, int]) -> int:
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
