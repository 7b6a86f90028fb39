"""The website's sources in one folder, laid out as the checkout is, so that links between its files hold.

The texts are those of the checkout; notebooks, figures, tables and numbers are those of a run.
"""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat

from artifact import paths
from docs import api, prose
from docs.numbers import Pages, cells
from docs.rows import Run
from figures import read, registry
from paper import numbers, tables

TEXTS = ("*.md", "docs/*.md", "docs/items/*.md", "tclap/**/*.md")
LINK = re.compile(r"\]\(([^)#:\s]+)[^)]*\)")
GUIDES = ("docs/library.md", "docs/benchmark.md", "docs/items/README.md", "docs/experiment.md")  # come first
OWN = ("index.md", "README.md")  # not among the guides
SOUNDS = ("01-20",)  # cells whose sounds are on the first page too
EXTRA = "extra"  # what is copied into the site as it is
MAPPED = re.compile(r"^\| (figure|table) (\w+) \| ([\d., ]+) \| `([\w.:]+)` \| (.+?) \|$", re.M)
BUILT = '<a class="button" href="t-clap.pdf">The paper as PDF, {size}</a>'
HOW_TO_BUILD = "The PDF was not built: `make paper` builds it, and `make site` then shows it here."


def write(profile: str, base: str, build: Path) -> None:
    """Write all sources of the site into the folder "source" of a folder, whose content is removed.

    Raises:
        FileNotFoundError: where the run was not made.
    """
    place = paths.run(profile, base)
    summary, real = read.summary(place), read.real(place)
    shutil.rmtree(build, ignore_errors=True)
    folder = build / "source"
    texts(folder)
    tex = prose.body(prose.read(numbers.PAPER / "main.tex", numbers.switches(summary, real)))
    beside = {name: Run(paths.run(name, of["base"]), of, name) for name, of in real.items()}
    pages = Pages(Run(place, summary), beside)
    made = {
        "guides.md": guides(folder),
        "notebooks/index.md": notebooks(place / "notebooks", folder),
        "numbers.md": pages.numbers(tex, references(tex)),
        "figures.md": figures(place, folder, tex, pages),
        "paper.md": paper(folder, tex, pages),
        "rows.md": pages.rows(folder),
        **api.pages(),
    }
    for name, content in made.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    shutil.copy(place / "summary.json", folder)
    git = (summary.get("provenance") or {}).get("git") or {}
    about = {key: summary[key] for key in ("profile", "base", "seeds")} | {"commit": git.get("commit")}
    about["random_weights"] = read.has_random_weights(summary)
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def texts(folder: Path) -> None:
    """Copy the checkout's texts, and the files of it that they show or link to."""
    for text in [path for pattern in TEXTS for path in paths.CHECKOUT.glob(pattern)]:
        named = (text.parent / link for link in LINK.findall(text.read_text(encoding="utf-8")))
        for path in [text, *named]:
            if path.is_file() and path.resolve().is_relative_to(paths.CHECKOUT):
                target = folder / path.resolve().relative_to(paths.CHECKOUT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    shutil.copy(paths.CHECKOUT / "docs" / "_templates" / "index.md", folder)


def toctree(*documents: str) -> str:
    """A list of documents and their sections, in the page and in its navigation."""
    return "\n".join(["```{toctree}", ":maxdepth: 2", "", *documents, "```"])


def guides(folder: Path) -> str:
    """The list of the checkout's texts."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.md")} - set(OWN)
    first = [name for name in GUIDES if name in found]
    rest = sorted(found - set(first), key=lambda name: Path(name).name.lower())
    return f"# Guides\n\n{toctree(*first, *rest)}\n"


def notebooks(source: Path, folder: Path) -> str:
    """Copy the executed notebooks, with their sounds as files, and list them.

    Sections of the first seed's can be linked to as ``section-6.3``.
    """
    target, media = folder / "notebooks", folder / EXTRA / "media"
    for path in (target, media):
        path.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    heard = []
    for path in sorted(source.glob("[0-9]*.ipynb")):
        name, _, seed = path.stem.partition("-seed")
        if ".failed" in path.name:
            continue
        notebook = nbformat.read(path, as_version=4)
        first = name not in names
        names.setdefault(name, []).append(path.stem)
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and first:
                cell.source = re.sub(r"^## (\d+\.\d+) ", r"(section-\1)=\n\g<0>", cell.source, flags=re.M)
            elif cell.cell_type == "markdown":
                cell.source = re.sub(r"\A# .*", rf"\g<0>, seed {seed}", cell.source)
            for output in cell.get("outputs", []):
                if html := output.get("data", {}).get("text/html"):
                    output.data["text/html"] = as_files(html, media, "../media")
                    if first and cell.get("id") in SOUNDS:
                        heard.append(as_files(html, media, "media"))
        nbformat.write(notebook, target / path.name)
    listen = ["```{raw} html\n" + html + "\n```" for html in heard]
    (folder / "listen.md").write_text("\n\n".join([*listen, ""]), encoding="utf-8")
    if not names:
        return "# Notebooks\n\nThis run has kept no notebooks.\n"
    first, others = [stems[0] for stems in names.values()], sum((s[1:] for s in names.values()), [])
    seeds = f"# Notebooks of the other seeds\n\n{toctree(*others)}\n"
    (target / "seeds.md").write_text(seeds, encoding="utf-8") if others else None
    words = "The story in seven steps, as this run executed them: with its figures, numbers and sounds."
    linked = sorted({path.stem for path in target.glob("*.ipynb")} - {*first, *others})  # by the texts
    return f"# Notebooks\n\n{words}\n\n{toctree(*first, *linked, *(['seeds'] if others else []))}\n"


def as_files(html: str, folder: Path, place: str) -> str:
    """HTML whose embedded sounds and pictures are files of a folder, which it names as ``place``."""

    def named(match: re.Match) -> str:
        content = base64.b64decode(match[2])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{match[1]}"
        (folder / name).write_bytes(content)
        return f'src="{place}/{name}"'

    return re.sub(r'src="data:(?:audio|image)/([a-z0-9]+);base64,([^"]+)"', named, html)


def references(tex: str) -> Callable[[str], str]:
    """What a text says of a label of the paper: a link to the figure or table, or a section's title."""
    labels = prose.labels(tex)

    def reference(label: str) -> str:
        kind, name = labels.get(label, ("", ""))
        if kind == "section":
            return f"“{prose.markdown(name)}”"
        return f"[{kind.capitalize()} {name.replace('_', ' ')}](#{kind}-{name})" if kind else "the paper"

    return reference


def figures(run: Path, folder: Path, tex: str, pages: Pages) -> str:
    """Draw the figures and list them with the tables: where they are shown, and what makes them."""
    captions, reference = prose.captions(tex), references(tex)
    out = ["# Figures and tables", "Each with the sections of the notebooks that show it and what makes it."]
    documented = (folder / "docs" / "experiment.md").read_text(encoding="utf-8")
    real = read.real(run).get("esc50")
    for kind, name, sections, function, data in MAPPED.findall(documented):
        files = []
        if kind == "figure":
            for path in registry.write(name, run, folder / "figures"):
                files += [f"[{path.suffix[1:]}](figures/{path.name})"] if path.suffix != ".png" else []
            shown = (
                f"```{{image}} figures/{name}.png\n:alt: Figure {name.replace('_', ' ')}\n:class: paper\n```"
            )
        else:
            of = real if name == "real" else pages.runs[""].summary
            if of is None:
                continue
            shown = table(tables.build(name, of))
        caption = captions.get(name if kind == "figure" else f"table_{name}", "")
        places = sections.split(", ") if any((folder / "notebooks").glob("*.ipynb")) else []
        links = ", ".join(f"[{section}](#section-{section})" for section in places)
        facts = [f"{'Sections' if places[1:] else 'Section'} {links}"] if links else []
        facts += [f"`{function}`", *([f"of {data}"] if data != "none" else []), *files]
        title = f"({kind}-{name})=\n## {kind.capitalize()} {name.replace('_', ' ')}"
        said = prose.markdown(caption, pages.link, reference) or ""
        out += [title, shown, said, f"{{.facts}}\n{' · '.join(facts)}"]
    return "\n\n".join(filter(None, out)) + "\n"


def table(tex: str) -> str:
    """A table of the paper as Markdown, lines of its head joined, intervals under their accuracies."""
    heads, rows = prose.table(tex)
    head = ["<br>".join(dict.fromkeys(filter(None, column))) for column in zip(*heads, strict=True)]
    small = [[re.sub(r" (\\\[.*\\\])$", r"<br><small>\1</small>", cell) for cell in row] for row in rows]
    return "\n".join([cells(*head), "|" + "---|" * len(head), *(cells(*row) for row in small)])


def paper(folder: Path, tex: str, pages: Pages) -> str:
    """The paper's title and abstract, and its PDF where it was built."""
    main = (numbers.PAPER / "main.tex").read_text(encoding="utf-8")
    title = prose.markdown(re.search(r"\\title\{(.*?)\}\n", main, re.S)[1].replace(r"\\", " "))
    abstract = [text for headings, text in prose.paragraphs(tex) if headings == ("Abstract",)]
    built, shown = paths.root() / "paper" / "main.pdf", HOW_TO_BUILD
    if built.is_file():
        target = folder / EXTRA / "t-clap.pdf"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(built, target)
        shown = BUILT.format(size=f"{built.stat().st_size / 1e6:.1f} MB")
    said = [prose.markdown(text, pages.link, references(tex)) or "" for text in abstract]
    words = (
        "Every number of the text is one of this run; [the numbers](numbers.md) says where each comes from."
    )
    return "\n\n".join([f"# {title}", shown, *said, words]) + "\n"
