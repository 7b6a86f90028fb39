"""Every number that the paper's text quotes, as one LaTeX macro each.

Macro names are words joined: ``\\TClapTaskThree`` is T-CLAP's accuracy on task 3, with ``Interval``
after it its 95 % interval. All macros are always defined, as a dash where a run did not measure the
number, so that the text compiles for any run.
"""

from __future__ import annotations

from collections.abc import Iterator

from tclap.reporting import controls, latex
from tclap.reporting.charts import POLICIES, READOUTS, WINDOW_TASKS
from tclap.reporting.read import has_random_weights
from tclap.reporting.scores import TASKS, better, comparison, score, shared, usable
from tclap.reporting.style import MAIN, MODELS, RANDOM_WEIGHTS
from tclap.reporting.tables import DIRECTIONS, GALLERIES

ORDINALS = {
    "R@1": "ROne",
    "R@5": "RFive",
    "R@10": "RTen",
    "mAP@10": "MeanPrecision",
    "median_rank": "MedianRank",
}
STAGES = ("base", "post", "test")
OPPONENTS = ("clap", "clap-continued")


def words(text: str) -> str:
    """``text_to_audio`` as ``TextToAudio``, ``residual-segments`` as ``ResidualSegments``."""
    return "".join(part.capitalize() for part in text.replace("-", "_").split("_"))


def macros(summary: dict) -> dict[str, str]:
    """Macro name (letters only, without backslash) to what it prints."""
    return dict(pair for part in PARTS for pair in part(summary))


def of_run(summary: dict) -> Iterator[tuple[str, str]]:
    """Profile, base, seeds, classes and clips a stage."""
    warning = rf"\textbf{{{RANDOM_WEIGHTS}}}" if has_random_weights(summary) else ""
    yield "weightswarning", warning
    yield "profile", latex.escape(summary["profile"])
    yield "base", latex.escape(summary["base"])
    yield "seeds", str(len(summary["seeds"]))
    yield "classes", latex.number(summary.get("classes"), 0)
    clips = summary.get("clips") or {}
    for stage in dict.fromkeys([*STAGES, *(stage for stage in clips if stage.isalpha())]):
        yield f"Clips{stage.capitalize()}", latex.number(clips.get(stage), 0)


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
    """T-CLAP against base and control: difference, interval, p, and a word for the outcome."""
    for model in OPPONENTS:
        for task, names in TASKS.items():
            name = f"Over{MODELS[model].word}{names.word}"
            entry = comparison(summary, model, "t-clap", task)
            yield f"Gain{name}", latex.signed(entry and entry["difference"])
            yield f"Gain{name}Interval", latex.interval(entry and entry["ci95"], latex.signed)
            yield f"P{name}", latex.p_value(entry and entry["mcnemar_p"])
            winner = better(summary, task, model, "t-clap")
            verdict = {"t-clap": "significantly above", model: "significantly below"}
            fallback = "not compared with" if entry is None else "not significantly different from"
            yield f"Verdict{name}", verdict.get(winner, fallback)


def of_prompts(summary: dict) -> Iterator[tuple[str, str]]:
    """Lowest and highest accuracy of the main models over the prompt templates."""
    for model in MAIN:
        entries = summary["models"].get(model, {}).get("prompts") or {}
        found = [entry["accuracy"] for entry in entries.values() if usable(entry)]
        yield f"{MODELS[model].word}PromptLowest", latex.number(min(found, default=None))
        yield f"{MODELS[model].word}PromptHighest", latex.number(max(found, default=None))


def of_retrieval(summary: dict) -> Iterator[tuple[str, str]]:
    """Recalls and median ranks of the main models by gallery and direction."""
    for model in MAIN:
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
    ("single", "plain"): "SinglePlain",
    ("three", "before"): "ThreeBefore",
    ("three", "then"): "ThreeThen",
    ("plain", "before"): "PlainBefore",
    ("near", "neither"): "NearNeither",
    ("boundary", "15%"): "BoundaryFifteen",
    ("boundary", "85%"): "BoundaryEightyFive",
    ("level", "-20"): "LevelMinusTwenty",
    ("level", "+20"): "LevelPlusTwenty",
    ("noise", "0"): "NoiseZero",
}


def of_controls(summary: dict) -> Iterator[tuple[str, str]]:
    """Accuracy and interval of the main models and of the hold-out's on the controls that are quoted."""
    for model in (*MAIN, "t-clap-half", "clap-slots", "t-clap-slots"):
        for where, word in QUOTED_CONTROLS.items():
            entry = controls.entry(summary, model, *where) or {}
            yield f"{MODELS[model].word}{word}", latex.number(entry.get("accuracy"))
            yield f"{MODELS[model].word}{word}Interval", latex.interval(entry.get("ci95"))


PARTS = (
    of_run,
    of_tasks,
    of_comparisons,
    of_prompts,
    of_retrieval,
    of_readouts,
    of_windows,
    of_controls,
)


def numbers_tex(summary: dict) -> str:
    r"""One ``\newcommand`` a number, for the preamble of the paper."""
    lines = [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in macros(summary).items()]
    return "% Generated from summary.json; changes here are lost.\n" + "\n".join(lines) + "\n"
