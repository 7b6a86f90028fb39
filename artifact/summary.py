"""The run's summary: every reported number, from the tidy rows of all seeds."""

from __future__ import annotations

import argparse
import json
import shutil
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from artifact import paths, provenance
from artifact.config import from_plain_values
from artifact.prompts import PREFIX
from tclap import files
from tclap.data.clips import STAGES, for_stage
from tclap.evaluation.controls import group_of
from tclap.evaluation.galleries import KS
from tclap.evaluation.retrieval import DEPTH, chance, chance_precision, median_rank
from tclap.evaluation.statistics import (
    bootstrap_interval,
    design_effect,
    detectable_difference,
    holm,
    mcnemar_exact,
    paired_difference,
    summarise,
)
from tclap.evaluation.tasks import TASKS
from tclap.progress import log_reused, without_traceback
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX

CONTROL = "clap-continued"
REFERENCE = "t-clap-distinct"
SLOT_ABLATION = "slots-ablation.parquet"
COMPARISONS = (
    (BASE, "clap-slots"),
    ("t-clap", "clap-slots"),
    ("t-clap", "t-clap-slots"),
    (BASE, "t-clap"),
    (CONTROL, "t-clap"),
    (BASE, CONTROL),
    (BASE, "t-clap-slots"),
    (CONTROL, "clap-slots"),
    (CONTROL, "t-clap-slots"),
    ("clap-slots", "t-clap-slots"),
    (REFERENCE, "t-clap-alpha-same-0"),
    (REFERENCE, "t-clap-alpha-cross-0"),
    ("t-clap", "t-clap-no-replay"),
    ("t-clap", "t-clap-no-overlap"),
    ("t-clap", "t-clap-no-time"),
)


def summarised(profile: str, base: str) -> dict[str, Any]:
    """The run's summary, which is made where it is missing or older than a seed's tables.

    Raises:
        FileNotFoundError: when a seed of the profile has not been evaluated.
    """
    path = paths.run(profile, base) / "summary.json"
    tables = [*path.parent.glob("seed*/results.parquet"), *path.parent.glob("seed*/slots-*.parquet")]
    if not path.is_file() or any(table.stat().st_mtime > path.stat().st_mtime for table in tables):
        return summarise_run(profile, base)
    log_reused("the summary over all seeds")
    return json.loads(path.read_text(encoding="utf-8"))


def summarise_run(profile: str, base: str) -> dict[str, Any]:
    """Gather all seeds' tables into the run's own, and write ``summary.json`` and ``provenance.json``.

    Also ``results.parquet``, ``retrieval.parquet``, ``history.parquet`` and
    ``similarity.parquet`` of all seeds, and ``runs/<profile>/summary.json``, a copy for the last base run.

    Raises:
        FileNotFoundError: when a seed of the profile has not been evaluated.
    """
    folder = paths.run(profile, base)
    _require([folder / "data/config.json"], "notebook 01")
    config = from_plain_values(
        json.loads((folder / "data/config.json").read_text()), folder / "data/config.json"
    )
    tables = {}
    for name in ("results", "retrieval", "similarity"):
        parts = [folder / f"seed{seed}" / f"{name}.parquet" for seed in config.seeds]
        _require(parts, "notebook 04")
        slots = [file.with_name(f"slots-{file.name}") for file in parts]
        if config.slots is not None and name != "similarity":
            _require(slots, "notebook 06")
            parts += slots
        tables[name] = pd.concat([pd.read_parquet(file) for file in parts], ignore_index=True)
    models = [
        m for m in tables["results"]["model"].unique() if POLICY_SEPARATOR not in m and "-slots" not in m
    ]
    histories = [folder / f"seed{s}" / m / "history.parquet" for s in config.seeds for m in models]
    shown = [folder / f"seed{config.seeds[0]}" / name for name in ("example.npz", "example.json")]
    _require([*histories, *shown], "notebooks 03 and 04")
    tables["history"] = pd.concat([pd.read_parquet(file) for file in histories], ignore_index=True)
    for name, table in tables.items():
        with files.replacing(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    # One composite is shown in full; every seed has its own view of it, the first one's is shown.
    for file in shown:
        with files.replacing(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
    summary = build_summary(tables["results"], tables["retrieval"])
    clips = pd.read_parquet(folder / "data/clips.parquet")
    if config.slots is not None and config.slots.ablation:
        taken_apart = folder / f"seed{config.seeds[0]}" / SLOT_ABLATION
        _require([taken_apart], "`python -m tclap ablate`")
        summary["slot_ablation"] = slot_ablation(pd.read_parquet(taken_apart))
    tables = ("clips", "pairs-validation", "pairs-test", "items", "controls")
    sidecar = _base_config(folder / f"seed{config.seeds[0]}" / BASE / "weights.json")
    summary |= {
        "profile": profile,
        "base": base,
        "seeds": config.seeds,
        "origin": sidecar.pop("origin", None),
        "model": sidecar,
        "weights": _weights(folder / f"seed{config.seeds[0]}"),
        "classes": int(clips["label"].nunique()),
        "clips": {stage: len(for_stage(clips, stage)) for stage in STAGES},
        "folds": {split: sorted(set(group["fold"].tolist())) for split, group in clips.groupby("split")},
        "provenance": provenance.collect(
            json.loads((folder / "data/config.json").read_text()), **provenance.hash_run(folder, tables)
        ),
    }
    of_run = {"profile": profile, "base": base, "seeds": config.seeds, "origin": summary["origin"]}
    files.write_json(folder / "provenance.json", of_run | summary["provenance"])
    files.write_json(folder / "summary.json", summary)
    files.write_json(folder.parent / "summary.json", summary)
    return summary


def slot_ablation(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What slots rest on: ``group``, ``change`` and the ``tasks``' accuracies, n, chance and intervals."""
    found = []
    for (group, change), part in rows.groupby(["group", "change"], sort=False):
        scores = summarise(part.assign(model="slots")).to_dict("records")
        tasks = {row["task"]: _score(row) for row in scores}
        found.append({"group": group, "change": change, "tasks": tasks})
    return found


def _score(row: dict[str, Any]) -> dict[str, Any]:
    """A task's accuracy as it stands in the summary, from a row of :func:`summarise`."""
    return {
        "accuracy": row["accuracy"],
        "ci95": [row["low"], row["high"]],
        "chance": row["chance"],
        "n": int(row["n"]),
        "per_seed": list(row["per_seed"]),
        "spread": None if np.isnan(row["spread"]) else row["spread"],
    }


def _base_config(sidecar: Path) -> dict[str, Any]:
    """The base model's configuration; of a published one ``origin`` says where its weights came from."""
    _require([sidecar], "notebook 02")
    return json.loads(sidecar.read_text(encoding="utf-8"))["config"]


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


def _require(wanted: list[Path], maker: str) -> None:
    missing = [file for file in wanted if not file.is_file()]
    if missing:
        sentence = f"{missing[0]} is missing: run {maker} for it, or `make reproduce`."
        raise without_traceback(FileNotFoundError(sentence))


def build_summary(results: pd.DataFrame, queries: pd.DataFrame) -> dict[str, Any]:
    """All numbers, from the item rows and the query rows of all seeds."""
    numbers: dict[str, dict[str, dict]] = {}
    ties = results.groupby(["model", "task"])["tied"].mean().to_dict()
    for row in summarise(results).to_dict("records"):
        tied = 100 * float(ties.get((row["model"], row["task"]), 0.0))
        numbers.setdefault(row["model"], {})[row["task"]] = _score(row) | {"tied": tied}
    summary: dict[str, Any] = {"models": {}, "readouts": {}, "windows": {}, "controls": {}}
    for model, tasks in numbers.items():
        name, _, policy = model.partition(POLICY_SEPARATOR)
        if policy:
            summary["windows"].setdefault(policy, {})[name] = tasks
        elif name.startswith(READOUT_PREFIX):
            kept = {task: value for task, value in tasks.items() if task in TASKS}
            summary["readouts"][name.removeprefix(READOUT_PREFIX)] = kept
        else:
            summary["models"][name] = {
                "zste": {task: tasks.get(task) for task in TASKS},
                "prompts": {
                    t.removeprefix(PREFIX).format("{label}"): v
                    for t, v in tasks.items()
                    if t.startswith(PREFIX)
                },
                "retrieval": _retrieval(queries[queries["model"] == name]),
            }
            for task, value in tasks.items():
                if group := group_of(task):
                    found = summary["controls"].setdefault(name, {}).setdefault(group, {})
                    found[task.removeprefix(f"{group}: ")] = value
    if summary["windows"]:
        shared = next(iter(summary["windows"].values()))
        summary["windows"]["fit"] = {
            name: {task: summary["models"][name]["zste"][task] for task in tasks}
            for name, tasks in shared.items()
        }
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
        scores = {f"R@{k}": (group["rank"] <= k).astype(float) for k in KS}
        scores[f"mAP@{DEPTH}"] = group["average_precision"]
        chances = {f"R@{k}": partial(chance, k=k) for k in KS} | {f"mAP@{DEPTH}": chance_precision}
        sizes = list(zip(one_seed["gallery_size"], one_seed["relevant"], strict=True))
        values: dict[str, Any] = {"ci95": {}, "chance": {}}
        for name, score in scores.items():
            by_query = group.assign(score=score).pivot(index="query", columns="seed", values="score")
            means = by_query.mean(axis=1).loc[one_seed["query"]].to_numpy()
            low, high = bootstrap_interval(means, sources)
            values[name] = 100 * float(by_query.to_numpy().mean())
            values["ci95"][name] = [100 * low, 100 * high]
            values["chance"][name] = 100 * float(np.mean([chances[name](n, r) for n, r in sizes]))
        values |= {"median_rank": median_rank(group["rank"].to_numpy()), "n": len(one_seed)}
        out.setdefault(gallery, {})[direction] = values
    return out


def _comparisons(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Item-by-item comparisons of two models, task by task.

    ``difference`` with its interval; ``mcnemar_p``, the largest of the seeds, and ``holm_p``, adjusted for
    the tasks of the two models; ``detectable``, the smallest difference that so many items, of which so
    many are right for one model alone (in the first seed), show with a power of 80 %, None where there
    is none.
    """
    rows = []
    present = set(results["model"])
    for first, second in COMPARISONS:
        if not {first, second} <= present:
            continue
        of_pair = []
        for task in TASKS:
            chosen = results[(results["task"] == task) & results["model"].isin([first, second])]
            if chosen.empty:
                continue
            scores = chosen.assign(correct=chosen["correct"].astype(float)).pivot(
                index=["item", "source_a"], columns=["model", "seed"], values="correct"
            )
            one = chosen[chosen["model"] == first].drop_duplicates("item").set_index("item")
            sources = one.loc[scores.index.get_level_values("item"), ["source_a", "source_b"]]
            p = max(
                mcnemar_exact(scores[first][s].to_numpy(), scores[second][s].to_numpy())
                for s in scores[first]
            )
            means = [scores[model].mean(axis=1).to_numpy() for model in (first, second)]
            sources = sources.to_numpy(dtype=object)
            difference, low, high = paired_difference(*means, sources)
            of_pair.append(
                {
                    "models": [first, second],
                    "task": task,
                    "mcnemar_p": p,
                    "difference": 100 * difference,
                    "ci95": [100 * low, 100 * high],
                    "detectable": _detectable(scores[first].iloc[:, 0], scores[second].iloc[:, 0], sources),
                }
            )
        adjusted = holm([row["mcnemar_p"] for row in of_pair])
        rows += [row | {"holm_p": float(p)} for row, p in zip(of_pair, adjusted, strict=True)]
    return rows


def _detectable(first: pd.Series, second: pd.Series, sources: np.ndarray) -> float | None:
    difference = (second - first).to_numpy()
    if not difference.any():
        return None
    effect = design_effect(difference, sources) if np.ptp(difference) else 1.0
    found = detectable_difference(
        len(difference), float(np.mean(difference != 0)), design_effect=min(effect, len(difference))
    )
    return None if np.isnan(found) else 100 * found


def main() -> None:
    """``python -m artifact.summary --profile P --base B``."""
    parser = argparse.ArgumentParser(description="Summarise a run whose seeds have been evaluated.")
    parser.add_argument("--profile", default="synthetic")
    parser.add_argument("--base", default="compact")
    arguments = parser.parse_args()
    summarise_run(arguments.profile, arguments.base)


if __name__ == "__main__":
    main()
