"""Which rows of a run a number of the paper's text is counted from (``paper/numbers.py`` has the keys)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from artifact.hold_out import SEEN
from artifact.slot_ablation import ORACLE, POOLED, READERS, UNCHANGED
from figures import scores
from figures.read import REAL
from figures.style import LABELS, MODELS
from paper import numbers
from tclap.evaluation.tasks import PROMPT_PREFIX
from tclap.training.variants import POLICY_SEPARATOR, READOUT_PREFIX

TASKS = tuple(scores.TASKS)
TWO_WAY = ("2way_before", "2way_after")
HELD_OUT, ABLATED, RETRIEVED = "T-CLAP, class hold-out", "Ablation of slots, one seed", ", retrieval"


class Rows(NamedTuple):
    """Rows of one model on one question, as they are counted: ``where`` are columns and their values."""

    file: str  # "results", "retrieval", "hold-out" or "slots-ablation"
    model: str  # as a heading says it
    question: str
    where: tuple[tuple[str, object], ...]

    @property
    def title(self) -> str:
        """In a line."""
        return f"{self.model}, {self.question}"

    @property
    def name(self) -> str:
        """For a file name and an anchor."""
        words = f"{self.model} {self.question}".lower().replace("+", " plus ").replace(" -", " minus ")
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


class Run:
    """A run's folder and summary, and the rows of both."""

    def __init__(self, folder: Path, summary: Mapping, profile: str = ""):
        self.folder, self.summary, self.profile = folder, summary, profile
        self.tree = numbers.tree(summary)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The item and query rows of all seeds, and those of the hold-out and the ablation, if any."""
        seeds = {
            name: sorted(self.folder.glob(f"seed*/{name}.parquet")) for name in ("hold-out", "slots-ablation")
        }
        of_seeds = {name: pd.concat(map(pd.read_parquet, paths)) for name, paths in seeds.items() if paths}
        return of_seeds | {
            name: pd.read_parquet(self.folder / f"{name}.parquet") for name in ("results", "retrieval")
        }

    @cached_property
    def groups(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Item rows by model and task."""
        return dict(iter(self.tables["results"].groupby(["model", "task"], sort=False)))

    def select(self, rows: Rows) -> pd.DataFrame:
        """The rows themselves."""
        where = dict(rows.where)
        if rows.file == "results":
            return self.groups.get((where["model"], where["task"]), self.tables["results"].iloc[:0])
        found = self.tables.get(rows.file, pd.DataFrame())
        for column, value in where.items():
            if column in found:
                found = found[found[column].isin(value if isinstance(value, tuple) else [value])]
        return found

    def _asked(self, model: str, task: str) -> Rows:
        name, _, policy = model.partition(POLICY_SEPARATOR)
        title = MODELS[name].label if name in MODELS else name.replace(READOUT_PREFIX, "Readout: ")
        title = f"{title}, window policy {policy}" if policy else title
        known = scores.TASKS.get(task)
        words = f"task {known.short}: {known.asks}" if known else task
        return Rows("results", title, words, (("model", model), ("task", task)))

    def of(self, key: str) -> list[Rows]:
        """The rows behind a key of this run, in the order in which it names them; none behind a setting."""
        head, *rest = key.split("/")
        found = list(self._of(head, rest))
        return [rows for rows in found if len(self.select(rows))]

    def _of(self, head: str, rest: list[str]) -> Iterable[Rows]:
        if " over " in head:
            tasks = [rest[0]] if rest[0] in TASKS else TASKS
            return [self._asked(model, task) for model in head.split(" over ") for task in tasks]
        if head in MODELS:
            return self._of_model(head, rest)
        if head == "chance":
            asked = (model for model in self.summary["models"] if scores.score(self.summary, model, rest[0]))
            return [self._asked(model, rest[0]) for model in list(asked)[:1]]
        if head == "readouts":
            return [self._asked(READOUT_PREFIX + rest[0], rest[1])]
        if head == "windows":
            policy, model, task = rest
            return [self._asked(model if policy == "fit" else model + POLICY_SEPARATOR + policy, task)]
        special = {"hold-out": self._held_out, "slots": self._ablated, "errors": self._errors}
        return special[head](rest) if head in special else []

    def _of_model(self, model: str, rest: list[str]) -> Iterator[Rows]:
        first = rest[0]
        asked = {numbers.without_percent(task): task for name, task in self.groups if name == model}
        if first == "prompts":
            prompts = scores.dig(self.summary["models"], model, "prompts") or {}
            choose = {"lowest": min, "highest": max}[rest[1]]
            if prompts:
                prompt = choose(prompts, key=lambda name: prompts[name]["accuracy"])
                yield self._asked(model, PROMPT_PREFIX + prompt.replace("{label}", "{}"))
        elif first == "misread":
            yield from (self._asked(model, task) for task in asked.values() if re.match("wording: .*{", task))
        elif first in LABELS["galleries"]:
            gallery, direction = rest[:2]
            words = f"{LABELS['galleries'][gallery]}, {direction.replace('_', ' ')}"
            where = (("model", model), ("gallery", gallery), ("direction", direction))
            yield Rows("retrieval", MODELS[model].label + RETRIEVED, words, where)
        elif first in asked:
            yield self._asked(model, asked[first])

    def _held_out(self, rest: list[str]) -> Iterator[Rows]:
        if rest[0] == "slots":
            yield from (self._asked("clap-slots", task) for task in TWO_WAY)
        elif rest[0] != "classes":
            name, _, named = (rest[1] if rest[1].partition(",")[0] in SEEN else SEEN[-1]).partition(", ")
            where = (("fraction", float(rest[0]) / 100), ("seen", SEEN.index(name)))
            where += (("named", True),) if named else ()
            yield Rows(
                "hold-out", HELD_OUT, f"{rest[0]} % of the classes: {name}{', named' if named else ''}", where
            )

    def _ablated(self, rest: list[str]) -> Iterator[Rows]:
        for row in self.summary.get("slot_ablation") or []:
            title = ": ".join(filter(None, (row["group"], row["change"])))
            named = [task for task in row["tasks"] if numbers.without_percent(task) == rest[1]]
            for task in named if numbers.without_percent(title) == rest[0] else []:
                asked = tuple(name for name, into in POOLED.items() if into == task) or (task,)
                where = (("group", row["group"]), ("change", row["change"]), ("task", asked))
                yield Rows("slots-ablation", ABLATED, f"{title}; {self._asked('clap', task).question}", where)

    def _errors(self, rest: list[str]) -> Iterator[Rows]:
        for row in (UNCHANGED, f"{READERS}: {ORACLE}"):
            yield from self._ablated([row, rest[0]])


def split(key: str) -> tuple[str, str]:
    """The profile of a run on real recordings that a key names, or "", and the key in that run."""
    profile, separator, theirs = key.partition(": ")
    return (profile, theirs) if separator and profile in REAL else ("", key)


def recount(rows: Rows, frame: pd.DataFrame) -> pd.Series:
    """What the rows say by seed, in percent: how many are correct, or of retrieval found first.

    The rows of a hold-out count alike, whatever their seed.
    """
    correct = frame["rank"].eq(1) if rows.file == "retrieval" else frame["correct"].astype(float)
    if rows.file == "hold-out":
        return pd.Series({"all": 100 * correct.mean()})
    return 100 * correct.groupby(frame["seed"]).mean()
