"""Ablation of slots in time: the same questions, with one thing changed at a time.

=============  =============================================================================
group          what is changed
=============  =============================================================================
``parts``      the fractions of the time that make a slot
``slots``      their number
``whole``      the fraction of a timed caption's weight that stays with the model's own embedding
``source``     where a part is cut: from the waveform, or from the trunk's outputs
``reader``     what parses the captions: the reader that comes with the package, which learned the
               unseen wordings too; regular expressions; or the oracle parse, the ceiling of reading
               (:mod:`artifact.parsers`). The oracle parse with halves alone is half-window
               classification: "A before B" scores the mean of cos(first half, A) and
               cos(last half, B), "A while B" that of both halves' cosines with "A and B",
               or (``whole``) the model's own cosine with the whole
``base``       what sounds the base model was trained on, and whether a frame of its audio trunk
               attends to the whole sound (:data:`artifact.training.BASES`)
=============  =============================================================================

The first row of the result is the base model with slots as it is everywhere else, with the experiment's
reader, which never saw the unseen wordings.
"""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from artifact import paths
from artifact.embeddings import RunEmbeddings, TestAudio
from artifact.evaluation import stamp_of
from artifact.experiment import Experiment
from artifact.parsers import OracleParser, RegexParser
from artifact.training import OTHER_BASES, train_base_models
from tclap.data.captions import SEEN_WORDINGS, UNSEEN_ORDERED
from tclap.data.composites import PROMPT, VIEWS
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.tasks import score_items
from tclap.models.base import AudioTextModel
from tclap.slots.model import SlotModel
from tclap.training.variants import BASE

log = logging.getLogger(__name__)
SLOT_ABLATION = "slots-ablation.parquet"
SHIPPED_READER = paths.CHECKOUT / "tclap" / "slots" / "reader.safetensors"
UNCHANGED, READERS, ORACLE = "as it is", "reader", "oracle"
ATTENDING = "clap-attention"  # whose trunk has heard everything in every frame
TASKS = ("1", "2way_before", "2way_after", "3", "overlap", "4", "5")
CONTROLS = ("boundary: 15%", "boundary: 85%", "three: before")
SEEN, UNSEEN = "wording: seen", "wording: unseen"
POOLED = {f"wording: {wording}": SEEN for wording in SEEN_WORDINGS}  # into one task each
POOLED |= {f"wording: {wording}": UNSEEN for wording in UNSEEN_ORDERED}
ABLATION_TASKS = (*TASKS, *CONTROLS, SEEN, UNSEEN)
ERROR_SOURCES = ("reading", "order", "recognition")
ERROR_TASKS = ("2way_before", "2way_after", "3", "4", UNSEEN)


def ablate_slots(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Evaluate a seed's model with slots on :data:`ABLATION_TASKS` with one thing changed at a time.

    Returns item rows with ``group``, ``change`` and ``named``, whether :func:`both_named` holds of the
    composite, and keeps them as ``slots-ablation.parquet``. Wordings have their own names, and are
    :data:`POOLED` in the summary. Where the base model's trunk is trained here, three others are trained.
    """
    experiment = experiment.at(seed)
    others = base_model_names(experiment)
    train_base_models(experiment, seed, others)
    stamp = stamp_of(experiment, seed, "slot_ablation", [BASE, *others])
    if stamp.is_current():
        return experiment.table(f"seed{seed}/{SLOT_ABLATION}")
    tables = [experiment.table(f"data/{name}.parquet") for name in ("items", "controls")]
    items = pd.concat(tables, ignore_index=True)
    items = items[items["task"].isin([*TASKS, *CONTROLS, *POOLED])].reset_index(drop=True)
    experiment.learn_control_captions()
    test, rows = None, []
    for group, change, model in changes(experiment, seed):
        if test is None or test.model is not model.base:
            test = TestAudio(experiment, model.base)
            sounds, features = test.arranged(set(CONTROLS))
        embeddings = test.embeddings(model)
        embeddings.add_sounds(sounds, embeddings.embed_sounds(sounds, features))
        found = score_items(items, embeddings).assign(group=group, change=change, seed=seed)
        found["named"] = items["audio"].map(both_named(embeddings, test.pairs)).astype("boolean")
        rows.append(found)
        log.info("slots with %s %s: evaluated", group, change)
    table = pd.concat(rows, ignore_index=True)
    stamp.write({"slots-ablation": table})
    return table


def both_named(embeddings: RunEmbeddings, pairs: pd.DataFrame) -> dict[str, bool]:
    """Whether the first and the last slot, each classified as a clip is in task 1, name a composite's events.

    In either order, and by the composite's name, ``<pair_id>/<view>``.
    """
    experiment, base = embeddings.experiment, embeddings.model.base
    composites = views_of(pairs, VIEWS)
    slots = embeddings.sounds(composites)[:, base.dim : -1].unflatten(1, (-1, base.dim))
    with torch.inference_mode():
        prompts = [PROMPT.format(label) for label in experiment.labels]
        classes = base.embed_captions(prompts, experiment.text).cpu()
    named = (slots[:, [0, -1]] @ classes.T).argmax(-1).tolist()
    return {
        name: {experiment.labels[k] for k in found} == {pair["label_i"], pair["label_j"]}
        for (name, (pair, _)), found in zip(composites.items(), named, strict=True)
    }


def changes(experiment: Experiment, seed: int) -> Iterator[tuple[str, str, SlotModel]]:
    """Groups, changes and changed models, one after the other; those on one base model stand together."""
    slots = experiment.load_slots(seed, f"{BASE}-slots")
    options = {"reader": slots.reader, "parts": slots.parts, "source": slots.source}
    yield UNCHANGED, "", slots

    def change(group: str, name: str, base: AudioTextModel = slots.base, **other: Any) -> tuple:
        return group, name, SlotModel(base, **(options | other))

    for part in slots.parts:
        yield change("parts", f"{100 * part:g} % alone", parts=[part])
    yield change("slots", "three", slots=3, parts=None)
    yield change("whole", "a third", whole=1 / 3)
    yield change("source", "trunk", source="trunk")
    yield change(READERS, "shipped", reader=experiment.remembering(SHIPPED_READER))
    yield change(READERS, "regular expressions", reader=RegexParser())
    oracle = OracleParser(experiment.labels)
    yield change(READERS, ORACLE, reader=oracle)
    yield change(READERS, f"{ORACLE}, halves", reader=oracle, parts=[0.5])
    oracle = OracleParser(experiment.labels, simultaneous=False)
    yield change(READERS, f"{ORACLE}, halves, whole", reader=oracle, parts=[0.5])
    for name in base_model_names(experiment):
        base = experiment.load(seed, name)
        yield change("base", name, base)
        if name == ATTENDING:
            yield change("base", f"{name}, trunk", base, source="trunk")


def base_model_names(experiment: Experiment) -> list[str]:
    """The other variants of the base model, which are trained for this; none on a pretrained trunk."""
    return [] if experiment.reference.has_pretrained_trunk else OTHER_BASES


def error_sources(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Where the errors of slots come from, by task: ``task, n, wrong, reading, order, recognition``, counts.

    Of the unchanged slots' wrong answers, those that the oracle parse corrects are errors of reading. The
    others are errors of order where both events are named (:func:`both_named`), and of recognition where they
    are not.

    Args:
        rows: of :func:`ablate_slots`.
    """
    unchanged = rows[(rows["group"] == UNCHANGED) & rows["task"].replace(POOLED).isin(ERROR_TASKS)]
    by_oracle = rows[(rows["group"] == READERS) & (rows["change"] == ORACLE)].set_index(["task", "item"])
    oracle = by_oracle["correct"].loc[pd.MultiIndex.from_frame(unchanged[["task", "item"]])].to_numpy()
    known = [of.astype(bool) for of in (unchanged["correct"], oracle, unchanged["named"])]
    source = np.select(known, ["", *ERROR_SOURCES[:2]], ERROR_SOURCES[2])
    found = []
    for task, part in pd.Series(source, index=unchanged["task"].replace(POOLED)).groupby(level=0, sort=False):
        counts = {name: int((part == name).sum()) for name in ERROR_SOURCES}
        found.append({"task": task, "n": len(part), "wrong": sum(counts.values())} | counts)
    return found
