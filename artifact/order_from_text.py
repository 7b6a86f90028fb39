"""Notebook 05: a run's models with slots, and their evaluation; nothing is trained.

The caption reader (``reader.safetensors`` beside this file, made by ``python -m tclap.slots.training
--held-out``) learned neither a word of the classes' names nor the wordings that the evaluation holds out.
``clap-slots`` is the base model with slots, ``t-clap-slots`` T-CLAP with slots, where a third of a timed
caption's weight is T-CLAP's own embedding of it.
"""

from __future__ import annotations

import pandas as pd
import torch

from artifact import made
from artifact.embeddings import RunEmbeddings, TestAudio
from artifact.evaluation import control_rows_of, evaluated_from
from artifact.experiment import SLOTS, Experiment
from tclap import files
from tclap.evaluation.retrieval import retrieval_rows
from tclap.evaluation.tasks import score_items
from tclap.progress import progress
from tclap.slots.model import SlotModel
from tclap.training.variants import BASE

CODE = ("artifact/order_from_text.py", "artifact/reader.safetensors", "tclap/slots")
TABLES = ("slots-results.parquet", "slots-retrieval.parquet")
SWAPPED = {"2way_before": "slots: swapped, before", "2way_after": "slots: swapped, after"}


def slot_models(experiment: Experiment, seed: int) -> dict[str, SlotModel]:
    """The seed's models with slots, by name; ValueError for a profile without slots."""
    there = (BASE, *experiment.config.variants)
    return {name: experiment.load_slots(seed, name) for name, (start, _) in SLOTS.items() if start in there}


def evaluate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Evaluate the seed's models with slots on all tasks and controls, and write their tables.

    Returns the item rows; existing ones of the same models are reused. In the tasks ``slots: swapped, ...``
    the sounds' first and last slots have changed places: a control that has to reverse the 2-way answers.
    """
    experiment = experiment.at(seed)
    models, folder = slot_models(experiment, seed), experiment.folder / f"seed{seed}"
    starts = [SLOTS[name][0] for name in models]
    stamp = made.Stamp(folder / "slots-evaluated.json", evaluated_from(experiment, seed, starts, *CODE))
    if stamp.is_current(f"evaluation of slots, seed {seed}"):
        return experiment.table(f"seed{seed}/slots-results.parquet")
    test = TestAudio(experiment, experiment.load(seed))
    items = experiment.table("data/items.parquet")
    answers, queries = [], []
    for name, model in progress(list(models.items()), "evaluation of slots"):
        embeddings = test.embeddings(model)
        rows = [score_items(items, embeddings)]
        queries.append(retrieval_rows(embeddings, test.clips, test.pairs).assign(model=name, seed=seed))
        if len(test.control_pairs):
            rows.append(control_rows_of(embeddings, test))
        rows.append(_swapped(embeddings, items))
        answers += [part.assign(model=name, seed=seed) for part in rows]
    found = pd.concat(answers, ignore_index=True).astype({"correct": float})
    files.write_table(folder / "slots-results.parquet", found)
    files.write_table(folder / "slots-retrieval.parquet", pd.concat(queries, ignore_index=True))
    stamp.write([folder / name for name in TABLES])
    return found


def _swapped(embeddings: RunEmbeddings, items: pd.DataFrame) -> pd.DataFrame:
    chosen, model = items[items["task"].isin(SWAPPED)], embeddings.model
    names = list(chosen["audio"].unique())
    whole, *slots, rest = embeddings.sounds(names).split([model.base.dim] * (model.slots + 1) + [1], dim=1)
    embeddings.add_sounds([f"swapped {n}" for n in names], torch.cat([whole, *slots[::-1], rest], dim=1))
    rows = score_items(chosen.assign(audio="swapped " + chosen["audio"]), embeddings)
    return rows.assign(task=rows["task"].map(SWAPPED))
