"""The paper's tables as LaTeX, and the summary as text for a terminal.

Accuracies are percentages with their 95 % interval. Bold marks the best of the compared models and those
that do not differ from it significantly (McNemar, Holm-adjusted), only where another one does; what is not
tested has no bold. The draft's numbers stand in columns or rows of their own, as
printed there, under a heading that says whose they are.
"""

from __future__ import annotations

import pandas as pd

from figures.controls import table_4
from figures.read import has_random_weights
from figures.scores import NEVER_WHILE, TASKS, THREE_WAY, best, score, shared
from figures.slot_ablation import table_5
from figures.style import COMPARED, MAIN, MODELS, RANDOM_WEIGHTS, present
from paper import latex

GALLERIES = {
    "singles": "single clips",
    "overlaps": "overlaps",
    "ordered": "ordered composites",
    "clotho": "Clotho",
    "audiocaps": "AudioCaps",
}
DIRECTIONS = ("text_to_audio", "audio_to_text")
RECALLS = ("R@1", "R@5", "R@10", "mAP@10")
DRAFT_TASKS = {"Task 1": ("1",), "Task 2": ("2a", "2b"), "Task 3": ("3",), "Task 4": ("4",), "Task 5": ("5",)}
"""Which of our columns each column of the draft's table II covers."""


def caution(lines: int) -> str:
    """A row that says that the rows below it are the draft's, over ``lines`` columns."""
    return rf"\multicolumn{{{lines}}}{{l}}{{\textit{{{latex.NOT_OURS}}}}} \\"


def printed(draft: pd.DataFrame, table: str, row: str, column: str) -> str:
    """A cell of the draft as printed: its values joined by a comma, a dash where empty or absent."""
    cell = draft[(draft["table"] == table) & (draft["row"] == row) & (draft["column"] == column)]
    return ", ".join(latex.escape(value) for value in cell["value"] if value) or latex.DASH


def table_1(summary: dict, draft: pd.DataFrame) -> str:
    """Prompt sensitivity: one row a template, one column a main model, the draft's column last."""
    models = present(summary["models"], MAIN)
    quoted = draft[draft["table"] == "I"]
    measured = [t for m in models for t in summary["models"][m].get("prompts") or {}]
    templates = list(dict.fromkeys([*measured, *quoted["row"]]))
    heads = [MODELS[model].label for model in models]
    lines = [
        latex.row(["prompt", *heads, "chance", "$n$", rf"\textit{{{latex.NOT_OURS}}}"]),
        r"\midrule",
    ]
    for template in templates:
        winners = best(summary, template, models, "prompts")
        cells = [accuracy_cell(summary, model, template, winners, "prompts") for model in models]
        lines.append(
            latex.row(
                [
                    rf"\texttt{{{latex.escape(template)}}}",
                    *(
                        f"{value} {latex.small(latex.interval(ends))}" if ends else value
                        for value, ends in cells
                    ),
                    latex.chance(shared(summary, template, "chance", "prompts")),
                    latex.number(shared(summary, template, "n", "prompts"), 0),
                    printed(draft, "I", template, "ESC-50 accuracy"),
                ]
            )
        )
    return latex.tabular("l" + "c" * len(models) + "rrr", lines) + "\n"


def accuracy_cell(
    summary: dict, model: str, task: str, winners: set[str], group: str = "zste"
) -> tuple[str, list[float] | None]:
    """Accuracy, bold for a winner, and interval of one model on one task."""
    entry = score(summary, model, task, group)
    if entry is None:
        return latex.DASH, None
    value = latex.number(entry["accuracy"])
    return latex.bold(value) if model in winners else value, entry["ci95"]


def table_2(summary: dict, draft: pd.DataFrame) -> str:
    """Tasks: two lines a model (accuracy, interval), ablations apart, chance and n, then the draft's rows."""
    width = 1 + len(TASKS)
    lines = [
        latex.row([r"accuracy in \%", *(latex.escape(task.short) for task in TASKS.values())]),
        latex.row(["", *(latex.small(latex.escape(task.asks)) for task in TASKS.values())]),
        r"\midrule",
    ]
    models = present(summary["models"])
    compared = [model for model in models if model in COMPARED]
    winners = {task: best(summary, task, compared) for task in TASKS}
    for model in models:
        if compared and model == next((m for m in models if m not in COMPARED), None):
            lines.append(r"\midrule")
        cells = [accuracy_cell(summary, model, task, winners[task]) for task in TASKS]
        lines += latex.two_lines(MODELS[model].label, cells)
    lines += [
        r"\midrule",
        latex.row(["chance", *(latex.chance(shared(summary, task, "chance")) for task in TASKS)]),
        latex.row(["never ``while''", *(latex.number(NEVER_WHILE) if t in THREE_WAY else "" for t in TASKS)]),
        latex.row(["$n$ a seed", *(latex.number(shared(summary, task, "n"), 0) for task in TASKS)]),
        r"\midrule",
        caution(width),
    ]
    covered = {task: column for column, tasks in DRAFT_TASKS.items() for task in tasks}
    for name in dict.fromkeys(draft.loc[draft["table"] == "II", "row"]):
        cells, seen = [], set()
        for task in TASKS:
            column = covered.get(task)
            if column is None:
                cells.append("")
            elif column not in seen:
                seen.add(column)
                value, span = printed(draft, "II", name, column), len(DRAFT_TASKS[column])
                cells.append(value if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{value}}}")
        lines.append(latex.row([greek(name), *cells]))
    return latex.tabular("l" + "c" * len(TASKS), lines) + "\n"


def greek(name: str) -> str:
    """A row name of the draft with its alphas as symbols."""
    for kind in ("same", "cross"):
        name = name.replace(f"alpha_{kind} = 0", f"@{kind}@")
    name = latex.escape(name)
    for kind in ("same", "cross"):
        name = name.replace(f"@{kind}@", rf"$\alpha_\mathrm{{{kind}}} = 0$")
    return name


def recall_cell(way: dict, key: str) -> tuple[str, list[float] | None]:
    """One measure of one direction, and its interval where it has one."""
    return latex.number(way.get(key)), (way.get("ci95") or {}).get(key)


def retrieval_lines(title: str, entries: dict[str, dict]) -> list[str]:
    """A gallery: two lines a model (measures, intervals) of both directions with n, then chance."""
    lines, chances = [], [{}, {}]
    for model, entry in entries.items():
        ways = [entry.get(way) or {} for way in DIRECTIONS]
        chances = [known or way.get("chance") or {} for known, way in zip(chances, ways, strict=True)]
        cells = [recall_cell(way, key) for way in ways for key in (*RECALLS, "median_rank")]
        counts = dict.fromkeys(latex.number(way.get("n"), 0) for way in ways)
        first, *below = latex.two_lines(MODELS[model].label, cells, " / ".join(counts))
        lines += [f"{'' if lines else title} & {first}", *(f" & {line}" for line in below)]
    if any(chances):
        values = [latex.chance(c[key]) if key in c else "" for c in chances for key in (*RECALLS, "MdR")]
        lines.append(latex.row(["", "chance", *values, ""]))
    return lines


def table_3(summary: dict, draft: pd.DataFrame) -> str:
    """Retrieval by gallery in both directions, with intervals; the draft's recalls below, apart."""
    models = present(summary["models"], COMPARED)
    lines = [
        latex.row(
            [
                r"\multicolumn{2}{l}{recall, mAP in \%}",
                r"\multicolumn{5}{c}{text to audio}",
                r"\multicolumn{5}{c}{audio to text}",
                "",
            ]
        ),
        r"\cmidrule(lr){3-7} \cmidrule(lr){8-12}",
        latex.row(["gallery", "model", *(2 * ["R@1", "R@5", "R@10", "mAP@10", "MdR"]), "$n$"]),
    ]
    for gallery, title in GALLERIES.items():
        entries = {m: (summary["models"][m].get("retrieval") or {}).get(gallery) for m in models}
        entries = {model: entry for model, entry in entries.items() if entry}
        if entries:
            lines += [r"\midrule", *retrieval_lines(title, entries)]
    ours = latex.tabular("ll" + "r" * (2 * 5 + 1), lines)
    quoted = draft[draft["table"] == "III"]
    columns = list(dict.fromkeys(quoted["column"]))
    theirs = [
        caution(1 + len(columns)),
        latex.row(["model", *(latex.escape(column) for column in columns)]),
        r"\midrule",
        *(
            latex.row([latex.escape(name), *(printed(draft, "III", name, column) for column in columns)])
            for name in dict.fromkeys(quoted["row"])
        ),
    ]
    return f"{ours}\n\n\\medskip\n\n{latex.tabular('l' + 'r' * len(columns), theirs)}\n"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines of text, the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        name, *cells = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *cells]).rstrip())
    return lines


TABLES = {"1": table_1, "2": table_2, "3": table_3, "4": table_4, "5": table_5}


def build(name: str, summary: dict, draft: pd.DataFrame) -> str:
    """The table ``name`` as LaTeX, under a warning where the run's weights are random."""
    text = TABLES[name](summary, draft)
    warning = rf"\textbf{{{RANDOM_WEIGHTS}}}\par\smallskip" if has_random_weights(summary) else ""
    return f"{warning}\n{text}" if warning else text


def text_table(summary: dict) -> str:
    """Models by tasks as aligned plain text, with intervals for the compared models, chance and n."""
    seeds = summary["seeds"]
    plural = "s" if len(seeds) != 1 else ""
    head = [
        f"profile {summary['profile']}, base {summary['base']}, {len(seeds)} seed{plural} "
        f"({', '.join(map(str, seeds))}): accuracy in percent, 95 % interval below"
    ]
    if has_random_weights(summary):
        head.insert(0, RANDOM_WEIGHTS.upper())
    rows = [["model", *TASKS]]
    for model in present(summary["models"]):
        entries = [score(summary, model, task) for task in TASKS]
        rows.append([model, *("-" if e is None else f"{e['accuracy']:.1f}" for e in entries)])
        if model in COMPARED:
            rows.append(["", *("" if e is None else "{:.1f}-{:.1f}".format(*e["ci95"]) for e in entries)])
    for name, key, show in (
        ("chance", "chance", latex.chance),
        ("n a seed", "n", lambda n: latex.number(n, 0)),
    ):
        values = [shared(summary, task, key) for task in TASKS]
        rows.append([name, *("-" if value is None else show(value) for value in values)])
    return "\n".join(head + aligned(rows)) + "\n"
