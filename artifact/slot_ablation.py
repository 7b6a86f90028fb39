"""What slots in time rest on: the same questions, with one thing changed at a time.

=============  =============================================================================
group          what is changed
=============  =============================================================================
``parts``      the shares of the time that make a slot
``slots``      their number
``whole``      the share of a timed caption's weight that stays with the model's own embedding
``wordings``   how many of the wordings of time the caption reader learns from
``events``     how many different names of events it meets while it learns
``base``       what the base model beneath has heard in its own training, and whether a frame of its
               audio trunk has heard the whole sound (:data:`artifact.training.BASE_VARIANTS`)
=============  =============================================================================

The first row of the result is the base model with slots as it is everywhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from artifact.evaluation import Encoded, TestAudio
from artifact.experiment import Experiment
from artifact.order_from_text import train_slots
from artifact.summary import SLOT_ABLATION
from artifact.training import BASE_VARIANTS, train_base_models
from tclap import files
from tclap.data.captions import UNSEEN_ORDERED
from tclap.models.base import AudioTextModel
from tclap.slots.event_captions import WORDINGS, closed_class, drawn_event
from tclap.slots.model import SlotModel
from tclap.slots.training import any_words, train_reader
from tclap.training.variants import BASE

log = logging.getLogger(__name__)
UNCHANGED = "as it is"
TASKS = ("1", "2way_before", "2way_after", "3", "overlap", "4", "5")
CONTROLS = ("boundary: 15%", "boundary: 85%", "three: before")
UNSEEN = "wording: unseen"
ASKED = (*TASKS, *CONTROLS, UNSEEN)
WORDING_SHARES = {"a half": 2, "an eighth": 8}
EVENT_COUNTS = (20, 200)
EVENTS = 51  # part of a draw's seed


class Change(NamedTuple):
    """A model with slots in which one thing is changed, and the base model whose trunk hears for it."""

    group: str
    name: str
    model: SlotModel
    base: AudioTextModel


def ablate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Ask a seed's model with slots the tasks of :data:`ASKED` with one thing changed at a time.

    Returns the item rows, with ``group`` and ``change``, and keeps them as ``slots-ablation.parquet``.
    Trained again are four caption readers and, where the base model is trained here, three base models.
    """
    base = experiment.load(seed)
    slots = train_slots(experiment, seed)[f"{BASE}-slots"]
    items, wordings = questions(experiment)
    asked = [task for task in CONTROLS if task in set(items["task"])]
    experiment.text.add(caption for candidates in items["candidates"] for caption in candidates)
    test, arranged, rows = None, ([], None), []
    for change in changes(experiment, seed, base, slots):
        if test is None or test.model is not change.base:
            test = TestAudio(experiment, change.base)
            arranged = test.arranged(asked) if asked else arranged
        encoded = Encoded(experiment, change.model, test.features, test.rows)
        if asked:
            names, features = arranged
            encoded.add_sounds(names, encoded.embed_audio(features))
        found = _by_task(encoded.answers(items), wordings)
        rows.append(found.assign(group=change.group, change=change.name, seed=seed))
        log.info("slots with %s %s: asked", change.group, change.name)
    table = pd.concat(rows, ignore_index=True)
    files.write_table(experiment.folder / f"seed{seed}" / SLOT_ABLATION, table)
    return table


def questions(experiment: Experiment) -> tuple[pd.DataFrame, list[str]]:
    """The items that are asked, and the names of the tasks that ask by wordings the reader never saw."""
    unseen = [f"wording: {wording}" for wording in UNSEEN_ORDERED]
    items = experiment.table("data/items.parquet")
    parts = [items[items["task"].isin(TASKS)]]
    if experiment.config.control_pairs:
        asked = experiment.table("data/controls.parquet")
        parts.append(asked[asked["task"].isin([*CONTROLS, *unseen])])
    return pd.concat(parts, ignore_index=True), unseen


def changes(experiment: Experiment, seed: int, base: AudioTextModel, slots: SlotModel) -> Iterator[Change]:
    """The changes, one after the other; those on one base model stand together."""
    config = experiment.config.slots
    yield Change(UNCHANGED, "", slots, base)

    def rebuilt(on: AudioTextModel = base, **options) -> SlotModel:
        options = {"parts": config.parts, "closed_class": slots.closed_class} | options
        model = SlotModel(on, **options)
        model.reader.load_state_dict(slots.reader.state_dict())
        return model

    for part in config.parts:
        yield Change("parts", f"{100 * part:g} % alone", rebuilt(parts=[part]), base)
    yield Change("slots", "three", rebuilt(slots=3, parts=None), base)
    yield Change("whole", "a third", rebuilt(whole=1 / 3), base)

    def relearnt(wordings: dict = WORDINGS, event: Callable | None = None) -> SlotModel:
        model = SlotModel(base, config.parts, closed_class=closed_class(wordings))
        train_reader(
            model,
            exclude=experiment.labels,
            wordings=wordings,
            event=event,
            steps=config.steps,
            pool=config.pool,
            seed=seed,
        )
        return model

    for share, step in WORDING_SHARES.items():
        yield Change("wordings", share, relearnt(thinned(WORDINGS, step)), base)
    words = any_words(slots, experiment.labels)
    for count in EVENT_COUNTS:
        yield Change("events", str(count), relearnt(event=few_events(words, count, seed)), base)
    for name, other in base_models(experiment, seed):
        yield Change("base", name, rebuilt(other), other)


def base_models(experiment: Experiment, seed: int) -> Iterator[tuple[str, AudioTextModel]]:
    """The variants of the base model by name, trained unless they are there; none of a published one."""
    if experiment.reference.is_published:
        return
    names = [name for name in BASE_VARIANTS if name != BASE]
    train_base_models(experiment, seed, names)
    for name in names:
        yield name, experiment.load(seed, name)


def thinned(wordings: dict[str, tuple[str, ...]], step: int) -> dict[str, tuple[str, ...]]:
    """Every ``step``-th of the different wordings of each relation, from the first on."""
    return {relation: tuple(dict.fromkeys(known))[::step] for relation, known in wordings.items()}


def few_events(words: list[str], count: int, seed: int) -> Callable[[np.random.Generator], str]:
    """Draws one of ``count`` different names of events, as a reader's training otherwise draws any."""
    generator, names = np.random.default_rng([seed, EVENTS]), set()
    while len(names) < count:
        names.add(drawn_event(generator, words))
    known = sorted(names)
    return lambda generator: known[generator.integers(count)]


def _by_task(rows: pd.DataFrame, wordings: list[str]) -> pd.DataFrame:
    """The rows, those of all unseen wordings as one task."""
    unseen = rows["task"].isin(wordings)
    return rows.assign(
        task=rows["task"].mask(unseen, UNSEEN),
        item=rows["item"].mask(unseen, rows["item"] + " " + rows["task"]),
    )
