"""The pages of the API: every public name of ``tclap`` once, under the name that users import."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from sphinx.ext.autodoc.mock import mock

import tclap

ABSENT = ["datasets", "mteb"]  # what a module imports and the lock does not have
INNER = re.compile(r"^TypeVar\(|logging\.getLogger")  # values of names that are nobody's business
LONG = 70  # characters of a constant's value above which it is left to the source
INDEX = """API
===

Generated from the docstrings. What most users need is in :mod:`tclap`:
"""
MODULES = """Modules
-------"""


def modules() -> list[str]:
    """The public modules of the library, packages before what they hold."""
    found = pkgutil.walk_packages(tclap.__path__, "tclap.")
    return ["tclap", *sorted(module.name for module in found if "._" not in module.name)]


def exported(module: ModuleType) -> dict[tuple[str, str], str]:
    """Names that a package exports of its modules: where they are defined, and what they are called there."""
    names = getattr(module, "__all__", ())
    found = ((getattr(module, name), name) for name in names)
    return {(each.__module__, each.__qualname__): f"{module.__name__}.{name}" for each, name in found}


def defined(module: ModuleType) -> Iterator[tuple[str, str, list[str]]]:
    """The public names that a module defines, each with the directive that documents it and its options.

    A constant without a docstring would be given its type's.
    """
    body = ast.parse(inspect.getsource(module)).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            yield node.name, "autofunction", []
        elif isinstance(node, ast.ClassDef):
            yield node.name, "autoclass", ["   :members:", "   :undoc-members:"]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            value = ast.unparse(node.value)
            if INNER.search(value):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                directive, options = "autodata", ["   :no-value:"] if len(value) > LONG else []
            else:
                directive, options = "py:data", [f"   :value: {value}"] if len(value) <= LONG else []
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
                yield from ((name, directive, options) for name in names)


def entries() -> dict[str, dict[str, str]]:
    """By module what it documents: each name under which users know it, and the reStructuredText for it."""
    with mock(ABSENT):
        loaded = {name: import_module(name) for name in modules()}
    homes = {place: home for module in loaded.values() for place, home in exported(module).items()}
    found: dict[str, dict[str, str]] = {name: {} for name in loaded}
    for module_name, module in loaded.items():
        for name, directive, options in defined(module):
            if not name.startswith("_"):
                home = homes.get((module_name, name), f"{module_name}.{name}")
                place = [f".. {directive}:: {home}"]
                if directive == "py:data":
                    place = [f".. py:data:: {name}", f"   :module: {module_name}"]
                found[home.rpartition(".")[0]].setdefault(home, "\n".join([*place, *options]))
    return found


def pages() -> dict[str, str]:
    """The pages as reStructuredText by file name: one per module, and their index."""
    found, made = entries(), {}
    for name, documented in found.items():
        within = [other for other in found if other.rpartition(".")[0] == name and name != "tclap"]
        parts = [f"{name}\n{'=' * len(name)}", f".. automodule:: {name}", *documented.values()]
        parts += [toctree(within)] if within else []
        made[f"api/{name}.rst"] = "\n\n".join(parts) + "\n"
    public = [
        f":func:`{name}`\n   {first_line(getattr(tclap, name.partition('.')[2]))}" for name in found["tclap"]
    ]
    top = [name for name in found if name.count(".") <= 1]
    within = [f":mod:`{name}`\n   {first_line(import_module(name))}" for name in top[1:]]
    made["api/index.rst"] = "\n\n".join([INDEX, *public, MODULES, *within, toctree(top, hidden=True)]) + "\n"
    return made


def first_line(documented: object) -> str:
    """What a docstring says first."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def toctree(names: list[str], hidden: bool = False) -> str:
    """A list of pages, or their places in the navigation alone."""
    options = ["   :maxdepth: 1", *(["   :hidden:"] if hidden else [])]
    return "\n".join([".. toctree::", *options, "", *(f"   {name}" for name in names)])
