"""A browser of the evaluation's items: hear one, see it, and see what two models make of its candidates.

In a notebook that somebody works in these are widgets; in a batch run, and in a page that is kept, a
handful of items stands there instead.
"""

from __future__ import annotations

import html
import os.path
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from artifact.notebook.frames import signed
from artifact.notebook.sounds import data_uri, draw_mel, player, png
from figures.marks import bar_look, legend_above, swatches
from figures.scores import TASKS
from figures.style import MODELS, TEXT, styled
from tclap.progress import is_batch

if TYPE_CHECKING:
    import ipywidgets

    from artifact.notebook.listening import AskedItem

SHOWN = 8  # candidates at most
CARD = 900  # width in pixels
ARROWS = {-1: "arrow-left", 1: "arrow-right"}
OUTCOMES = {
    "all": lambda own, other: own | ~own,
    "right": lambda own, other: own,
    "wrong": lambda own, other: ~own,
    "gained": lambda own, other: own & ~other,
    "lost": lambda own, other: ~own & other,
}
"""Which items are shown, by whether the model and the one beside it are right."""

EXAMPLES = {"gained": 2, "wrong": 2, "right": 1}
ORDERS = {"largest margin first": False, "smallest margin first": True}
VERDICT = {True: ("right", "#1b7837"), False: ("wrong", "#b2182b")}


def shown_candidates(asked: AskedItem, models: Sequence[str], most: int = SHOWN) -> list[int]:
    """Positions of the candidates to show: of few all, of many the right ones and what the models prefer."""
    if len(asked.candidates) <= most:
        return list(range(len(asked.candidates)))
    ranks = np.min([np.argsort(np.argsort(-asked.cosines[m], kind="stable")) for m in models], axis=0)
    ranks[asked.right] = -1
    chosen = np.argsort(ranks, kind="stable")[:most]
    best = np.max([asked.cosines[m] for m in models], axis=0)
    return sorted(chosen.tolist(), key=lambda n: (n not in asked.right, -best[n]))


def common_start(captions: Sequence[str]) -> str:
    """The words that all captions begin with; none where there is one caption only."""
    if len(captions) < 2:
        return ""
    return os.path.commonprefix(list(captions)).rpartition(" ")[0]


def figure_item(asked: AskedItem, models: Sequence[str], most: int = SHOWN) -> Figure:
    """An item's spectrogram, and its candidates' similarities; bold: right, framed: chosen."""
    with styled():
        rows = shown_candidates(asked, models, most)
        start = common_start(asked.candidates)
        names = [asked.candidates[n].removeprefix(start).strip() for n in rows]
        figure = Figure(figsize=(TEXT, max(1.5, 0.65 + 0.24 * len(rows))))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        draw_mel(left, asked.sound)
        height = 0.8 / len(models)
        for index, model in enumerate(models):
            chosen = asked.chosen(model)
            for y, n in enumerate(rows):
                at = y + (index - (len(models) - 1) / 2) * height
                edge = {"edgecolor": "black", "linewidth": 0.9} if n in chosen else {}
                right.barh(at, asked.cosines[model][n], 0.9 * height, **bar_look(model) | edge)
        right.set_yticks(range(len(rows)), names)
        for label, n in zip(right.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if n in asked.right else "normal")
        right.set_ylim(len(rows) - 0.5, -0.5)
        right.tick_params(axis="y", length=0)
        right.axvline(0, color="black", linewidth=0.6)
        right.margins(x=0.04)
        right.grid(True, axis="x")
        right.set_xlabel("cosine" + (f" with \u201c{start} \u2026\u201d" if start else ""))
        legend_above(figure, swatches(models), len(models))
    return figure


class ItemBrowser:
    """Shows a run's items one by one; the last expression of a cell displays it.

    Args:
        results: rows ``model, task, item, correct, margin`` of one seed.
        read: an item of a task, asked of models (:class:`artifact.notebook.listening.ItemReader`).
        model: whose answers are browsed.
        beside: the model it is compared with.
        task: shown first.

    Raises:
        ValueError: where ``results`` lack the model or the task.
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
        for what, value, known in (("model", model, self.models), ("task", task, self.tasks)):
            if value not in known:
                raise ValueError(f"the results have no {what} {value!r}, only {', '.join(known) or 'none'}.")
        self._read, self.model, self.task = read, model, task
        self.beside = beside if beside in self.models else model

    def items(self, model: str, task: str, outcome: str = "all", ascending: bool = False) -> list[str]:
        """Names of a task's items by outcome, sorted by the model's margin; as asked where there is none."""
        rows = self._rows.get((model, task))
        if rows is None:
            return []
        own = rows["correct"].astype(bool)
        other = self._rows.get((self.beside, task), rows)["correct"].astype(bool).reindex(own.index)
        rows = rows[OUTCOMES[outcome](own, other)]
        return rows.sort_values("margin", ascending=ascending, kind="stable").index.tolist()

    def compared(self, model: str) -> list[str]:
        """The models whose similarities are shown beside a model's."""
        return list(dict.fromkeys([self.beside, model]))

    def heading(self, asked: AskedItem, model: str, task: str, item: str) -> str:
        """What is played, what is asked, and how the models fared, as HTML."""
        verdicts = []
        for name in self.compared(model):
            row = self._rows[name, task].loc[item]
            word, colour = VERDICT[bool(row["correct"])]
            margin = "" if np.isnan(row["margin"]) else f" (margin {signed(row['margin'], 3)})"
            label = html.escape(MODELS[name].label)
            verdicts.append(f'{label}: <b style="color:{colour}">{word}</b>{margin}')
        right = " and ".join(f"\u201c{html.escape(asked.candidates[n])}\u201d" for n in asked.right)
        return (
            f"<b>{html.escape(asked.sound.title)}</b> \u2014 {html.escape(task_title(task))}, "
            f"{len(asked.candidates)} candidates; right: {right}<br>" + " \u00b7 ".join(verdicts)
        )

    def card(self, model: str, task: str, item: str) -> str:
        """An item as HTML: what is asked, a player, and what the models make of it."""
        asked, models = self._read(task, item, self.compared(model)), self.compared(model)
        picture = data_uri(png(figure_item(asked, models)), "image/png")
        return (
            f'<div style="max-width:{CARD}px;margin-bottom:18px">'
            f"<p>{self.heading(asked, model, task, item)}</p>"
            f'{player(asked.sound)}<img alt="similarities" style="width:100%" src="{picture}"></div>'
        )

    def examples(self, outcomes: Mapping[str, int] = EXAMPLES) -> list[str]:
        """The few items that stand for all: ``outcomes`` says how many of which, the surest first."""
        found: list[str] = []
        for outcome, count in outcomes.items():
            items = self.items(self.model, self.task, outcome, ascending=outcome in ("wrong", "lost"))
            found += [item for item in items if item not in found][:count]
        return found

    def page(self) -> str:
        """The examples as HTML that needs neither a kernel nor a network."""
        title = html.escape(task_title(self.task))
        head = f"<p><i>{title}: a few of the items. In JupyterLab all can be browsed.</i></p>"
        return head + "".join(self.card(self.model, self.task, item) for item in self.examples())

    @cached_property
    def widget(self) -> ipywidgets.Widget:
        """The controls and the item they choose."""
        import ipywidgets

        wide = {"description_width": "initial"}
        self.choices = {
            "task": ipywidgets.Dropdown(
                options=[(task_title(t), t) for t in self.tasks], value=self.task, description="task"
            ),
            "model": ipywidgets.Dropdown(
                options=[(MODELS[m].label.replace("$", ""), m) for m in self.models],
                value=self.model,
                description="model",
            ),
            "outcome": ipywidgets.ToggleButtons(options=list(OUTCOMES), style={"button_width": "70px"}),
            "order": ipywidgets.Dropdown(options=ORDERS, style=wide),
        }
        self.position = ipywidgets.IntSlider(
            min=0, max=0, continuous_update=False, readout=False, layout={"width": "360px"}
        )
        self.count, self.shown = ipywidgets.Label(), ipywidgets.HTML()
        steps = {by: ipywidgets.Button(icon=icon, layout={"width": "40px"}) for by, icon in ARROWS.items()}
        for by, button in steps.items():
            button.on_click(lambda _, by=by: setattr(self.position, "value", self.position.value + by))
        for choice in self.choices.values():
            choice.observe(lambda _: self._choose(), "value")
        self.position.observe(lambda _: self._show(), "value")
        self._choose()
        row = ipywidgets.HBox
        return ipywidgets.VBox(
            [
                row([self.choices["task"], self.choices["model"]]),
                row([self.choices["outcome"], self.choices["order"]]),
                row([steps[-1], self.position, steps[1], self.count]),
                self.shown,
            ]
        )

    def _choose(self) -> None:
        """Find the items that the controls ask for, and show the first."""
        model, task, outcome, ascending = (
            self.choices[name].value for name in ("model", "task", "outcome", "order")
        )
        self._found = self.items(model, task, outcome, ascending)
        self.position.max = max(len(self._found) - 1, 0)
        if self.position.value:
            self.position.value = 0  # shows it
        else:
            self._show()

    def _show(self) -> None:
        at, model, task = self.position.value, self.choices["model"].value, self.choices["task"].value
        if not self._found:
            self.count.value, self.shown.value = "none", "<p>No item is like that.</p>"
            return
        self.count.value = f"{at + 1} of {len(self._found)}"
        self.shown.value = self.card(model, task, self._found[at])

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        fallback = {"text/plain": "a browser of items", "text/html": self.page()}
        return fallback if is_batch() else fallback | self.widget._repr_mimebundle_(**options)


def task_title(task: str) -> str:
    """A task's name with what it asks."""
    return f"{TASKS[task].short} ({TASKS[task].asks})"
