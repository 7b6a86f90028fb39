"""Notebook 06's work: slots on a run's models, trained on captions alone, and asked what all are asked.

The reader is trained without the classes' names and without the wordings that the evaluation holds out.
``clap-slots`` is the base model with slots, ``t-clap-slots`` T-CLAP with slots, where a third of a timed
caption's weight is T-CLAP's own embedding of it. Nothing here hears a composite in training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import torch

from tclap import provenance
from tclap.data.event_captions import WORDINGS, closed_class
from tclap.evaluation.galleries import retrieval_rows
from tclap.evaluation.suite import Encoded, TestAudio, all_control_rows
from tclap.experiment import Experiment
from tclap.model_folder import ModelFolder, write_table
from tclap.models.slots import SlotModel
from tclap.progress import progress
from tclap.slots import train_reader
from tclap.variants import BASE

log = logging.getLogger(__name__)
SLOTS = {"clap-slots": (BASE, 0.0), "t-clap-slots": ("t-clap", 1 / 3)}
CODE = ("data/captions.py", "data/event_captions.py", "models", "slots.py")
SWAPPED = "clap-slots-swapped"


def train_slots(experiment: Experiment, seed: int) -> dict[str, SlotModel]:
    """The seed's models with slots, by name; the reader is trained once and shared, unless they are there."""
    config, models, folders = experiment.config.slots, {}, {}
    for name, (start, whole) in SLOTS.items():
        if start != BASE and start not in experiment.config.variants:
            continue
        base = experiment.load(seed, start)
        recipe = {
            "seed": experiment.config.check_seed(seed),
            "slots": asdict(config),
            "whole": whole,
            "base": provenance.hash_state(base.own_state()),
            "code": provenance.hash_code(*CODE),
        }
        folders[name] = ModelFolder(experiment.folder, seed, name, recipe, experiment.processes)
        models[name] = SlotModel(base, config.parts, whole, closed_class=closed_class(WORDINGS))
    wanted = [name for name in models if not folders[name].is_made()]
    if wanted:
        first = models[wanted[0]]
        history = train_reader(
            first,
            exclude=experiment.labels,
            wordings=WORDINGS,
            steps=config.steps,
            pool=config.pool,
            seed=seed,
        )
        for name in wanted:
            models[name].reader.load_state_dict(first.reader.state_dict())
            folders[name].keep(models[name], history.assign(model=name))
    return {name: experiment.load(seed, name) for name in models}


def evaluate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Ask the seed's models with slots what all others are asked, and write their tables.

    Returns the item rows; ``clap-slots-swapped`` is the base model with slots whose sounds' first and last
    slots have changed places, a control that has to answer 2-way questions the other way round.
    """
    test = TestAudio(experiment, experiment.load(seed))
    items = experiment.table("data/items.parquet")
    answers, queries = [], []
    for name, model in progress(list(train_slots(experiment, seed).items()), "evaluation of slots"):
        encoded = Encoded(experiment, model, test.features, test.rows)
        rows = [encoded.answers(items)]
        queries.append(retrieval_rows(encoded, test.clips, test.pairs).assign(model=name, seed=seed))
        if len(test.control_pairs):
            rows.append(all_control_rows(encoded, test, rows[0]))
        answers += [part.assign(model=name, seed=seed) for part in rows]
        if name == "clap-slots":
            answers.append(_swapped(encoded, items).assign(model=SWAPPED, seed=seed))
    folder = experiment.folder / f"seed{seed}"
    found = pd.concat(answers, ignore_index=True)
    write_table(folder / "slots-results.parquet", found)
    write_table(folder / "slots-retrieval.parquet", pd.concat(queries, ignore_index=True))
    return found


def _swapped(encoded: Encoded, items: pd.DataFrame) -> pd.DataFrame:
    width = (encoded.model.dim - 1) // 3
    whole, first, last, rest = encoded.audio.split([width, width, width, 1], dim=1)
    kept, encoded.audio = encoded.audio, torch.cat([whole, last, first, rest], dim=1)
    try:
        return encoded.answers(items[items["task"].isin(("2way_before", "2way_after"))])
    finally:
        encoded.audio = kept


def readings(model: SlotModel, captions: Sequence[str]) -> pd.DataFrame:
    """What a model with slots reads in captions, to look at: ``caption, relation, first, …, last``."""
    rows = [
        {"caption": caption, "relation": reading.relation, "in time": " → ".join(reading.events)}
        for caption, reading in zip(captions, model.read(captions), strict=True)
    ]
    return pd.DataFrame(rows)
