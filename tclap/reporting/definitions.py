"""Which source a figure, a table or a number is made of, so that it is made again when that changes.

A function leads to the constants, classes and functions of this package that it names, and these to
others. They are found in the files, by name and at the top level of modules, without running anything:
a change of one figure's colours concerns that figure alone, and one of a model's colour all that show it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
"""The folder that the package lies in."""


class Place(NamedTuple):
    """A definition, or with the name "" all of a module."""

    module: str
    name: str


class Definition(NamedTuple):
    """The source of a name, and where the names in it lead within the package."""

    source: str
    leads_to: frozenset[Place]


def digest(*functions: Callable, root: Path = ROOT) -> str:
    """SHA-256 of the source of functions and of all that they lead to, comments and docstrings included.

    Raises ValueError for what is no top-level definition, such as a lambda.
    """
    waiting = [Place(function.__module__, function.__qualname__) for function in functions]
    found: dict[Place, str] = {}
    while waiting:
        place = waiting.pop()
        if place not in found:
            found[place], further = definition(root, place)
            waiting += further
    text = "".join(f"{place.module}:{place.name}\n{source}\n" for place, source in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def definition(root: Path, place: Place) -> Definition:
    """What stands at a place; ValueError where nothing does."""
    if not place.name:
        return Definition(file_of(root, place.module).read_text(encoding="utf-8"), frozenset())
    known = definitions(root, place.module)
    if place.name not in known:
        raise ValueError(f"{place.module} defines no {place.name} at its top level.")
    return known[place.name]


def file_of(root: Path, module: str) -> Path | None:
    """The file of a module of the package, None for what is no module of it."""
    path = root.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@lru_cache
def definitions(root: Path, module: str) -> dict[str, Definition]:
    """The top-level names of a module; a name that it imports from the package leads there."""
    text = file_of(root, module).read_text(encoding="utf-8")
    lines, parts, imports = text.splitlines(), {}, {}
    for statement in top_level(ast.parse(text).body):
        imports |= imported(root, statement)
        for name in names(statement):
            parts.setdefault(name, []).append(statement)
    own = {name: Place(module, name) for name in parts}
    found = {name: Definition("", frozenset([place])) for name, place in imports.items()}
    for name, statements in parts.items():
        spans = [lines[first_line(s) - 1 : s.end_lineno] for s in statements]
        places = {place for s in statements for place in mentioned(root, s, own | imports)}
        found[name] = Definition("\n".join(line for span in spans for line in span), frozenset(places))
    return found


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, those under a condition too."""
    for statement in body:
        if isinstance(statement, (ast.If, ast.Try)):
            yield from top_level([*statement.body, *statement.orelse])
        else:
            yield statement


def names(statement: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [part.id for t in targets if t for part in ast.walk(t) if isinstance(part, ast.Name)]


def first_line(statement: ast.stmt) -> int:
    """Where a statement starts, decorators included."""
    return min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])


def imported(root: Path, statement: ast.AST) -> dict[str, Place]:
    """The names that an import takes from the package; of a module, all of it."""
    if not isinstance(statement, ast.ImportFrom) or not file_of(root, statement.module or ""):
        return {}
    found = {}
    for alias in statement.names:
        whole = f"{statement.module}.{alias.name}"
        place = Place(whole, "") if file_of(root, whole) else Place(statement.module, alias.name)
        found[alias.asname or alias.name] = place
    return found


def mentioned(root: Path, statement: ast.stmt, known: dict[str, Place]) -> Iterator[Place]:
    """The places that a statement names; of a module only what is taken from it, where that is said."""
    parts = list(ast.walk(statement))
    for part in parts:
        known = known | imported(root, part)
    said = {
        part.value: Place(known[part.value.id].module, part.attr)
        for part in parts
        if isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and known.get(part.value.id, Place("", "-")).name == ""
    }
    for part in parts:
        if isinstance(part, ast.Name) and part.id in known:
            yield said.get(part, known[part.id])
