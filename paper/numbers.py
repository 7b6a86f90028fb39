r"""The numbers of the paper's text, which names each by a key: ``\res{t-clap/2way_before}``.

A key is a path in :func:`tree`: of a model a task, a control ("group: condition") or a gallery, direction
and measure; of ``slots`` a change ("group: change") and a task; of ``errors`` a task of slots and a count; of
``hold-out`` "slots", or a percentage of the classes and "none seen" or so; of ``readouts``, ``windows`` and
``config`` what the summary has there. A score may end with ``ci95``. Percent signs are left out.
``MODEL over MODEL/TASK/clause`` (``verdict``) and ``MODEL over MODEL/better`` (``worse``) are words about a
comparison, true of any outcome. What a run did not measure is a dash, so that the text compiles for any run;
``python -m paper`` lists these keys, and a misspelt one among them.
``esc50: t-clap/3`` is the key ``t-clap/3`` of a run on real recordings, a dash where that was not made.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from figures.read import REAL, has_random_weights
from figures.scores import TASKS, comparison, dig, measured, score
from figures.style import LABELS, MODELS, RANDOM_WEIGHTS
from paper import latex
from paper.tables import better

PAPER = Path(__file__).parent
WRITTEN = ("parts", "optimiser", "classes", "misread")  # texts of a tree that are LaTeX
MISREAD = 25  # percent of correct two-way answers below which a wording is taken for its opposite
FACTORIAL = [name for group in LABELS["factorial"].values() for name in group if name.startswith("t-clap")]


def tree(summary: dict) -> dict[str, Any]:
    """What keys are paths of; the leaves are scores, numbers, intervals and texts."""
    made, seeds, classes = summary.get("provenance") or {}, summary["seeds"], summary.get("classes")
    git, config, weights = made.get("git") or {}, made.get("config") or {}, summary.get("weights") or {}
    batch = dig(config, "post_pretraining", "batch")
    run = {
        "profile": latex.escape(summary["profile"]),
        "base": latex.escape(summary["base"]),
        "seeds": ", ".join(map(str, seeds)),
        "number of seeds": f"{len(seeds)} seed{'s' if seeds[1:] else ''}",
        "classes": classes,
        "folds": len({row["fold"] for row in summary.get("rotations") or []}) or None,
        "pairs of distinct classes": classes and min(classes // 2, batch or classes),
        "commit": latex.escape((git.get("commit") or latex.DASH)[:12]),
        "python": latex.escape(made.get("python") or latex.DASH),
        "uncommitted": " with uncommitted changes" if git.get("dirty") else "",
        "warning": rf"\textbf{{{RANDOM_WEIGHTS}}}" if has_random_weights(summary) else "",
    }
    model = dict(summary.get("model") or {})
    if "sample_rate" in model:
        model["kHz"] = model["sample_rate"] / 1000
        model |= {f"{key} ms": model[key] / model["kHz"] for key in ("n_fft", "hop") if key in model}
    trained = sum(count for part, count in (weights.get("t-clap") or {}).items() if part != "audio_trunk")
    rows, held_out = summary.get("slot_ablation") or [], summary.get("hold_out") or {}
    seen = [str(entry["classes"]) for entry in held_out.values() if "classes" in entry]
    return {
        "run": run,
        "clips": summary.get("clips"),
        "versions": made.get("packages"),
        "config": {name: _with_preset(value, summary.get("presets")) for name, value in config.items()},
        "model": model,
        "weights": {**weights, "trained": trained or None},
        "chance": {task: _chance(summary, task) for task in TASKS},
        "readouts": summary.get("readouts"),
        "windows": summary.get("windows"),
        "hold-out": {"classes": latex.enumeration(seen)} | held_out,
        "slots": {": ".join(filter(None, (row["group"], row["change"]))): row["tasks"] for row in rows},
        "errors": {row["task"]: row for row in summary.get("slot_errors") or []},
        **{name: _of_model(summary, name) for name in summary["models"]},
    }


def _chance(summary: dict, task: str) -> str:
    scores = (score(summary, model, task) for model in summary["models"])
    return latex.chance(next((entry["chance"] for entry in scores if entry), None))


def _with_preset(values: Any, presets: dict | None) -> Any:
    """A phase of training with what its preset sets, and in words."""
    if not isinstance(values, dict):
        return values
    given = {name: value for name, value in values.items() if value is not None}
    values = (presets or {}).get(values.get("preset"), {}) | given
    parts = latex.enumeration([rf"{100 * part:.0f}\,\%" for part in values.get("parts", ())])
    optimiser = {"adam": "Adam", "adamw": "AdamW"}.get(values.get("optimiser"))
    return {"weight_decay": None, "clip_norm": None} | values | {"optimiser": optimiser, "parts": parts}


def _of_model(summary: dict, name: str) -> dict[str, Any]:
    """A model's tasks, galleries and controls, what it misreads, and its extremes over the prompts."""
    groups, asked = summary["models"][name], dig(summary, "controls", name) or {}
    scores = [entry["accuracy"] for entry in (groups.get("prompts") or {}).values() if measured(entry)]
    wordings = {w: e["per_seed"] for w, e in (asked.get("wording") or {}).items() if measured(e)}
    counts = {w: sum(right < MISREAD for right in seeds) for w, seeds in wordings.items() if "{" in w}
    of_seeds, counts = len(summary["seeds"]), {wording: n for wording, n in counts.items() if n}
    misread = [
        f"``{latex.escape(w.format(a='A', b='B'))}'' (in {n} of {of_seeds} seeds)" for w, n in counts.items()
    ]
    return {
        **(groups.get("zste") or {}),
        **(groups.get("retrieval") or {}),
        **{f"{group}: {c}": score for group, conditions in asked.items() for c, score in conditions.items()},
        "prompts": {"lowest": min(scores, default=None), "highest": max(scores, default=None)},
        "misread": latex.enumeration(misread, "none"),
    }


def compared(summary: dict, model: str, over: str, *path: str) -> str:
    """A comparison of two models in words, see the head of this module; ValueError for another key."""
    if path in (("better",), ("worse",)):
        winner = model if path == ("better",) else over
        won = [task for task in TASKS if better(summary, task, over, model) == winner]
        names = {"2way_before": "two-way before", "2way_after": "two-way after", "overlap": "overlap"}
        return latex.enumeration([names.get(t, f"task {latex.escape(TASKS[t].short)}") for t in won], "none")
    task, what = path[0], path[-1]
    found = comparison(summary, over, model, task)
    swapped = found and found["models"] != [over, model]  # its difference has the other sign
    if swapped or model not in MODELS or task not in TASKS or what not in ("verdict", "clause"):
        raise ValueError(f"the text names a number {model} over {over}/{'/'.join(path)}, which no run has.")
    winner, equivalent = better(summary, task, over, model), bool(found and found["equivalent"])
    by = "significantly by less than 2 points" if equivalent else "significantly"
    same = "equivalent to" if equivalent else "neither significantly different from nor equivalent to"
    verdict = {model: f"{by} above", over: f"{by} below"}.get(winner, same) if found else "not compared with"
    if what == "verdict":
        return verdict
    words = f"{verdict} {LABELS['called'][over]}"
    if not found:
        return words
    level = 90 if verdict == "equivalent to" else 95
    gain, ends = latex.signed(found["difference"]), latex.interval(found[f"ci{level}"], latex.signed)
    return (
        rf"{words} (difference {gain} points, {level}\,\% interval {ends}, {latex.p_value(found['holm_p'])})"
    )


def without_percent(name: str) -> str:
    """A name as keys have it."""
    return name.replace(" %", "").replace("%", "")


def at(node: Any, path: Sequence[str]) -> Any:
    """What stands at a path of :func:`tree`; None where a part of it is missing."""
    for part in path:
        node = {without_percent(name): value for name, value in (node or {}).items()}.get(part)
    return node


def lookup(summary: dict, key: str, real: Mapping[str, dict] = MappingProxyType({})) -> str:
    """What a key prints for a run; ``real`` are the summaries on real recordings, by profile."""
    profile, separator, theirs = key.partition(": ")
    if separator and profile in REAL:
        return lookup(real[profile], theirs) if profile in real else latex.DASH
    head, *rest = path = key.split("/")
    if " over " in head:
        return compared(summary, *head.split(" over "), *rest)
    node = at(tree(summary), path)
    if isinstance(node, str):
        return node if head in ("run", "chance") or path[-1] in WRITTEN else latex.escape(node)
    if isinstance(node, list):
        return latex.interval(node)
    if isinstance(node, dict):
        return latex.number(node.get("accuracy"))
    return latex.number(node) if head in MODELS else latex.plain(node)


def switches(summary: dict, real: Mapping[str, dict] = MappingProxyType({})) -> dict[str, bool]:
    r"""Which parts of the text have something to speak of in this run: ``\ifcontrols`` and the like."""
    post, models = dig(summary, "provenance", "config", "post_pretraining") or {}, summary["models"]
    return {
        "synthetic": summary["profile"] == "synthetic",
        "real": "esc50" in real,
        "fewclips": "esc50-fold4" in real,
        "compact": summary["base"] == "compact",
        "sfx": summary["base"] == "sfx",
        "controls": bool(summary.get("controls")),
        "factorial": set(FACTORIAL) <= set(models),
        "holdout": bool(summary.get("hold_out")),
        "slots": bool({"clap-slots", "t-clap-slots"} & set(models)),
        "slotablation": bool(summary.get("slot_ablation")),
        "textloss": bool(post.get("text_loss_batch")),
        "publishedpreset": post.get("preset") == "published",
        "captioned": bool({"clotho", "audiocaps"} & set(dig(models, "clap", "retrieval") or ())),
    }


def keys(paper: str | Path = PAPER) -> list[str]:
    """The keys that ``main.tex`` and ``sections/`` of a folder use, each once."""
    files = [Path(paper) / "main.tex", *sorted(Path(paper).glob("sections/*.tex"))]
    text = "\n".join(re.sub(r"(?<!\\)%.*", "", file.read_text(encoding="utf-8")) for file in files)
    return list(dict.fromkeys(" ".join(key.split()) for key in re.findall(r"\\res\{([^{}#]+)\}", text)))


def numbers_tex(
    summary: dict, paper: str | Path = PAPER, real: Mapping[str, dict] = MappingProxyType({})
) -> str:
    """The numbers that ``main.tex`` and ``sections/`` of a folder use, and the switches, for the preamble.

    ``real`` are the summaries of the runs on real recordings, by profile.
    """
    lines = ["% Generated from summary.json; changes here are lost."]
    for name, holds in switches(summary, real).items():
        lines.append(rf"\newif\if{name}\{name}{'true' if holds else 'false'}")
    lines += [rf"\setres{{{key}}}{{{lookup(summary, key, real)}}}" for key in keys(paper)]
    return "\n".join(lines) + "\n"
