"""Arguments as people have them: lists of any kind, taken by rows, and numbers in range."""

import math
from collections.abc import Collection, Iterable, Mapping, Set
from numbers import Integral, Real
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
    """The same of strings alone; TypeError names the first item that is none.

    Raises ValueError for one that is no text, such as a file name whose bytes are not UTF-8.
    """
    found = rows_of(values, what)
    for n, value in enumerate(found):
        if not isinstance(value, str):
            raise TypeError(f"expected a list of {what}, got {value!r} at position {n}: pass strings alone.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"{value!r} at position {n} of the {what} is no text, expected Unicode.")
    return [str(value) for value in found]


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a value is a finite number, Python's or numpy's; a bool is none."""
    is_real = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    return is_real and abs(value) != math.inf and value == value


def at_least(least: float, **numbers: float | None) -> None:
    """Raise ValueError for what is no number or below ``least``, by its argument's name; None passes.

    Where ``least`` is an int the numbers are to be whole.
    """
    whole = isinstance(least, int)
    for name, value in numbers.items():
        if value is not None and not is_number(value, whole=whole):
            raise ValueError(f"{name} is {value!r}, expected a {'whole' if whole else 'finite'} number.")
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}.")


def one_of(known: Collection[str], **names: str) -> None:
    """Raise ValueError for a name that is not ``known``, by its argument's name."""
    for argument, name in names.items():
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{argument} must be one of {', '.join(known)}, got {name!r}.")
