"""What each step of a run is a function of, as one fingerprint a step, by content.

A step's fingerprint is the hash of its code, its notebook, the run's configuration and data, and the
fingerprints of the steps before it. ``workflow/Snakefile`` makes a step again where the stamp in
``runs/<profile>/<base>/steps/`` (:mod:`artifact.made`) is missing or not current.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import made, paths, provenance
from artifact.clips import content_of, hashed, load_captioned
from artifact.config import Config
from figures import registry
from figures.read import REAL
from tclap import files
from tclap.data.clips import load_clips
from tclap.data.datasets import esc50

NOTEBOOKS = {path.stem[3:]: path.stem for path in (paths.CHECKOUT / "notebooks").glob("[0-9]*.ipynb")}
COMMON = tuple(f"artifact/{name}.py" for name in ("clips", "config", "experiment", "made"))


def ablates(config: Config) -> bool:
    """Whether slots are ablated in this run, which is done in its first seed."""
    return config.slots is not None and config.slots.ablation


def with_folds(config: Config, root: str | None) -> Config:
    """A profile's settings with the test folds there are; errors as of :func:`tclap.load_clips`."""
    if not config.rotate:
        return config
    return config.with_folds(esc50.folds(root, download=config.dataset_options.get("download", False)))


def data_content(config: Config, root: str | None) -> Any:
    """What the run's data are, by content: tables and hashes of audio.

    Sounds that are synthesised are a function of the configuration.

    Raises:
        ValueError, FileNotFoundError: as :func:`tclap.load_clips`.
    """
    tables = load_captioned(config.retrieval_sets)
    if config.dataset != "synthetic":
        tables["clips"] = load_clips(config.dataset, root, **config.dataset_options)
    return {name: content_of(hashed(clips)) for name, clips in tables.items()}


def fingerprints(config: Config, base: str, content: Any) -> dict[str, str]:
    """The fingerprint of every step by the name of its stamp: ``evaluation-seed0``, ``figure-tasks``."""
    found: dict[str, str] = {}

    def step(name: str, *after: str, stamp: str = "", **settings: Any) -> str:
        stamp = stamp or name
        found[stamp] = files.hash_json([name, _code(name), [found[earlier] for earlier in after], settings])
        return stamp

    data = step("data_construction", config=config.model_dump(), base=base, data=content)
    for seed in config.seeds:
        of = f"-seed{seed}"
        model = step("base_model", data, stamp=f"base_model{of}", seed=seed)
        names = config.variant_names(seed)
        trained = [step("post_pretraining", model, stamp=f"post_pretraining{of}", seed=seed, names=names)]
        step("evaluation", *trained, stamp=f"evaluation{of}", seed=seed)
        if seed in config.held_out_seeds:
            trained.append(step("hold_out", model, stamp=f"hold_out{of}", seed=seed))
        if config.slots is not None:
            step("order_from_text", *trained, stamp=f"order_from_text{of}", seed=seed)
    first = f"base_model-seed{config.seeds[0]}"
    if ablates(config):
        step("slot_ablation", first, step("other_base_models", data))
    summary = step("summary", *found)
    for name in registry.FIGURES:
        sources = provenance.hash_code(*map(str, registry.sources(name)))
        after = [found[summary]] if name in registry.RESULTS else []
        found[f"figure-{name}"] = files.hash_json([name, sources, after])
    # Of other profiles' runs; this one's own summary has its fingerprint.
    others = {name: paths.root() / "runs" / name / "summary.json" for name in REAL if name != config.profile}
    real = {name: files.sha256_file(path) for name, path in others.items() if path.is_file()}
    step("tables_and_numbers", summary, real=real)
    step("figures_and_tables", summary)
    if config.base_training:  # a published model takes minutes to embed the recordings on a CPU
        step("your_recordings", first)
    return found


def _code(name: str) -> str:
    sources = [*COMMON, *provenance.CODE[name]]
    if name in NOTEBOOKS:
        sources.append(f"notebooks/{NOTEBOOKS[name]}.ipynb")
    if name == "tables_and_numbers":
        sources += map(str, sorted((paths.CHECKOUT / "paper" / "sections").glob("*.tex")))
    return provenance.hash_code(*sources)


def remove_stale(run: Path, expected: Mapping[str, str]) -> list[str]:
    """Delete the stamps of a run that are not current, and return the names of those that are.

    The stamp of the data is stale too where audio that the run was prepared with is gone or another by now.
    """
    current = []
    for name, fingerprint in expected.items():
        stamp = run / "steps" / f"{name}.json"
        if made.is_current(stamp, fingerprint) and (name != "data_construction" or _audio_is_there(run)):
            current.append(name)
        else:
            stamp.unlink(missing_ok=True)
    return current


def _audio_is_there(run: Path) -> bool:
    table = run / "data" / "clips.parquet"
    clips = pd.read_parquet(table, columns=["path", "sha256"]) if table.is_file() else None
    return clips is not None and all(
        Path(path).is_file() and files.sha256_file(path) == sha256
        for path, sha256 in clips.itertuples(index=False)
    )
