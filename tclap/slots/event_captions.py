"""Captions of events in time over an open vocabulary, with which words name an event: text to learn from.

A caption relates up to three events. Where they stand in it is one thing, when they sound another:

=============  ============================================================
relation       the events sound
=============  ============================================================
``plain``      whenever: the caption says nothing about time
``forward``    in the order in which they are named
``backward``   in the inverse order
``together``   at once
``start``      (one event) at the start
``end``        (one event) at the end
=============  ============================================================

Events are any words, words and clauses of ``wordings.yaml``, or clauses of real captions. The wordings of
:data:`tclap.data.captions.UNSEEN_ORDERED`, which the evaluation asks for, are in :data:`ASKED` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np
import yaml

from tclap.data.captions import UNSEEN_ORDERED

RELATIONS = ("plain", "forward", "backward", "together", "start", "end")
FREQUENCIES = (0.20, 0.25, 0.25, 0.16, 0.07, 0.07)
THREE = 0.25  # of the ordered captions have three events

_DATA = yaml.safe_load(resources.files("tclap.slots").joinpath("wordings.yaml").read_text(encoding="utf-8"))
SOUNDS, DESCRIBED, SUBJECTS, ACTIONS, PLACES = (
    tuple(_DATA["events"][kind]) for kind in ("sounds", "described", "subjects", "actions", "places")
)
WORDINGS: dict[str, tuple[str, ...]] = {kind: tuple(known) for kind, known in _DATA["wordings"].items()}
THREE_WORDINGS = {kind: tuple(known) for kind, known in _DATA["three_events"].items()}
ASKED = {
    "forward": tuple(w for w in UNSEEN_ORDERED if w.index("{a}") < w.index("{b}")),
    "backward": tuple(w for w in UNSEEN_ORDERED if w.index("{a}") > w.index("{b}")),
}
ALL_WORDINGS = {relation: known + ASKED.get(relation, ()) for relation, known in WORDINGS.items()}
FRAMES = ("{}",) * 6 + ("a {}", "a {}", "the {}")
PROMPTS = ("{}",) * 6 + ("{}.",) * 6 + tuple(_DATA["prompts"])
# What parts one clause of a real caption from the next.
PARTED = re.compile(
    r"\s*(?:,|;|\.|\b(?:and then|then|followed by|before|after|while|as|and|with|when|until|during)\b)\s*"
)
WORD = re.compile(r"[^\W\d_]+|[,;]")


class EventCaption(NamedTuple):
    """A caption, the characters ``[start, end)`` of each event in the order of naming, and the relation."""

    text: str
    spans: list[tuple[int, int]]
    relation: str


def filled(wording: str, names: dict[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """A wording with its ``{a}``, ``{b}``, ``{c}`` replaced, and where they stand."""
    text, spans = "", []
    for part in re.split(r"(\{[abc]\})", wording):
        if part in ("{a}", "{b}", "{c}"):
            spans.append((len(text), len(text) + len(names[part[1]])))
            part = names[part[1]]
        text += part
    return text, spans


def drawn_event(
    generator: np.random.Generator, words: Sequence[str] = (), clauses: Sequence[str] = ()
) -> str:
    """An event's words: half of the time any one to three of ``words``, so that a reader learns what is no
    event rather than which words are; else one of ``clauses``, or made up."""

    def one_of(words: Sequence[str]) -> str:
        return words[generator.integers(len(words))]

    if len(words) and generator.random() < 0.5:
        event = " ".join(one_of(words) for _ in range(generator.choice(3, p=(0.4, 0.4, 0.2)) + 1))
        frames = (*FRAMES, f"{{}} {one_of(PLACES)}", f"{{}} {one_of(ACTIONS)}")
        return one_of(frames).format(event)
    if len(clauses) and generator.random() < 0.5:
        return one_of(clauses)
    kind = generator.random()
    if kind < 0.5:
        return one_of(SOUNDS)
    if kind < 0.65:
        return one_of(DESCRIBED).format(one_of(SOUNDS))
    clause = f"{one_of(SUBJECTS)} {one_of(ACTIONS)}"
    return clause if kind < 0.8 else f"{clause} {one_of(PLACES)}"


def draw_caption(
    generator: np.random.Generator,
    wordings: dict[str, tuple[str, ...]] | None = None,
    event: Callable[[np.random.Generator], str] = drawn_event,
) -> EventCaption:
    """A caption by chance; ``wordings`` replaces :data:`ALL_WORDINGS`, ``event`` draws an event's words."""
    relation = RELATIONS[generator.choice(len(RELATIONS), p=FREQUENCIES)]
    known = (wordings or ALL_WORDINGS)[relation]
    if relation in THREE_WORDINGS and generator.random() < THREE:
        known = THREE_WORDINGS[relation]
    names = {key: event(generator) for key in "abc"}
    text, spans = filled(known[generator.integers(len(known))], names)
    prompt = PROMPTS[generator.integers(len(PROMPTS))]
    offset = prompt.index("{}")
    return EventCaption(prompt.format(text), [(s + offset, e + offset) for s, e in spans], relation)


def closed_class(wordings: dict[str, tuple[str, ...]] | None = None) -> list[str]:
    """Words and commas of wordings (None: :data:`ALL_WORDINGS`) and prompts, sorted, in lower case."""
    known = (wordings or ALL_WORDINGS).values()
    return words_of([w for group in (*known, *THREE_WORDINGS.values(), PROMPTS) for w in group])


def words_of(wordings: Sequence[str]) -> list[str]:
    """Distinct words and commas of wordings or names, without ``{a}`` and its like, sorted, in lower case."""
    bare = " ".join(re.sub(r"\{[abc]?\}", " ", wording) for wording in wordings)
    return sorted(set(WORD.findall(bare.lower())))


def clauses_of(captions: Sequence[str]) -> list[str]:
    """Distinct clauses of real captions, sorted: lower case, two to eight words, without connectives."""
    parts = (part.strip() for caption in captions for part in PARTED.split(caption.lower()))
    return sorted({part for part in parts if 2 <= len(part.split()) <= 8 and "{" not in part})
