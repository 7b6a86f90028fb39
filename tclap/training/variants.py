"""The post-pretrainings that are compared, by name.

Kept apart from the training code, so that reading a profile does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from tclap.models import PUBLISHED_READOUTS
from tclap.models import READOUTS as COMPACT_READOUTS

BASE = "clap"


@dataclass(frozen=True)
class Variant:
    """What one post-pretraining differs in; the defaults are ``t-clap``.

    The four α and the view weights are those of :func:`tclap.losses.temporal_nce`.
    """

    loss: str = "temporal"  # or "clip": CLAP's own loss on base-type items, the control
    alpha_same: float = 1.0
    alpha_cross: float = 1.0
    alpha_same_overlap: float = 1.0
    alpha_cross_overlap: float = 1.0
    view_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    replay: float = 1.0  # weight of CLAP's own loss on base-type items
    distinct: bool = False  # every class at most once in a batch
    half: bool = False  # composites of half of the classes only; replay is of all
    readout: str | None = None  # a fresh audio head with this readout instead of the base's own


_NO_OVERLAP = {"alpha_same_overlap": 0.0, "alpha_cross_overlap": 0.0}
_NO_TIME = {"alpha_same": 0.0, "alpha_cross": 0.0} | _NO_OVERLAP

VARIANTS: dict[str, Variant] = {
    "clap-continued": Variant(loss="clip"),
    "t-clap": Variant(),
    "t-clap-no-replay": Variant(replay=0.0),
    "t-clap-no-overlap": Variant(view_weights=(1.0, 1.0, 0.0), **_NO_OVERLAP),
    "t-clap-no-time": Variant(view_weights=(1.0, 0.0, 0.0), **_NO_TIME),
    "t-clap-half": Variant(half=True),
    "t-clap-distinct": Variant(distinct=True),
    "t-clap-alpha-same-0": Variant(distinct=True, alpha_same=0.0),
    "t-clap-alpha-cross-0": Variant(distinct=True, alpha_cross=0.0),
}
# The same trunk and text tower under another audio head: what a readout can carry.
READOUTS = {name: Variant(readout=name) for name in (*COMPACT_READOUTS, *PUBLISHED_READOUTS)}
READOUT_PREFIX = "readout-"
POLICY_SEPARATOR = "@"  # "t-clap@full" is t-clap under another window policy


def variant(name: str) -> Variant:
    """A variant by name; ``readout-<name>`` are those of :data:`READOUTS`; ValueError on an unknown one."""
    known = VARIANTS | {READOUT_PREFIX + name: value for name, value in READOUTS.items()}
    if name not in known:
        raise ValueError(f"unknown variant {name!r}, expected one of {', '.join(known)}.")
    return known[name]
