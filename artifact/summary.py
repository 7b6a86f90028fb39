"""The run's summary: every reported number, from the tidy rows of all seeds."""

import json
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from statsmodels.stats.contingency_tables import mcnemar

from artifact import made, provenance
from artifact.experiment import Experiment
from artifact.hold_out import HOLD_OUT, curve
from artifact.slot_ablation import POOLED, SLOT_ABLATION, error_sources
from tclap import files
from tclap.data.clips import STAGES, for_stage
from tclap.evaluation import statistics
from tclap.evaluation.controls import group_of, pooled
from tclap.evaluation.retrieval import measures
from tclap.evaluation.tasks import PROMPT_PREFIX, TASKS
from tclap.models.weights import read_checkpoint
from tclap.training.schedule import PRESETS
from tclap.training.variants import BASE, POLICY_SEPARATOR, READOUT_PREFIX

CONTROL = "clap-continued"
NOT_TRAINED = (POLICY_SEPARATOR, "-slots")  # models that are others in other windows, or with slots
DATA_TABLES = ("clips", "pairs-validation", "pairs-test", "items", "controls")
COMPARISONS = (
    (BASE, "clap-slots"), ("t-clap", "clap-slots"), ("t-clap", "t-clap-slots"),
    (BASE, "t-clap"), (CONTROL, "t-clap"), (BASE, CONTROL), (CONTROL, "clap-ordered"),
    (BASE, "t-clap-slots"), (CONTROL, "clap-slots"), (CONTROL, "t-clap-slots"),
    ("clap-slots", "t-clap-slots"),
    ("t-clap-distinct", "t-clap-alpha-same-0"), ("t-clap-distinct", "t-clap-alpha-cross-0"),
    ("t-clap", "t-clap-more-wordings"), ("t-clap-more-wordings", "clap-slots"),
    ("t-clap", "t-clap-no-replay"), ("t-clap", "t-clap-no-overlap"), ("t-clap", "t-clap-no-inversion"),
    ("t-clap", "t-clap-no-temporal-negatives"), ("clap-ordered", "t-clap"), ("clap-ordered", "clap-slots"),
    ("t-clap-text-none", "t-clap-no-inversion-text-none"), ("t-clap", "t-clap-text-none"),
    ("t-clap", "t-clap-text-warm-up"), ("t-clap-text-warm-up", "t-clap-no-inversion-text-warm-up"),
)  # fmt: skip


def summarise_run(profile: str, base: str) -> dict[str, Any]:
    """Gather all seeds' tables into the run's own, and write ``summary.json`` and ``provenance.json``.

    Those of the same tables are reused. ``runs/<profile>/summary.json`` is a copy for the last base run.

    Raises:
        FileNotFoundError: when a seed of the profile has not been evaluated.
    """
    run = Experiment(profile, base)
    config, folder, slots = run.config, run.folder, run.config.slots is not None
    first, last = f"seed{config.seeds[0]}", folder.parent / "summary.json"
    ablation = f"{first}/{SLOT_ABLATION}" if slots and config.slots.ablation else None
    held_out = [f"seed{seed}/{HOLD_OUT}" for seed in config.held_out_seeds]
    evaluated = ["evaluation.json", "order_from_text.json"] if slots else ["evaluation.json"]
    gathered = [f"seed{seed}/{name}" for seed in config.seeds for name in evaluated]
    gathered += [*held_out, *([ablation] if ablation else [])]
    inputs = {
        "config": config.model_dump(),
        "gathered": [files.sha256_file(run.path(name)) for name in gathered],
        "code": provenance.hash_code(*provenance.CODE["summary"]),
    }
    stamp = made.Stamp(folder / "summarised.json", "the summary over all seeds", inputs)
    if stamp.is_current():
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        files.write_json(last, summary)
        return summary

    tables = {}
    for name in ("results", "retrieval", "similarity"):
        kinds = (name, f"slots-{name}") if slots and name != "similarity" else (name,)
        tables[name] = joined(run, [f"seed{seed}/{kind}.parquet" for kind in kinds for seed in config.seeds])
    evaluated = tables["results"][["seed", "model"]].drop_duplicates().itertuples(index=False)
    trained = [found for found in evaluated if not any(part in found.model for part in NOT_TRAINED)]
    trained = [f"seed{seed}/{model}" for seed, model in sorted(trained, key=lambda found: found.seed)]
    tables["history"] = joined(run, [f"{model}/history.parquet" for model in trained])
    tables = {name: by_fold(table, config.rotate) for name, table in tables.items()}
    summary = build_summary(tables["results"], tables["retrieval"])
    if config.rotate:
        summary["rotations"] = rotations(tables["results"])
    if ablation:
        rows = run.table(ablation)
        summary |= {"slot_ablation": slot_ablation(rows), "slot_errors": error_sources(rows)}
    if held_out:
        with_slots = tables["results"].query("model == 'clap-slots'") if slots else None
        summary["hold_out"] = curve(by_fold(joined(run, held_out), config.rotate), with_slots)
    model, _ = read_checkpoint(run.path(f"{first}/{BASE}/weights.safetensors"), base)
    made_by = provenance.collect(folder, config.model_dump(), DATA_TABLES)
    identity = {"profile": profile, "base": base, "origin": model.pop("origin", None)}
    identity["seeds"] = sorted(tables["results"]["seed"].unique().tolist())
    example = json.loads(run.path("example.json").read_text(encoding="utf-8"))
    summary |= identity | {
        "model": model | {"receptive_seconds": example["receptive_seconds"]},
        "weights": _weights(folder / first),
        "classes": len(run.labels),
        "clips": {stage: len(for_stage(run.clips, stage)) for stage in STAGES},
        "folds": {split: sorted(set(group["fold"].tolist())) for split, group in run.clips.groupby("split")},
        "presets": PRESETS,
        "provenance": made_by,
    }
    files.write_json(folder / "provenance.json", identity | made_by)
    for path in (folder / "summary.json", last):
        files.write_json(path, summary)
    stamp.write(tables, folder / "provenance.json", folder / "summary.json")
    return summary


def joined(run: Experiment, names: Iterable[str]) -> pd.DataFrame:
    """The rows of some of the run's tables."""
    return pd.concat(map(run.table, names), ignore_index=True)


def by_fold(rows: pd.DataFrame, folds: Sequence[int]) -> pd.DataFrame:
    """Rows of seeds that are tested on ``folds`` in turn: ``seed`` counts the turns, ``fold`` is the seed's.

    Queries, unlike items, are called alike in every fold.
    """
    if not folds:
        return rows
    fold, turn = rows["seed"].map(lambda seed: folds[seed % len(folds)]), rows["seed"] // len(folds)
    if "query" in rows:
        rows = rows.assign(query="fold" + fold.astype(str) + " " + rows["query"].astype(str))
    return rows.assign(fold=fold, seed=turn)


def rotations(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracies in percent of each model on the tasks, one row per fold and turn."""
    asked = results[results["task"].isin(TASKS)].assign(correct=lambda rows: 100.0 * rows["correct"])
    means = asked.groupby(["fold", "seed", "model", "task"], sort=False)["correct"].mean()
    return means.unstack("task").reset_index().to_dict("records")


def slot_ablation(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What slots rest on: ``group``, ``change`` and the ``tasks``' accuracies, n, chance and intervals."""
    found = []
    for (group, change), part in rows.groupby(["group", "change"], sort=False):
        wordings = part.groupby(part["task"].map(POOLED))  # of which the other tasks have none
        part = pd.concat([part[~part["task"].isin(POOLED)], *(pooled(of, task) for task, of in wordings)])
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
    }


def _weights(folder: Path) -> dict[str, dict[str, int]]:
    """Number of weights in a seed's checkpoints, by model and part (``audio_head``, ``reader``, ...)."""
    found = {}
    for path in sorted(folder.glob("*/weights.safetensors")):
        with safe_open(path, "numpy") as file:
            sizes = {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        by_part = pd.Series(sizes, dtype=int).groupby(lambda name: name.partition(".")[0])
        found[path.parent.name] = by_part.sum().to_dict()
    return found


def build_summary(results: pd.DataFrame, queries: pd.DataFrame) -> dict[str, Any]:
    """All numbers, from the item rows and the query rows of all seeds."""
    numbers: dict[str, dict[str, dict]] = {}
    for row in statistics.summarise(results).to_dict("records"):
        numbers.setdefault(row["model"], {})[row["task"]] = _score(row)
    summary: dict[str, Any] = {"models": {}, "readouts": {}, "windows": {}, "controls": {}}
    named = {model: {"5": numbers[model]["5"] | found} for model, found in events_named(results).items()}
    retrieval = _retrieval(queries)
    for model, tasks in numbers.items():
        name, _, policy = model.partition(POLICY_SEPARATOR)
        if policy:
            summary["windows"].setdefault(policy, {})[name] = tasks
        elif name.startswith(READOUT_PREFIX):
            known = {task: score for task, score in tasks.items() if not task.startswith(PROMPT_PREFIX)}
            summary["readouts"][name.removeprefix(READOUT_PREFIX)] = known
        else:
            prompts = {task: score for task, score in tasks.items() if task.startswith(PROMPT_PREFIX)}
            summary["models"][name] = {
                "zste": {task: tasks.get(task) for task in TASKS} | named.get(name, {}),
                "prompts": {t.removeprefix(PROMPT_PREFIX).format("{label}"): s for t, s in prompts.items()},
                "retrieval": retrieval.get(name, {}),
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


def events_named(results: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each model's task 5: percent in which the ``first`` and the ``second`` event are named correctly.

    And ``independent``, their product: what both would be correct in if neither helped the other.
    """
    asked = results[results["task"] == "5"]
    answers, chosen = (asked[column].str.split(" | ", regex=False) for column in ("answer", "prediction"))
    correct = [[answer[n] in two for answer, two in zip(answers, chosen, strict=True)] for n in (0, 1)]
    rows = pd.DataFrame({"first": correct[0], "second": correct[1], "model": asked["model"].to_numpy()})
    found = 100 * rows.groupby("model").mean()
    return found.assign(independent=found["first"] * found["second"] / 100).to_dict("index")


def _retrieval(queries: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By model, gallery and direction: R@k, mAP and median rank over seeds, with chance and intervals."""
    out: dict[str, Any] = {model: {} for model in queries["model"].unique()}
    for (gallery, direction), group in queries.groupby(["gallery", "direction"], sort=False):
        models, one_seed = list(group["model"].unique()), group.drop_duplicates("query")
        # A text query comes from no clip: it is its own source.
        own = one_seed["source_a"].isna().all()
        sources = (one_seed["query"] if own else one_seed[["source_a", "source_b"]]).to_numpy(dtype=object)
        medians = group.groupby("model")["rank"].median()
        values = {
            model: {"ci95": {}, "chance": {}, "median_rank": float(medians[model]), "n": len(one_seed)}
            for model in models
        }
        for name, (score, chances) in measures(group).items():
            by_query = group.assign(score=score).pivot(
                index="query", columns=["model", "seed"], values="score"
            )
            means = [by_query[model].mean(axis=1).loc[one_seed["query"]] for model in models]
            chance = 100 * float(np.mean(chances[one_seed.index]))
            ends = statistics.bootstrap_interval(np.stack(means, axis=1), sources)
            for model, low, high in zip(models, *ends, strict=True):
                values[model][name] = 100 * float(by_query[model].to_numpy().mean())
                values[model]["ci95"][name] = [100 * low, 100 * high]
                values[model]["chance"][name] = chance
        for model in models:
            out[model].setdefault(gallery, {})[direction] = values[model]
    return out


def _comparisons(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Comparisons of two models by task; ``holm_p`` is ``p`` adjusted for the tasks of the two.

    All but ``mcnemar_p``, the largest of the seeds' own, are of ``statistics.compare``.
    """
    wanted = results["model"].isin({name for pair in COMPARISONS for name in pair})
    rows = results[wanted & results["task"].isin(TASKS)]
    scores = {(s.task, s.model): s for s in statistics.scores_by_seed(rows)} if len(rows) else {}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in COMPARISONS}
    for task in TASKS:
        pairs = [pair for pair in COMPARISONS if all((task, model) in scores for model in pair)]
        if pairs:
            sides = [np.stack([scores[task, pair[n]].values for pair in pairs], axis=1) for n in (0, 1)]
            compared = statistics.compare(*sides, scores[task, pairs[0][0]].sources)
            for n, pair in enumerate(pairs):
                by_seed = zip(*(side[:, n].T > 0 for side in sides), strict=True)
                tables = [[[0, np.sum(a & ~b)], [np.sum(b & ~a), 0]] for a, b in by_seed]
                found[pair].append(
                    {
                        "models": list(pair),
                        "task": task,
                        "difference": 100 * float(compared.difference[n]),
                        "ci95": [100 * float(end[n]) for end in compared.ci95],
                        "ci90": [100 * float(end[n]) for end in compared.ci90],
                        "p": float(compared.p[n]),
                        "equivalent": bool(compared.equivalent[n]),
                        "mcnemar_p": max(float(mcnemar(table, exact=True).pvalue) for table in tables),
                    }
                )
    for entries in filter(None, found.values()):
        adjusted = statistics.holm([entry["p"] for entry in entries])
        for entry, p in zip(entries, adjusted, strict=True):
            entry["holm_p"] = float(p)
    return [entry for entries in found.values() for entry in entries]
