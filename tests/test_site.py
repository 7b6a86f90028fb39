"""The website of a made-up run, built as ``make site`` builds it, with warnings as errors."""

import base64
import inspect
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import made_up
import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile
from bs4 import BeautifulSoup, Tag
from sphinx.util.inventory import InventoryFile

import tclap
from artifact import paths
from docs import __main__ as sources
from docs import api, prose
from docs import pages as site_pages
from figures import registry
from paper import latex, numbers

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj1HgAAAABJRU5ErkJggg=="
)
SCRIPT = "<script>alert(1)</script>"


def execute(folder: Path, name: str, sections: Sequence[str] = (), cell: str = "00") -> None:
    """A notebook as a run leaves it, with a formula, a player and a line that looks like a tag."""
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(800), 8000, format="WAV")
    uri = "data:audio/wav;base64," + base64.b64encode(sound.getvalue()).decode()
    shown = f'<div style="display:grid"><b>&lt;script&gt;</b><audio controls src="{uri}"></audio></div>'
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": shown}),
        nbformat.v4.new_output("stream", name="stdout", text=f"INFO: {SCRIPT}\n"),
    ]
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n$$\\frac{{a}}{{b}} + \\dots$$")]
    cells += [nbformat.v4.new_markdown_cell(f"## {number} A section") for number in sections]
    cells += [nbformat.v4.new_code_cell("cards(sounds)", outputs=outputs, id=cell)]
    language = {"language_info": {"name": "python", "pygments_lexer": "python"}}
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), folder / f"{name}.ipynb")


def make_up(root: Path) -> None:
    """A run whose two-way accuracies are those of its rows, with a prompt that would be a script."""
    folder, summary = made_up.write(root / "runs" / "synthetic" / "compact"), made_up.summary()
    rows, prompt = made_up.results(), f"prompt: {SCRIPT} {{}}"
    two_way = rows[rows["task"].isin(["2way_before", "2way_after"])]
    for (model, task), asked in two_way.groupby(["model", "task"]):
        summary["models"][model]["zste"][task]["accuracy"] = 100 * float((asked["margin"] > 0).mean())
    summary["models"]["t-clap"]["prompts"][f"{SCRIPT} {{label}}"] = made_up.entry(0.0, 5.0)
    asked = two_way[two_way["model"] == "t-clap"].assign(task=prompt, correct=0.0)
    pd.concat([rows, asked]).to_parquet(folder / "results.parquet")
    query = {"gallery": "singles", "direction": "text_to_audio", "model": "t-clap", "seed": 0, "rank": 1}
    pd.DataFrame([query]).to_parquet(folder / "retrieval.parquet")
    (folder / "summary.json").write_text(json.dumps(summary))
    documented = (paths.CHECKOUT / "docs" / "experiment.md").read_text(encoding="utf-8")
    sections = {s for found in re.findall(r"\| ([\d., ]+) \| `", documented) for s in found.split(", ")}
    execute(folder / "notebooks", "01_data_construction", sorted(sections), site_pages.SOUNDS[0])
    execute(folder / "notebooks", "02_base_model-seed0")
    execute(folder / "notebooks", "02_base_model-seed1")


def drawn(name: str, run: Path, folder: Path) -> list[Path]:
    """Where a figure would be written; those of a run have tests of their own."""
    written = [folder / f"{name}.{kind}" for kind in ("png", "pdf")]
    folder.mkdir(exist_ok=True)
    written[0].write_bytes(PIXEL)
    written[1].write_bytes(b"%PDF-1.5")
    return written


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the pages."""
    root = tmp_path_factory.mktemp("site")
    make_up(root)
    (root / "paper").mkdir()
    (root / "paper" / "main.pdf").write_bytes(b"%PDF-1.5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        patch.setattr(registry, "write", drawn)
        assert sources.main([]) == 0
        html = root / sources.BUILD / "html"
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "--conf-dir", "docs"]
        command += [html.with_name("source"), html]
        built = subprocess.run(command, cwd=paths.CHECKOUT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return html


def html_files(site: Path) -> list[Path]:
    """The pages; what the theme keeps among its scripts is none."""
    return [path for path in site.rglob("*.html") if "_static" not in path.parts]


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    return {path: BeautifulSoup(path.read_bytes(), "html.parser") for path in html_files(site)}


def links(page: BeautifulSoup, *tags: str) -> list[str]:
    """What some elements of a page, or all, name as their source or target."""
    found = page.find_all(tags or True)
    return [element[key] for element in found for key in ("href", "src", "data") if element.has_attr(key)]


def test_every_link_leads_somewhere(pages):
    anchors = {path: {each["id"] for each in page.find_all(id=True)} for path, page in pages.items()}
    lost = []
    for path, page in pages.items():
        for link in links(page):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = not parts.fragment or unquote(parts.fragment) in anchors.get(target, {""})
            if not parts.netloc and not (target.exists() and there):
                lost.append((path.name, link))
    assert lost == []


def test_no_page_asks_another_host_for_anything(site, pages):
    tags = ("script", "link", "img", "audio", "source", "iframe", "object", "embed", "video")
    asked = [link for page in pages.values() for link in links(page, *tags) if urlsplit(link).netloc]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    asked += [url for style in styles for url in re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style)]
    assert len(styles) > 3 and asked == []


def test_every_public_name_has_its_entry(site):
    found = InventoryFile.load(io.BytesIO((site / "objects.inv").read_bytes()), "", lambda _, path: path)
    known = {name for kind, names in found.items() if kind.startswith("py:") for name in names}
    homes = {getattr(of, name): f"{of.__name__}.{name}" for of in (tclap, tclap.slots) for name in of.__all__}
    public = set(homes.values())
    for name in api.modules():
        if name != "tclap.evaluation.mteb":  # whose package is not in the lock
            module = import_module(name)
            own = {key: value for key, value in vars(module).items() if not key.startswith("_")}
            own = {
                key for key, of in own.items() if getattr(of, "__module__", None) == name and of not in homes
            }
            own -= {key for key in own if isinstance(getattr(module, key), TypeVar)}
            own |= set(re.findall(r"^([A-Z][A-Z0-9_]+)(?:: .*)? = ", inspect.getsource(module), re.M))
            public |= {name, *(f"{name}.{key}" for key in own)}
    assert len(public) > 400 and public - known == set()


def line_of(page: BeautifulSoup, place: str) -> list[Tag]:
    """The cells of the line of a table where an anchor is."""
    return page.find(id=place).find_parent("tr").find_all("td")


def test_numbers_lead_to_their_rows(site, pages):
    page, rows, table = pages[site / "numbers.html"], pages[site / "rows.html"], made_up.results()
    shown = {
        span.find_parent("tr").code.text: span["id"] for span in page.find_all("span", id=re.compile("^key-"))
    }
    assert shown.keys() == set(numbers.keys())
    for model in ("clap", "t-clap"):
        number, *_, origin = line_of(page, shown[f"{model}/2way_before"])
        margins = table[(table["model"] == model) & (table["task"] == "2way_before")]["margin"]
        assert number.text == latex.number(100 * (margins > 0).mean())
        question, by_seed, percent, file = line_of(rows, origin.a["href"].partition("#")[2])
        assert percent.text == number.text and question.text == "task 2-way: before"
        kept = pd.read_csv(site / file.a["href"])
        assert kept["margin"].tolist() == pytest.approx(margins.tolist()) and set(kept["model"]) == {model}
        (link,) = page.find_all("a", title=f"{model}/2way_before", string=number.text, limit=1)
        assert link["href"] == origin.a["href"]
    assert line_of(page, shown["t-clap over clap/1/verdict"])[0].text == "equivalent to"
    assert not line_of(page, shown["config/post_pretraining/lr"])[-1].a


def test_names_from_a_run_are_escaped(site, pages):
    assert SCRIPT in pages[site / "rows.html"].text and SCRIPT in pages[site / "figures.html"].text
    assert not any("alert(1)" in script.text for page in pages.values() for script in page.find_all("script"))


def test_notebooks_keep_their_sounds_and_formulas(site, pages):
    page = pages[site / "notebooks" / "01_data_construction.html"]
    (player,) = page.find_all("audio")
    assert soundfile.info(site / "notebooks" / player["src"]).frames == 800
    assert page.find("mfrac") and "frac{" not in page.main.text
    (heard,) = pages[site / "index.html"].find_all("audio")
    assert f"../{heard['src']}" == player["src"]


def test_without_a_run_one_sentence_says_what_to_do(root, capsys):
    assert sources.main([]) == 2
    assert re.fullmatch(
        r"error: \S+summary.json does not exist; `make reproduce` makes it.\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("tex", "markdown"),
    [
        (r"is \res{a/b}\,\% \says{while} it", "is N(a/b)\N{NARROW NO-BREAK SPACE}% “while” it"),
        (
            r"\paragraph{Sound.} A \emph{fit}, as~\citet{ma2022sfx} say~\cite{a,b}.",
            "<strong>Sound.</strong> A <em>fit</em>, as\N{NO-BREAK SPACE}Ma et al. (2022) say.",
        ),
        (
            r"\texttt{i hear \{label\}} 5--6, $\alpha_s = 0$",
            r"<code>i hear {label}</code> 5–6, $\alpha_s = 0$",
        ),
        (r"\ensuremath{-0.4} [1, 2] <b> 100\,\%", "−0.4 \\[1, 2\\] \\<b\\> 100\N{NARROW NO-BREAK SPACE}%"),
        (r"with \unknown{x}", None),
    ],
)
def test_latex_as_markdown(tex, markdown):
    assert prose.markdown(tex, number=lambda key: f"N({key})") == markdown


def test_conditional_text(tmp_path):
    text = tmp_path / "main.tex"
    text.write_text("a \\ifreal b \\ifslots c \\else d \\fi \\else e \\fi f % g\n")
    assert prose.read(text, {"real": True, "slots": False}).split() == ["a", "b", "d", "f"]
    assert prose.read(text, {"real": False, "slots": True}).split() == ["a", "e", "f"]
