"""Notebook 05: a run's models with slots, whose reader is trained on captions alone, and their evaluation.

The reader is trained without the classes' names and without the wordings that the evaluation holds out.
``clap-slots`` is the base model with slots, ``t-clap-slots`` T-CLAP with slots, where a third of a timed
caption's weight is T-CLAP's own embedding of it. No composite is part of this training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from artifact import made, provenance
from artifact.embeddings import RunEmbeddings, TestAudio, device_of
from artifact.evaluation import all_control_rows, evaluated_from
from artifact.experiment import Experiment
from tclap import files
from tclap.data.composites import PROMPT, VIEWS
from tclap.evaluation.retrieval import retrieval_rows
from tclap.evaluation.tasks import score_items
from tclap.progress import log_reused, progress
from tclap.slots.event_captions import WORDINGS, closed_class
from tclap.slots.model import SlotModel
from tclap.slots.training import train_reader
from tclap.training.variants import BASE

SLOTS = {"clap-slots": (BASE, 0.0), "t-clap-slots": ("t-clap", 1 / 3)}
CODE = ("tclap/data/captions.py", "tclap/models", "tclap/slots")
TABLES = ("slots-results.parquet", "slots-retrieval.parquet")
SWAPPED = {"2way_before": "slots: swapped, before", "2way_after": "slots: swapped, after"}


def train_slots(experiment: Experiment, seed: int) -> dict[str, SlotModel]:
    """The seed's models with slots, by name; the reader is trained once and shared, unless they are there.

    Raises:
        ValueError: for a profile without slots.
    """
    config, models, folders = experiment.config.slots, {}, {}
    if config is None:
        raise ValueError(f"configs/{experiment.profile}.yaml has no slots, expected the key 'slots'.")
    for name, (start, whole) in SLOTS.items():
        if start != BASE and start not in experiment.config.variants:
            continue
        base = experiment.load(seed, start)
        inputs = {
            "slots": config.model_dump(),
            "whole": whole,
            "base": files.hash_state(base.own_state()),
        }
        folders[name] = experiment.model_dir(seed, name, inputs, CODE)
        models[name] = SlotModel(base, config.parts, whole, closed_class=closed_class(WORDINGS))
    wanted = [name for name in models if not folders[name].is_up_to_date()]
    if wanted:
        first = models[wanted[0]]
        options = {"exclude": experiment.labels, "wordings": WORDINGS, "seed": seed}
        history = train_reader(first, steps=config.steps, pool=config.pool, **options)
        for name in wanted:
            models[name].reader.load_state_dict(first.reader.state_dict())
            folders[name].save(models[name], history.assign(model=name))
    return {name: experiment.load(seed, name) for name in models}


def evaluate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Evaluate the seed's models with slots on all tasks and controls, and write their tables.

    Returns the item rows; existing ones of the same models are reused. In the tasks ``slots: swapped, ...``
    the sounds' first and last slots have changed places: a control that has to reverse the 2-way answers.
    """
    models, folder = train_slots(experiment, seed), experiment.folder / f"seed{seed}"
    code = provenance.hash_code("artifact/order_from_text.py", *CODE)
    made_of = evaluated_from(experiment, seed, list(models)) | {"slots": code}
    stamp = folder / "slots-evaluated.json"
    if made.is_current(stamp, files.hash_json(made_of)):
        log_reused(f"evaluation of slots, seed {seed}")
        return experiment.table(f"seed{seed}/slots-results.parquet")
    test = TestAudio(experiment, experiment.load(seed))
    items = experiment.table("data/items.parquet")
    answers, queries = [], []
    for name, model in progress(list(models.items()), "evaluation of slots"):
        embeddings = test.embeddings(model)
        rows = [score_items(items, embeddings)]
        queries.append(retrieval_rows(embeddings, test.clips, test.pairs).assign(model=name, seed=seed))
        if len(test.control_pairs):
            rows.append(all_control_rows(embeddings, test, rows[0]))
        rows.append(_swapped(embeddings, items))
        answers += [part.assign(model=name, seed=seed) for part in rows]
    found = pd.concat(answers, ignore_index=True)
    files.write_table(folder / "slots-results.parquet", found)
    files.write_table(folder / "slots-retrieval.parquet", pd.concat(queries, ignore_index=True))
    made.write(stamp, files.hash_json(made_of), [folder / name for name in TABLES], inputs=made_of)
    return found


def _swapped(embeddings: RunEmbeddings, items: pd.DataFrame) -> pd.DataFrame:
    chosen, model = items[items["task"].isin(SWAPPED)], embeddings.model
    names = list(chosen["audio"].unique())
    whole, *slots, rest = embeddings.sounds(names).split([model.width] * (model.slots + 1) + [1], dim=1)
    embeddings.add_sounds([f"swapped {n}" for n in names], torch.cat([whole, *slots[::-1], rest], dim=1))
    rows = score_items(chosen.assign(audio="swapped " + chosen["audio"]), embeddings)
    return rows.assign(task=rows["task"].map(SWAPPED))


def slot_cosines(experiment: Experiment, model: SlotModel, pair: Mapping) -> pd.DataFrame:
    """Cosines of one composite's slots with the names of its events: ``view, slot, event, cosine``."""
    labels = [pair[f"label_{end}"] for end in "ij"]
    features = experiment.audio_features(model).outputs([(pair, view) for view in VIEWS[:2]], "a composite")
    with torch.inference_mode():
        sounds = model.embed_audio(features[[0, 1]].to(device_of(model)))
        sounds = sounds[:, :-1].unflatten(1, (3, -1)) * math.sqrt(3)
        words = model.plain_text([PROMPT.format(label) for label in labels], experiment.text)
    cells = [
        (view, slot, label, cosine)
        for view, by_slot in zip(VIEWS[:2], (sounds @ words.T).tolist(), strict=True)
        for slot, by_label in zip(("whole", "first", "last"), by_slot, strict=True)
        for label, cosine in zip(labels, by_label, strict=True)
    ]
    return pd.DataFrame(cells, columns=["view", "slot", "event", "cosine"])


def readings(model: SlotModel, captions: Sequence[str]) -> pd.DataFrame:
    """How a model with slots reads captions, for display: ``caption, relation, in time``."""
    found = [(reading.relation, " → ".join(reading.events)) for reading in model.read(captions)]
    return pd.DataFrame(found, columns=["relation", "in time"]).assign(caption=captions)[
        ["caption", "relation", "in time"]
    ]
