"""What each step of a run is a function of, as one fingerprint a step, by content.

A step's fingerprint is the hash of its code, its notebook, the run's configuration and data, and the
fingerprints of the steps before it. ``workflow/Snakefile`` makes a step again where the stamp in
``runs/<profile>/<base>/steps/`` (:mod:`artifact.made`) is missing or not current.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from artifact import made, paths, provenance
from artifact.clips import content_of, hashed, load_captioned
from artifact.config import Config
from artifact.provenance import TRAINING_CODE
from figures import registry
from tclap import files
from tclap.data.clips import load_clips
from tclap.data.datasets import esc50
from tclap.training.variants import BASE, VARIANTS

NOTEBOOKS = {
    "data_construction": "01_data_construction",
    "base_model": "02_base_model",
    "post_pretraining": "03_post_pretraining",
    "evaluation": "04_evaluation",
    "order_from_text": "05_order_from_text",
    "figures_and_tables": "06_figures_and_tables",
    "your_recordings": "07_your_recordings",
}
REAL = "esc50"  # the profile on real recordings, whose summary the tables and numbers take too
COMMON = tuple(f"artifact/{name}.py" for name in ("clips", "config", "experiment", "model_folder"))
EVALUATED_BY = (
    "artifact/embeddings.py", "artifact/evaluation.py", "artifact/captioned.py", "tclap/evaluation",
)  # fmt: skip
CODE = {
    "data_construction": ("artifact/preparation.py", "tclap/audio.py", "tclap/data", "tclap/evaluation"),
    "base_model": TRAINING_CODE,
    "other_base_models": TRAINING_CODE,
    "post_pretraining": (
        *TRAINING_CODE, "tclap/slots/captions.py", "tclap/slots/training.py", "tclap/slots/wordings.yaml",
    ),
    "evaluation": EVALUATED_BY,
    "order_from_text": (
        *EVALUATED_BY, "artifact/order_from_text.py", "artifact/reader.safetensors", "tclap/slots",
    ),
    "slot_ablation": (
        *EVALUATED_BY, "artifact/slot_ablation.py", "artifact/parsers.py", "artifact/order_from_text.py",
        "artifact/reader.safetensors", "tclap/slots", "tclap/slots/reader.safetensors",
    ),
    "hold_out": (*TRAINING_CODE, *EVALUATED_BY, "artifact/hold_out.py"),
    "summary": (
        "artifact/summary.py", "artifact/slot_ablation.py", "artifact/hold_out.py", "tclap/evaluation",
    ),
    "tables_and_numbers": ("paper", "figures", "paper/main.tex", "paper/draft.yaml"),
    "figures_and_tables": ("artifact/notebook", "artifact/compare.py", "figures", "paper"),
    "your_recordings": (
        *TRAINING_CODE, "tclap/slots", "tclap/slots/reader.safetensors", "artifact/notebook",
        "artifact/order_from_text.py", "figures/style.py",
    ),
}  # fmt: skip


def parts(config: Config, seed: int) -> dict[str, list[str]]:
    """A seed's variants in two jobs of like length: three long jobs would leave a core idle."""
    found: dict[str, list[str]] = {}
    for name in config.variant_names(seed):
        settings = VARIANTS.get(name)
        usual = settings is not None and settings.base == BASE and not settings.distinct
        found.setdefault("variants" if usual else "others", []).append(name)
    return found


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

    def step(name: str, *after: str, **settings: Any) -> str:
        return files.hash_json([name, _code(name), after, settings])

    found = {
        "data_construction": step("data_construction", config=config.model_dump(), base=base, data=content)
    }
    data = found["data_construction"]
    for seed in config.seeds:
        model = found[f"base_model-seed{seed}"] = step("base_model", data, seed=seed)
        trained = []
        for part, names in parts(config, seed).items():
            trained.append(step("post_pretraining", model, seed=seed, names=names))
            found[f"post_pretraining-seed{seed}-{part}"] = trained[-1]
        held_out = []
        if seed in config.held_out_seeds:
            held_out = [step("hold_out", model, seed=seed)]
            found[f"hold_out-seed{seed}"] = held_out[0]
        found[f"evaluation-seed{seed}"] = step("evaluation", *trained, seed=seed)
        if config.slots is not None:
            found[f"order_from_text-seed{seed}"] = step("order_from_text", *trained, *held_out, seed=seed)
    if ablates(config):
        found["other_base_models"] = step("other_base_models", data)
        model = found[f"base_model-seed{config.seeds[0]}"]
        found["slot_ablation"] = step("slot_ablation", model, found["other_base_models"])
    summary = found["summary"] = step("summary", *found.values())
    for name in registry.FIGURES:
        sources = provenance.hash_code(*map(str, registry.sources(name)))
        after = [summary] if name in registry.RESULTS else []
        found[f"figure-{name}"] = files.hash_json([name, sources, after])
    # Of another profile's run; this one's own summary has its fingerprint.
    real = paths.root() / "runs" / REAL / "summary.json"
    content = files.sha256_file(real) if config.profile != REAL and real.is_file() else None
    found["tables_and_numbers"] = step("tables_and_numbers", summary, real=content)
    found["figures_and_tables"] = step("figures_and_tables", summary)
    if config.base_training:  # a published model takes minutes to embed the recordings on a CPU
        first = config.seeds[0]
        found["your_recordings"] = step("your_recordings", found[f"base_model-seed{first}"], seed=first)
    return found


def _code(name: str) -> str:
    sources = [*COMMON, *CODE[name]]
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
