"""Captions with events and their roles in time, for the caption reader to learn from.

Made up: sounds, and phrases and clauses of real captions, in the wordings of ``wordings.yaml``, which are
ordered by families (all forms of one verb or idea). Real: captions of AudioCaps and Clotho, labelled by
``caption_roles.csv``, as they are or with other events in the places of their own.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from tclap.data.datasets import audiocaps, clotho
from tclap.slots.reader import FIRST, LAST, MIDDLE, PLAIN, ROLES, TOGETHER, Span

PLACEHOLDERS = {"{F}": FIRST, "{M}": MIDDLE, "{L}": LAST, "{T}": TOGETHER, "{P}": PLAIN}
# How often made-up captions say what about time.
FREQUENCIES = {"plain": 0.2, "ordered": 0.55, "together": 0.16, "edge": 0.09}
COMMON = 0.35  # of the timed ones have a usual wording
UNLABELLED = 0.28  # of the captions are real ones that no word can make timed
REAL = 2500  # so many labelled captions would be half of the others
SWAPPED = 0.5  # of the real timed ones get other events
# What parts one clause of a real caption from the next.
PARTED = re.compile(
    r"\s*(?:,|;|\.|\b(?:and then|then|followed by|before|after|while|as|and|with|when|until|during)\b)\s*"
)
# A caption without any such word says nothing about when.
TIMED = re.compile(
    r"\b(then|follow\w*|before|after\w*|while|whilst|as|when\w*|during|until|till|(back|fore)ground\w*|first\w*"
    r"|final\w*|last\w*|over|amid\w*|times?|simultaneous\w*|together|meanwhile|once|between|later|next"
    r"|eventual\w*|subsequent\w*|preced\w*|prior|start\w*|begin\w*|end\w*|stop\w*|throughout|becom\w*"
    r"|turn\w*|accompan\w*|along\w*|concurrent\w*|second\w*)\b",
    re.IGNORECASE,
)
# The evaluation's unseen wordings (tclap.data.captions.UNSEEN_ORDERED), wherever they stand in a text.
UNSEEN = re.compile(
    r"(,|\band) then\b|\b(precedes|follows|preceded by|prior to)\b"
    r"|(^|[:,] |\b(of|is|hear|find|for|to) )(after|before)\b.*,",
    re.IGNORECASE,
)
PUNCTUATION = ".,;:!?"
FORMS = ("<leads>", "<led>", "<leading>", "<been led>")  # of a verb in the frames of wordings.yaml


class Wording(NamedTuple):
    """A wording with placeholders, its family, what it says of time, and what events fit."""

    text: str
    family: str
    kind: str  # a key of FREQUENCIES
    fits: str  # "n", "c" or ""


class LabelledCaption(NamedTuple):
    """A caption and its events; without any it is plain."""

    text: str
    spans: tuple[Span, ...]


@lru_cache(maxsize=1)
def _data() -> dict:
    return yaml.safe_load(
        resources.files("tclap.slots").joinpath("wordings.yaml").read_text(encoding="utf-8")
    )


def wordings(families: Mapping[str, Sequence[str]] | None = None) -> list[Wording]:
    """Wordings of families, by their names; None: all that are learned from."""
    families = _data()["wordings"] | _verbs() if families is None else families
    return [_wording(text, family) for family, known in families.items() for text in known]


def _verbs() -> dict[str, list[str]]:
    """Families of the table of verbs, each named by its third person."""
    families = {}
    for kind, verbs in _data()["verbs"].items():
        for forms in verbs:
            known = dict(zip(FORMS, forms, strict=False))
            families[f"{kind}: {forms[0]}"] = [
                _in_forms(frame, known)
                for frame in _data()["frames"][kind]
                if set(re.findall(r"<.*?>", frame)) <= set(known)
            ]
    return families


def _in_forms(frame: str, known: Mapping[str, str]) -> str:
    for form, word in known.items():
        frame = frame.replace(form, word)
    return frame


@lru_cache(maxsize=1)
def _words_of_wordings() -> frozenset[str]:
    return frozenset(word for known in wordings() for word in re.findall(r"[a-z]+", known.text.lower()))


def is_held_out(text: str) -> bool:
    """Whether a text has one of the evaluation's unseen wordings or a word of an ESC-50 class name."""
    words = re.findall(r"[a-z]+", text.lower())
    return bool(UNSEEN.search(text)) or not set(words).isdisjoint(_data()["class_words"])


def _wording(text: str, family: str) -> Wording:
    text, _, fits = text.partition(" #")
    roles = {PLACEHOLDERS[name] for name in re.findall(r"\{[FMLTP]\}", text)}
    if roles <= {PLAIN}:
        kind = "plain"
    elif len(roles & {FIRST, MIDDLE, LAST}) > 1:
        kind = "ordered"
    else:
        kind = "together" if roles == {TOGETHER} else "edge"
    return Wording(text, family, kind, fits)


def chosen(wording: str, generator: np.random.Generator) -> str:
    """A wording with one of the words, at random, wherever it has a choice: ``[one|two]``."""
    return re.sub(r"\[(.*?)\]", lambda words: _one_of(words[1].split("|"), generator), wording)


def filled(wording: str, event: Callable[[], str]) -> LabelledCaption:
    """A wording with an event in each placeholder; plain events are not labelled."""
    text, spans = "", []
    for part in re.split(r"(\{[FMLTP]\})", wording):
        if part in PLACEHOLDERS:
            words = event()
            if PLACEHOLDERS[part] != PLAIN:
                spans.append(Span(len(text), len(text) + len(words), PLACEHOLDERS[part]))
            part = words
        text += part
    return LabelledCaption(text, tuple(spans))


def labelled_captions(
    audiocaps_root: str | Path | None = None, clotho_root: str | Path | None = None
) -> list[LabelledCaption]:
    """The captions of ``caption_roles.csv`` with labels; errors as of the data sets' ``read_captions``.

    Raises:
        ValueError: when a labelled caption is not among the data sets' captions.
    """
    real = real_captions(audiocaps_root, clotho_root)
    found = []
    for row in _roles():
        key = row["id"], row["caption"]
        if key not in real:
            raise ValueError(f"the labelled caption {' '.join(key)} of {row['set']} is missing there.")
        found.append(LabelledCaption(real[key], _spans(real[key], row["roles"])))
    return found


def unlabelled_captions(
    audiocaps_root: str | Path | None = None, clotho_root: str | Path | None = None
) -> list[str]:
    """AudioCaps' training captions, and Clotho's of the clips that ``caption_roles.csv`` names.

    The other clips of Clotho's development part are left to measure with.
    """
    labelled = {row["id"] for row in _roles() if row["caption"]}
    real = real_captions(audiocaps_root, clotho_root)
    return [text for (clip, number), text in real.items() if not number or clip in labelled]


def _roles() -> list[dict[str, str]]:
    text = resources.files("tclap.slots").joinpath("caption_roles.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def real_captions(
    audiocaps_root: str | Path | None, clotho_root: str | Path | None
) -> dict[tuple[str, str], str]:
    """AudioCaps' training and Clotho's development captions by id and number."""
    of_audiocaps = audiocaps.read_captions(audiocaps_root, "train")
    of_clotho = clotho.read_captions(clotho_root, "development")
    keys = [(number, "") for number in of_audiocaps["number"]]
    keys += list(zip(of_clotho["clip_id"] + ".wav", of_clotho["number"], strict=True))
    return dict(zip(keys, [*of_audiocaps["caption"], *of_clotho["caption"]], strict=True))


def _spans(caption: str, roles: str) -> tuple[Span, ...]:
    words = [match.span() for match in re.finditer(r"\S+", caption)]
    spans = []
    for role, first, last in re.findall(r"(\w+):(\d+)-(\d+)", roles):
        start, end = words[int(first)][0], words[int(last)][1]
        end = start + len(caption[start:end].rstrip(PUNCTUATION))
        spans.append(Span(start, end, ROLES.index(role)))
    return tuple(spans)


class Captions:
    """Draws labelled captions.

    Args:
        words: that some events are made of, so that a reader learns what is no event rather than which
            words are.
        labelled: real captions, drawn the more often the more there are.
        real: captions without labels: their words, phrases and clauses are events, and those without any word
            of time are plain.
        allowed: says of a text whether it may be learned from; the others are drawn again.
    """

    def __init__(
        self,
        words: Sequence[str],
        labelled: Sequence[LabelledCaption] = (),
        real: Sequence[str] = (),
        allowed: Callable[[str], bool] = lambda text: True,
    ) -> None:
        self.words, self.allowed = [word for word in words if allowed(word)], allowed
        parts = {part.strip() for text in real for part in PARTED.split(text.lower())}
        short = sorted(part for part in parts if 2 <= len(part.split()) <= 8 and "{" not in part)
        self.clauses = [clause for clause in short if allowed(clause)]
        self.phrases = [clause for clause in self.clauses if len(clause.split()) <= 4]
        # As often as they are there: what sounds in real captions must not tell them from made-up ones.
        named = (word for text in real for word in re.findall(r"[a-z]{3,}", text.lower()))
        self.named = [word for word in named if word not in _words_of_wordings() and allowed(word)]
        self.plain = [LabelledCaption(text, ()) for text in real if allowed(text) and not TIMED.search(text)]
        self.labelled = [caption for caption in labelled if allowed(caption.text)]
        self.by_kind = {kind: [w for w in wordings() if w.kind == kind] for kind in FREQUENCIES}
        self.common = {
            kind: [w for w in known if w.text in _data()["common"]] for kind, known in self.by_kind.items()
        }
        self.by_family = {
            kind: list({w.family: [v for v in known if v.family == w.family] for w in known}.values())
            for kind, known in self.by_kind.items()
        }

    def draw(self, generator: np.random.Generator) -> LabelledCaption:
        """One caption."""
        while True:
            if self.plain and generator.random() < UNLABELLED:
                caption = _one_of(self.plain, generator)
            elif generator.random() < len(self.labelled) / (len(self.labelled) + REAL):
                caption = self._real(generator)
            else:
                caption = self.made_up(generator)
            caption = _decorated(caption, generator)
            if self.allowed(caption.text):
                return caption

    def _real(self, generator: np.random.Generator) -> LabelledCaption:
        caption = self.labelled[generator.integers(len(self.labelled))]
        if not caption.spans or generator.random() >= SWAPPED:
            return caption
        spans = sorted(caption.spans)
        text, moved, last = "", [], 0
        for span in spans:
            event = self.event(generator) if generator.random() < 0.7 else caption.text[span.start : span.end]
            text += caption.text[last : span.start]
            moved.append(Span(len(text), len(text) + len(event), span.role))
            text, last = text + event, span.end
        return LabelledCaption(text + caption.text[last:], tuple(moved))

    def made_up(self, generator: np.random.Generator) -> LabelledCaption:
        """A wording filled with events, mostly drawn by family, so that a rare one is not lost."""
        kind = list(FREQUENCIES)[generator.choice(len(FREQUENCIES), p=list(FREQUENCIES.values()))]
        known = self.by_kind[kind]
        if self.common[kind] and generator.random() < COMMON:
            known = self.common[kind]
        # A plain family has what sounds timed and is not, which is rare.
        elif kind != "plain" and generator.random() < 0.7:
            known = _one_of(self.by_family[kind], generator)
        wording = _one_of(known, generator)
        caption = filled(chosen(wording.text, generator), lambda: self.event(generator, wording.fits))
        if generator.random() < 0.4:
            prompt = _one_of(_data()["prompts"], generator)
            caption = _placed(caption, prompt)
        return caption

    def event(self, generator: np.random.Generator, fits: str = "") -> str:
        """An event's words; ``fits``: ``n`` for a noun phrase, ``c`` for a clause, else either."""
        if not fits:
            fits = "n" if generator.random() < 0.55 else "c"
        real, often = (self.phrases, 0.3) if fits == "n" else (self.clauses, 0.85)
        if real and generator.random() < often:
            return _one_of(real, generator)
        return self._noun_phrase(generator) if fits == "n" else self._clause(generator)

    def _noun_phrase(self, generator: np.random.Generator) -> str:
        events, source = _data()["events"], generator.random()
        if self.named and source < 0.3:
            noun = _one_of(self.named, generator)
        elif source < 0.4:
            count = generator.choice(3, p=(0.6, 0.3, 0.1)) + 1
            noun = " ".join(_one_of(self.words, generator) for _ in range(count))
        else:
            noun = _one_of(events["sounds"], generator)
        form = generator.random()
        if form < 0.35:
            return noun  # as class names and queries are
        if form < 0.75:
            an = "an" if noun[0] in "aeiou" else "a"
            return f"{generator.choice((an, 'the', 'some'), p=(0.7, 0.25, 0.05))} {noun}"
        return _one_of(events["described"], generator).format(noun)

    def _clause(self, generator: np.random.Generator) -> str:
        events, form = _data()["events"], generator.integers(3)
        if generator.random() < 0.2:
            return _one_of(events["clauses"][("third", "gerund", "progressive")[form]], generator)
        subject = _one_of(events["subjects"], generator)
        if generator.random() < 0.3:
            subject = f"{_one_of(('a', 'the', 'some'), generator)} {_one_of(self.words, generator)}"
        clause = f"{subject} {_one_of(events['actions'], generator)[form]}"
        return f"{clause} {_one_of(events['places'], generator)}" if generator.random() < 0.4 else clause


def _one_of(known: Sequence, generator: np.random.Generator) -> Any:
    return known[generator.integers(len(known))]


def _placed(caption: LabelledCaption, prompt: str) -> LabelledCaption:
    offset = prompt.index("{}")
    spans = tuple(Span(start + offset, end + offset, role) for start, end, role in caption.spans)
    return LabelledCaption(prompt.format(caption.text), spans)


def _decorated(caption: LabelledCaption, generator: np.random.Generator) -> LabelledCaption:
    """A capital at the start, a full stop at the end, or neither, as people write captions."""
    text, spans = caption
    if generator.random() < 0.4:
        text = text[:1].upper() + text[1:]
    if generator.random() < 0.3:
        text = text.rstrip(".") + ("" if text.endswith(".") else ".")
    return LabelledCaption(text, tuple(span._replace(end=min(span.end, len(text))) for span in spans))
