"""The first step of a run, notebook 01: its clips, composites, questions and captions' features."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from artifact.clips import hashed, load_captioned
from artifact.config import load_config
from artifact.experiment import DATA_SEED, Experiment
from tclap import files
from tclap.data.clips import for_stage, load_clips
from tclap.data.composites import draw_pairs, place
from tclap.evaluation import controls, tasks

log = logging.getLogger(__name__)


def prepare(
    profile: str,
    base: str,
    root: str | Path | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> Experiment:
    """Construct the data of a run: clips, composites, evaluation items, text features.

    Args:
        profile, base: a profile's name and a base model of it.
        root: the data set's folder; None: its own default.
        dataset_options: what replaces the profile's own options, where not None.
        weights: of a published base model; None: the official ones.

    Raises:
        ValueError, FileNotFoundError: on an unknown name or unusable data.
    """
    config = load_config(profile, dataset_options)
    weights = None if weights is None else str(Path(weights).resolve())
    config = config.model_copy(update={"weights": weights})
    clips = hashed(load_clips(config.dataset, root, **config.dataset_options))
    run = Experiment(profile, base, config.with_folds(clips["fold"]))
    config, _ = run.config, run.reference  # what it refuses is refused before anything is written
    files.write_table(run.folder / "data" / "clips.parquet", clips)
    _ = run.audio  # read once, for all folds
    parts: dict[str, list[pd.DataFrame]] = {}
    for index in range(len(config.rotate) or 1):
        for name, table in _tables(run.at(index)).items():
            fold = {"test_fold": config.rotate[index]} if config.rotate else {}
            parts.setdefault(name, []).append(table.assign(**fold))
    for name, tables in parts.items():
        files.write_table(run.folder / "data" / f"{name}.parquet", pd.concat(tables, ignore_index=True))
    files.write_json(run.folder / "data" / "config.json", config.model_dump())
    # A data set that is broken shall say so before hours of training, not after.
    for name, captioned in load_captioned(config.retrieval_sets).items():
        log.info("retrieval on %s: n = %d clips", name, len(captioned))
    run.text.add(())  # the vocabulary, which every step needs
    return run


def _tables(run: Experiment) -> dict[str, pd.DataFrame]:
    """Pairs, items and controls of the run's test fold; pairs of different folds have different ids."""
    config, tables = run.config, {}
    for stage, count in (("validation", config.validation_pairs), ("test", config.test_pairs)):
        pairs = draw_pairs(run.clips, stage, count, seed=DATA_SEED)
        if run.fold is not None:
            pairs["pair_id"] = f"fold{run.fold}-" + pairs["pair_id"]
        placed = place(pairs, run.audio, run.reference.window, seed=DATA_SEED)
        tables[f"pairs-{stage}"] = placed
    test, pairs = for_stage(run.clips, "test"), tables["pairs-test"]
    items = [tasks.build_items(test, pairs, run.labels, seed=DATA_SEED), tasks.prompt_items(test, run.labels)]
    asked = pairs.head(config.control_pairs)
    tables["items"] = pd.concat(items, ignore_index=True)
    tables["controls"] = controls.build_items(test if len(asked) else test.head(0), asked, seed=DATA_SEED)
    return tables
