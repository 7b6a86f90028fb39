"""The pages "The numbers", the paper's text with each number's origin, and "The rows" behind them."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from docs import prose
from docs.rows import Rows, Run, recount, split
from figures.scores import dig
from figures.style import MODELS
from paper import latex, numbers

FEW = 4  # kinds of rows that a line names
NUMBERS = """# The numbers

Every number of the paper's text and where it comes from. The paragraphs below are the paper's own, as
far as they hold numbers; a number leads to the rows that it was counted from, or, where there are
several kinds of them or none, to its line in a table. The interval is a 95 % bootstrap interval over
recordings, and n the number of items of each seed. All of it, the run's configuration too, is in
[summary.json](summary.json).

```{toctree}
:hidden:

rows
```"""
ELSEWHERE = """## Elsewhere

In captions, tables, formulas and at the foot of a page, or in parts of the text that do not hold for this
run."""
ROWS = """# The rows

What the numbers are counted from: one row per item and seed, and per query of a retrieval. The mean of the
seeds' percentages is the number that the paper prints. Each file is a zip with one csv in it, which
`pandas.read_csv` reads as it is. The columns:

| column | |
|---|---|
| `item`, `source_a`, `source_b` | the question, and the clips in it, which the bootstrap draws |
| `answer`, `prediction` | the correct caption and the chosen one; of several, all |
| `correct`, `tied` | whether they are the same, of several the share; a tie is not |
| `margin` | similarity of the correct caption minus that of the best wrong one |
| `chance` | what guessing would get |
| `rank`, `relevant`, `gallery_size` | of a query: rank of the first hit, number of hits and of all |"""


def anchor_of(key: str) -> str:
    """The place of a key in the page of numbers."""
    words = key.replace("+", " plus ").replace(": -", " minus ").lower()
    return "key-" + re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def cells(*texts: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "&#124;") for text in texts) + " |"


class Pages:
    """Both pages as Markdown; :meth:`numbers` first, which finds out the rows that there have to be."""

    def __init__(self, run: Run, real: Mapping[str, Run]):
        self.runs = {"": run, **real}
        self.summaries = {profile: of.summary for profile, of in real.items()}
        self.used: dict[str, tuple[Run, Rows]] = {}

    def rows_of(self, key: str) -> dict[str, Rows]:
        """The rows behind a key by their place in the page of rows, where they now have to be.

        Raises:
            ValueError: where two kinds of rows would have one place.
        """
        profile, theirs = split(key)
        found = {}
        for rows in self.runs[profile].of(theirs) if profile in self.runs else []:
            anchor = "-".join(filter(None, (profile, rows.name)))
            if self.used.setdefault(anchor, (self.runs[profile], rows))[1] != rows:
                raise ValueError(f"{key}: two kinds of rows would both be called {anchor}.")
            found[anchor] = rows
        return found

    def text(self, key: str) -> str:
        """What the paper prints for a key, as Markdown; a dash where the run has nothing."""
        return prose.markdown(numbers.lookup(self.runs[""].summary, key, self.summaries)) or ""

    def link(self, key: str) -> str:
        """The same, as a link to its rows; to its line in the table where it has several kinds, or none."""
        if not self.text(key):
            return ""
        places = [f"rows.html#{anchor}" for anchor in self.rows_of(key)]
        place = places[0] if len(places) == 1 else f"numbers.html#{anchor_of(key)}"
        return f'<a class="number" href="{place}" title="{html.escape(key)}">{self.text(key)}</a>'

    def table(self, keys: Iterable[str]) -> str:
        """A line for each key: what is printed, interval, n, the key, and its rows."""
        lines = [cells("number", "95 % interval", "n", "key", "from"), "|---|---|---|---|---|"]
        for key in keys:
            interval, n = self._interval(key)
            found = self.rows_of(key)
            rows = [f'<a href="rows.html#{place}">{html.escape(r.title)}</a>' for place, r in found.items()]
            rows = rows if len(rows) <= FEW else [*rows[:FEW], f"and {len(rows) - FEW} more"]
            missing = self.text(key) in ("", prose.markdown(latex.DASH))
            where = "; ".join(rows) or ("nothing in this run" if missing else "configuration")
            number = f'<span id="{anchor_of(key)}"></span>{self.text(key)}'
            lines.append(cells(number, interval, n, f"<code>{html.escape(key)}</code>", where))
        return "\n".join(lines)

    def _interval(self, key: str) -> tuple[str, str]:
        """Interval and n of a score, as Markdown; two empty texts where a key names none."""
        profile, theirs = split(key)
        *path, last = theirs.split("/")
        if profile not in self.runs or last == "ci95":
            return "", ""
        parent = numbers.at(self.runs[profile].tree, path)
        entry = numbers.at(parent, [last]) if isinstance(parent, dict) else None
        if isinstance(entry, float) and "median_rank" in parent:  # a measure of retrieval
            entry = {"ci95": dig(parent, "ci95", last), "n": parent["n"]}
        if not isinstance(entry, dict) or not entry.get("ci95"):
            return "", ""
        return prose.markdown(latex.interval(entry["ci95"])) or "", f"{entry['n']:,}"

    def numbers(self, tex: str, reference: Callable[[str], str]) -> str:
        """The page of numbers, of the paper's text; ``reference`` as in :func:`docs.prose.markdown`."""
        out, left = [NUMBERS], dict.fromkeys(numbers.keys())
        under: dict[str, None] = {}
        before: tuple[str, ...] = ()
        for headings, text in prose.paragraphs(tex):
            asked = [" ".join(key.split()) for key in prose.NUMBER.findall(text)]
            if asked and headings != before:
                out += [self.table(under)] if under else []
                under = {}
                new = [n for n in range(len(headings)) if headings[: n + 1] != before[: n + 1]]
                out += [f"{'#' * (n + 2)} {prose.markdown(headings[n])}" for n in new]
                before = headings
            shown = prose.markdown(text, self.link, reference) if asked else None
            out += [shown] if shown else []
            under |= {key: left.pop(key) for key in asked if key in left}
        out += [self.table(under)] if under else []
        return "\n\n".join([*out, ELSEWHERE, self.table(left)]) + "\n"

    def rows(self, folder: Path) -> str:
        """The page of rows; writes the rows into ``folder``/rows."""
        parts: dict[str, list[str]] = {}
        (folder / "rows").mkdir(exist_ok=True)
        known = {look.label: n for n, look in enumerate(MODELS.values())}
        ordered = sorted(self.used.items(), key=lambda item: known.get(item[1][1].model, len(known)))
        for place, (run, rows) in ordered:
            frame, path = run.select(rows), folder / "rows" / f"{place}.csv.zip"
            packed = {"method": "zip", "archive_name": f"{place}.csv"}
            frame.to_csv(path, index=False, float_format="%.9g", compression=packed)
            counted = recount(rows, frame)
            each = ", ".join(map(latex.number, counted)) if len(counted) > 1 else ""
            question = f'<span id="{place}"></span>{html.escape(rows.question)}'
            heading = f"{run.profile}: {rows.model}" if run.profile else rows.model
            table = parts.setdefault(
                heading, [cells("question", "by seed", "percent", "rows"), "|---|---|---|---|"]
            )
            link = f"[{len(frame):,} rows](rows/{path.name})"
            table.append(cells(question, each, latex.number(counted.mean()), link))
        tables = ["\n".join([f"## {heading}\n", *lines]) for heading, lines in parts.items()]
        return "\n\n".join([ROWS, *tables]) + "\n"
