"""Numbers and names as LaTeX writes them."""

from __future__ import annotations

import math

DASH = "--"
NOT_OURS = "draft (2023), not ours"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{PRIME}": "$'$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    """``text`` with every character that LaTeX would act on made printable."""
    return "".join(SPECIAL.get(character, character) for character in text)


def absent(value: float | None) -> bool:
    """Whether a number is missing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: float | None, digits: int = 1) -> str:
    """``value`` with fixed decimals, or a dash where it is missing."""
    return DASH if absent(value) else f"{value:.{digits}f}"


def plain(value: float | None) -> str:
    """A setting as it was given, without padding: 0.005, 450; a dash where it is missing."""
    return DASH if absent(value) else f"{value:g}" if abs(value) < 1e4 else thousands(value)


def thousands(value: float | None) -> str:
    """A whole number with a thin space between groups of three digits."""
    return DASH if absent(value) else f"{value:,.0f}".replace(",", r"\,")


def percent(share: float | None) -> str:
    """A share as whole percent, with its sign."""
    return DASH if absent(share) else rf"{100 * share:.0f}\,\%"


def enumeration(texts: list[str]) -> str:
    """Texts as a sentence names them, "a, b and c", or a dash where there are none."""
    head, last = texts[:-1], texts[-1:]
    return " and ".join([", ".join(head), *last] if head else last) or DASH


def chance(value: float | None) -> str:
    """A chance level: two decimals below one percent, where one would print 0.0 or hide a factor of two."""
    return number(value, 2 if not absent(value) and value < 1 else 1)


def signed(value: float | None) -> str:
    """A difference with its sign, in mathematics so that minus is a minus."""
    # A zero that came from below has no sign to show.
    return DASH if absent(value) else rf"\ensuremath{{{round(value, 1) + 0.0:+.1f}}}"


def interval(ends: list[float] | None, show=number) -> str:
    """``[low, high]``, or a dash where an end is missing."""
    if ends is None or any(absent(end) for end in ends):
        return DASH
    return f"[{show(ends[0])}, {show(ends[1])}]"


def p_value(value: float | None) -> str:
    """``p = 0.012``, never smaller than ``p < 0.001``."""
    if absent(value):
        return DASH
    return r"\ensuremath{p < 0.001}" if value < 0.001 else rf"\ensuremath{{p = {value:.3f}}}"


def small(text: str) -> str:
    """Set smaller, as the intervals are."""
    return rf"{{\scriptsize {text}}}"


def bold(text: str) -> str:
    """Set bold."""
    return rf"\textbf{{{text}}}"


def row(cells: list[str]) -> str:
    """One line of a tabular."""
    return " & ".join(cells) + r" \\"


def two_lines(name: str, cells: list[tuple[str, list[float] | None]], *after: str) -> list[str]:
    """A line of values and one of their intervals below; ``after`` are cells that have none."""
    below = [small(interval(ends)) if ends is not None else "" for _, ends in cells]
    lines = [row([name, *(value for value, _ in cells), *after])]
    return [*lines, row(["", *below, *("" for _ in after)])] if any(below) else lines


def tabular(columns: str, lines: list[str]) -> str:
    """A booktabs tabular of ready lines."""
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"]
    )
