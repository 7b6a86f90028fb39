"""Sphinx's configuration: ``make site`` writes the sources (:mod:`docs.pages`), then builds them by this."""

import ast
import json
import re
import sys
from importlib import import_module
from pathlib import Path

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import tclap  # noqa: E402
from artifact import paths  # noqa: E402
from docs import api, formulas, pages  # noqa: E402
from docs.__main__ import BUILD  # noqa: E402
from figures.style import RANDOM_WEIGHTS  # noqa: E402

SOURCES = paths.root() / BUILD / "source"
ABOUT = json.loads((SOURCES / "about.json").read_text(encoding="utf-8"))

project = "T-CLAP"
author = "The T-CLAP authors"
version = release = tclap.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
default_role = "literal"  # docstrings write names in single or double backticks

# The notebooks are those that the run executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # an included text begins with its own level

autodoc_mock_imports = api.ABSENT
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "T-CLAP"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/mark.svg"
html_extra_path = [str(SOURCES / pages.EXTRA)]
html_show_sourcelink = html_copy_source = False
exclude_patterns = ["listen.md"]  # included
templates_path = ["_templates"]
html_context = {"about": ABOUT, "default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "T-CLAP", "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["run"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "announcement": RANDOM_WEIGHTS.capitalize() if ABOUT["random_weights"] else "",
}
ALONE = ("index", "README", "numbers", "rows", "figures", "paper", "genindex", "search")
html_sidebars = {name: [] for name in ALONE}
kept: dict[str, list[str]] = {}


def inline_formula(translator, node: nodes.Element) -> None:
    """Write a formula that stands in a line."""
    translator.body.append(formulas.mathml(node.astext()))
    raise nodes.SkipNode


def displayed_formula(translator, node: nodes.Element) -> None:
    """Write a formula that stands by itself."""
    translator.body.append(f'<div class="formula">{formulas.mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def choose_language(app, doctree: nodes.document) -> None:
    """Colour a block of code that names no language as Python where it is Python, else not at all."""
    for block in doctree.findall(nodes.literal_block):
        if block.get("language", "default") == "default":
            try:
                ast.parse(block.astext())
                block["language"] = "python"
            except SyntaxError:
                block["language"] = "none"


def keep(app, what, name, obj, options, lines) -> None:
    """Set the docstring of a constant or property aside: napoleon takes what is before a colon for a type."""
    if what in ("attribute", "data", "property"):
        kept[name] = list(lines)


def restore(app, what, name, obj, options, lines) -> None:
    """Put it back when napoleon has run."""
    lines[:] = kept.pop(name, lines)


def short_signature(app, what, name, obj, options, signature, returned) -> tuple[str | None, str | None]:
    """A signature with numpy's ArrayLike under that name, in place of the union that it is."""
    union = stringify_annotation(ArrayLike, "smart")
    return signature and signature.replace(union, "~numpy.typing.ArrayLike"), returned


def defined_in(app, module: str, name: str) -> str:
    """The module whose source has a name: its own, where it is one of the library's."""
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    home = getattr(found, "__module__", None) or ""
    return home if home.startswith("tclap") else module


def without_ways_back(app, page: str, template: str, context: dict, doctree) -> None:
    """Leave out the links from sources to documentation: they miss what has a shorter name there."""
    if page.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context["body"])


def setup(app) -> dict:
    """Register what is written here."""
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    app.connect("doctree-read", choose_language)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("viewcode-follow-imported", defined_in)
    app.connect("html-page-context", without_ways_back)
    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_math_renderer = "mathml"
