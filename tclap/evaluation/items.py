"""Items of order benchmarks that others publish: a model's answers beside baselines that hear no order.

An item has k sounds and m captions and says which sound each caption belongs to
(:mod:`tclap.evaluation.formats` reads the published files). One of a single sound asks which caption is its
own: chance 1 / m. One of several has, after Winoground (Thrush et al., CVPR 2022), three scores. With s(i, j)
the similarity of caption i and sound j, it is correct by

==========  ============================================================  =============  =============
score       every ...                                                     chance, k = 2  chance, k = 3
==========  ============================================================  =============  =============
``text``    sound prefers its own caption: s(j, j) > s(i, j) for i ≠ j    1 / 4          1 / 27
``audio``   caption prefers its own sound: s(i, i) > s(i, j) for j ≠ i    1 / 4          1 / 27
``group``   both                                                          1 / 6          1 / 60
==========  ============================================================  =============  =============

Ties count against the model. The baselines are made of the model's own embeddings:

===============  ============================================================================================
``text only``    how alike a caption is to the correct captions, rather than to the wrong ones, of the same
                 task's items about other sounds
``sound only``   the similarity of the sound and the event that the caption puts first: what the sound names
                 best came first
``order-blind``  the mean similarity of the sound and the caption's events, whatever their order
===============  ============================================================================================

A caption's events are those that the format gives, else those that the caption reader
(:mod:`tclap.slots.reader`) finds; where it finds none, they are one: the caption's words in alphabetical
order. A baseline draws among what ties: its ``correct`` is the probability that all its draws are right.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap.data.clips import listing
from tclap.evaluation.embeddings import Embeddings, ModelEmbeddings
from tclap.evaluation.report import difference, difference_report, report
from tclap.evaluation.tasks import TIE_TOLERANCE, chance_of_draw
from tclap.slots.reader import load_reader

ITEM_COLUMNS = ("task", "item", "sounds", "captions", "belongs", "events")
BASELINES = TEXT_ONLY, SOUND_ONLY, ORDER_BLIND = ("text only", "sound only", "order-blind")
NOWHERE = -1  # the sound that a wrong caption belongs to
# For independent continuous scores. Group: all k diagonal values are the largest of their row and column, by
# enumeration of the orders of 4 and of 9 scores.
CHANCE = {2: (1 / 4, 1 / 4, 1 / 6), 3: (1 / 27, 1 / 27, 1 / 60)}


def item_of(
    task: str,
    item: str,
    sounds: Sequence[str],
    captions: Sequence[str],
    belongs: Sequence[int],
    events: Sequence[tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """One item: the sounds' files, the captions, the index of the sound that each of these belongs to.

    ``events`` are each caption's, in the order in which they sound; None: the caption reader finds them.
    """
    return dict(zip(ITEM_COLUMNS, (task, item, sounds, captions, belongs, events), strict=True))


def evaluate_items(model: Any, items: pd.DataFrame, *, name: str = "model") -> pd.DataFrame:
    """Answers of a model and of its baselines: tidy rows for :func:`tclap.evaluation.statistics.summarise`.

    Args:
        model: with ``encode_audio(list of file paths)`` and ``encode_text(list of captions)``, as
            :class:`~tclap.models.encoder.Encoder`, which :func:`tclap.wrap` makes of other objects; each
            distinct file and text is encoded once.
        items: with the columns ``ITEM_COLUMNS``, from :mod:`tclap.evaluation.formats`.
        name: of the model, in the rows; a baseline's is :func:`named`.

    Returns:
        ``model, seed, task, item, source_a, source_b, correct, tied, margin, chance``. The sources are the
        item's first two sounds; ``margin`` is by how much the smallest needed preference holds.

    Raises:
        ValueError: on no items, or embeddings of a wrong shape or that are not finite.
    """
    if not set(ITEM_COLUMNS) <= {*getattr(items, "columns", ())} or items.empty:
        raise ValueError("there are no items, expected at least one, of tclap.evaluation.formats.")
    embeddings = ModelEmbeddings(model, list(items["sounds"].explode().unique()), str)
    events = _events(items)
    embeddings.add_captions(items["captions"].explode())
    embeddings.add_captions(event for captions in events for of_one in captions for event in of_one)
    rows = []
    forms = _forms(items, embeddings)
    for item, of_captions, form in zip(items.to_dict("records"), events, forms, strict=True):
        captions = embeddings.captions(item["captions"]).double()
        sounds = embeddings.sounds(item["sounds"]).double().T
        named_by = [embeddings.captions(of_one).double() @ sounds for of_one in of_captions]
        scores = {
            name: captions @ sounds,
            named(name, TEXT_ONLY): (captions @ form)[:, None].expand(-1, sounds.shape[1]),
            named(name, SOUND_ONLY): torch.stack([of_one[0] for of_one in named_by]),
            named(name, ORDER_BLIND): torch.stack([of_one.mean(dim=0) for of_one in named_by]),
        }
        for by, found in scores.items():
            answers = _answers(item, found.numpy(), draws=by != name)
            rows += [{"model": by, "seed": 0} | answer for answer in answers]
    return pd.DataFrame(rows)


def named(model: str, baseline: str) -> str:
    """What rows call a baseline of a model."""
    return f"{model} ({baseline})"


def _answers(item: dict[str, Any], scores: np.ndarray, *, draws: bool) -> Iterable[dict[str, Any]]:
    """The rows of an item from ``scores [captions, sounds]``; ``draws``: among ties, rather than be wrong."""
    belongs, sounds = list(item["belongs"]), [Path(sound).name for sound in item["sounds"]]
    # The choices that are to be right: scores of the candidates, and which of them is.
    text = [(scores[:, j], belongs.index(j)) for j in range(len(sounds))]
    audio = [(scores[i], j) for i, j in enumerate(belongs) if j != NOWHERE]
    asked: Iterable[tuple[str, list, float]] = [("", text, 1 / len(belongs))]
    if len(sounds) > 1:
        asked = zip(
            (": text", ": audio", ": group"), (text, audio, text + audio), CHANCE[len(sounds)], strict=True
        )
    for kind, choices, chance in asked:
        margin = min(float(found[own] - np.delete(found, own).max()) for found, own in choices)
        by_draw = prod(chance_of_draw(*choice) for choice in choices)
        yield {
            "task": item["task"] + kind,
            "item": item["item"],
            "source_a": sounds[0],
            "source_b": sounds[1] if len(sounds) > 1 else None,
            "correct": by_draw if draws else float(margin > TIE_TOLERANCE),
            "tied": abs(margin) <= TIE_TOLERANCE,
            "margin": margin,
            "chance": chance,
        }


def _events(items: pd.DataFrame) -> list[list[tuple[str, ...]]]:
    """The events of every caption of every item."""
    unread = sorted(set(items.loc[items["events"].isna(), "captions"].explode()))
    readings = load_reader().read(unread) if unread else []
    found = {
        caption: (*reading.events, *reading.throughout) or (" ".join(sorted(caption.lower().split())),)
        for caption, reading in zip(unread, readings, strict=True)
    }
    return [
        [found[caption] for caption in captions] if events is None else list(events)
        for captions, events in zip(items["captions"], items["events"], strict=True)
    ]


def _forms(items: pd.DataFrame, embeddings: Embeddings) -> list[Tensor]:
    """What correct captions have and wrong ones lack, in the task's items about other sounds: ``[d]`` each.

    The mean of the correct minus the mean of the wrong captions; zero where no other item has both.
    """
    contrasts = []
    places = defaultdict(set)  # of the items of a task, None, and of those about one of its sounds
    for place, item in enumerate(items.itertuples()):
        found, correct = embeddings.captions(item.captions).double(), torch.tensor(item.belongs) != NOWHERE
        both = correct.any() and not correct.all()
        contrasts.append(found[correct].mean(0) - found[~correct].mean(0) if both else 0 * found[0])
        for sound in (None, *item.sounds):
            places[item.task, sound].add(place)
    totals: dict[str, Any] = {
        task: sum(contrasts[n] for n in sorted(places[task, None])) for task in items["task"].unique()
    }
    forms = []
    for item in items.itertuples():
        own = set().union(*(places[item.task, sound] for sound in item.sounds))
        others = totals[item.task] - sum(contrasts[n] for n in sorted(own))
        forms.append(others / max(len(places[item.task, None]) - len(own), 1))
    return forms


def order_gap(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """What hearing order adds to a model's accuracy in each task: it minus its order-blind baseline.

    As :func:`tclap.evaluation.report.difference` returns it, and with its errors; paired by item.
    """
    return difference(*(rows[rows["model"] == name] for name in (named(model, ORDER_BLIND), model)))


def leaks(rows: pd.DataFrame) -> pd.DataFrame:
    """The items that the text-only or the order-blind baseline answers without a draw: ``model, task, item``.

    Some are by luck: on two captions that differ in their events, half.
    """
    baselines = rows["model"].str.endswith(tuple(named("", name) for name in (TEXT_ONLY, ORDER_BLIND)))
    sure = rows[baselines].groupby(["model", "task", "item"], sort=False)["correct"].min() == 1
    return sure[sure].index.to_frame(index=False)


def report_items(rows: pd.DataFrame) -> str:
    """Rows of :func:`evaluate_items` as text: accuracies, order gaps and the items that leak."""
    names = set(rows["model"])
    gaps = [
        "order gap\n" + difference_report(order_gap(rows, name), (ORDER_BLIND, name))
        for name in rows["model"].unique()
        if named(name, ORDER_BLIND) in names
    ]
    asked = rows.groupby(["model", "task"])["item"].nunique()
    answered = [
        f"{model} answers {len(found)} of {asked[model, task]} items of {task}: {listing(found['item'])}\n"
        for (model, task), found in leaks(rows).groupby(["model", "task"], sort=False)
    ]
    return "\n".join([report(rows), *gaps, "".join(answered)])
