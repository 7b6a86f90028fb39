"""The caption reader: which words of a caption name events, and when each of them sounds.

MiniLM with low-rank adapters (LoRA; Hu et al., arXiv 2106.09685) on all its linear layers and two heads, read
in one pass: one says of each token whether it begins an event, is inside of one or outside, the other the
event's *role* in time: plain (nothing is said), first, middle, last, or together. The trained adapters and
heads (``reader.safetensors``, beside ``MODEL_CARD.md``) come with the package; :mod:`tclap.slots.training`
makes them.
"""

import copy
import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from tclap.arguments import at_least, strings_of
from tclap.models import minilm
from tclap.models.weights import load_exactly, read_checkpoint, write_checkpoint

BEGIN, INSIDE, OUTSIDE = range(3)
ROLES = ("plain", "first", "middle", "last", "together")
PLAIN, FIRST, MIDDLE, LAST, TOGETHER = range(5)
RELATIONS = ("plain", "forward", "backward", "together", "start", "end")
NAME = "caption-reader"
BATCH = 64
LONGEST = 256  # MiniLM's tokens


class Reading(NamedTuple):
    """What a caption says about time.

    ``relation``: ``plain`` (nothing), ``forward`` or ``backward`` (events in the order, or the inverse
    order, of naming), ``together``, ``start`` or ``end`` (events at the start, or the end, alone).
    ``events``: their words, in the order in which they sound; those of equal ``steps`` sound at once.
    ``throughout``: events beside ordered ones that sound all the time. ``confidence``: the probability that
    the caption says something about time, calibrated on labelled captions.
    """

    relation: str
    events: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    throughout: tuple[str, ...] = ()
    confidence: float = 0.0


class Span(NamedTuple):
    """An event's characters ``[start, end)`` in a caption, and its role: an index of :data:`ROLES`."""

    start: int
    end: int
    role: int


class Adapted(nn.Module):
    """A frozen linear layer plus a trained one of low rank, zero at the start."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x @ self.down.T @ self.up.T

    def merged(self) -> nn.Linear:
        """One linear layer that gives the same."""
        self.linear.weight.data += self.up.data @ self.down.data
        return self.linear


class Reader(nn.Module):
    """MiniLM with adapters of ``rank`` and the two heads; use :func:`load_reader`.

    Args:
        rank: of the adapters.
        temperature: the logit of "timed" is divided by it.
        threshold: a caption with a lower probability to be timed is plain.
    """

    def __init__(self, rank: int = 16, temperature: float = 1.0, threshold: float = 0.5) -> None:
        super().__init__()
        at_least(1, rank=rank)
        at_least(1e-6, temperature=temperature)
        at_least(0.0, threshold=threshold)
        encoder, self.tokenizer = minilm.load()
        self.config = {"rank": rank, "temperature": temperature, "threshold": threshold}
        self.encoder = copy.deepcopy(encoder).cpu()  # a model on a GPU may have moved the one that is shared
        _replace(self.encoder.encoder.layer, nn.Linear, lambda linear: Adapted(linear, rank))
        self.to_tag, self.to_role = nn.Linear(minilm.WIDTH, 3), nn.Linear(minilm.WIDTH, len(ROLES))

    def trained(self) -> dict[str, Tensor]:
        """The adapters and heads, by name: all that a file of a reader holds."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def merge(self) -> Self:
        """Adapters joined with the layers that they adapt, which is faster and ends training; itself."""
        _replace(self.encoder.encoder.layer, Adapted, Adapted.merged)
        return self.requires_grad_(False).eval()

    def tokenize(self, captions: Sequence[str]) -> tuple[dict[str, Tensor], list[list[tuple[int, int]]]]:
        """MiniLM's input, and the characters of each token; special tokens are at ``(0, 0)``."""
        options = {"truncation": True, "max_length": LONGEST, "padding": True}
        found = self.tokenizer(list(captions), return_offsets_mapping=True, return_tensors="pt", **options)
        offsets = [[tuple(span) for span in row] for row in found.pop("offset_mapping").tolist()]
        return {name: value.to(self.to_tag.weight.device) for name, value in found.items()}, offsets

    def forward(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of each token's tag ``[N, L, 3]`` and role ``[N, L, 5]``."""
        hidden = self.encoder(**tokens).last_hidden_state
        return self.to_tag(hidden).float(), self.to_role(hidden).float()

    @torch.no_grad()
    def spans(self, captions: Sequence[str]) -> list[tuple[list[Span], float]]:
        """Each caption's events with their roles (none of them plain), and its probability to be timed."""
        order = sorted(range(len(captions)), key=lambda n: len(captions[n]))
        found: list = [None] * len(captions)
        for start in range(0, len(order), BATCH):
            block = order[start : start + BATCH]
            tokens, offsets = self.tokenize([captions[n] for n in block])
            tags, roles = self(tokens)
            for n, row, by_role, places in zip(block, tags.argmax(-1).tolist(), roles, offsets, strict=True):
                found[n] = self._decoded(captions[n], row, by_role, places)
        return found

    def _decoded(self, caption: str, tags: list[int], roles: Tensor, offsets: list) -> tuple:
        events = events_of(caption, tags, offsets)
        if not events:
            return [], 0.0
        logs = log_softmax(roles, dim=-1)
        means = torch.stack([logs[tokens].mean(0) for _, _, tokens in events])
        # The logit of "some event is not plain", averaged over the events.
        logit = float((means[:, 1:].logsumexp(1) - means[:, PLAIN]).mean())
        with_roles = zip(events, roles_of(means), strict=True)
        spans = [Span(start, end, role) for (start, end, _), role in with_roles]
        return spans, 1 / (1 + math.exp(-logit / self.config["temperature"]))

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """What captions say about time; TypeError on one string, or what is no list of strings."""
        captions = strings_of(captions, "captions")
        found = zip(captions, self.spans(captions), strict=True)
        # A doubtful caption is read as if it named no events.
        threshold = self.config["threshold"]
        return [reading(c, spans if sure >= threshold else [], sure) for c, (spans, sure) in found]

    def save(self, path: str | Path, **card: Any) -> None:
        """Write adapters and heads in half precision, with ``card`` (plain values) in the header."""
        state = {name: value.detach().half().cpu().contiguous() for name, value in self.trained().items()}
        write_checkpoint(path, NAME, self.config | {"card": card}, state)


def load_reader(path: str | Path | None = None) -> Reader:
    """A trained caption reader, of a file of :mod:`tclap.slots.training`; None: the package's own.

    Raises:
        OSError: when a file is missing.
        ValueError: when it is damaged or no reader.
    """
    path = Path(path or str(resources.files("tclap.slots").joinpath("reader.safetensors")))
    config, state = read_checkpoint(path, NAME)
    config.pop("card", None)
    reader = Reader(**config)
    load_exactly(reader, state, path, {name: name for name in reader.trained()})
    return reader.merge()


def _replace(module: nn.Module, kind: type, made_of: Callable[[Any], nn.Module]) -> None:
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if type(part) is kind:
                setattr(parent, name, made_of(part))


def events_of(
    caption: str, tags: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[tuple[int, int, list[int]]]:
    """Start, end and tokens of each event of a caption, from its tokens' tags.

    A word has the tag of its first piece, so that no event starts or ends within one.
    """
    events: list[tuple[int, int, list[int]]] = []
    inside, last = False, -1
    for n, (tag, (start, end)) in enumerate(zip(tags, offsets, strict=False)):
        if end <= start:
            continue
        goes_on = start == last and caption[start].isalnum() and caption[start - 1].isalnum()
        last = end
        if not goes_on:
            if tag == BEGIN or (tag == INSIDE and not inside):
                events.append((start, end, []))
            inside = tag != OUTSIDE
        if inside:
            first, _, tokens = events[-1]
            events[-1] = (first, end, [*tokens, n])
    return events


def roles_of(logs: Tensor) -> list[int]:
    """The likeliest roles that make sense together, from log-probabilities of each event's roles ``[n, 5]``.

    Of several events all sound together, or one is first and another last. One alone is first, last, or
    together with nothing that is named.
    """
    count, best = len(logs), logs[:, 1:].max(1)
    if count == 1:
        return [max((FIRST, LAST, TOGETHER), key=lambda role: float(logs[0, role]))]
    # What it costs that event i is first, and that event j is last.
    cost = (best.values - logs[:, FIRST])[:, None] + (best.values - logs[:, LAST])
    cost.fill_diagonal_(math.inf)
    if (best.values - logs[:, TOGETHER]).sum() <= cost.min():
        return [TOGETHER] * count
    roles, (first, last) = (best.indices + 1).tolist(), divmod(int(cost.argmin()), count)
    roles[first], roles[last] = FIRST, LAST
    return roles


def reading(caption: str, spans: Sequence[Span], confidence: float = 1.0) -> Reading:
    """What events with roles mean; what cannot be made sense of is plain."""
    by_role = [[span for span in spans if span.role == role] for role in range(len(ROLES))]

    def words(chosen: Sequence[Span]) -> tuple[str, ...]:
        return tuple(caption[span.start : span.end].strip() for span in chosen)

    _, first, middle, last, together = by_role
    if not first and not last:
        if middle or len(together) < 2:
            return Reading("plain", confidence=confidence)
        return Reading("together", words(together), (0,) * len(together), (), confidence)
    is_backward = bool(first and last) and first[0].start > last[0].start
    between = [[span] for span in (middle[::-1] if is_backward else middle)]
    groups = [*([first] if first else []), *between, *([last] if last else [])]
    events = words([span for group in groups for span in group])
    numbers = tuple(n for n, group in enumerate(groups) for _ in group)
    relation = "backward" if is_backward else "forward"
    if len(groups) == 1:
        relation = "start" if first else "end"
    return Reading(relation, events, numbers, words(together), confidence)
