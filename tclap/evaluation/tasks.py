"""Zero-shot temporal evaluation (ZSTE): five tasks, the 2-way accuracies, overlap clips.

An item is one audio, a list of candidate captions and the set of correct ones; an answer is correct when
the k correct captions are exactly the top k. Ties count against the model.

==============  =========  ==================================================  =================
task            audio      candidates                                          chance
==============  =========  ==================================================  =================
``1``           single     K class prompts                                     1 / K
``2a``, ``2b``  see below  K class prompts, both labels to be found            2 / (K (K - 1))
``3``           ordered    A before B, B before A, A while B                   1 / 3
``3_after``     ordered    B after A, A after B, A while B                     1 / 3
``2way_*``      ordered    the first two of ``3`` (before), ``3_after``        1 / 2
``overlap``     overlap    those of ``3``; "while" is correct                  1 / 3
``4``           forward    50 of the 84 before / while captions of 7 labels    1 / 50
``5``           forward    2 K: "the first sound is X", "the second ... X"     1 / (K (2 K - 1))
==============  =========  ==================================================  =================

*Ordered* is the forward or the reversed composite, drawn evenly; task 2a is about that one, 2b about the
overlap. Candidates are drawn from the seed and kept with the item, so that every model answers the same
questions. Below seven classes there is no task 4, below three no 2a and 2b, which would have no wrong
candidate.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from math import comb

import numpy as np
import pandas as pd
import torch

from tclap.data.captions import FIRST_SLOT, SECOND_SLOT
from tclap.data.composites import PROMPT, Phrase
from tclap.evaluation.embeddings import Embeddings

log = logging.getLogger(__name__)
TASKS = ("1", "2a", "2b", "3", "3_after", "2way_before", "2way_after", "overlap", "4", "5")
TASK_4_LABELS, TASK_4_CANDIDATES = 7, 50
# Task 1 in five wordings is the sensitivity to the prompt.
PROMPTS = ("i can hear {}", "this is an audio of {}", "{}", "this is {}", PROMPT)
PROMPT_PREFIX = "prompt: "

ITEM_COLUMNS = ("task", "item", "audio", "candidates", "answers", "source_a", "source_b", "chance")
_ANSWER = ("answer", "prediction", "correct", "tied", "margin", "chance")
ROW_COLUMNS = ("task", "item", "source_a", "source_b", *_ANSWER)
TIE_TOLERANCE = 1e-6  # cosines closer than single precision can tell apart are ties
GATHERED = 4000  # candidates that are scored at a time


def classification_items(clips: pd.DataFrame, labels: Sequence[str], prompt: str, task: str) -> list[dict]:
    """Items that ask which of ``labels`` a single clip is, in one prompt."""
    candidates = [prompt.format(label) for label in labels]
    return [
        item_of(task, clip.clip_id, clip.clip_id, candidates, [labels.index(clip.label)], clip.source, None)
        for clip in clips.itertuples()
    ]


def prompt_items(clips: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Task 1's items in every prompt; the task's name is ``prompt:`` and the wording."""
    asked = [classification_items(clips, labels, prompt, PROMPT_PREFIX + prompt) for prompt in PROMPTS]
    return pd.DataFrame(sum(asked, []), columns=list(ITEM_COLUMNS))


def build_items(
    clips: pd.DataFrame, pairs: pd.DataFrame, labels: Sequence[str], *, seed: int
) -> pd.DataFrame:
    """The items of every task, one row each with the columns ``ITEM_COLUMNS``.

    Args:
        clips: test clips (task 1).
        pairs: test pairs (all others), from :func:`tclap.data.composites.draw_pairs`.
        labels: the K classes, in the order of the candidates. Tasks for which they are too few are left
            out, which is logged.
        seed: of task 4's candidates.

    Raises:
        ValueError: when a pair or clip has a label outside ``labels``.
    """
    labels = list(labels)
    items = classification_items(clips, labels, PROMPT, "1")
    for index, pair in enumerate(pairs.to_dict("records")):
        items += _pair_items(pair, labels, np.random.default_rng([seed, index]))
    if absent := [task for task in TASKS if task not in {item["task"] for item in items}]:
        log.warning("%d classes are too few for the tasks %s", len(labels), ", ".join(absent))
    return pd.DataFrame(items, columns=list(ITEM_COLUMNS))


def order_items(pairs: pd.DataFrame) -> pd.DataFrame:
    """The items about order alone (tasks 3, 2-way, overlap), for clips without labels.

    The captions are made of the pairs' ``text_i`` and ``text_j``.
    """
    items = [item for pair in pairs.to_dict("records") for item in pair_items(pair, _order_questions(pair))]
    return pd.DataFrame(items, columns=list(ITEM_COLUMNS))


def names_of(pair: Mapping) -> tuple[str, str]:
    """What captions call the two clips of a pair."""
    return tuple(pair.get(f"text_{end}", pair[f"label_{end}"]) for end in "ij")


def two_way(pair: Mapping) -> tuple[list[str], list[int]]:
    """The captions "A before B" and "B before A", and which of them is correct of the ordered composite."""
    a, b = names_of(pair)
    captions = [Phrase(a, "before", b).text(), Phrase(b, "before", a).text()]
    return captions, [0] if pair["order"] == "forward" else [1]


def _order_questions(pair: Mapping) -> list[tuple[str, str, list[str], list[int]]]:
    a, b = names_of(pair)
    before, correct = two_way(pair)
    after = [Phrase(b, "after", a).text(), Phrase(a, "after", b).text()]
    ordered, both = pair["order"], [Phrase(a, "while", b).text()]
    return [
        ("3", ordered, before + both, correct),
        ("3_after", ordered, after + both, correct),
        ("2way_before", ordered, before, correct),
        ("2way_after", ordered, after, correct),
        ("overlap", "overlap", before + both, [2]),
    ]


def _pair_items(pair: Mapping, labels: list[str], generator: np.random.Generator) -> list[dict]:
    a, b = pair["label_i"], pair["label_j"]
    both = sorted((labels.index(a), labels.index(b)))
    prompts = [PROMPT.format(label) for label in labels]
    slots = [slot.format(a=label) for slot in (FIRST_SLOT, SECOND_SLOT) for label in labels]
    named = [("2a", pair["order"], prompts, both), ("2b", "overlap", prompts, both)]
    questions = [
        *(named if len(labels) > len(both) else []),
        *_order_questions(pair),
        ("5", "forward", slots, [labels.index(a), len(labels) + labels.index(b)]),
    ]
    if len(labels) >= TASK_4_LABELS:
        questions.append(("4", "forward", *_task_4(a, b, labels, generator)))
    return pair_items(pair, questions)


def pair_items(pair: Mapping, questions: Iterable[tuple[str, str, list[str], list[int]]]) -> list[dict]:
    """Items about a pair's sounds, from ``(task, view, candidates, answers)`` each."""
    sources = (pair["source_i"], pair["source_j"])
    return [
        item_of(task, pair["pair_id"], f"{pair['pair_id']}/{view}", candidates, answers, *sources)
        for task, view, candidates, answers in questions
    ]


def _task_4(
    a: str, b: str, labels: Sequence[str], generator: np.random.Generator
) -> tuple[list[str], list[int]]:
    """50 of the 84 captions over a, b and 5 other labels, task 3's candidates always among them."""
    present = [Phrase(a, "before", b), Phrase(b, "before", a), Phrase(a, "while", b)]
    others = generator.choice([x for x in labels if x not in (a, b)], TASK_4_LABELS - 2, replace=False)
    chosen = [a, b, *others]
    captions = [Phrase(x, r, y) for r in ("before", "while") for x in chosen for y in chosen if x != y]
    rest = [p for p in captions if p not in present]
    drawn = generator.choice(len(rest), TASK_4_CANDIDATES - len(present), replace=False)
    candidates = [*present, *(rest[k] for k in drawn)]
    order = generator.permutation(len(candidates))
    return [candidates[k].text() for k in order], [int(np.flatnonzero(order == 0)[0])]


def item_of(
    task: str,
    item: str,
    audio: str,
    candidates: Sequence[str],
    answers: Sequence[int],
    source_a: str,
    source_b: str | None,
) -> dict:
    """One item: the audio's name, the candidates and which of them are correct."""
    chance = 1 / comb(len(candidates), len(answers))
    values = (task, item, audio, candidates, answers, source_a, source_b, chance)
    return dict(zip(ITEM_COLUMNS, values, strict=True))


def score_items(items: pd.DataFrame, embeddings: Embeddings) -> pd.DataFrame:
    """Answer every item: one tidy row each with the columns ``ROW_COLUMNS``.

    Args:
        items: from :func:`build_items`.
        embeddings: of the items' sounds among others.

    Returns:
        ``correct`` is 1 or 0; ``margin`` is the correct caption's cosine minus the best wrong one's, NaN
        where two are correct; ``tied`` says that the worst correct and the best wrong caption have one
        score, which is an error.
    """
    embeddings.add_captions(caption for candidates in items["candidates"] for caption in candidates)
    records = items.to_dict("records")
    scores: dict[int, np.ndarray] = {}
    # Items with equally many candidates are scored together, in blocks that bound the memory.
    sizes = pd.Series([len(item["candidates"]) for item in records], dtype=int)
    for size, alike in sizes.groupby(sizes).indices.items():
        found, step = np.empty((len(alike), size)), max(GATHERED // size, 1)
        for first in range(0, len(alike), step):
            block = alike[first : first + step]
            captions = embeddings.captions([c for n in block for c in records[n]["candidates"]])
            sounds = embeddings.sounds(records[n]["audio"] for n in block).double()
            each = captions.double().unflatten(0, (-1, size))
            found[first : first + step] = torch.einsum("bcd,bd->bc", each, sounds)
        scores |= dict(zip(alike, found, strict=True))
    rows = [answered(item, scores[n]) for n, item in enumerate(records)]
    return pd.DataFrame(rows, columns=list(ROW_COLUMNS))


def answered(item: Mapping, scores: np.ndarray) -> dict:
    """The row of one item whose candidates have these ``scores``."""
    candidates, answers = list(item["candidates"]), list(item["answers"])
    margin = float(scores[answers].min() - np.delete(scores, answers).max())
    top = np.argsort(-scores, kind="stable")[: len(answers)]
    return {column: item[column] for column in ("task", "item", "source_a", "source_b", "chance")} | {
        "answer": " | ".join(candidates[k] for k in answers),
        "prediction": " | ".join(candidates[k] for k in sorted(top)),
        "correct": float(margin > TIE_TOLERANCE),
        "tied": abs(margin) <= TIE_TOLERANCE,
        "margin": margin if len(answers) == 1 else np.nan,
    }


def chance_of_draw(scores: np.ndarray, answer: int) -> float:
    """Probability that a draw among the candidates of the highest score gives ``answer``."""
    best = scores >= scores.max() - TIE_TOLERANCE
    return float(best[answer]) / best.sum()
