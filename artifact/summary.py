"""The run's summary: every reported number, from the tidy rows of all seeds."""

from __future__ import annotations

import json
import shutil
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from statsmodels.stats.multitest import multipletests

from artifact import made, provenance
from artifact.experiment import Experiment
from tclap import files
from tclap.data.clips import STAGES, for_stage
from tclap.evaluation import statistics
from tclap.evaluation.controls import group_of
from tclap.evaluation.retrieval import measures
from tclap.evaluation.tasks import PROMPT_PREFIX, TASKS
from tclap.models.weights import read_checkpoint
from tclap.progress import log_reused
from tclap.training.schedule import PRESETS
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX

CONTROL = "clap-continued"
NOT_TRAINED = (POLICY_SEPARATOR, "-slots")  # models that are others in other windows, or with slots
SLOT_ABLATION = "slots-ablation.parquet"
PRODUCTS = (
    "summary.json", "provenance.json", "results.parquet", "retrieval.parquet", "history.parquet",
    "similarity.parquet", "example.npz", "example.json",
)  # fmt: skip
DATA_TABLES = ("clips", "pairs-validation", "pairs-test", "items", "controls")
COMPARISONS = (
    (BASE, "clap-slots"), ("t-clap", "clap-slots"), ("t-clap", "t-clap-slots"),
    (BASE, "t-clap"), (CONTROL, "t-clap"), (BASE, CONTROL),
    (BASE, "t-clap-slots"), (CONTROL, "clap-slots"), (CONTROL, "t-clap-slots"),
    ("clap-slots", "t-clap-slots"),
    ("t-clap-distinct", "t-clap-alpha-same-0"), ("t-clap-distinct", "t-clap-alpha-cross-0"),
    ("t-clap", "t-clap-no-replay"), ("t-clap", "t-clap-no-overlap"),
    ("t-clap", "t-clap-no-temporal-negatives"),
)  # fmt: skip


def summarise_run(profile: str, base: str) -> dict[str, Any]:
    """Gather all seeds' tables into the run's own, and write ``summary.json`` and ``provenance.json``.

    Those of the same tables are reused. ``runs/<profile>/summary.json`` is a copy for the last base run. Of
    the composite that is shown in full, the first seed's view is copied.

    Raises:
        FileNotFoundError: when a seed of the profile has not been evaluated.
    """
    run = Experiment(profile, base)
    config, folder, first = run.config, run.folder, f"seed{run.config.seeds[0]}"
    stamp, last = folder / "summarised.json", folder.parent / "summary.json"
    stamps = ["evaluated.json", "slots-evaluated.json"] if config.slots else ["evaluated.json"]
    gathered = [run.path(f"seed{seed}/{name}") for seed in config.seeds for name in stamps]
    if config.slots and config.slots.ablation:
        gathered.append(run.path(f"{first}/{SLOT_ABLATION}"))
    inputs = {
        "config": config.model_dump(),
        "gathered": [files.sha256_file(path) for path in gathered],
        "code": provenance.hash_code("artifact/summary.py", "tclap/evaluation"),
    }
    if made.is_current(stamp, files.hash_json(inputs)):
        log_reused("the summary over all seeds")
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        files.write_json(last, summary)
        return summary
    tables = {}
    for name in ("results", "retrieval", "similarity"):
        kinds = ("", "slots-") if config.slots and name != "similarity" else ("",)
        parts = [run.table(f"seed{seed}/{kind}{name}.parquet") for kind in kinds for seed in config.seeds]
        tables[name] = pd.concat(parts, ignore_index=True)
    evaluated = tables["results"][["seed", "model"]].drop_duplicates().itertuples(index=False)
    trained = [found for found in evaluated if not any(part in found.model for part in NOT_TRAINED)]
    histories = [run.history(seed, model) for seed, model in sorted(trained, key=lambda found: found.seed)]
    tables["history"] = pd.concat(histories, ignore_index=True)
    summary = build_summary(tables["results"], tables["retrieval"])
    if config.slots and config.slots.ablation:
        summary["slot_ablation"] = slot_ablation(run.table(f"{first}/{SLOT_ABLATION}"))
    model, _ = read_checkpoint(run.path(f"{first}/{BASE}/weights.safetensors"), base)
    shown = [run.path(f"{first}/{name}") for name in ("example.npz", "example.json")]
    made_by = provenance.collect(config.model_dump(), **provenance.hash_run(folder, DATA_TABLES))
    identity = {"profile": profile, "base": base, "seeds": config.seeds, "origin": model.pop("origin", None)}
    summary |= identity | {
        "model": model,
        "weights": _weights(folder / first),
        "classes": len(run.labels),
        "clips": {stage: len(for_stage(run.clips, stage)) for stage in STAGES},
        "folds": {split: sorted(set(group["fold"].tolist())) for split, group in run.clips.groupby("split")},
        "presets": PRESETS,
        "provenance": made_by,
    }
    for name, table in tables.items():
        files.write_table(folder / f"{name}.parquet", table)
    for file in shown:
        with files.replacing(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
    files.write_json(folder / "provenance.json", identity | made_by)
    for path in (folder / "summary.json", last):
        files.write_json(path, summary)
    made.write(stamp, files.hash_json(inputs), [folder / name for name in PRODUCTS], inputs=inputs)
    return summary


def slot_ablation(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What slots rest on: ``group``, ``change`` and the ``tasks``' accuracies, n, chance and intervals."""
    found = []
    for (group, change), part in rows.groupby(["group", "change"], sort=False):
        scores = statistics.summarise(part.assign(model="slots")).to_dict("records")
        found.append(
            {"group": group, "change": change, "tasks": {row["task"]: _score(row) for row in scores}}
        )
    return found


def _score(row: dict[str, Any]) -> dict[str, Any]:
    """A task's accuracy as it stands in the summary, from a row of ``statistics.summarise``."""
    return {
        "accuracy": row["accuracy"],
        "ci95": [row["low"], row["high"]],
        "chance": row["chance"],
        "n": int(row["n"]),
        "per_seed": list(row["per_seed"]),
        "spread": None if np.isnan(row["spread"]) else row["spread"],
    }


def _weights(folder: Path) -> dict[str, dict[str, int]]:
    """Number of weights in a seed's checkpoints, by model and part (``audio_head``, ``reader``, ...)."""
    found: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*/weights.safetensors")):
        parts = found.setdefault(path.parent.name, {})
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118
                part = name.partition(".")[0]
                parts[part] = parts.get(part, 0) + prod(file.get_slice(name).get_shape())
    return found


def build_summary(results: pd.DataFrame, queries: pd.DataFrame) -> dict[str, Any]:
    """All numbers, from the item rows and the query rows of all seeds."""
    tied = 100 * results.groupby(["model", "task"])["tied"].mean()
    numbers: dict[str, dict[str, dict]] = {}
    for row in statistics.summarise(results).to_dict("records"):
        score = _score(row) | {"tied": float(tied[row["model"], row["task"]])}
        numbers.setdefault(row["model"], {})[row["task"]] = score
    summary: dict[str, Any] = {"models": {}, "readouts": {}, "windows": {}, "controls": {}}
    for model, tasks in numbers.items():
        name, _, policy = model.partition(POLICY_SEPARATOR)
        if policy:
            summary["windows"].setdefault(policy, {})[name] = tasks
        elif name.startswith(READOUT_PREFIX):
            known = {task: score for task, score in tasks.items() if task in TASKS}
            summary["readouts"][name.removeprefix(READOUT_PREFIX)] = known
        else:
            prompts = {task: score for task, score in tasks.items() if task.startswith(PROMPT_PREFIX)}
            summary["models"][name] = {
                "zste": {task: tasks.get(task) for task in TASKS},
                "prompts": {t.removeprefix(PROMPT_PREFIX).format("{label}"): s for t, s in prompts.items()},
                "retrieval": _retrieval(queries[queries["model"] == name]),
            }
            for task, score in tasks.items():
                if group := group_of(task):
                    found = summary["controls"].setdefault(name, {}).setdefault(group, {})
                    found[task.removeprefix(f"{group}: ")] = score
    if summary["windows"]:
        # The main rows are the policy "fit"; what the other policies were asked is repeated.
        asked = next(iter(summary["windows"].values()))
        summary["windows"]["fit"] = {m: {task: numbers[m][task] for task in asked[m]} for m in asked}
    summary["comparisons"] = _comparisons(results)
    return summary


def _retrieval(queries: pd.DataFrame) -> dict[str, Any]:
    """R@k, mAP and median rank by gallery and direction: the mean over seeds, chance, an interval."""
    out: dict[str, Any] = {}
    for (gallery, direction), group in queries.groupby(["gallery", "direction"], sort=False):
        one_seed = group.drop_duplicates("query")
        # A text query comes from no clip: it is its own source.
        own = one_seed["source_a"].isna().all()
        sources = (one_seed["query"] if own else one_seed[["source_a", "source_b"]]).to_numpy(dtype=object)
        values: dict[str, Any] = {"ci95": {}, "chance": {}}
        for name, (score, chances) in measures(group).items():
            by_query = group.assign(score=score).pivot(index="query", columns="seed", values="score")
            means = by_query.mean(axis=1).loc[one_seed["query"]].to_numpy()
            low, high = statistics.bootstrap_interval(means, sources)
            values[name] = 100 * float(by_query.to_numpy().mean())
            values["ci95"][name] = [100 * low, 100 * high]
            values["chance"][name] = 100 * float(np.mean(chances[one_seed.index]))
        values |= {"median_rank": float(group["rank"].median()), "n": len(one_seed)}
        out.setdefault(gallery, {})[direction] = values
    return out


def _comparisons(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Item-by-item comparisons of two models; ``holm_p`` is adjusted for the tasks of the two."""
    rows = []
    for pair in COMPARISONS:
        both = results[results["model"].isin(pair)]
        if both["model"].nunique() < 2:
            continue
        asked = [(task, both[both["task"] == task]) for task in TASKS]
        found = [{"task": task} | _comparison(part, *pair) for task, part in asked if len(part)]
        adjusted = multipletests([row["mcnemar_p"] for row in found], method="holm")[1] if found else ()
        rows += [row | {"holm_p": float(p)} for row, p in zip(found, adjusted, strict=True)]
    return rows


def _comparison(rows: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """One task's ``difference`` with its interval; ``mcnemar_p``, the largest of the seeds; ``detectable``.

    The last is the smallest difference that so many items, of which so many are right for one model alone (in
    the first seed), show with a power of 80 %, None where there is none.
    """
    scores = rows.assign(correct=rows["correct"].astype(float)).pivot(
        index=["item", "source_a"], columns=["model", "seed"], values="correct"
    )
    sources = rows.drop_duplicates("item").set_index("item")[["source_a", "source_b"]]
    sources = sources.loc[scores.index.get_level_values("item")].to_numpy(dtype=object)
    one, other = (scores[model].to_numpy() for model in (first, second))
    difference, low, high = statistics.paired_difference(one.mean(axis=1), other.mean(axis=1), sources)
    return {
        "models": [first, second],
        "mcnemar_p": max(statistics.mcnemar_exact(a, b) for a, b in zip(one.T, other.T, strict=True)),
        "difference": 100 * difference,
        "ci95": [100 * low, 100 * high],
        "detectable": _detectable(other[:, 0] - one[:, 0], sources),
    }


def _detectable(difference: np.ndarray, sources: np.ndarray) -> float | None:
    if not difference.any():
        return None
    effect = statistics.design_effect(difference, sources) if np.ptp(difference) else 1.0
    discordance, effect = float(np.mean(difference != 0)), min(effect, len(difference))
    found = statistics.detectable_difference(len(difference), discordance, design_effect=effect)
    return None if np.isnan(found) else 100 * found
