"""Numbers, names and tables as LaTeX writes them."""

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import wraps

DASH = "--"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{PRIME}": "$'$",
}


def escape(text: str) -> str:
    """``text`` with every character that LaTeX would act on made printable."""
    return "".join(SPECIAL.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _or_dash(show: Callable[..., str]) -> Callable[..., str]:
    """A dash for a missing value, None or NaN."""

    @wraps(show)
    def shown(value, *options):
        return DASH if value is None or value != value else show(value, *options)

    return shown


@_or_dash
def number(value: float, digits: int = 1, sign: str = "") -> str:
    """``value`` with fixed decimals, halves away from zero; the ``sign`` "+" shows that of gains too.

    A half is one in decimals: nine of them leave out what arithmetic in binary adds. Zero is never negative.
    """
    rounded = Decimal(f"{value:.9f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded + 0:{sign}f}"


@_or_dash
def plain(value: float) -> str:
    """A setting as it was given, without padding: 0.005, 450; from 10,000 on with thin spaces."""
    return f"{value:g}" if abs(value) < 1e4 else f"{value:,.0f}".replace(",", r"\,")


@_or_dash
def chance(value: float) -> str:
    """A chance level: two decimals below one percent, where one would print 0.0 or hide a factor of two."""
    return number(value, 2 if value < 1 else 1)


@_or_dash
def signed(value: float) -> str:
    """A difference with its sign, in mathematics so that minus is a minus."""
    return rf"\ensuremath{{{number(value, 1, '+')}}}"


@_or_dash
def p_value(value: float) -> str:
    """``p = 0.012``, never smaller than ``p < 0.001``."""
    return r"\ensuremath{p < 0.001}" if value < 0.001 else rf"\ensuremath{{p = {number(value, 3)}}}"


@_or_dash
def interval(ends: Sequence[float], show: Callable[[float], str] = number) -> str:
    """``[low, high]``."""
    return f"[{show(ends[0])}, {show(ends[1])}]"


def enumeration(texts: Sequence[str], none: str = DASH) -> str:
    """Texts as a sentence names them, "a, b and c"."""
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]])) or none


def score(entry: dict | None) -> str:
    r"""An accuracy, ``bold`` or not, with its interval; how they stand is left to the paper's ``\score``."""
    if not entry:
        return DASH
    value = number(entry["accuracy"])
    value = rf"\textbf{{{value}}}" if entry.get("bold") else value
    return rf"\score{{{value}}}{{{interval(entry['ci95'])}}}"


def tabular(
    columns: str,
    heads: Sequence[Sequence[str]],
    rows: Sequence[tuple[object, Sequence[str]]],
    rule: str = r"\addlinespace",
) -> str:
    """A booktabs tabular: lines of heads, then rows, each with its group, and a rule between groups."""
    lines, previous = [" & ".join(cells) + r" \\" for cells in heads], None
    for n, (group, cells) in enumerate(rows):
        lines += [rule if n else r"\midrule"] if not n or group != previous else []
        lines.append(" & ".join(cells) + r" \\")
        previous = group
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(body) + "\n"
