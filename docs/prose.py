"""The paper's LaTeX as Markdown: its text by paragraph, captions and tables."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

NUMBER = re.compile(r"\\res\{([^{}#]+)\}")
# In this order: what stands inside of another command before that one.
INLINE = [
    (r"\\ensuremath\{([^{}]*)\}", lambda m: m[1].replace("-", "−")),
    (r"[~ ]?\\cite\{[^}]*\}", ""),
    (r"\\citet\{([a-z]+)(\d{4})[a-z]*\}", lambda m: f"{m[1].capitalize()} et al. ({m[2]})"),
    (r"\\paragraph\{([^{}]*)\}", r"<strong>\1</strong>"),
    (r"\\texttt\{([^{}]*)\}", r"<code>\1</code>"),
    (r"\\says\{([^{}]*)\}", r"“\1”"),
    (r"\\(?:emph|textit)\{([^{}]*)\}", r"<em>\1</em>"),
    (r"\\textbf\{([^{}]*)\}", r"<strong>\1</strong>"),
    ("``", "“"),
    ("''", "”"),
    ("---", "—"),
    ("--", "–"),
    (r"\\,", "\N{NARROW NO-BREAK SPACE}"),
    ("~", "\N{NO-BREAK SPACE}"),
    (r"\\dots", "…"),
    (r"\\([%&_#$ ])", r"\1"),
    (r"\\ldots", "…"),
]
OPEN, CLOSE = "\1", "\2"  # braces that are printed
FLOATS = re.compile(r"\\begin\{(figure|table)(\*?)\}.*?\\end\{\1\2\}", re.S)
MACROS = {r"\Real": r"\mathbb{R}", r"\TNCE": r"\mathrm{TNCE}"}


class Paragraph(NamedTuple):
    """A paragraph of the paper, as LaTeX, under the headings that it stands under."""

    headings: tuple[str, ...]
    tex: str


def read(path: Path, switches: Mapping[str, bool]) -> str:
    """A file of the paper with what it includes of ``sections/``, and of conditional text what holds.

    Comments are left out; ``switches`` are those of :func:`paper.numbers.switches`.
    """
    text = re.sub(r"(?<!\\)%.*\n?", "", path.read_text(encoding="utf-8"))
    kept, holds = [], [True]
    for part in re.split(r"(\\if[a-z]+\b|\\else\b|\\fi\b)", text):
        if part == r"\fi" and len(holds) > 1:
            holds.pop()
        elif part == r"\else" and len(holds) > 1:
            holds[-1] = holds[-2] and not holds[-1]
        elif part.startswith(r"\if") and part[3:] in switches:
            holds.append(holds[-1] and switches[part[3:]])
        elif holds[-1]:
            kept.append(part)
    folder = path.parent.parent if path.parent.name == "sections" else path.parent
    included = re.compile(r"\\input\{(sections/\w+)\}")
    return included.sub(lambda m: read(folder / f"{m[1]}.tex", switches), "".join(kept))


def body(tex: str) -> str:
    """What stands in the document, whose abstract has a heading of its own."""
    tex = re.split(r"\\begin\{document\}|\\end\{document\}", tex)[1]
    return tex.replace(r"\begin{abstract}", "\\section{Abstract}\n").replace(r"\end{abstract}", "")


def paragraphs(tex: str) -> Iterator[Paragraph]:
    """The paragraphs of a text, floats left out."""
    section = subsection = ""
    heading = re.compile(r"\\(section|subsection)\{(.*?)\}(?:\\label\{[^}]*\})?")
    for block in re.split(r"\n\s*\n|(?=\\(?:sub)?section\{)|(?=\\paragraph\{)", FLOATS.sub("", tex)):
        for level, title in heading.findall(block):
            section, subsection = (title, "") if level == "section" else (section, title)
        if text := heading.sub("", block).strip():
            yield Paragraph((section, subsection) if subsection else (section,), text)


def captions(tex: str) -> dict[str, str]:
    """The captions of figures ("tasks") and tables ("table_2"), as LaTeX, by the file that is shown."""
    found = {}
    for match in FLOATS.finditer(tex):
        shown = re.search(r"\\includegraphics\{(\w+)\}|\\input\{tables/(\w+)\}", match[0])
        if shown:
            found[shown[1] or shown[2]] = _argument(match[0], r"\caption")
    return found


def labels(tex: str) -> dict[str, tuple[str, str]]:
    """What each ``\\label`` names: ("figure", "tasks"), ("table", "2"), ("section", its title)."""
    found = {}
    for match in FLOATS.finditer(tex):
        name = re.search(r"\\includegraphics\{(\w+)\}|\\input\{tables/table_(\w+)\}", match[0])
        for label in re.findall(r"\\label\{([^}]*)\}", match[0]) if name else []:
            found[label] = ("figure", name[1]) if name[1] else ("table", name[2])
    for title, label in re.findall(r"section\{(.*?)\}\\label\{([^}]*)\}", tex):
        found[label] = ("section", title)
    return found


def _argument(tex: str, command: str) -> str:
    """The argument of a command's first occurrence, whatever braces it holds."""
    start = tex.index(command + "{") + len(command) + 1
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(tex[end], 0)
        end += 1
    return tex[start : end - 1]


def markdown(
    tex: str,
    number: Callable[[str], str] = str,
    reference: Callable[[str], str] = str,
) -> str | None:
    """LaTeX in a line as Markdown; None where it holds a command that is unknown here.

    ``number`` makes the Markdown of a key of ``\\res``, ``reference`` that of a label with what is before it
    ("Figure~"). Formulas stay between dollars.
    """
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return f"\0{len(kept) - 1}\0"

    def formula(match: re.Match) -> str:
        text = match[0].replace(OPEN, r"\{").replace(CLOSE, r"\}")
        for macro, meaning in MACROS.items():
            text = text.replace(macro, meaning)
        return keep(text)

    text = tex.replace("$'$", "′").replace(r"\{", OPEN).replace(r"\}", CLOSE)
    text = re.sub(r"\$([^$]*)(\\res\{[^{}]*\})\$", r"$\1$\2", text)
    text = re.sub(r"(?<!\\)\$[^$]+\$", formula, text)
    text = NUMBER.sub(lambda m: keep(number(" ".join(m[1].split()))), text)
    text = re.sub(r"\b[A-Z][a-z]+~\\ref\{([^}]*)\}", lambda m: keep(reference(m[1])), text)
    text = re.sub(r"([*_<>\[\]`])", r"\\\1", text.replace(r"\_", "_"))
    for pattern, meaning in INLINE:
        text = re.sub(pattern, meaning, text)
    text = re.sub(r"\{([^{}]*)\}", r"\1", text).replace(OPEN, "{").replace(CLOSE, "}")
    if re.search(r"\\[a-zA-Z]", text):
        return None
    return re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], re.sub(r"[ \n\t]+", " ", text))


def table(tex: str) -> tuple[list[list[str]], list[list[str]]]:
    """The lines of the head and of the body of a table of :func:`paper.latex.tabular`, cells as Markdown.

    After a cell that spans others there are empty ones; in the head it stands in all of them.
    """
    score = re.compile(r"\\score\{((?:[^{}]|\{[^{}]*\})*)\}\{([^{}]*)\}")
    parts: tuple[list[list[str]], list[list[str]]] = ([], [])
    for part, text in zip(parts, tex.split(r"\midrule", 1), strict=True):
        for line in re.findall(r"^(.*) \\\\$", text, re.M):
            row: list[str] = []
            for cell in re.split(r"(?<!\\)&", line):
                cell = score.sub(r"\1 \2", cell.replace(r"\scriptsize ", "").strip())
                spans = re.fullmatch(r"\\multicolumn\{(\d+)\}\{\w\}\{(.*)\}", cell)
                shown = markdown(spans[2] if spans else cell) or ""
                row += [shown, *((int(spans[1]) - 1) * [shown if part is parts[0] else ""] if spans else [])]
            part.append(row)
    return parts
