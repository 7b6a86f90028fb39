"""The class hold-out: does order learned from composites of some classes hold for pairs of other classes?

For each fraction of the classes and each split, a seed's base model is post-pretrained as ``t-clap`` with
composites of the seen classes alone, for training and for validation; replay and the text-only loss have all
classes. Each split is trained in one seed. The two-way task is then asked about the run's test pairs, of
which none, one or both classes were seen.

Order can only be right where the sounds are recognised. A composite is *named* when the model classifies
both of its events rightly: the part of the composite in which an event sounds, as a recording of its own,
among all classes as in task 1.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from artifact.config import Config
from artifact.embeddings import RunEmbeddings
from artifact.evaluation import stamp_of
from artifact.experiment import DATA_SEED, Experiment
from artifact.training import make_pools, train_variant
from tclap.data.composites import PROMPT, VIEWS
from tclap.evaluation.benchmark import views_of
from tclap.evaluation.embeddings import Embeddings
from tclap.evaluation.statistics import bootstrap_interval
from tclap.evaluation.tasks import score_items
from tclap.progress import progress
from tclap.training.features import Part
from tclap.training.variants import BASE, variant

HOLD_OUT = "hold-out.parquet"
VARIANT = "t-clap"
TWO_WAY = ("2way_before", "2way_after")
SEEN = ("none seen", "one seen", "both seen")  # by how many classes of a pair
ORDER = 50  # RNG stream


def hold_out(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Train and ask the models of a seed's splits, and keep their answers as ``hold-out.parquet``.

    Returns:
        The rows of :func:`answers` with ``fraction``, ``classes`` (their number), ``split``, ``seed`` and
        ``seen``, the number of the pair's classes that were seen; first those of the base model, which has
        seen composites of no class. Existing ones are reused.
    """
    experiment = experiment.at(seed)
    stamp = stamp_of(experiment, seed, "hold_out", [BASE])
    if stamp.is_current():
        return experiment.table(f"seed{seed}/{HOLD_OUT}")
    config, base = experiment.config, experiment.load(seed)
    settings, labels = config.hold_out, experiment.labels
    shorter = settings.model_dump(include={"steps", "pool_pairs", "pool_items"})
    post = config.post_pretraining.model_copy(update=shorter)
    pairs, items = (experiment.table(f"data/{name}.parquet") for name in ("pairs-test", "items"))
    items = items[items["task"].isin(TWO_WAY)]
    views = views_of(pairs, VIEWS[:2])
    sounds = {name: views[name] for name in items["audio"].unique()} | events_of(pairs)
    features = experiment.outputs(base, sounds, "composites and their events")

    def asked(model: Any, seen: Sequence[str], **where: Any) -> pd.DataFrame:
        found = answers(RunEmbeddings(experiment, model, sounds, features), items, pairs, labels)
        counts = pairs[["label_i", "label_j"]].isin(list(seen)).sum(axis=1).to_numpy()
        return found.assign(seen=counts, classes=len(seen), seed=seed, **where)

    rows, pools = [asked(base, [], fraction=0.0, split=-1)], None
    trained = list(product(splits_of(config, seed), settings.fractions))
    for split, fraction in progress(trained, "class hold-out"):
        seen = seen_classes(labels, fraction, split, settings.splits, DATA_SEED)
        pools = make_pools(experiment, base, seed, post=post, labels=seen, others=pools)
        model, what = base.with_own_heads(), f"{len(seen)} classes, split {split}"
        train_variant(experiment, seed, model, variant(VARIANT), pools, post, what)
        rows.append(asked(model, seen, fraction=fraction, split=split))
    table = pd.concat(rows, ignore_index=True)
    stamp.write({"hold-out": table})
    return table


def splits_of(config: Config, seed: int) -> range:
    """The splits that are trained in a seed: they are dealt out over the seeds in turn."""
    return range(config.seeds.index(seed), config.hold_out.splits, len(config.seeds))


def seen_classes(labels: Sequence[str], fraction: float, split: int, splits: int, seed: int) -> list[str]:
    """The classes, at least two, whose composites a model of a split is trained on.

    All classes stand in a circle in a drawn order, and each split starts at another place: over the splits,
    the classes are seen equally often where the numbers allow it, and those that a split sees at a smaller
    fraction are among those that it sees at a larger one.
    """
    drawn = np.random.default_rng([seed, ORDER]).permutation(sorted(labels))
    start = split * len(labels) // splits
    return sorted(np.roll(drawn, -start)[: max(round(fraction * len(labels)), 2)].tolist())


def events_of(pairs: pd.DataFrame) -> dict[str, Part]:
    """The parts of the composites in which their events sound, by ``<pair_id>/i`` and ``<pair_id>/j``."""
    parts = {}
    for row in pairs.to_dict("records"):
        total = row["length_i"] + row["length_j"] + row["gap"]
        for end, start in (("i", 0), ("j", total - row["length_j"])):
            span = start / total, (start + row[f"length_{end}"]) / total
            parts[f"{row['pair_id']}/{end}"] = Part((row, "forward"), *span)
    return parts


def answers(
    embeddings: Embeddings, items: pd.DataFrame, pairs: pd.DataFrame, labels: Sequence[str]
) -> pd.DataFrame:
    """One row per pair: ``item, source_a, source_b``, ``correct``, the mean of both wordings, and ``named``.

    Args:
        embeddings: of the pairs' composites and of :func:`events_of`, among others.
        items: of the two-way task, in both wordings.
        pairs: their manifest.
        labels: all classes.
    """
    prompts = [PROMPT.format(label) for label in labels]
    embeddings.add_captions([*prompts, *items["candidates"].explode()])
    correct = score_items(items, embeddings).groupby("item")["correct"].mean()
    named = np.ones(len(pairs), dtype=bool)
    for end in "ij":
        sounds = embeddings.sounds(f"{pair}/{end}" for pair in pairs["pair_id"])
        nearest = (sounds @ embeddings.captions(prompts).T).argmax(1)
        named &= np.array(labels)[nearest] == pairs[f"label_{end}"].to_numpy(dtype=str)
    found = pairs[["pair_id", "source_i", "source_j"]].set_axis(["item", "source_a", "source_b"], axis=1)
    return found.assign(correct=found["item"].map(correct), named=named)


def curve(rows: pd.DataFrame, slots: pd.DataFrame | None = None) -> dict[str, Any]:
    """Two-way accuracies of T-CLAP by fraction ("20%") and :data:`SEEN`, of all pairs and of the named ones.

    With ``slots`` also theirs on all pairs, named by the base model: of no class they had composites. The
    intervals are over clips, and for T-CLAP over splits too.

    Args:
        rows: of :func:`hold_out`, of one seed or of all.
        slots: item rows of the base model with slots in the same seeds.
    """
    found: dict[str, Any] = {}
    for (fraction, classes), part in rows[rows["classes"] > 0].groupby(["fraction", "classes"]):
        entry = found[f"{fraction:.0%}"] = {"classes": int(classes), "splits": int(part["split"].nunique())}
        for count, name in enumerate(SEEN):
            entry |= _scores(name, part[part["seen"] == count])
    if slots is not None:
        both = slots[slots["task"].isin(TWO_WAY)].astype({"correct": float})
        correct = both.groupby(["seed", "item"])["correct"].mean()
        base = rows[rows["classes"] == 0].set_index(["seed", "item"])
        found |= _scores("slots", base.assign(correct=correct))
    return found


def _scores(name: str, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The scores ``<name>`` and ``<name>, named``, in percent, as far as there are such pairs."""
    found = {}
    splits = rows["split"].map("split {}".format).where(rows["classes"] > 0)
    for key, of in ((name, rows), (f"{name}, named", rows[rows["named"]])):
        if len(of):
            # Where all answers are alike the splits are too, and the interval is that of so many clips.
            alike = of["correct"].nunique() == 1
            sources = of[["source_a", "source_b"]].assign(split=None if alike else splits)
            found[key] = {
                "accuracy": 100 * float(of["correct"].mean()),
                "ci95": [100 * end for end in bootstrap_interval(of["correct"], sources)],
                "chance": 50.0,
                "n": len(of),
            }
    return found
