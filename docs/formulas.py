"""Formulas as MathML, which browsers show by themselves: a page needs no script of another host."""

import re

from docutils.utils.math.latex2mathml import tex2mathml

UNKNOWN = {r"\dots": r"\cdots"}  # to docutils


def mathml(tex: str, block: bool = False) -> str:
    """A formula in LaTeX as MathML, in a line or displayed; docutils' MathError where it is unknown."""
    for command, known in UNKNOWN.items():
        tex = tex.replace(command, known)
    # TeX's thin space between the name of a function and a fraction.
    spaced = r'\1<mspace width="0.167em"></mspace>\2'
    return re.sub(r"(<mo>&ApplyFunction;</mo>)(\s*<mfrac>)", spaced, tex2mathml(tex.strip(), as_block=block))
