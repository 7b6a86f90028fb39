"""Every number that the paper's text quotes, as one LaTeX macro each.

Macro names are words joined: ``\\TClapTaskThree`` is T-CLAP's accuracy on task 3, with ``Interval``
after it its 95 % interval. All macros are always defined, as a dash where a run did not measure the
number, so that the text compiles for any run. Those that start with ``has`` are ``yes`` or empty:
they say which parts of the text have something to speak of.
"""

from __future__ import annotations

from collections.abc import Iterator

from figures import controls, slot_ablation
from figures.charts import POLICIES, READOUTS, WINDOW_TASKS
from figures.scores import TASKS, better, comparison, score, shared, usable
from figures.style import MAIN, MODELS
from paper import latex
from paper.settings import SLOTS, of_parts, of_run, of_settings, words
from paper.tables import DIRECTIONS, GALLERIES

ORDINALS = {
    "R@1": "ROne",
    "R@5": "RFive",
    "R@10": "RTen",
    "mAP@10": "MeanPrecision",
    "median_rank": "MedianRank",
}
# Pairs of models that are compared item by item, the second over the first, and what the first is called.
OVER = {
    ("clap", "t-clap"): ("OverClap", "the base model"),
    ("clap-continued", "t-clap"): ("OverControl", "the control"),
    ("clap", "clap-slots"): ("SlotsOverClap", "the base model"),
    ("t-clap", "clap-slots"): ("SlotsOverTClap", "T-CLAP"),
    ("t-clap", "t-clap-slots"): ("TClapSlotsOverTClap", "T-CLAP"),
    ("t-clap", "t-clap-no-replay"): ("NoReplayOverTClap", "T-CLAP"),
    ("t-clap", "t-clap-no-overlap"): ("NoOverlapOverTClap", "T-CLAP"),
    ("t-clap", "t-clap-no-time"): ("NoTimeOverTClap", "T-CLAP"),
    ("t-clap-distinct", "t-clap-alpha-same-0"): ("AlphaSameZeroOverDistinct", "all weights at one"),
    ("t-clap-distinct", "t-clap-alpha-cross-0"): ("AlphaCrossZeroOverDistinct", "all weights at one"),
}
CALLED = {
    "1": "task 1",
    "2a": "task 2a",
    "2b": "task 2b",
    "3": "task 3",
    "3_after": "task 3$'$",
    "2way_before": "two-way before",
    "2way_after": "two-way after",
    "overlap": "overlap",
    "4": "task 4",
    "5": "task 5",
}


def macros(summary: dict) -> dict[str, str]:
    """Macro name (letters only, without backslash) to what it prints."""
    return dict(pair for part in PARTS for pair in part(summary))


def of_tasks(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy and interval of every model on every task, chance and items of the tasks."""
    for task, names in TASKS.items():
        yield f"Chance{names.word}", latex.chance(shared(summary, task, "chance"))
        yield f"Items{names.word}", latex.number(shared(summary, task, "n"), 0)
        for model, look in MODELS.items():
            entry = score(summary, model, task) or {}
            yield f"{look.word}{names.word}", latex.number(entry.get("accuracy"))
            yield f"{look.word}{names.word}Interval", latex.interval(entry.get("ci95"))


def of_comparisons(summary: dict) -> Iterator[tuple[str, str]]:
    """One model against another: difference, interval, adjusted p, the outcome in words, all in a clause.

    ``Detectable...`` is the smallest difference that would have been found with a power of 80 %; ``Above...``
    and ``Below...`` name the tasks in which the second model is significantly better and worse.
    """
    for (first, second), (word, called) in OVER.items():
        for task, names in TASKS.items():
            name, entry = f"{word}{names.word}", comparison(summary, first, second, task)
            gain = latex.signed(entry and entry["difference"])
            ends = latex.interval(entry and entry["ci95"], latex.signed)
            p = latex.p_value(entry and entry["holm_p"])
            verdict = {second: "significantly above", first: "significantly below"}
            outcome = "not compared with" if entry is None else "not significantly different from"
            outcome = verdict.get(better(summary, task, first, second), outcome)
            yield f"Gain{name}", gain
            yield f"Gain{name}Interval", ends
            yield f"P{name}", p
            yield f"Verdict{name}", outcome
            detail = rf" (difference {gain} points, 95\,\% interval {ends}, {p})" if entry else ""
            yield f"Clause{name}", f"{outcome} {called}{detail}"
            yield f"Detectable{name}", latex.number(detectable(summary, first, second, task))
        for side, model in (("Above", second), ("Below", first)):
            won = [CALLED[task] for task in TASKS if better(summary, task, first, second) == model]
            yield f"{side}{word}", f"{', '.join(won[:-1])} and {won[-1]}" if won[1:] else (won or ["none"])[0]


def detectable(summary: dict, first: str, second: str, task: str) -> float | None:
    """The smallest difference of two models on a task that a test would have found, in points, if known."""
    for entry in summary.get("comparisons") or []:
        if entry["task"] == task and set(entry["models"]) == {first, second}:
            return entry.get("detectable")
    return None


def of_prompts(summary: dict) -> Iterator[tuple[str, str]]:
    """Lowest and highest accuracy of the main models over the prompt templates."""
    for model in MAIN:
        entries = summary["models"].get(model, {}).get("prompts") or {}
        found = [entry["accuracy"] for entry in entries.values() if usable(entry)]
        yield f"{MODELS[model].word}PromptLowest", latex.number(min(found, default=None))
        yield f"{MODELS[model].word}PromptHighest", latex.number(max(found, default=None))


def of_retrieval(summary: dict) -> Iterator[tuple[str, str]]:
    """Recalls and median ranks of the main models and of those with slots by gallery and direction."""
    for model in (*MAIN, *SLOTS):
        galleries = summary["models"].get(model, {}).get("retrieval") or {}
        for gallery in GALLERIES:
            for way in DIRECTIONS:
                entry = (galleries.get(gallery) or {}).get(way) or {}
                for key, word in ORDINALS.items():
                    name = f"{MODELS[model].word}{gallery.capitalize()}{words(way)}{word}"
                    yield name, latex.number(entry.get(key))


def of_readouts(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy of each readout on the tasks that tell order from content."""
    readouts = summary.get("readouts") or {}
    for readout in READOUTS:
        for task in ("1", "2way_before", "2way_after", "3"):
            entry = (readouts.get(readout) or {}).get(task) or {}
            yield f"Readout{words(readout)}{TASKS[task].word}", latex.number(entry.get("accuracy"))


def of_windows(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy of base and T-CLAP under each window policy."""
    windows = summary.get("windows") or {}
    for policy in POLICIES:
        for model in ("clap", "t-clap"):
            for task in WINDOW_TASKS:
                entry = ((windows.get(policy) or {}).get(model) or {}).get(task) or {}
                name = f"Window{policy.capitalize()}{MODELS[model].word}{TASKS[task].word}"
                yield name, latex.number(entry.get("accuracy"))


QUOTED_CONTROLS = {
    **{("hold-out", condition): f"HoldOut{words(word)}" for condition, word in controls.HOLD_OUT.items()},
    ("wording", "seen"): "WordingsSeen",
    ("wording", "unseen"): "WordingsUnseen",
    ("words", "shuffled"): "WordsShuffled",
    ("words", "swapped"): "WordsSwapped",
    ("words", "names only"): "NamesOnly",
    ("baseline", "audio only"): "AudioOnly",
    ("baseline", "captions only"): "CaptionsOnly",
    ("baseline", "label prior"): "LabelPrior",
    ("single", "plain"): "SinglePlain",
    ("single", "says first"): "SingleSaysFirst",
    ("same", "plain"): "SamePlain",
    ("backwards", "each event"): "Backwards",
    ("three", "before"): "ThreeBefore",
    ("three", "then"): "ThreeThen",
    ("plain", "before"): "PlainBefore",
    ("near", "neither"): "NearNeither",
    ("near", "both"): "NearBoth",
    ("boundary", "10%"): "BoundaryTen",
    ("boundary", "15%"): "BoundaryFifteen",
    ("boundary", "85%"): "BoundaryEightyFive",
    ("boundary", "90%"): "BoundaryNinety",
    ("gap", "-25%"): "CrossFade",
    ("gap", "25%"): "Gap",
    ("level", "-20"): "LevelMinusTwenty",
    ("level", "+20"): "LevelPlusTwenty",
    ("noise", "0"): "NoiseZero",
    ("slots", "swapped, before"): "SlotsSwapped",
}


MISREAD = 25  # percent of right two-way answers below which a wording is taken for its opposite


def of_controls(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy and interval of the models on the controls that are quoted, and what they misread.

    A wording is misread, taken for its opposite, in seeds in which it is mostly answered wrongly.
    """
    for model in (*MAIN, "t-clap-half", *SLOTS):
        for where, word in QUOTED_CONTROLS.items():
            entry = controls.entry(summary, model, *where) or {}
            yield f"{MODELS[model].word}{word}", latex.number(entry.get("accuracy"))
            yield f"{MODELS[model].word}{word}Interval", latex.interval(entry.get("ci95"))
        wordings = (summary.get("controls") or {}).get(model, {}).get("wording") or {}
        counts = {
            wording: sum(accuracy < MISREAD for accuracy in entry["per_seed"])
            for wording, entry in wordings.items()
            if "{" in wording and usable(entry)
        }
        misread = [
            f"``{wording.format(a='A', b='B')}'' (in {count} of {len(summary['seeds'])} seeds)"
            for wording, count in counts.items()
            if count
        ]
        yield f"{MODELS[model].word}Misread", latex.enumeration(misread) if misread else "none"
        unseen = controls.entry(summary, model, "wording", "unseen") or {}
        by_seed = [latex.number(accuracy) for accuracy in unseen.get("per_seed", ())]
        yield f"{MODELS[model].word}WordingsUnseenBySeed", latex.enumeration(by_seed)


ABLATED = {
    ("as it is", ""): "Unchanged",
    ("parts", "20 % alone"): "ShortParts",
    ("parts", "50 % alone"): "HalfParts",
    ("slots", "three"): "ThreeSlots",
    ("whole", "a third"): "WholeThird",
    ("wordings", "a half"): "HalfWordings",
    ("wordings", "an eighth"): "EighthWordings",
    ("events", "20"): "TwentyEvents",
    ("events", "200"): "TwoHundredEvents",
    ("base", "clap-no-sequences"): "NoSequences",
    ("base", "clap-single-sounds"): "SingleSounds",
    ("base", "clap-attention"): "Attention",
}


def of_slot_ablation(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy of slots with one thing changed, on the tasks that are asked of these."""
    rows = {(row["group"], row["change"]): row["tasks"] for row in summary.get("slot_ablation") or []}
    for change, word in ABLATED.items():
        for task in slot_ablation.COLUMNS:
            entry = rows.get(change, {}).get(task) or {}
            asked = TASKS[task].word if task in TASKS else QUOTED_CONTROLS[tuple(task.split(": "))]
            yield f"Ablated{word}{asked}", latex.number(entry.get("accuracy"))


PARTS = (
    of_run,
    of_parts,
    of_settings,
    of_tasks,
    of_comparisons,
    of_prompts,
    of_retrieval,
    of_readouts,
    of_windows,
    of_controls,
    of_slot_ablation,
)


def numbers_tex(summary: dict) -> str:
    r"""One ``\newcommand`` a number, for the preamble of the paper."""
    lines = [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in macros(summary).items()]
    return "% Generated from summary.json; changes here are lost.\n" + "\n".join(lines) + "\n"
