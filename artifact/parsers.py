"""Parsers of captions to compare the caption reader with: regular expressions, and the oracle parse.

Each reads captions as :meth:`tclap.slots.Reader.read` does.
"""

import re
from collections.abc import Sequence

from tclap.data.captions import FIRST_SLOT, ORDERED, SECOND_SLOT, SIMULTANEOUS, SINGLE, UNSEEN_ORDERED
from tclap.data.composites import PROMPT
from tclap.evaluation.controls import THREE
from tclap.slots.reader import Reading

# First match wins; the groups are the events in the order of naming.
RULES = (
    ("backward", r"(?:before|prior to)\b(.+?),(.+)"),
    ("forward", r"(?:after|following|once)\b(.+?),(.+)"),
    ("together", r"(?:while|as|during)\b(.+?),(.+)"),
    ("forward", r"(.+?)\b(?:followed by|before|(?:and )?then|until|prior to|and later|and afterwards)\b(.+)"),
    ("backward", r"(.+?)\b(?:after|following|preceded by)\b(.+)"),
    ("together", r"(.+?)\b(?:while|as|during|amid|over)\b(.+)"),
    ("together", r"(.+?)\b(?:with|and)\b(.+?) in the background.*"),
)
# What the evaluation's captions are made from; events are named in time, {a} first.
TEMPLATES = {
    "plain": SINGLE,
    "ordered": (*ORDERED, *UNSEEN_ORDERED, *(words.format("{a}", "{b}", "{c}") for words in THREE.values())),
    "together": SIMULTANEOUS,
    "start": (FIRST_SLOT,),
    "end": (SECOND_SLOT,),
}


class RegexParser:
    """Seven regular expressions, written for captions of AudioCaps and Clotho; the prompt is stripped."""

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """What captions say about time."""
        return [
            _by_rules(caption.removeprefix(PROMPT.format("")).strip(" .").lower()) for caption in captions
        ]


def _by_rules(caption: str) -> Reading:
    for relation, rule in RULES:
        if found := re.fullmatch(rule, caption):
            events = tuple(part.strip(" ,") for part in found.groups())
            steps = (0, 0) if relation == "together" else (0, 1)
            return Reading(relation, events[::-1] if relation == "backward" else events, steps)
    return Reading("plain")


class OracleParser:
    """The reading that the template of a caption of the evaluation gives, exactly.

    Args:
        labels: the names of events.
        simultaneous: False: "A while B" is plain, so that the model's own embedding of the whole answers it.
    """

    def __init__(self, labels: Sequence[str], *, simultaneous: bool = True) -> None:
        event, self.simultaneous = "|".join(map(re.escape, labels)), simultaneous
        self._patterns = [
            (relation, re.compile(re.sub(r"\\{(\w)\\}", lambda name: f"(?P<{name[1]}>{event})", escaped)))
            for relation, templates in TEMPLATES.items()
            for escaped in map(re.escape, templates)
        ]

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """What captions say about time; ValueError on one that no template makes of the labels."""
        return [self._read(caption) for caption in captions]

    def _read(self, caption: str) -> Reading:
        for relation, pattern in self._patterns:
            if found := pattern.fullmatch(caption):
                if relation == "plain" or (relation == "together" and not self.simultaneous):
                    return Reading("plain")
                events = tuple(found[name] for name in sorted(found.groupdict()))
                if relation == "together":
                    return Reading(relation, events, (0, 0))
                if relation == "ordered":
                    relation = "forward" if found.start("a") < found.start("b") else "backward"
                return Reading(relation, events, tuple(range(len(events))))
        raise ValueError(f"no template of the evaluation makes {caption!r} of the labels.")
