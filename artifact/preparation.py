"""The first step of a run, notebook 01: its clips, composites, questions and captions' features."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import paths, prompts
from artifact.captioned import load_captioned
from artifact.config import load_config, plain_values
from artifact.experiment import Experiment, load_reference
from tclap import files
from tclap.data.clips import for_stage, load_clips
from tclap.data.composites import ClipAudio, draw_pairs, place
from tclap.evaluation import controls
from tclap.evaluation import tasks as zste

log = logging.getLogger(__name__)


def prepare(
    profile: str,
    base: str,
    root: str | Path | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> Experiment:
    """Construct the data of a run (notebook 01): clips, composites, evaluation items, text features.

    Args:
        profile: a profile's name.
        base: a base model of the profile.
        root: the data set's folder; None: its own default.
        dataset_options: what replaces the profile's own options, where not None.
        weights: of a published base model; None: the official ones.

    Raises:
        ValueError, FileNotFoundError: on an unknown name or unusable data.
    """
    config = load_config(profile, dataset_options)
    config = replace(config, weights=None if weights is None else str(Path(weights).resolve()))
    model = load_reference(config, base)
    clips = load_clips(config.dataset, root, **config.dataset_options)
    audio = ClipAudio(clips, model.sample_rate)
    folder = paths.run(profile, base) / "data"
    labels = sorted(clips["label"].unique())
    tables = {"clips": clips}
    for stage, count in (("validation", config.validation_pairs), ("test", config.test_pairs)):
        pairs = draw_pairs(clips, stage, count, seed=config.data_seed)
        gap = (config.gap_ms[0], config.gap_ms[1])
        tables[f"pairs-{stage}"] = place(pairs, audio, model.window, gap_ms=gap, seed=config.data_seed)
    test = for_stage(clips, "test")
    tables["items"] = pd.concat(
        [
            zste.build_items(test, tables["pairs-test"], labels, seed=config.data_seed),
            prompts.build_items(test, labels),
        ],
        ignore_index=True,
    )
    asked = tables["pairs-test"].head(config.control_pairs)
    tables["controls"] = controls.build_items(
        test if len(asked) else test.head(0), asked, seed=config.data_seed
    )
    for name, table in tables.items():
        files.write_table(folder / f"{name}.parquet", table)
    files.write_json(folder / "config.json", plain_values(config))
    # A data set that is broken shall say so before hours of training, not after.
    for name, captioned in load_captioned(config.retrieval_sets).items():
        missing = list(captioned.attrs.get("missing", ()))
        files.write_json(folder / f"{name}-missing.json", missing)
        log.info("retrieval on %s: n = %d clips, %d have no audio file", name, len(captioned), len(missing))
    run = Experiment(profile, base, model)
    run.text.add(c for candidates in tables["controls"]["candidates"] for c in candidates)
    return run
