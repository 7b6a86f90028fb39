"""How the paper's figures look: one style sheet, and one colour, marker and label per model.

Models that stand side by side have colours of clearly different luminance (P. Tol's high-contrast scheme, and
one for slots between two of its own), so that they stay apart for colour-blind readers and in a grey print.
The other models only ever appear beside their own name.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import yaml
from matplotlib.figure import Figure

RANDOM_WEIGHTS = "random weights: these numbers mean nothing"
"""Stands in every output of a run whose base model has stand-ins for published weights."""
COLUMN, TEXT = 3.4, 7.0
"""Widths of a column and of the text of the paper, in inches."""
SHEET = Path(__file__).with_name("tclap.mplstyle")
LABELS = yaml.safe_load(Path(__file__).with_name("labels.yaml").read_text(encoding="utf-8"))
"""What models, tasks and controls are called."""


@dataclass(frozen=True)
class ModelStyle:
    """Label, colour, marker and line of one model, or of anything else that is compared."""

    label: str
    colour: str
    marker: str
    line: str = "-"


MODELS = {name: ModelStyle(*look) for name, look in LABELS["models"].items()}
MAIN = ("clap", "clap-continued", "t-clap")
PLOTTED_MODELS = ("clap", "clap-continued", "clap-ordered", "t-clap", "clap-slots")
COMPARED = (*PLOTTED_MODELS, "t-clap-slots")


def present(available: Iterable[str], wanted: Iterable[str] = tuple(MODELS)) -> list[str]:
    """Those of ``wanted`` that a run has, in the order of ``wanted``; ValueError where it has none."""
    available, wanted = set(available), list(wanted)
    names = [name for name in wanted if name in available]
    if not names:
        raise ValueError(f"none of the models {wanted} is in this run, which has {sorted(available)}.")
    return names


@contextmanager
def styled() -> Iterator[None]:
    """Apply the paper's style sheet within a block, and only there."""
    with matplotlib.style.context(["default", str(SHEET)]):
        yield


def stamp(figure: Figure) -> None:
    """Write across the figure that its numbers come from random weights."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2}
    look = {"rotation": 12, "ha": "center", "va": "center", "color": "#BB0000", "bbox": box}
    figure.text(0.5, 0.5, RANDOM_WEIGHTS, fontsize=10, zorder=10, **look)


def save(figure: Figure, name: str, folder: str | Path) -> list[Path]:
    """Write ``<name>.pdf`` and ``<name>.png`` (200 dpi) and return their paths.

    The files hold no date, so that the same rows give the same bytes.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    pdf, png = (Path(folder) / f"{name}.{kind}" for kind in ("pdf", "png"))
    with styled():
        figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None})
        figure.savefig(png, metadata={"Software": None})
    return [pdf, png]
