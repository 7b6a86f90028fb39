"""Arguments as people have them: lists of any kind, taken by rows, and numbers in range."""

from collections.abc import Collection, Iterable, Mapping, Set
from os import PathLike
from typing import Any


def rows_of(values: Any, what: str) -> list:
    """The items of a list, tuple, array, tensor or Series, in the order of its rows whatever its index.

    ``what`` names them in the message. Raises TypeError for one string or path, for what is not iterable,
    and for what has no order (a set, a dict) or several columns.
    """
    if isinstance(values, (str, bytes, PathLike)):
        raise TypeError(f"expected a list of {what}, got one string or path: pass [{str(values)!r}].")
    unordered = isinstance(values, (Mapping, Set)) or hasattr(values, "columns")
    if unordered or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"expected a list of {what}, got {type(values).__name__}: pass a list or an array.")
    return list(values)


def strings_of(values: Any, what: str) -> list[str]:
    """The same of strings alone; TypeError names the first item that is none."""
    found = rows_of(values, what)
    for n, value in enumerate(found):
        if not isinstance(value, str):
            raise TypeError(f"expected a list of {what}, got {value!r} at position {n}: pass strings alone.")
    return [str(value) for value in found]


def at_least(least: float, **numbers: float | None) -> None:
    """Raise ValueError for a number below ``least``, by its argument's name; None passes."""
    for name, value in numbers.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name} is {value}, expected at least {least}.")


def one_of(known: Collection[str], **names: str) -> None:
    """Raise ValueError for a name that is not ``known``, by its argument's name."""
    for argument, name in names.items():
        if name not in known:
            raise ValueError(f"{argument} must be one of {', '.join(known)}, got {name!r}.")
