"""Ablation of slots in time: the same questions, with one thing changed at a time.

=============  =============================================================================
group          what is changed
=============  =============================================================================
``parts``      the fractions of the time that make a slot
``slots``      their number
``whole``      the fraction of a timed caption's weight that stays with the model's own embedding
``source``     where a part is cut: from the waveform, or from the trunk's outputs
``base``       what sounds the base model was trained on, and whether a frame of its audio trunk
               attends to the whole sound (:data:`artifact.training.BASES`)
=============  =============================================================================

The first row of the result is the base model with slots as it is everywhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from artifact import made, provenance
from artifact.embeddings import TestAudio
from artifact.evaluation import evaluated_from
from artifact.experiment import READER, Experiment
from artifact.order_from_text import CODE
from artifact.summary import SLOT_ABLATION
from artifact.training import BASES, train_base_models
from tclap import files
from tclap.data.captions import UNSEEN_ORDERED
from tclap.evaluation.tasks import score_items
from tclap.models.base import AudioTextModel
from tclap.progress import log_reused
from tclap.slots.model import SlotModel
from tclap.training.variants import BASE, NO_TEXT

log = logging.getLogger(__name__)
UNCHANGED = "as it is"
ATTENDING = "clap-attention"  # whose trunk has heard everything in every frame
TASKS = ("1", "2way_before", "2way_after", "3", "overlap", "4", "5")
CONTROLS = ("boundary: 15%", "boundary: 85%", "three: before")
UNSEEN, UNSEEN_TASKS = "wording: unseen", [f"wording: {wording}" for wording in UNSEEN_ORDERED]
ABLATION_TASKS = (*TASKS, *CONTROLS, UNSEEN)


class Change(NamedTuple):
    """A model with slots in which one thing is changed, and the base model whose trunk it uses."""

    group: str
    name: str
    model: SlotModel
    base: AudioTextModel


def ablate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Evaluate a seed's model with slots on :data:`ABLATION_TASKS` with one thing changed at a time.

    Returns the item rows, with ``group`` and ``change``, and keeps them as ``slots-ablation.parquet``.
    Where the base model is trained here, three others are.
    """
    experiment = experiment.at(seed)
    names = [BASE, *base_model_names(experiment)]
    train_base_models(experiment, seed, base_model_names(experiment))
    folder = experiment.folder / f"seed{seed}"
    stamp, made_of = folder / "slots-ablated.json", evaluated_from(experiment, seed, names)
    made_of |= {"slots": provenance.hash_code("artifact/slot_ablation.py", *CODE)}
    made_of |= {"reader": files.sha256_file(READER)}
    if made.is_current(stamp, files.hash_json(made_of)):
        log_reused(f"ablation of slots, seed {seed}")
        return experiment.table(f"seed{seed}/{SLOT_ABLATION}")
    table = answers(experiment, seed, changes(experiment, seed))
    files.write_table(folder / SLOT_ABLATION, table)
    made.write(stamp, files.hash_json(made_of), [folder / SLOT_ABLATION], inputs=made_of)
    return table


def answers(experiment: Experiment, seed: int, changed: Iterable[Change]) -> pd.DataFrame:
    """Item rows of changed models on :data:`ABLATION_TASKS`, with ``group`` and ``change``."""
    items = questions(experiment)
    experiment.learn_control_captions()
    arranged = set(items["task"]) & set(CONTROLS)
    test, rows = None, []
    for change in changed:
        if test is None or test.model is not change.base:
            test = TestAudio(experiment, change.base)
            sounds, features = test.arranged(arranged) if arranged else ({}, None)
        embeddings = test.embeddings(change.model)
        if arranged:
            embeddings.add_sounds(sounds, embeddings.embed_sounds(sounds, features))
        found = score_items(items, embeddings)
        # The wordings that the reader never saw are one task.
        unseen = found["task"].isin(UNSEEN_TASKS)
        found["item"] = found["item"].mask(unseen, found["item"] + " " + found["task"])
        found["task"] = found["task"].mask(unseen, UNSEEN)
        rows.append(found.assign(group=change.group, change=change.name, seed=seed))
        log.info("slots with %s %s: evaluated", change.group, change.name)
    return pd.concat(rows, ignore_index=True)


def questions(experiment: Experiment) -> pd.DataFrame:
    """The items of the ablation's tasks, those of unseen wordings under their own names."""
    names = ["items", "controls"] if experiment.config.control_pairs else ["items"]
    items = pd.concat([experiment.table(f"data/{name}.parquet") for name in names], ignore_index=True)
    return items[items["task"].isin([*TASKS, *CONTROLS, *UNSEEN_TASKS])].reset_index(drop=True)


def changes(experiment: Experiment, seed: int) -> Iterator[Change]:
    """The changes, one after the other; those on one base model stand together."""
    slots = experiment.load_slots(seed, f"{BASE}-slots")
    options = {"parts": slots.parts, "source": slots.source}
    yield Change(UNCHANGED, "", slots, slots.base)

    def change(group: str, name: str, base: AudioTextModel = slots.base, **other: Any) -> Change:
        return Change(group, name, SlotModel(base, slots.reader, **(options | other)), base)

    for part in slots.parts:
        yield change("parts", f"{100 * part:g} % alone", parts=[part])
    yield change("slots", "three", slots=3, parts=None)
    yield change("whole", "a third", whole=1 / 3)
    yield change("source", "trunk", source="trunk")
    for name in base_model_names(experiment):
        base = experiment.load(seed, name)
        yield change("base", name, base)
        if name == ATTENDING:
            yield change("base", f"{name}, trunk", base, source="trunk")


def base_model_names(experiment: Experiment) -> list[str]:
    """The other variants of the base model, which are trained for this; none of a published one."""
    published = experiment.reference.is_published
    return [] if published else [name for name in BASES if name not in (BASE, NO_TEXT)]
