"""What a refusal is: one sentence, and nothing written."""

import math
import re
from pathlib import Path

import pytest

# What Python and its libraries say from deep inside.
INTERNAL = re.compile(
    r"not supported between|has no attribute|object is not|indices must be|unhashable type|ambiguous|"
    r"unsupported operand|invalid literal|cannot be interpreted|top argument|broadcast|infer dtype|^'\w+'$"
)
WHOLE = (0, -1, 1.5, math.nan, math.inf, "2", True, [1])  # none is a whole number of at least 1
SEED = (-1, 1.5, "0", math.nan)


def refused(call, *named: object) -> None:
    """``call`` raises one sentence that has all that is ``named``, and leaves no file behind."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1000 and not INTERNAL.search(said), said
    assert all(str(name) in said for name in named), said
    assert sorted(Path.cwd().rglob("*")) == before
