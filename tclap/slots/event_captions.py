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

Events are any words, or words and clauses of :mod:`tclap.slots.event_words`. Clauses may be taken from
real captions too (:func:`clauses_of`). The wordings of :data:`tclap.data.captions.UNSEEN_ORDERED`, which
the evaluation asks for, are in :data:`ASKED` and in no other list, so that they can be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tclap.slots.event_words import ACTIONS, DESCRIBED, PLACES, SOUNDS, SUBJECTS

RELATIONS = ("plain", "forward", "backward", "together", "start", "end")
SHARES = (0.20, 0.25, 0.25, 0.16, 0.07, 0.07)
THREE = 0.25  # share of the ordered captions that have three events

FRAMES = ("{}",) * 6 + ("a {}", "a {}", "the {}")

WORDINGS: dict[str, tuple[str, ...]] = {
    "plain": (
        "{a}", "{a}", "{a} and {b}", "{a} and {b}", "{a} with {b}", "{a}, {b}", "{a} or {b}",
        "{a} as well as {b}",
        "{a}, {b} and {c}", "{a} and also {b}", "{a} near {b}", "{a} next to {b}", "{a} but not {b}",
        "one {a} after another",
        "{a} for a while", "{a} again and again", "{a} every now and then", "{a} in front of a house",
        "{a} from time to time", "a lot of {a} and some {b}", "{a} like {b}",
        "there is {a}, and there is {b}",
        "{a} behind a wall", "{a} as if far away", "{a}, not {b}",
        "{a} against {b}", "{a} into {b}", "{a} on {b}", "{a} of {b}", "{a} in {b}", "{a} from {b}",
        "{a} through {b}", "{a} across {b}", "{a} along {b}", "{a} to {b}", "{a} out of {b}",
        "{a} around {b}", "{a} by {b}", "{a} for {b}", "{a} about {b}", "{a} using {b}",
        "{a} louder than {b}", "{a} up against {b}", "{a} that is {b}", "{a}, which is {b}",
        "{a} between {b} and {c}",
        "{a} and {b} and {c}", "{a} over and over", "{a} back and forth", "{a} to and fro",
        "{a} becoming louder", "{a} gets faster and faster", "{a} increases and increases",
        "{a} starts and stops", "{a} begins", "{a} is going on", "{a} in the background",
        "{a} in the foreground",
    ),
    "forward": (
        "{a} before {b}", "{a} before {b}", "{a} followed by {b}", "{a} and afterwards {b}",
        "{a} and after that {b}",
        "{a}, after which {b}", "{a}, next {b}", "{a} and later {b}", "{a} leads to {b}",
        "{a} leading into {b}",
        "{a} gives way to {b}", "{a} makes way for {b}", "{a}, subsequently {b}",
        "{a} ends and {b} begins",
        "{a} comes before {b}", "{a} happens before {b}", "{a} ahead of {b}",
        "{a} is heard earlier than {b}",
        "{a}, and a moment later {b}", "{a} until {b} takes over", "{a} stops before {b} starts",
        "{a} is succeeded by {b}", "{a} is replaced by {b}", "{a} turns into {b}",
        "{a} in advance of {b}",
        "{a}, {b} following it", "first {a}, then {b}", "first {a} and finally {b}",
        "at first {a}, afterwards {b}",
        "initially {a}, in the end {b}", "to begin with {a}, and lastly {b}", "earlier {a}, now {b}",
        "it begins with {a} and ends with {b}", "starting with {a}, ending with {b}",
        "following {a}, {b}",
        "when {a} ends, {b} starts", "when {a} is over, {b}", "once {a} stops, {b}",
        "as soon as {a} is done, {b}",
        "subsequent to {a}, {b}", "right after {a} there is {b}", "after {a} comes {b}",
        "shortly after {a} one hears {b}",
        "in the wake of {a}, {b}", "with {a} over, {b} begins", "not until {a} has ended does {b} begin",
        "{a} introduces {b}", "{a} announces {b}", "{a} paves the way for {b}",
        "{a} occurs sooner than {b}",
        "{a} anticipates {b}", "later than {a} comes {b}", "{a}, {b} thereafter",
        "{a} first and {b} second",
        "{a} as the first sound and {b} as the second", "after the sound of {a} there is that of {b}",
        "{a} leads {b}", "{a} triggers {b}", "{a} prompts {b}", "{a} ushers in {b}", "{a} predates {b}",
        "{a} opens for {b}",
        "{a} succeeded by {b}", "{a} replaced by {b}", "{a} ended by {b}",
    ),
    "backward": (
        "{b} after {a}", "{b} after {a}", "{b} following {a}", "{b}, following {a}",
        "{b} once {a} is over",
        "{b} as soon as {a} stops", "{b} when {a} has ended", "{b} comes after {a}",
        "{b} happens after {a}",
        "{b} is heard later than {a}", "{b} succeeds {a}", "{b} succeeding {a}", "{b} subsequent to {a}",
        "{b} only after {a} has ended", "{b} in the wake of {a}", "{b} takes over from {a}",
        "{b} replaces {a}",
        "{b} is introduced by {a}", "{b} is announced by {a}", "{b} is led into by {a}",
        "{b} is anticipated by {a}",
        "{b} has {a} ahead of it", "{b}, {a} coming before it", "{b}, but first {a}",
        "{b}, but before that {a}", "{b}, and earlier {a}", "{b}, previously {a}",
        "{b}, with {a} leading up to it",
        "{b} in the end, {a} at the start", "{b} at last, {a} initially", "{b} finally, {a} at first",
        "ending with {b}, starting with {a}", "it ends with {b} and begins with {a}",
        "until {b} begins, {a}",
        "earlier than {b} comes {a}", "ahead of {b}, {a}", "in advance of {b}, {a}",
        "by the time of {b}, {a} is over",
        "before {b} there is {a}", "right before {b} comes {a}", "shortly before {b} one hears {a}",
        "{b} does not begin until {a} ends", "{b} comes later than {a}", "{b} results from {a}",
        "{b} is the second sound and {a} the first", "{b} second and {a} first", "{b} trails {a}",
        "sooner than {b} comes {a}",
        "{b} occurs subsequently to {a}", "before the sound of {b} there is that of {a}",
        "{b} comes next after {a}",
        "{b} introduced by {a}", "{b} announced by {a}", "{b} ushered in by {a}", "{b} heralded by {a}",
        "{b} started off by {a}", "{b} triggered by {a}", "{b} is prompted by {a}",
        "{b} is opened by {a}",
        "{b} led up to by {a}", "{b} caused by {a}", "{b} prepared by {a}",
    ),
    "together": (
        "{a} while {b}", "{a} while {b}", "{a} at the same time as {b}", "{a} as {b}", "{a} during {b}",
        "{a} simultaneously with {b}", "while {a}, {b}", "{a} together with {b} at once",
        "{a} and {b} simultaneously",
        "both {a} and {b} at the same time", "{a} with {b} in the background", "{a} over {b}",
        "{a} mixed with {b}",
        "{a} and {b} overlap", "{a} amid {b}", "{a} accompanied by {b}", "during {a}, {b}", "as {a}, {b}",
        "{a} and meanwhile {b}", "{a}, {b} all the while", "{a} throughout {b}",
        "{a} overlapping with {b}",
    ),
    "start": (
        "the first sound is {a}", "in this recording, the first sound is {a}", "first there is {a}",
        "In this concatenated sound, the first sound is {a}",
        "in this concatenated sound, the first sound is {a}",
        "it starts with {a}", "at the beginning {a}", "{a} comes first", "the recording opens with {a}",
        "initially {a}",
        "the first event is {a}", "{a} at the start", "of the two sounds the first is {a}",
        "{a} is the first thing heard",
    ),
    "end": (
        "the second sound is {a}", "in this recording, the second sound is {a}",
        "In this concatenated sound, the second sound is {a}",
        "in this concatenated sound, the second sound is {a}",
        "the last sound is {a}", "it ends with {a}", "at the end {a}", "{a} comes last",
        "the recording closes with {a}",
        "finally {a}", "the last event is {a}", "{a} at the end", "of the two sounds the second is {a}",
        "{a} is the last thing heard",
    ),
}  # fmt: skip
THREE_WORDINGS: dict[str, tuple[str, ...]] = {
    "forward": (
        "{a} before {b} before {c}", "first {a}, then {b}, then {c}",
        "{a} followed by {b} followed by {c}",
        "first {a}, next {b}, finally {c}", "{a}, after that {b}, and lastly {c}",
        "{a} before {b} and then {c}",
        "at first {a}, later {b}, in the end {c}", "after {a} comes {b} and after that {c}",
        "{a} followed by {b} while {c}", "{a} followed by {b} as {c}", "{a} before {b} while {c}",
        "{a} while {b} followed by {c}", "{a} as {b} followed by {c}",
    ),
    "backward": (
        "{c} after {b} after {a}", "{c} following {b} following {a}",
        "{c}, before that {b}, and at first {a}",
        "finally {c}, earlier {b}, and at the start {a}",
    ),
}  # fmt: skip
ASKED: dict[str, tuple[str, ...]] = {
    "forward": (
        "{a}, then {b}", "{a} and then {b}", "{a} precedes {b}", "{a} prior to {b}", "after {a}, {b}",
    ),
    "backward": ("{b} follows {a}", "{b} preceded by {a}", "before {b}, {a}"),
}  # fmt: skip
ALL_WORDINGS = {relation: known + ASKED.get(relation, ()) for relation, known in WORDINGS.items()}
PROMPTS = ("{}",) * 6 + ("{}.",) * 6 + (
    "this is a sound of {}", "this is a sound of {}", "i can hear {}", "this is an audio of {}",
    "a recording of {}",
    "there is {}", "this is {}", "the sound of {}", "one hears {}", "we hear {}",
)  # fmt: skip
# What parts one clause of a real caption from the next.
PARTED = re.compile(
    r"\s*(?:,|;|\.|\b(?:and then|then|followed by|before|after|while|as|and|with|when|until|during)\b)\s*"
)
CLAUSE_WORDS = (2, 8)
WORD = re.compile(r"[^\W\d_]+|[,;]")


class EventCaption(NamedTuple):
    """A caption, the characters ``[start, end)`` of each event in the order of naming, and the relation."""

    text: str
    spans: list[tuple[int, int]]
    relation: str

    @property
    def events(self) -> list[str]:
        """The words of each event, in the order of naming."""
        return [self.text[start:end] for start, end in self.spans]


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
    """An event's words: half of the time any one to three of ``words``, where there are some, so that a
    reader learns what is no event rather than which words are; else one of ``clauses``, or made up."""

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
    wordings = ALL_WORDINGS if wordings is None else wordings
    relation = RELATIONS[generator.choice(len(RELATIONS), p=SHARES)]
    known = wordings[relation]
    if relation in THREE_WORDINGS and generator.random() < THREE:
        known = THREE_WORDINGS[relation]
    names = {key: event(generator) for key in "abc"}
    text, spans = filled(known[generator.integers(len(known))], names)
    prompt = PROMPTS[generator.integers(len(PROMPTS))]
    offset = prompt.index("{}")
    return EventCaption(prompt.format(text), [(s + offset, e + offset) for s, e in spans], relation)


def closed_class(wordings: dict[str, tuple[str, ...]] | None = None) -> list[str]:
    """The words and commas that wordings and prompts are made of beside the events, sorted, in lower case.

    ``wordings`` None: :data:`ALL_WORDINGS`.
    """
    known = ALL_WORDINGS if wordings is None else wordings
    return words_of([w for group in (*known.values(), *THREE_WORDINGS.values(), PROMPTS) for w in group])


def words_of(wordings: Sequence[str]) -> list[str]:
    """Distinct words and commas of wordings or names, without ``{a}`` and its like, sorted, in lower case."""
    bare = " ".join(re.sub(r"\{[abc]?\}", " ", wording) for wording in wordings)
    return sorted(set(WORD.findall(bare.lower())))


def clauses_of(captions: Sequence[str]) -> list[str]:
    """Distinct clauses of real captions, sorted: lower case, two to eight words, without connectives."""
    parts = (part.strip() for caption in captions for part in PARTED.split(caption.lower()))
    low, high = CLAUSE_WORDS
    return sorted({part for part in parts if low <= len(part.split()) <= high and "{" not in part})
