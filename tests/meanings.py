"""Stands for a model in tests of the evaluation: an embedding has one axis per meaning."""

import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.evaluation.embeddings import Embeddings

DIM = 256
LABELS = ["dog", "rain", "church bells", "hen", "siren", "chainsaw", "clock tick", "sea waves"]
FORWARD = (
    "(.+?) before (.+) before (.+)|first (.+?), then (.+), then (.+)|(.+) before (.+)|(.+) followed by (.+)|"
    "first (.+), then (.+)|(.+), then (.+)|(.+) and then (.+)|(.+) precedes (.+)|(.+) prior to (.+)|"
    "after (.+), (.+)"
)
BACKWARD = "(.+) preceded by (.+)|(.+) follows (.+)|before (.+), (.+)|(.+) after (.+)"


def clips_of(labels: Iterable[str], per_class: int = 2) -> pd.DataFrame:
    """Test clips without files."""
    rows = [(f"{label}-{n}", label, f"s-{label}-{n}") for label in labels for n in range(per_class)]
    return pd.DataFrame(rows, columns=["clip_id", "label", "source"])


def pairs_of(labels: Iterable[str], per_class: int = 2, copies: int = 1) -> pd.DataFrame:
    """Every ordered pair of labels forward and reversed, of changing clips of :func:`clips_of`."""
    rows = []
    ordered = itertools.product(itertools.permutations(labels, 2), ("forward", "reversed"), range(copies))
    for n, (ends, order, _) in enumerate(ordered):
        row = {"pair_id": f"p{n}", "sigma": ("preceding", "succeeding")[n // 2 % 2], "order": order}
        for end, label, take in zip("ij", ends, (n % per_class, n // 7 % per_class), strict=True):
            row |= {f"label_{end}": label, f"clip_{end}": f"{label}-{take}"}
            row |= {f"source_{end}": f"s-{label}-{take}"}
        rows.append(row)
    return pd.DataFrame(rows)


def said(caption: str) -> tuple[str, ...] | None:
    """The events of a caption in their order, those that sound at once after "while"; None where it has none.

    Of a caption about one part of a sound, "first" or "second" and the event.
    """
    if found := re.fullmatch("In this concatenated sound, the (first|second) sound is (.+)", caption):
        return found.groups()
    words = caption.removeprefix("this is a sound of ")
    for pattern, turn in ((BACKWARD, -1), (FORWARD, 1)):
        if found := re.fullmatch(pattern, words):
            events = tuple(event for event in found.groups() if event)[::turn]
            if set(events) <= set(LABELS):
                return events
    if found := re.fullmatch("(.+) (while|and) (.+)", words):
        return ("while", *sorted(found.group(1, 3)))
    return (words,) if words in LABELS else None


def heard(events: tuple[str, ...]) -> dict[Hashable, float]:
    """The weights of what can be said of a sound, from its events as :func:`said` gives them."""
    ends = {("first", events[0]): 1.0, ("second", events[-1]): 1.0} if events[0] != "while" else {}
    return {(event,): 0.5 for event in events if event != "while"} | ends | {events: 1.0}


def played(pair: Mapping, view: str) -> tuple[str, ...]:
    """The events of a pair's composite."""
    ends = (pair["label_i"], pair["label_j"])
    return {"forward": ends, "reversed": ends[::-1]}.get(view) or ("while", *sorted(ends))


def no_order(meaning: tuple[str, ...]) -> tuple[str, ...]:
    """How a model without order takes a meaning."""
    place = {"first": "part", "second": "part"}
    return meaning if meaning[0] == "while" else tuple(sorted(place.get(word, word) for word in meaning))


class Meanings(Embeddings):
    """Embeddings of sounds and captions by what they say.

    Args:
        sounds: the events of each, or the weights of its meanings, by its name.
        read: a caption's meaning; None where it says nothing.
        takes: what the model makes of a meaning, be it a sound's or a caption's.
    """

    def __init__(
        self,
        sounds: Mapping[str, tuple[str, ...] | Mapping[Hashable, float]],
        read: Callable[[str], Hashable | None] = said,
        takes: Callable[[Hashable], Hashable] = lambda meaning: meaning,
    ) -> None:
        self.axes: dict[Hashable, int] = {}
        self.read, self.takes = read, takes
        super().__init__(
            sounds, self.embed([heard(x) if isinstance(x, tuple) else x for x in sounds.values()])
        )

    def embed(self, said: Sequence[Mapping[Hashable, float]]) -> Tensor:
        rows = torch.zeros(len(said), DIM)
        for row, meanings in zip(rows, said, strict=True):
            for meaning, weight in meanings.items():
                row[self.axes.setdefault(self.takes(meaning), len(self.axes))] += weight
        return normalize(rows, dim=1)

    def embed_captions(self, captions):
        read = [self.read(caption) for caption in captions]
        return self.embed([{} if meaning is None else {meaning: 1.0} for meaning in read])


class Random(Embeddings):
    """Random directions."""

    def __init__(self, names, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        super().__init__(names, self.embed_captions(names))

    def embed_captions(self, captions):
        return normalize(torch.randn(len(captions), 128, generator=self.generator), dim=1)
