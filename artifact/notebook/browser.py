"""A browser of the evaluation's items: listen to one, see it, and what two models answered.

In a notebook that somebody works in these are widgets; in a batch run, and in a page that is kept, a
handful of items stands there instead.
"""

import html
from functools import cached_property
from typing import Any

import ipywidgets
import pandas as pd
from IPython.display import HTML

from artifact.experiment import Experiment
from artifact.notebook.sounds import Sound, cards, composite, single
from figures.scores import TASKS
from figures.style import MODELS
from tclap.data.composites import VIEWS
from tclap.evaluation.benchmark import views_of
from tclap.progress import is_batch
from tclap.training.variants import BASE

TASK = "2way_before"  # that is shown first
OUTCOMES = ("all", "right", "wrong", "gained", "lost")
EXAMPLES = {"gained": 2, "wrong": 2, "right": 1}  # how many of which a page has


class ItemBrowser:
    """Shows a run's items one by one; the last expression of a cell displays it.

    ``results`` are rows ``model, task, item, answer, prediction, correct, margin`` of one seed. The base
    model, where it is among them, is what ``model`` is compared with.
    """

    def __init__(self, run: Experiment, results: pd.DataFrame, model: str) -> None:
        rows = results[results["task"].isin(TASKS) & results["model"].isin(MODELS)]
        self._rows = {name: part.set_index("item") for name, part in rows.groupby(["model", "task"])}
        self.models = [name for name in MODELS if name in set(rows["model"])]
        self.tasks = [name for name in TASKS if name in set(rows["task"])]
        self.run, self.model = run, model
        self.beside = BASE if BASE in self.models else model

    def items(self, model: str, task: str, outcome: str = "all") -> list[str]:
        """Names of a task's items by outcome, the surest answers first; none where it was not asked."""
        rows = self._rows.get((model, task))
        if rows is None:
            return []
        own = rows["correct"].astype(bool)
        other = self._rows.get((self.beside, task), rows)["correct"].astype(bool).reindex(own.index)
        kinds = {"right": own, "wrong": ~own, "gained": own & ~other, "lost": ~own & other}
        rows = rows[kinds[outcome]] if outcome in kinds else rows
        return rows["margin"].abs().sort_values(ascending=False, kind="stable").index.tolist()

    @cached_property
    def _asked(self) -> pd.DataFrame:
        return self.run.table("data/items.parquet").set_index(["task", "item"])

    def sound(self, task: str, item: str) -> Sound:
        """The recording that an item is about."""
        name, pairs = self._asked.loc[(task, item), "audio"], self.run.table("data/pairs-test.parquet")
        pair = views_of(pairs, VIEWS).get(name)
        clips = self.run.clips.set_index("clip_id", drop=False)
        return composite(self.run, *pair) if pair else single(self.run, clips.loc[name])

    def card(self, model: str, task: str, item: str) -> str:
        """An item as HTML: the sound, what is right, and the models' answers with their margins."""
        models = list(dict.fromkeys([self.beside, model]))
        rows = pd.DataFrame({MODELS[name].label: self._rows[name, task].loc[item] for name in models}).T
        answers = rows[["prediction", "margin"]].assign(
            margin=rows["margin"].astype(float).round(3),
            verdict=["right" if correct else "wrong" for correct in rows["correct"]],
        )
        count = len(self._asked.loc[(task, item), "candidates"])
        head = f"{task_title(task)}, {count} candidates; right: {rows['answer'].iloc[0]}"
        return f"<p>{html.escape(head)}</p>{cards([self.sound(task, item)]).data}{answers.to_html()}"

    def page(self) -> str:
        """A few items as HTML that needs neither a kernel nor a network, the surest first."""
        found: list[str] = []
        for outcome, count in EXAMPLES.items():
            items = self.items(self.model, TASK, outcome)
            found += [item for item in items if item not in found][:count]
        return "".join(self.card(self.model, TASK, item) for item in found)

    @cached_property
    def widget(self) -> ipywidgets.Widget:
        """The controls and the item they choose."""
        models = [(MODELS[name].label, name) for name in self.models]
        tasks = [(task_title(name), name) for name in self.tasks]
        return ipywidgets.interactive(
            self._show,
            model=ipywidgets.Dropdown(options=models, value=self.model),
            task=ipywidgets.Dropdown(options=tasks, value=TASK),
            outcome=ipywidgets.ToggleButtons(options=OUTCOMES),
            number=ipywidgets.BoundedIntText(1, min=1, max=10_000),
        )

    def _show(self, model: str, task: str, outcome: str, number: int) -> HTML:
        items = self.items(model, task, outcome)
        if not items:
            return HTML("<p>No item is like that.</p>")
        number = min(number, len(items))
        return HTML(f"<p>item {number} of {len(items)}</p>{self.card(model, task, items[number - 1])}")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        kept = {"text/plain": "a browser of items", "text/html": self.page()}
        return kept if is_batch() else kept | self.widget._repr_mimebundle_(**options)


def task_title(task: str) -> str:
    """A task's name with what it asks."""
    return f"{TASKS[task].short} ({TASKS[task].asks})"
