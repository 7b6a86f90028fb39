"""Every folder the project reads or writes, from one place.

The project's root is the checkout, or the folder that the environment variable ``TCLAP_ROOT`` names: then
everything that is made (runs, figures, paper tables, cached data) lands there.
"""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
# The library keeps its data in the user's cache, a run beside its artefacts.
os.environ.setdefault("TCLAP_ROOT", str(CHECKOUT))


def root() -> Path:
    """Folder under which all outputs are written."""
    return Path(os.environ.get("TCLAP_ROOT") or CHECKOUT).resolve()


def configs() -> Path:
    """Folder of the profiles (part of the checkout)."""
    return CHECKOUT / "configs"


def run(profile: str, base: str) -> Path:
    """Folder of a run's artefacts."""
    return root() / "runs" / profile / base
