"""Controls: questions that say what an accuracy in the order tasks means.

Every control is a task named ``<group>: <condition>``. Unless stated otherwise, it asks "A before B" against
"B before A" (prompted; chance 1/2) about the composite of the 2-way task.

==============  ===========================================================================
``wording``     other words for the same order, seen in training or not (bare, as trained);
                ``seen`` and ``unseen`` have the mean over all such wordings of each composite
``words``       captions whose words are shuffled (each candidate by itself), whose relation is
                swapped (*before* becomes *after*: a model that reads it is wrong), or that are
                stripped of all but the names in their order
``baseline``    answers that cannot know the order: ``audio only`` says that the sound it names
                better comes first; ``captions only`` compares the captions with the mean of the
                sounds of other clips; ``label prior`` takes first the label that comes first more
                often in the items of other clips; ``always the first`` takes the first candidate;
                ``order-blind`` answers task 4 by the names of the events alone
``plain``       the composite as it is, for comparison with the conditions below
``gap``         silence between the events, of the window; a negative gap is a cross-fade
``boundary``    the first event's fraction of the time; in the following conditions a half
``periodic``    half a window of the overlap played twice, asked as overlaps are (chance 1/3)
``level``       of the first event over the second, in dB
``noise``       pink noise at a signal-to-noise ratio in dB
``near``        which events lie at the boundary, where each lasts a quarter of the window
``backwards``   each event played backwards in its place: what comes first is the same
``single``      one sound alone: is "A" preferred to "A before B", "B before A", "A while B"
                (chance 1/4); and does it say "A before B" rather than "B before A" (no answer is
                correct, 50 is unbiased)
``same``        the same two questions about two sounds of one class, one after the other
``three``       three events, all six orders (chance 1/6), worded "A before B before C" or
                "first A, then B, then C"
``slots``       of a model with slots: the first and the last slot of every sound exchanged
==============  ===========================================================================
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
import torch

from tclap.data.captions import SEEN_WORDINGS, UNSEEN_ORDERED
from tclap.data.clips import has_labels
from tclap.data.composites import PROMPT, ClipAudio, Phrase
from tclap.data.conditions import Condition, Sound, arrange, sequence
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.tasks import (
    ITEM_COLUMNS,
    ROW_COLUMNS,
    answered,
    chance_of_draw,
    item_of,
    names_of,
    pair_items,
    score_items,
    two_way,
)

GROUPS = (
    "plain", "wording", "words", "baseline", "gap", "boundary", "level", "noise", "near", "backwards",
    "periodic", "single", "same", "three", "slots",
)  # fmt: skip
CONDITIONS = {
    **{f"gap: {gap:.0%}": Condition(gap=gap) for gap in (-0.25, -0.05, 0.05, 0.25)},
    **{f"boundary: {part:.0%}": Condition(boundary=part) for part in (0.1, 0.15, 0.25, 0.5, 0.75, 0.85, 0.9)},
    **{f"level: {db:+g}": Condition(first_db=db) for db in (-20, -10, -3, 3, 10, 20)},
    **{f"noise: {db:g}": Condition(snr_db=db) for db in (20, 10, 0)},
    "near: both": Condition(near=(True, True)),
    "near: first": Condition(near=(True, False)),
    "near: second": Condition(near=(False, True)),
    "near: neither": Condition(near=(False, False)),
    "backwards: each event": Condition(backwards=True),
}
THREE = {
    "three: before": "this is a sound of {} before {} before {}",
    "three: then": "first {}, then {}, then {}",
}
NOISE, WORDS, THIRD, OTHER, SAME = 30, 31, 32, 33, 34  # RNG stream ids


def group_of(task: str) -> str | None:
    """The control group of a task's name; None for other tasks."""
    group, separator, _ = task.partition(": ")
    return group if separator and group in GROUPS else None


def build_items(clips: pd.DataFrame, pairs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The controls' items, with the columns of :func:`tclap.evaluation.tasks.build_items`.

    Args:
        clips: test clips; without labels there are no items about one sound, or about three.
        pairs: test pairs of these clips.
        seed: of shuffled words, further events, and the other labels in items about single sounds.
    """
    items = []
    for index, pair in enumerate(pairs.to_dict("records")):
        items += _order_items(pair, np.random.default_rng([seed, WORDS, index]))
        items += _three_items(pair, _third(pair, clips, seed, index))
        if second := _second(pair, clips, seed, index):
            sources = (pair["source_i"], second["source"])
            items += _one_class_items("same", pair["pair_id"], pair["label_i"], pair["label_j"], sources)
    labels = sorted(set(clips["label"])) if has_labels(clips) else []
    for index, clip in enumerate(clips.to_dict("records") if labels else ()):
        others = [label for label in labels if label != clip["label"]]
        other = others[np.random.default_rng([seed, OTHER, index]).integers(len(others))]
        items += _one_class_items("single", clip["clip_id"], clip["label"], other, (clip["source"], None))
    return pd.DataFrame(items, columns=list(ITEM_COLUMNS))


def _order_items(pair: Mapping, generator: np.random.Generator) -> list[dict]:
    a, b = names_of(pair)
    before, correct = two_way(pair)
    asked = {w: [w.format(a=a, b=b), w.format(a=b, b=a)] for w in (*SEEN_WORDINGS, *UNSEEN_ORDERED)}
    asked = {f"wording: {wording}": candidates for wording, candidates in asked.items()} | {
        "plain: before": before,
        "words: shuffled": [" ".join(generator.permutation(caption.split())) for caption in before],
        "words: swapped": [Phrase(a, "after", b).text(), Phrase(b, "after", a).text()],
        "words: names only": [f"{a} {b}", f"{b} {a}"],
    }
    questions = [(task, pair["order"], candidates, correct) for task, candidates in asked.items()]
    questions += [(c, c, before, correct) for c in CONDITIONS]
    periodic = ("periodic: overlap", "periodic", [*before, Phrase(a, "while", b).text()], [2])
    return pair_items(pair, [*questions, periodic])


def _third(pair: Mapping, clips: pd.DataFrame, seed: int, index: int) -> tuple[dict, tuple[int, ...]] | None:
    """A clip of a third label, and the order in which the three are played; None where there is none."""
    others = clips[~clips["label"].isin([pair["label_i"], pair["label_j"]])]
    if not has_labels(clips) or others.empty:
        return None
    generator = np.random.default_rng([seed, THIRD, index])
    clip = others.iloc[generator.integers(len(others))].to_dict()
    return clip, tuple(int(n) for n in generator.permutation(3))


def _three_items(pair: Mapping, third: tuple[dict, tuple[int, ...]] | None) -> list[dict]:
    if third is None:
        return []
    names, orders = [pair["label_i"], pair["label_j"], third[0]["label"]], list(permutations(range(3)))
    candidates = {t: [words.format(*(names[k] for k in o)) for o in orders] for t, words in THREE.items()}
    return pair_items(
        pair, [(t, "three", asked, [orders.index(third[1])]) for t, asked in candidates.items()]
    )


def _second(pair: Mapping, clips: pd.DataFrame, seed: int, index: int) -> dict | None:
    """Another clip of the first clip's label; None where there is none."""
    others = clips[(clips["label"] == pair["label_i"]) & (clips["clip_id"] != pair["clip_i"])]
    if others.empty:
        return None
    return others.iloc[np.random.default_rng([seed, SAME, index]).integers(len(others))].to_dict()


def _one_class_items(group: str, name: str, label: str, other: str, sources: tuple) -> list[dict]:
    """The items about a sound that does not contain ``other``."""
    both = [Phrase(label, "before", other).text(), Phrase(other, "before", label).text()]
    plain = [PROMPT.format(label), *both, Phrase(label, "while", other).text()]
    played = f"{name}/same" if group == "same" else name
    return [
        item_of(f"{group}: {question}", name, played, candidates, [0], *sources)
        for question, candidates in (("plain", plain), ("says first", both))
    ]


def arrangements(
    clips: pd.DataFrame, pairs: pd.DataFrame, clip_audio: ClipAudio, window: float, *, seed: int
) -> dict[str, Sound]:
    """The sounds of the items that no other task plays, by name; arguments as in :func:`build_items`."""
    sounds: dict[str, Sound] = {}
    for index, pair in enumerate(pairs.to_dict("records")):
        ends = (pair["clip_i"], pair["clip_j"])
        played = ends if pair["order"] == "forward" else ends[::-1]
        sounds[f"{pair['pair_id']}/periodic"] = (pair, "periodic")
        for task, condition in CONDITIONS.items():
            drawn = (seed, NOISE, index)
            sounds[f"{pair['pair_id']}/{task}"] = arrange(*played, condition, clip_audio, window, drawn)
        if third := _third(pair, clips, seed, index):
            three = [(*ends, third[0]["clip_id"])[k] for k in third[1]]
            sounds[f"{pair['pair_id']}/three"] = sequence(three, clip_audio, window)
        if second := _second(pair, clips, seed, index):
            both = [pair["clip_i"], second["clip_id"]]
            sounds[f"{pair['pair_id']}/same"] = sequence(both, clip_audio, window)
    return sounds


def control_rows(embeddings: Embeddings, items: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Answers to all controls: tidy rows with the columns of :func:`tclap.evaluation.tasks.score_items`.

    Args:
        embeddings: of the items' sounds among others.
        items: from :func:`build_items`.
        pairs: those that the items were built of.
    """
    rows = score_items(items, embeddings)
    parts = [rows, baseline_rows(embeddings, pairs)]
    for name, wordings in (("seen", SEEN_WORDINGS), ("unseen", UNSEEN_ORDERED)):
        of_kind = rows[rows["task"].isin([f"wording: {w}" for w in wordings])]
        parts.append(pooled(of_kind, f"wording: {name}"))
    return pd.concat(parts, ignore_index=True)


def pooled(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """One model's rows of several tasks that ask the same in other words, as one row per item of ``task``.

    ``correct`` and ``margin`` are means over the wordings, ``tied`` says whether any is; ``answer`` and
    ``prediction`` list those of all, in the order of the rows.
    """
    how = {"correct": "mean", "margin": "mean", "tied": "any", "answer": " | ".join, "prediction": " | ".join}
    by = {column: how.get(column, "first") for column in rows.columns if column != "item"}
    return rows.groupby("item", sort=False).agg(by).reset_index().assign(task=task)[rows.columns]


def baseline_rows(embeddings: Embeddings, pairs: pd.DataFrame) -> pd.DataFrame:
    """Answers to the 2-way task (before) that cannot know the order: the tasks ``baseline: ...``."""
    records = pairs.to_dict("records")
    sounds = embeddings.sounds([f"{pair['pair_id']}/{pair['order']}" for pair in records]).double()
    others = torch.from_numpy(_of_other_clips(pairs)).double()
    means = others @ sounds / others.sum(1, keepdim=True).clamp_min(1)
    rows: list[dict] = []
    for pair, sound, mean, prior in zip(records, sounds, means, _label_prior(pairs), strict=True):
        candidates, correct = two_way(pair)
        names = embeddings.captions([PROMPT.format(name) for name in names_of(pair)]).double()
        scores = {
            "audio only": (names @ sound).numpy(),
            "captions only": (embeddings.captions(candidates).double() @ mean).numpy(),
            "label prior": prior,
            "always the first": np.array([1.0, 0.0]),
        }
        questions = [(f"baseline: {name}", pair["order"], candidates, correct) for name in scores]
        rows += map(answered, pair_items(pair, questions), scores.values())
    return pd.DataFrame(rows, columns=list(ROW_COLUMNS))


def _label_prior(pairs: pd.DataFrame) -> np.ndarray:
    """How often each pair's two labels come first in pairs of other clips: fractions ``[pairs, 2]``.

    Smoothed by one pair either way, so that a label that no other pair has is at one half.
    """
    forward = (pairs["order"] == "forward").to_numpy()
    ends = [pairs[f"label_{end}"].to_numpy(dtype=object) for end in "ij"]
    first, second = np.where(forward, *ends), np.where(forward, *ends[::-1])
    fractions = np.empty((len(pairs), 2))
    for n, others in enumerate(_of_other_clips(pairs)):
        for k, label in enumerate((ends[0][n], ends[1][n])):
            led, followed = (first[others] == label).sum(), (second[others] == label).sum()
            fractions[n, k] = (led + 1) / (led + followed + 2)
    return fractions


def _of_other_clips(pairs: pd.DataFrame) -> np.ndarray:
    """Whether two pairs share no source: ``[pairs, pairs]``."""
    sources = pairs[["source_i", "source_j"]].to_numpy(dtype=object)
    return np.array([~np.isin(sources, own).any(axis=1) for own in sources])


def order_blind_rows(embeddings: Embeddings, items: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Task 4 by the names of each candidate's events, without their order: ``baseline: order-blind``.

    A candidate's score is the mean cosine of the sound and its two class prompts. ``correct`` is the chance
    that a draw among the candidates of the highest score is right. Without task 4 there are no rows.

    Args:
        embeddings: of the items' sounds among others.
        items: of all tasks, from :func:`tclap.evaluation.tasks.build_items`.
        labels: the classes.
    """
    events = {
        Phrase(a, relation, b).text(): [labels.index(a), labels.index(b)]
        for relation in ("before", "while")
        for a, b in permutations(labels, 2)
    }
    asked = items[items["task"] == "4"]
    names = embeddings.captions([PROMPT.format(label) for label in labels]).double()
    rows = []
    for item in asked.to_dict("records"):
        cosine = (names @ embeddings.sounds([item["audio"]])[0].double()).numpy()
        scores = np.array([cosine[events[caption]].mean() for caption in item["candidates"]])
        found = answered(item | {"task": "baseline: order-blind"}, scores)
        rows.append(found | {"correct": chance_of_draw(scores, item["answers"][0])})
    return pd.DataFrame(rows, columns=list(ROW_COLUMNS))
