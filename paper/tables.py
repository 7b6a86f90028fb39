"""The paper's tables as LaTeX, and the table of results as text for a terminal or a notebook.

Accuracies are percentages with their 95 % interval. Bold marks the best of the compared models and those
that do not differ from it significantly (Holm-adjusted p), only where another one does; what is not tested
has no bold. The draft's numbers stand in columns or rows of their own, as printed and under its name.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import yaml

from figures import scores
from figures.read import has_random_weights
from figures.scores import LEVEL, NEVER_WHILE, TASKS, THREE_WAY, comparison, dig, measured, score
from figures.style import COMPARED, LABELS, MAIN, MODELS, RANDOM_WEIGHTS, present
from paper import latex

DRAFT = yaml.safe_load(Path(__file__).with_name("draft.yaml").read_text(encoding="utf-8"))
NOT_OURS = r"\textit{draft (2023), not ours}"
FACTORIAL_TASKS = ("1", "2way_before", "2way_after", "3", "overlap", "4", "5")
DIRECTIONS = ("text_to_audio", "audio_to_text")
RECALLS = ("R@1", "R@5", "R@10", "mAP@10")


def better(summary: dict, task: str, first: str, second: str) -> str | None:
    """The model of the two that is significantly the more accurate on a task, or None."""
    entry = comparison(summary, first, second, task)
    left, right = (dig(score(summary, model, task), "accuracy") for model in (first, second))
    if not entry or entry["holm_p"] >= LEVEL or left is None or left == right:
        return None
    return second if right > left else first


def best(summary: dict, task: str, models: Sequence[str]) -> set[str]:
    """The most accurate of some models with those that do not differ from it significantly.

    None at all where none of them differs from it, so that what is set apart is always better than something.
    A less accurate one that the run did not compare with the best one is not among them.
    """
    found = {model: score(summary, model, task) for model in models}
    found = {model: entry["accuracy"] for model, entry in found.items() if entry}
    first = max(found, key=found.get, default=None)
    worse = {model for model in found if better(summary, task, first, model)}
    compared = {model for model in found if comparison(summary, first, model, task)}
    equal = {model for model in found if found[model] == found[first]}
    return equal | compared - worse if worse else set()


def with_interval(entry: dict | None) -> str:
    """A score as "98.8 [97.1, 99.7]", in percent; text has no bold."""
    return f"{latex.number(entry['accuracy'])} {latex.interval(entry['ci95'])}" if entry else latex.DASH


def _texts(
    rows: Iterable, columns: Iterable, lookup: Callable[..., dict | None], cell: Callable[..., str]
) -> pd.DataFrame:
    """Scores as texts, one row per question, one column per model; then what a row shares, chance and n."""
    table = {}
    for row in rows:
        entries = [lookup(row, column) for column in columns]
        known = next(filter(None, entries), {})
        ends = latex.chance(known.get("chance")), latex.number(known.get("n"), 0)
        table[row] = [*map(cell, entries), *ends]
    return pd.DataFrame.from_dict(table, orient="index", columns=[*columns, "chance", "n"])


def results(
    summary: dict, models: Sequence[str] = COMPARED, cell: Callable[..., str] = with_interval
) -> pd.DataFrame:
    """Accuracies with 95 % intervals as text: one row per model, then chance and n; one column per task.

    ``cell`` makes the text of a score, None if there is none, ``bold`` if it is among the best of the models.
    """
    models = present(summary["models"], models)
    winners = {task: best(summary, task, models) for task in TASKS}

    def lookup(task: str, model: str) -> dict | None:
        entry = score(summary, model, task)
        return entry and entry | {"bold": model in winners[task]}

    return _texts(TASKS, models, lookup, cell).T.rename({"n": "n per seed"})


def text_table(summary: dict) -> str:
    """:func:`results` as aligned plain text, with the intervals below."""
    lines, seeds = [], summary["seeds"]
    for model, row in results(summary).iterrows():
        values, _, ends = zip(*(cell.rstrip("]").partition(" [") for cell in row), strict=True)
        lines.append((model, *values))
        if any(ends):
            lines.append(("", *(end.replace(", ", "-") for end in ends)))
    table = pd.DataFrame(lines, columns=["", *TASKS]).set_index("").rename_axis("model", axis="columns")
    head = (
        f"profile {summary['profile']}, base {summary['base']}, {len(seeds)} seed{'s' if seeds[1:] else ''} "
        f"({', '.join(map(str, seeds))}): accuracy in percent, 95 % interval below\n"
    )
    warning = f"{RANDOM_WEIGHTS.upper()}\n" if has_random_weights(summary) else ""
    return warning + head + table.rename_axis(None).to_string() + "\n"


def table_1(summary: dict) -> str:
    """Prompt sensitivity: one row per template, one column per main model, the draft's column last."""
    models, quoted = present(summary["models"], MAIN), DRAFT["prompts"]
    asked = [template for model in models for template in dig(summary["models"], model, "prompts") or {}]
    templates = dict.fromkeys([*asked, *quoted])
    table = _texts(templates, models, lambda t, model: score(summary, model, t, "prompts"), latex.score)
    rows = [
        ("", [rf"\texttt{{{latex.escape(template)}}}", *cells, quoted.get(template, latex.DASH)])
        for template, *cells in table.itertuples()
    ]
    heads = [["prompt", *(MODELS[model].label for model in models), "chance", "$n$", NOT_OURS]]
    return latex.tabular("l" + "c" * len(models) + "rrr", heads, rows)


def table_2(summary: dict) -> str:
    """Tasks: :func:`results`, then the draft's rows."""
    *ours, (_, *chances), (_, *counts) = results(summary, cell=latex.score).itertuples()
    rows = [("models", [MODELS[name].label, *cells]) for name, *cells in ours]
    never = [latex.number(NEVER_WHILE) if task in THREE_WAY else "" for task in TASKS]
    apart = ["chance", *chances], ["never ``while''", *never], ["$n$ per seed", *counts]
    rows += [("chance", cells) for cells in apart]
    rows.append(("draft", [_spanning(1 + len(TASKS), NOT_OURS, "l")]))
    for name, cells in DRAFT["tasks"].items():
        spans = zip((1, 2, 1, 4, 1, 1), (*cells[:3], "", *cells[3:]), strict=True)  # the draft has no two-way
        rows.append(("draft", [name, *(_spanning(*span) for span in spans)]))
    return latex.tabular("l" + "c" * len(TASKS), _task_heads(TASKS), rows, r"\midrule")


def _spanning(columns: int, text: str, place: str = "c") -> str:
    return rf"\multicolumn{{{columns}}}{{{place}}}{{{text}}}"


def _task_heads(tasks: Sequence[str]) -> list[list[str]]:
    return [
        [r"accuracy in \%", *(latex.escape(TASKS[task].short) for task in tasks)],
        ["", *(rf"{{\scriptsize {TASKS[task].asks}}}" for task in tasks)],
    ]


def table_3(summary: dict) -> str:
    """Retrieval by gallery in both directions, R@1 with intervals, and chance, then the draft's recalls."""
    rows, measures = [], [(way, measure) for way in DIRECTIONS for measure in (*RECALLS, "median_rank")]
    for gallery, title in LABELS["galleries"].items():
        chances: list = []
        for model in present(summary["models"], COMPARED[:-2]):  # slots change the ordered gallery alone
            found = dig(summary["models"], model, "retrieval", gallery)
            if found:
                counts = dict.fromkeys(latex.number(dig(found, way, "n"), 0) for way in DIRECTIONS)
                values = (_recall(found.get(way) or {}, measure) for way, measure in measures)
                rows.append(
                    (gallery, ["" if chances else title, MODELS[model].label, *values, " / ".join(counts)])
                )
                chances = chances or [dig(found, way, "chance", measure) for way, measure in measures]
        if any(chances):
            values = ("" if chance is None else latex.chance(chance) for chance in chances)
            rows.append((gallery, ["", "chance", *values, ""]))
    for name, cells in DRAFT["retrieval"].items():
        rows.append(("draft", [name or NOT_OURS, *(_spanning(2, cell) for cell in cells)]))
    ways = (_spanning(5, way.replace("_", " ")) for way in DIRECTIONS)
    heads = [
        [_spanning(2, r"recall, mAP in \%", "l"), *ways, ""],
        ["gallery", "model", *(2 * [*RECALLS, "MdR"]), "$n$"],
    ]
    return latex.tabular("ll" + "c" * 10 + "r", heads, rows, r"\midrule")


def _recall(way: dict, measure: str) -> str:
    ends = dig(way, "ci95", measure) if measure == "R@1" else None
    return latex.score({"accuracy": way[measure], "ci95": ends}) if ends else latex.number(way.get(measure))


def control_results(summary: dict, cell: Callable[..., str] = with_interval) -> pd.DataFrame:
    """As :func:`results`, of the controls: one row per control, one column per model, then chance and n."""
    models = scores.controlled(summary)
    return _texts(LABELS["controls"], models, lambda name, m: scores.control(summary, m, name), cell)


def table_4(summary: dict) -> str:
    """Controls: :func:`control_results` under the controls' titles."""
    table = control_results(summary, cell=latex.score)
    rows = [(c.partition(":")[0], [LABELS["controls"][c], *cells]) for c, *cells in table.itertuples()]
    models = [MODELS[name].label for name in table.columns[:-2]]
    heads = [[r"control (accuracy in \%)", *models, "chance", "n"]]
    return latex.tabular("l" + "c" * len(models) + "rr", heads, rows)


def table_5(summary: dict) -> str:
    """Slots with one thing changed: accuracies with intervals, then chance and n."""
    found, tasks = summary.get("slot_ablation") or [], LABELS["slot_columns"]
    table = _texts(tasks, range(len(found)), lambda task, n: measured(found[n]["tasks"], task), latex.score).T
    changes = [(row["group"], LABELS["bases"].get(row["change"], row["change"])) for row in found]
    titles = [
        (group, latex.escape(": ".join(filter(None, (LABELS["slot_changes"][group], change)))))
        for group, change in changes
    ]
    titles += [("chance", "chance"), ("chance", "$n$")]
    rows = [(group, [title, *table.iloc[n]]) for n, (group, title) in enumerate(titles)]
    return latex.tabular("l" + "c" * len(tasks), [[r"accuracy in \%", *tasks.values()]], rows)


def factorial_results(summary: dict, cell: Callable[..., str] = with_interval) -> pd.DataFrame:
    """As :func:`results`, of the variants by group: the factorial, then those with another thing changed."""
    titles = {
        model: (group, title)
        for group, models in LABELS["factorial"].items()
        for model, title in models.items()
        if model in summary["models"]
    }
    table = _texts(FACTORIAL_TASKS, titles, lambda task, model: score(summary, model, task), cell).T
    table.index = pd.MultiIndex.from_tuples([*titles.values(), ("all", "chance"), ("all", "n per seed")])
    return table


def factorial(summary: dict) -> str:
    """Views, inversion and text-only loss, and the other variants: :func:`factorial_results` by group."""
    rows: list = []
    *variants, (_, *chances), _ = factorial_results(summary, latex.score).itertuples()
    for (group, title), *cells in variants:
        if group not in dict(rows):
            rows.append((group, [_spanning(1 + len(FACTORIAL_TASKS), rf"\textit{{{group}}}", "l")]))
        rows.append((group, [title, *cells]))
    rows.append(("chance", ["chance", *chances]))
    heads = _task_heads(FACTORIAL_TASKS)
    return latex.tabular("l" + "c" * len(FACTORIAL_TASKS), heads, rows)


def real(summary: dict) -> str:
    """Tasks on real recordings, in rows: :func:`results` of that run, a model a column, with chance and n."""
    table = results(summary, cell=latex.score).T
    titles = {name: latex.escape(f"{task.short} ({task.asks})") for name, task in TASKS.items()}
    rows = [("tasks", [titles[task], *cells]) for task, *cells in table.itertuples()]
    models = [MODELS[name].label for name in table.columns[:-2]]
    heads = [[r"accuracy in \%", *models, "chance", "$n$"]]
    return latex.tabular("l" + "c" * len(models) + "rr", heads, rows)


TABLES = {
    "1": table_1, "2": table_2, "3": table_3, "4": table_4, "5": table_5, "factorial": factorial, "real": real
}  # fmt: skip


def build(name: str, summary: dict) -> str:
    """The table ``name`` as LaTeX, with a warning where weights are random; ValueError if unknown."""
    if name not in TABLES:
        raise ValueError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}.")
    warning = rf"\textbf{{{RANDOM_WEIGHTS}}}\par\smallskip" if has_random_weights(summary) else ""
    return f"{warning}\n{TABLES[name](summary)}".lstrip("\n")
