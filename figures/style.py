"""How the paper's figures look: one style sheet, and one colour, marker and label per model.

The models that stand side by side have colours of clearly different luminance (P. Tol's high-contrast
scheme, and one for slots between two of its own), so that bars stay apart for colour-blind readers and in a
grey print, and slots are hatched; the other models only ever appear beside their own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from artifact import paths
from tclap import files

RANDOM_WEIGHTS = "random weights: these numbers mean nothing"
"""Stands in every output of a run whose base model has stand-ins for published weights."""

COLUMN = 3.4
TEXT = 7.0
"""Widths of a column and of the text of the paper, in inches."""

SHEET = paths.CHECKOUT / "figures" / "tclap.mplstyle"


@dataclass(frozen=True)
class ModelStyle:
    """Label, macro-safe name (letters only), colour, marker, line and hatch of one model."""

    label: str
    word: str
    colour: str
    marker: str
    line: str = "-"
    hatch: str = ""


MODELS = {
    "clap": ModelStyle("CLAP", "Clap", "#DDAA33", "o", ":"),
    "clap-continued": ModelStyle("control", "Control", "#BB5566", "s", "--"),
    "t-clap": ModelStyle("T-CLAP", "TClap", "#004488", "D"),
    "clap-slots": ModelStyle("CLAP + slots", "Slots", "#2FA392", "^", "-.", "/////"),
    "t-clap-slots": ModelStyle("T-CLAP + slots", "TClapSlots", "#66CCEE", "*", "-", "....."),
    "t-clap-no-replay": ModelStyle("no replay", "NoReplay", "#33A1C9", "v"),
    "t-clap-no-overlap": ModelStyle("no overlap view", "NoOverlap", "#4B6113", "H"),
    "t-clap-no-time": ModelStyle("no time inversion", "NoTime", "#882255", "P"),
    "t-clap-half": ModelStyle("half of the classes", "Half", "#999933", "p"),
    "t-clap-distinct": ModelStyle("distinct classes", "Distinct", "#332288", "X"),
    "t-clap-alpha-same-0": ModelStyle(
        "distinct, $\\alpha_\\mathrm{same} = 0$", "AlphaSameZero", "#117733", "<"
    ),
    "t-clap-alpha-cross-0": ModelStyle(
        "distinct, $\\alpha_\\mathrm{cross} = 0$", "AlphaCrossZero", "#AA4499", ">"
    ),
}
MAIN = ("clap", "clap-continued", "t-clap")
ASKED = (*MAIN, "clap-slots")
COMPARED = (*ASKED, "t-clap-slots")


def present(available: Iterable[str], wanted: Iterable[str] = tuple(MODELS)) -> list[str]:
    """Those of ``wanted`` that a run has, in the order of ``wanted``.

    Raises ValueError where a run has none of them, as there would be nothing to show.
    """
    available, wanted = set(available), list(wanted)
    names = [name for name in wanted if name in available]
    if not names:
        raise ValueError(f"none of the models {wanted} is in this run, which has {sorted(available)}")
    return names


@contextmanager
def styled() -> Iterator[None]:
    """Apply the paper's style sheet within a block, and only there."""
    with matplotlib.style.context(["default", str(SHEET)]):
        yield


def stamp(figure: Figure) -> Figure:
    """Write across the figure that its numbers come from random weights."""
    with styled():
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2}
        look = {"rotation": 12, "ha": "center", "va": "center", "color": "#BB0000", "bbox": box}
        figure.text(0.5, 0.5, RANDOM_WEIGHTS, fontsize=10, zorder=10, **look)
    return figure


def save(
    figure: Figure, name: str, folder: str | Path | None = None, made_of: Mapping[str, str] | None = None
) -> list[Path]:
    """Write ``<name>.pdf`` and ``<name>.png`` (200 dpi) and return their paths.

    The files hold no date, so that the same rows give the same bytes, and each replaces its
    predecessor in one step. ``folder`` defaults to ``artifact.paths.figures()``. ``made_of``, hashes by name,
    stands in the PDF as its keywords and in the PNG as its source.
    """
    folder = paths.figures() if folder is None else Path(folder)
    hashes = "; ".join(f"{what} sha256 {value}" for what, value in (made_of or {}).items()) or None
    written = []
    for suffix, metadata in (
        (".pdf", {"CreationDate": None, "Producer": None, "Keywords": hashes}),
        (".png", {"Software": None, "Source": hashes}),
    ):
        path = folder / f"{name}{suffix}"
        with styled(), files.replacing(path) as temporary:
            figure.savefig(temporary, metadata=metadata)
        written.append(path)
    return written
