"""Which source a function is made of, on a small package of our own and on the real one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tclap.reporting import charts, concepts, definitions, numbers, tables

PACKAGE = {
    "pack/__init__.py": "",
    "pack/draw.py": (
        "from pack import look, other\n"
        "from pack.passing import LINE as line\n"
        "import math\n"
        "SIZE = 3\n"
        "UNUSED = 4\n"
        "def bars(rows):\n"
        "    return look.colour(rows), SIZE, line, math.pi\n"
        "def dots(rows):\n"
        "    from pack.late import marker\n"
        "    return marker(rows)\n"
        "def both(rows):\n"
        "    return bars(rows), other\n"
    ),
    "pack/look.py": (
        "from functools import lru_cache\n"
        "if True:\n"
        "    RED = 'red'\n"
        "BLUE = 'blue'\n"
        "@lru_cache(1)\n"
        "def colour(rows):\n"
        "    return RED\n"
    ),
    "pack/passing.py": "from pack.late import LINE\n",
    "pack/late.py": "LINE = '-'\nSHAPE = 'o'\ndef marker(rows):\n    return SHAPE\n",
    "pack/other.py": "X = 1\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests(root) -> dict[str, str]:
    definitions.definitions.cache_clear()
    return {
        name: definitions.digest(SimpleNamespace(__module__="pack.draw", __qualname__=name), root=root)
        for name in ("bars", "dots", "both")
    }


@pytest.mark.parametrize(
    ("file", "before", "after", "concerned"),
    [
        ("draw.py", "SIZE = 3", "SIZE = 5", "bars both"),
        ("draw.py", "UNUSED = 4", "UNUSED = 5", ""),
        ("draw.py", "math.pi\n", "math.pi  # said\n", "bars both"),
        ("draw.py", "SIZE = 3", "\n# moved\nSIZE = 3", ""),
        ("look.py", "'red'", "'pink'", "bars both"),
        ("look.py", "'blue'", "'green'", ""),
        ("look.py", "lru_cache(1)", "lru_cache(2)", "bars both"),
        ("late.py", "'-'", "'--'", "bars both"),
        ("late.py", "'o'", "'s'", "dots"),
        ("other.py", "X = 1", "X = 2", "both"),
    ],
)
def test_a_change_concerns_what_leads_to_it(package, file, before, after, concerned):
    old = digests(package)
    path = package / "pack" / file
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))
    new = digests(package)
    assert [name for name in old if old[name] != new[name]] == concerned.split()


def test_what_is_no_definition_is_refused(package):
    with pytest.raises(ValueError, match=r"pack.draw defines no pie at its top level\."):
        definitions.digest(SimpleNamespace(__module__="pack.draw", __qualname__="pie"), root=package)


def places(function) -> set[str]:
    """All that a function of the real package leads to, as module:name."""
    waiting, found = [definitions.Place(function.__module__, function.__name__)], set()
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += definitions.definition(definitions.ROOT, place).leads_to
    return {f"{place.module.removeprefix('tclap.')}:{place.name}" for place in found}


def test_figures_lead_to_their_own_looks_and_to_the_loss_they_measure():
    readouts = places(charts.figure_readouts)
    assert {"reporting.charts:READOUT_LOOKS", "reporting.style:SHEET", "reporting.marks:whiskers"} <= readouts
    assert "reporting.style:MODELS" not in readouts
    assert "reporting.charts:READOUT_LOOKS" not in places(charts.figure_tasks)
    assert {"losses:temporal_nce", "blockwise:blockwise_nce"} <= places(concepts.figure_loss_matrix)
    for made in (numbers.numbers_tex, *tables.TABLES.values()):
        assert "reporting.charts:READOUT_LOOKS" not in places(made)
