"""Notebook 06's work: slots on a run's models, trained on captions alone, and asked what all are asked.

The reader is trained without the classes' names and without the wordings that the evaluation holds out.
``clap-slots`` is the base model with slots, ``t-clap-slots`` T-CLAP with slots, where a third of a timed
caption's weight is T-CLAP's own embedding of it. Nothing here hears a composite in training.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from artifact import provenance
from artifact.evaluation import Encoded, TestAudio, all_control_rows, evaluated_from
from artifact.experiment import Experiment
from artifact.model_folder import is_up_to_date, write_stamp
from tclap import files
from tclap.data.composites import PROMPT, VIEWS
from tclap.evaluation.galleries import retrieval_rows
from tclap.progress import progress
from tclap.slots.event_captions import WORDINGS, closed_class
from tclap.slots.model import SlotModel
from tclap.slots.training import train_reader
from tclap.training.variants import BASE

log = logging.getLogger(__name__)
SLOTS = {"clap-slots": (BASE, 0.0), "t-clap-slots": ("t-clap", 1 / 3)}
CODE = ("tclap/data/captions.py", "tclap/models", "tclap/slots")
TABLES = ("slots-results.parquet", "slots-retrieval.parquet")
SWAPPED = {"2way_before": "slots: swapped, before", "2way_after": "slots: swapped, after"}


def train_slots(experiment: Experiment, seed: int) -> dict[str, SlotModel]:
    """The seed's models with slots, by name; the reader is trained once and shared, unless they are there.

    Raises ValueError for a profile without slots.
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
            folders[name].save(models[name], history.assign(model=name))
    return {name: experiment.load(seed, name) for name in models}


def evaluate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Ask the seed's models with slots what all others are asked, and write their tables.

    Returns the item rows, those that are there if they are of the same models. In the tasks
    ``slots: swapped, ...`` the sounds' first and last slots have changed places: a control that has to answer
    2-way questions the other way round.
    """
    models, folder = train_slots(experiment, seed), experiment.folder / f"seed{seed}"
    code = provenance.hash_code("artifact/order_from_text.py", *CODE)
    made_of = evaluated_from(experiment, seed, list(models)) | {"slots": code}
    if is_up_to_date(folder / "slots-evaluated.json", made_of, TABLES, f"evaluation of slots, seed {seed}"):
        return experiment.table(f"seed{seed}/slots-results.parquet")
    test = TestAudio(experiment, experiment.load(seed))
    items = experiment.table("data/items.parquet")
    answers, queries = [], []
    for name, model in progress(list(models.items()), "evaluation of slots"):
        encoded = Encoded(experiment, model, test.features, test.rows)
        rows = [encoded.answers(items)]
        queries.append(retrieval_rows(encoded, test.clips, test.pairs).assign(model=name, seed=seed))
        if len(test.control_pairs):
            rows.append(all_control_rows(encoded, test, rows[0]))
        rows.append(_swapped(encoded, items))
        answers += [part.assign(model=name, seed=seed) for part in rows]
    found = pd.concat(answers, ignore_index=True)
    files.write_table(folder / "slots-results.parquet", found)
    files.write_table(folder / "slots-retrieval.parquet", pd.concat(queries, ignore_index=True))
    write_stamp(folder / "slots-evaluated.json", made_of)
    return found


def _swapped(encoded: Encoded, items: pd.DataFrame) -> pd.DataFrame:
    whole, *slots, rest = encoded.audio.split([encoded.model.width] * (encoded.model.slots + 1) + [1], dim=1)
    kept, encoded.audio = encoded.audio, torch.cat([whole, *slots[::-1], rest], dim=1)
    try:
        rows = encoded.answers(items[items["task"].isin(SWAPPED)])
        return rows.assign(task=rows["task"].map(SWAPPED))
    finally:
        encoded.audio = kept


def slot_cosines(experiment: Experiment, model: SlotModel, pair: Mapping) -> pd.DataFrame:
    """Cosines of one composite's slots with the names of its events: ``view, slot, event, cosine``."""
    names = [PROMPT.format(pair[f"label_{end}"]) for end in "ij"]
    features = experiment.audio_features(model).outputs([(pair, view) for view in VIEWS[:2]], "a composite")
    with torch.inference_mode():
        device = model.log_scale.device
        sounds = model.embed_audio(features[[0, 1]].to(device))[:, :-1].unflatten(1, (3, -1)) * math.sqrt(3)
        words = model.plain_text(names, experiment.text)
    cosines = (sounds @ words.T).cpu()
    return pd.DataFrame(
        [
            {"view": view, "slot": slot, "event": pair[f"label_{end}"], "cosine": float(cosines[v, s, e])}
            for v, view in enumerate(VIEWS[:2])
            for s, slot in enumerate(("whole", "first", "last"))
            for e, end in enumerate("ij")
        ]
    )


def readings(model: SlotModel, captions: Sequence[str]) -> pd.DataFrame:
    """What a model with slots reads in captions, to look at: ``caption, relation, in time``."""
    rows = [
        {"caption": caption, "relation": reading.relation, "in time": " → ".join(reading.events)}
        for caption, reading in zip(captions, model.read(captions), strict=True)
    ]
    return pd.DataFrame(rows)
