"""A browser of the evaluation's items: listen to one, see it, and what two models make of its candidates.

In a notebook that somebody works in these are widgets; in a batch run, and in a page that is kept, a
handful of items stands there instead.
"""

from __future__ import annotations

import html
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from artifact.embeddings import RunEmbeddings
from artifact.experiment import SLOTS, Experiment
from artifact.notebook.frames import signed
from artifact.notebook.sounds import Page, Sound, composite, draw_mel, picture, player, single
from figures.marks import bar_look, legend_above, swatch
from figures.scores import TASKS
from figures.style import MODELS, TEXT, styled
from tclap.data.composites import VIEWS
from tclap.evaluation.benchmark import views_of
from tclap.progress import is_batch

SHOWN = 8  # candidates at most
CARD = 900  # width in pixels
OUTCOMES = ("all", "right", "wrong", "gained", "lost")
EXAMPLES = {"gained": 2, "wrong": 2, "right": 1}  # how many of which a page has
ORDERS = {"largest margin first": False, "smallest margin first": True}


@dataclass(frozen=True)
class AskedItem:
    """An item: its sound, the candidate captions, positions of the right ones, and cosines by model."""

    sound: Sound
    candidates: list[str]
    right: list[int]
    cosines: dict[str, np.ndarray]


class ItemReader:
    """Asks a seed's models the run's items again, one at a time."""

    def __init__(self, run: Experiment, seed: int) -> None:
        self.run = run
        self._model = lru_cache(maxsize=None)(
            lambda name: run.load_slots(seed, name) if name in SLOTS else run.load(seed, name)
        )
        self._items = run.table("data/items.parquet").set_index(["task", "item"])
        self._clips = run.clips.set_index("clip_id", drop=False)
        self._composites = views_of(run.table("data/pairs-test.parquet"), VIEWS)

    def __call__(self, task: str, item: str, models: Sequence[str]) -> AskedItem:
        """The item of a task, asked of ``models``."""
        run, asked = self.run, self._items.loc[(task, item)]
        name, candidates, cosines = asked["audio"], list(asked["candidates"]), {}
        pair = self._composites.get(name)
        sound = composite(run, *pair) if pair else single(run, self._clips.loc[name])
        # All models of a seed have one trunk.
        sounds = {name: pair or name}
        base = self._model(models[0])
        base = base.base if models[0] in SLOTS else base
        features = run.audio_features(base).outputs([*sounds.values()], "one sound")
        for model in models:
            embeddings = RunEmbeddings(run, self._model(model), sounds, features)
            cosines[model] = (embeddings.captions(candidates) @ embeddings.sounds([name])[0]).numpy()
        return AskedItem(sound, candidates, list(asked["answers"]), cosines)


def figure_item(asked: AskedItem, models: Sequence[str]) -> Figure:
    """An item's spectrogram, and its candidates' similarities; bold: right, framed: chosen.

    Of many candidates the right ones are shown, and those that any of the models puts on top.
    """
    ranks = np.min([np.argsort(np.argsort(-asked.cosines[m], kind="stable")) for m in models], axis=0)
    ranks[asked.right] = -1
    many = len(asked.candidates) > SHOWN
    rows = np.argsort(ranks, kind="stable")[:SHOWN] if many else range(len(asked.candidates))
    shared = os.path.commonprefix(asked.candidates).rpartition(" ")[0] if len(asked.candidates) > 1 else ""
    with styled():
        figure = Figure(figsize=(TEXT, max(1.5, 0.65 + 0.24 * len(rows))))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        draw_mel(left, asked.sound)
        height = 0.8 / len(models)
        for index, model in enumerate(models):
            chosen = np.argsort(-asked.cosines[model], kind="stable")[: len(asked.right)]
            for y, n in enumerate(rows):
                at = y + (index - (len(models) - 1) / 2) * height
                edge = {"edgecolor": "black", "linewidth": 0.9} if n in chosen else {}
                right.barh(at, asked.cosines[model][n], 0.9 * height, **bar_look(MODELS[model]) | edge)
        right.set_yticks(range(len(rows)), [asked.candidates[n].removeprefix(shared).strip() for n in rows])
        for label, n in zip(right.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if n in asked.right else "normal")
        right.set_ylim(len(rows) - 0.5, -0.5)
        right.tick_params(axis="y", length=0)
        right.axvline(0, color="black", linewidth=0.6)
        right.margins(x=0.04)
        right.grid(True, axis="x")
        right.set_xlabel("cosine" + (f" with \u201c{shared} \u2026\u201d" if shared else ""))
        legend_above(figure, [swatch(MODELS[model]) for model in models])
    return figure


class ItemBrowser:
    """Shows a run's items one by one; the last expression of a cell displays it.

    ``results`` are rows ``model, task, item, correct, margin`` of one seed, ``read`` asks models an item
    (:class:`ItemReader`), ``beside`` is the model that ``model`` is compared with.
    """

    def __init__(
        self,
        results: pd.DataFrame,
        read: Callable[[str, str, Sequence[str]], AskedItem],
        *,
        model: str = "t-clap",
        beside: str = "clap",
        task: str = "2way_before",
    ) -> None:
        rows = results[results["task"].isin(TASKS) & results["model"].isin(MODELS)]
        self._rows = {name: part.set_index("item") for name, part in rows.groupby(["model", "task"])}
        self.models = [name for name in MODELS if name in set(rows["model"])]
        self.tasks = [name for name in TASKS if name in set(rows["task"])]
        self._read, self.model, self.task = read, model, task
        self.beside = beside if beside in self.models else model

    def items(self, model: str, task: str, outcome: str = "all", ascending: bool = False) -> list[str]:
        """Names of a task's items by outcome, sorted by the model's margin; as asked where there is none."""
        rows = self._rows.get((model, task))
        if rows is None:
            return []
        own = rows["correct"].astype(bool)
        other = self._rows.get((self.beside, task), rows)["correct"].astype(bool).reindex(own.index)
        kinds = {"right": own, "wrong": ~own, "gained": own & ~other, "lost": ~own & other}
        rows = rows[kinds[outcome]] if outcome in kinds else rows
        return rows.sort_values("margin", ascending=ascending, kind="stable").index.tolist()

    def card(self, model: str, task: str, item: str) -> str:
        """An item as HTML: what is asked, how the models answered, a player, the candidates' similarities."""
        models = list(dict.fromkeys([self.beside, model]))
        asked, verdicts = self._read(task, item, models), []
        for name in models:
            row = self._rows[name, task].loc[item]
            word, colour = ("right", "#1b7837") if row["correct"] else ("wrong", "#b2182b")
            margin = "" if np.isnan(row["margin"]) else f" (margin {signed(row['margin'], 3)})"
            verdicts.append(
                f'{html.escape(MODELS[name].label)}: <b style="color:{colour}">{word}</b>{margin}'
            )
        answers = " \u00b7 ".join(verdicts)
        right = " and ".join(f"\u201c{html.escape(asked.candidates[n])}\u201d" for n in asked.right)
        return (
            f'<div style="max-width:{CARD}px;margin-bottom:18px">'
            f"<p><b>{html.escape(asked.sound.title)}</b> \u2014 {html.escape(task_title(task))}, "
            f"{len(asked.candidates)} candidates; right: {right}<br>{answers}</p>"
            f"{player(asked.sound)}{picture(figure_item(asked, models), 'similarities')}</div>"
        )

    def page(self) -> Page:
        """A few items as HTML that needs neither a kernel nor a network, the surest first."""
        found: list[str] = []
        for outcome, count in EXAMPLES.items():
            items = self.items(self.model, self.task, outcome, ascending=outcome == "wrong")
            found += [item for item in items if item not in found][:count]
        title = task_title(self.task)
        head = f"<p><i>{html.escape(title)}: a few of the items. In JupyterLab all can be browsed.</i></p>"
        cards = (self.card(self.model, self.task, item) for item in found)
        return Page(head + "".join(cards), f"{title}, {len(found)} items: {', '.join(found)}")

    @cached_property
    def widget(self) -> ipywidgets.Widget:
        """The controls and the item they choose."""
        tasks = [(task_title(task), task) for task in self.tasks]
        models = [(MODELS[model].label.replace("$", ""), model) for model in self.models]
        self.choices = {
            "model": ipywidgets.Dropdown(options=models, value=self.model, description="model"),
            "task": ipywidgets.Dropdown(options=tasks, value=self.task, description="task"),
            "outcome": ipywidgets.ToggleButtons(options=OUTCOMES, style={"button_width": "70px"}),
            "order": ipywidgets.Dropdown(options=ORDERS),
        }
        self.position = ipywidgets.BoundedIntText(value=1, min=1, description="item")
        self.count, self.shown = ipywidgets.Label(), ipywidgets.HTML()
        for choice in self.choices.values():
            choice.observe(lambda _: self._choose(), "value")
        self.position.observe(lambda _: self._show(), "value")
        self._choose()
        model, task, outcome, order = self.choices.values()
        rows = [[task, model], [outcome, order], [self.position, self.count]]
        return ipywidgets.VBox([*map(ipywidgets.HBox, rows), self.shown])

    def _choose(self) -> None:
        """Find the items that the controls ask for, and show the first."""
        self._found = self.items(*(choice.value for choice in self.choices.values()))
        if self.position.value == 1:
            self._show()
        else:
            self.position.value = 1  # shows it
        self.position.max = max(len(self._found), 1)

    def _show(self) -> None:
        self.count.value = f"of {len(self._found)}"
        if self._found:
            item = self._found[self.position.value - 1]
            self.shown.value = self.card(self.choices["model"].value, self.choices["task"].value, item)
        else:
            self.shown.value = "<p>No item is like that.</p>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        page = self.page()
        kept = {"text/plain": repr(page), "text/html": page.data}
        return kept if is_batch() else kept | self.widget._repr_mimebundle_(**options)


def task_title(task: str) -> str:
    """A task's name with what it asks."""
    return f"{TASKS[task].short} ({TASKS[task].asks})"
