"""Wordings: the captions that training and evaluation use, and what each of them means.

``{a}`` sounds first, ``{b}`` second; an event is named by its label.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from tclap.data.composites import PROMPT, VIEWS, Phrase, phrases

SINGLE = ("i can hear {a}", "this is an audio of {a}", "{a}", "this is {a}", "this is a sound of {a}")
SEEN_WORDINGS = ("{a} before {b}", "{b} after {a}", "{a} followed by {b}", "first {a}, then {b}")
ORDERED = (*SEEN_WORDINGS[:2], *map(PROMPT.format, SEEN_WORDINGS[:2]), *SEEN_WORDINGS[2:])
# Not trained on: their meaning has to come from the text trunk.
UNSEEN_ORDERED = (
    "{a}, then {b}", "{a} and then {b}", "{a} precedes {b}", "{b} follows {a}", "{b} preceded by {a}",
    "{a} prior to {b}", "after {a}, {b}", "before {b}, {a}",
)  # fmt: skip
_WHILE = ("{a} while {b}", "{b} while {a}")
SIMULTANEOUS = (*_WHILE, *map(PROMPT.format, _WHILE))
CONJUNCTION = ("{a} and {b}", PROMPT.format("{a} and {b}"))
FIRST_SLOT = "In this concatenated sound, the first sound is {a}"
SECOND_SLOT = "In this concatenated sound, the second sound is {a}"


def vocabulary(labels: Sequence[str]) -> list[str]:
    """Every caption that a run over these labels can ask for, sorted."""
    captions = {t.format(a=a) for t in (*SINGLE, FIRST_SLOT, SECOND_SLOT) for a in labels}
    pair_templates = (*ORDERED, *SIMULTANEOUS, *CONJUNCTION)
    captions |= {t.format(a=a, b=b) for t in pair_templates for a, b in permutations(labels, 2)}
    return sorted(captions)


def conjunction_events(a: str, b: str) -> str:
    """Canonical events of "a and b", which says nothing about time."""
    return " + ".join(sorted((a, b)))


def view_captions(pairs: pd.DataFrame, generator: np.random.Generator | None = None) -> list[list[str]]:
    """Captions of the three views of each manifest row: three lists of N.

    With a generator each pair's caption is prompted or bare at random, alike in its three views;
    without one all are prompted.
    """
    bare = np.zeros(len(pairs), bool) if generator is None else generator.random(len(pairs)) < 0.5
    first, second = (pairs.get(f"text_{end}", pairs[f"label_{end}"]) for end in ("i", "j"))
    prompts = ["{}" if is_bare else PROMPT for is_bare in bare]
    views = _views(first, second, pairs["sigma"])
    return [[p.text(prompt) for p, prompt in zip(view, prompts, strict=True)] for view in views]


def view_events(pairs: pd.DataFrame) -> list[list[str]]:
    """Canonical events of the three views of each manifest row: three lists of N."""
    views = _views(pairs["label_i"], pairs["label_j"], pairs["sigma"])
    return [[p.events for p in view] for view in views]


def _views(first: pd.Series, second: pd.Series, sigma: pd.Series) -> list[list[Phrase]]:
    rows = [phrases(*row) for row in zip(first, second, sigma, strict=True)]
    return [[row[view] for row in rows] for view in VIEWS]


def event_ids(events: Sequence[str]) -> np.ndarray:
    """Integer ids, equal where the strings are equal."""
    return np.unique(np.asarray(events, dtype=str), return_inverse=True)[1].astype(np.int64)
