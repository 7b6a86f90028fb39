"""Give any CLAP a sense of time, from captions alone: :func:`add_slots`.

The model's slots (:mod:`tclap.slots.model`) need no training of sound. What is trained, on made-up captions
(:mod:`tclap.slots.event_captions`), is the reader that says which words of a caption name events and how
these relate in time. The frozen text trunk is given each caption once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from tclap.arguments import at_least, strings_of
from tclap.models.base import AudioTextModel, Tokens
from tclap.progress import progress
from tclap.slots.event_captions import (
    ALL_WORDINGS,
    FREQUENCIES,
    PROMPTS,
    RELATIONS,
    THREE_WORDINGS,
    EventCaption,
    clauses_of,
    closed_class,
    draw_caption,
    drawn_event,
    filled,
    words_of,
)
from tclap.slots.model import SlotModel
from tclap.slots.reader import BEGIN, EVENT, INSIDE, OUTSIDE, CaptionReader, first_character

log = logging.getLogger(__name__)
READER = 50  # RNG stream
IGNORED = -100
SMOOTHING = 0.05  # of the relation's labels
BLOCK = 64
PARTS_OF = {"words": ("closed", "words", "to_label"), "relation": ("rest", "to_relation")}


def add_slots(
    model: AudioTextModel,
    *,
    wordings: dict[str, tuple[str, ...]] | None = None,
    whole: float = 0.0,
    parts: Sequence[float] | None = None,
    slots: int = 2,
    **training: Any,
) -> SlotModel:
    """A model with slots in time around ``model``, which is left as it is.

    Args:
        model: any CLAP of :func:`tclap.load_model`.
        wordings: to learn from; None: :data:`tclap.slots.event_captions.ALL_WORDINGS`.
        whole: weight of a timed caption's own embedding; above 0 for a model that knows order.
        parts: fractions of the time axis that make a slot, see :class:`~tclap.slots.model.SlotModel`.
        slots: in time; 2 tell two events apart, and three by the first and the last.
        training: arguments of :func:`train_reader`.
    """
    slotted = SlotModel(model, parts, whole, closed_class=closed_class(wordings), slots=slots)
    train_reader(slotted, wordings=wordings, **training)
    return slotted


def train_reader(
    model: SlotModel,
    *,
    captions: Sequence[str] = (),
    exclude: Sequence[str] = (),
    wordings: dict[str, tuple[str, ...]] | None = None,
    event: Callable[[np.random.Generator], str] | None = None,
    steps: int = 600,
    lr: float = 3e-3,
    batch: int = 64,
    pool: int = 4000,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a model's caption reader. The history has ``part`` (words or relation), ``step`` and ``loss``.

    Args:
        model: whose reader is replaced.
        captions: real ones, whose clauses are half of the events that are not any words.
        exclude: names whose words shall not be learnt from, such as classes to be tested.
        wordings: to learn from; None: :data:`tclap.slots.event_captions.ALL_WORDINGS`.
        event: draws an event's words; None: any words, clauses of ``captions``, and word lists.
        steps, lr, batch: of the training (AdamW, one cycle).
        pool: number of captions that are made.
        seed: of the captions and the reader.

    Raises:
        TypeError: on captions or names that are no list of strings.
        ValueError: on numbers below 1.
    """
    at_least(1, steps=steps, batch=batch, pool=pool)
    captions, exclude = strings_of(captions, "captions"), strings_of(exclude, "names")
    started = time.perf_counter()
    generator = np.random.default_rng([seed, READER])
    if event is None:
        event = partial(drawn_event, words=any_words(model, exclude), clauses=clauses_of(captions))
    wordings = ALL_WORDINGS if wordings is None else wordings
    drawn = [draw_caption(generator, wordings, event) for _ in range(pool)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = CaptionReader(model.text_trunk.width, model.closed_class, model.reader.words.hidden_size)
        model.reader = reader.to(model.log_scale.device).train()
        fit = partial(_fit, reader, steps=steps, lr=lr, batch=batch, generator=generator)
        relations = _relations_of(model, wordings)
        histories = [
            fit("words", _words_of(model, drawn), _words_loss(model)),
            fit("relation", relations, _relation_loss(model), weights=_by_relation(relations)),
        ]
    reader.eval().requires_grad_(False)
    log.info("caption reader: %d captions, %.0f s", pool, time.perf_counter() - started)
    return pd.concat(histories, ignore_index=True)


def any_words(model: SlotModel, exclude: Sequence[str] = ()) -> list[str]:
    """Words of the text trunk's tokenizer, three letters or more; none of a wording or ``exclude``."""
    kept_out = {*model.closed_class, *closed_class(), *words_of(exclude)}
    found = {token.lower() for token in model.text_trunk.whole_words()}
    return sorted(w for w in found if w.isascii() and w.isalpha() and len(w) > 2 and w not in kept_out)


def _tokens(model: SlotModel, captions: Sequence[str], what: str) -> list[Tensor]:
    """The text trunk's outputs of each caption, on the CPU; captions of like length share a batch."""
    order = sorted(range(len(captions)), key=lambda n: len(captions[n]))
    rows: list[Tensor] = [torch.empty(0)] * len(captions)
    for start in progress(range(0, len(order), BLOCK), what, quiet=len(order) < 1000):
        block = order[start : start + BLOCK]
        with torch.no_grad():
            values, lengths = model.text_trunk([captions[n] for n in block])
        for n, row, length in zip(block, values.float().cpu(), lengths.tolist(), strict=True):
            rows[n] = row[:length].clone()
    return rows


def _words_of(model: SlotModel, drawn: Sequence[EventCaption]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Each caption's tokens, their closed-class words and their labels."""
    texts = [caption.text for caption in drawn]
    rows, offsets = _tokens(model, texts, "captions to learn from"), model.text_trunk.offsets(texts)
    return [
        (row, model.reader.closed_words(c.text, places)[: len(row)], token_labels(c, places)[: len(row)])
        for row, c, places in zip(rows, drawn, offsets, strict=True)
    ]


def _relations_of(model: SlotModel, wordings: dict[str, tuple[str, ...]]) -> list[tuple[Tensor, int]]:
    """The tokens of each wording in each prompt with "a sound" for its events, and its relation's number."""
    names = dict.fromkeys("abc", EVENT)
    relations = {
        prompt.format(filled(wording, names)[0]): RELATIONS.index(relation)
        for relation, known in (*wordings.items(), *THREE_WORDINGS.items())
        for wording in known
        for prompt in PROMPTS
    }
    rows = _tokens(model, list(relations), "wordings to learn from")
    return list(zip(rows, relations.values(), strict=True))


def _batch(model: SlotModel, rows: Sequence[Tensor]) -> Tokens:
    lengths = torch.tensor([len(row) for row in rows])
    device = model.log_scale.device
    return Tokens(pad_sequence(list(rows), batch_first=True).to(device), lengths.to(device))


def _words_loss(model: SlotModel) -> Callable[[list], Tensor]:
    def loss(chosen: list) -> Tensor:
        device = model.log_scale.device
        closed = pad_sequence([closed for _, closed, _ in chosen], batch_first=True).to(device)
        labels = pad_sequence([labels for *_, labels in chosen], batch_first=True, padding_value=IGNORED)
        logits = model.reader.label(_batch(model, [row for row, *_ in chosen]), closed)
        return cross_entropy(logits.flatten(0, 1), labels.flatten().to(device), ignore_index=IGNORED)

    return loss


def _relation_loss(model: SlotModel) -> Callable[[list], Tensor]:
    def loss(chosen: list) -> Tensor:
        logits = model.reader.relate(_batch(model, [row for row, _ in chosen]))
        wanted = torch.tensor([kind for _, kind in chosen], device=logits.device)
        return cross_entropy(logits, wanted, label_smoothing=SMOOTHING)

    return loss


def token_labels(caption: EventCaption, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Whether each token is outside of events, begins one or is inside; ``IGNORED`` for special ones."""
    labels = []
    for start, end in offsets:
        start = first_character(caption.text, (start, end))
        within = [span for span in caption.spans if span[0] <= start and end <= span[1]]
        if end <= start:
            labels.append(IGNORED)
        else:
            labels.append(OUTSIDE if not within else BEGIN if start == within[0][0] else INSIDE)
    return torch.tensor(labels)


def _by_relation(rows: list[tuple[Tensor, int]]) -> np.ndarray:
    """The probability of each row that gives the relations the frequencies they have among captions."""
    kinds = np.array([kind for _, kind in rows])
    weights = np.array(FREQUENCIES)[kinds] / np.bincount(kinds, minlength=len(RELATIONS))[kinds]
    return weights / weights.sum()


def _fit(
    reader: CaptionReader,
    what: str,
    rows: list,
    loss_of: Callable[[list], Tensor],
    *,
    steps: int,
    lr: float,
    batch: int,
    generator: np.random.Generator,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    parameters = [p for name, p in reader.named_parameters() if name.startswith(PARTS_OF[what])]
    optimiser = torch.optim.AdamW(parameters, lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(steps, 2))
    history = []
    bar = progress(range(steps), f"caption reader, {what}", quiet=steps < 100)
    for step in bar:
        loss = loss_of([rows[n] for n in generator.choice(len(rows), size=batch, p=weights)])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        history.append({"part": what, "step": step, "loss": float(loss.detach())})
        bar.on_step(history[-1])
    return pd.DataFrame(history)
