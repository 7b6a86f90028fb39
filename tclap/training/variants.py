"""The post-pretrainings that are compared, by name.

Kept apart from the training code, so that reading a profile does not import torch.
"""

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
    pairs: int = 1  # times the usual number of pairs in a step
    replay: float = 1.0  # weight of CLAP's own loss on base-type items
    text_loss: bool = True  # whether the text-only auxiliary loss goes on beside the others
    base: str = BASE  # the model that is post-pretrained
    distinct: bool = False  # every class at most once in a batch
    more_wordings: bool = False  # the text-only loss has the caption reader's wordings too
    readout: str | None = None  # a fresh audio head with this readout instead of the base's own

    @property
    def views(self) -> int:
        """How many of the views the loss takes: the forward one alone, or all three."""
        alphas = (self.alpha_same, self.alpha_cross, self.alpha_same_overlap, self.alpha_cross_overlap)
        return 3 if any((*self.view_weights[1:], *alphas)) else 1


NO_TEXT = "clap-no-text-loss"  # a base model whose text head was not warmed up on captions
_NO_INVERSION = {"alpha_same": 0.0, "alpha_cross": 0.0}
_NO_OVERLAP = {"alpha_same_overlap": 0.0, "alpha_cross_overlap": 0.0}
# The factors: inversion and overlap view, each with the α that belong to it.
_VIEWS: dict[str, dict] = {
    "": {},
    "-no-inversion": _NO_INVERSION | {"view_weights": (1.0, 0.0, 1.0)},
    "-no-overlap": _NO_OVERLAP | {"view_weights": (1.0, 1.0, 0.0)},
    "-no-temporal-negatives": _NO_INVERSION | _NO_OVERLAP | {"view_weights": (1.0, 0.0, 0.0)},
}
# The third factor: where the text-only loss is used; without a suffix in the warm-up and beside the others.
_TEXT: dict[str, dict] = {
    "": {},
    "-text-warm-up": {"text_loss": False},
    "-text-none": {"text_loss": False, "base": NO_TEXT},
}
FACTORIAL = {
    f"t-clap{views}{text}": Variant(**of_views, **of_text)
    for text, of_text in _TEXT.items()
    for views, of_views in _VIEWS.items()
}
VARIANTS: dict[str, Variant] = {
    "clap-continued": Variant(loss="clip"),
    # As many items as T-CLAP's three views, all of them in order and captioned so: fine-tuning on order.
    "clap-ordered": Variant(**_VIEWS["-no-temporal-negatives"], pairs=3),
    **FACTORIAL,
    "t-clap-no-replay": Variant(replay=0.0),
    "t-clap-more-wordings": Variant(more_wordings=True),
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
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown variant {name!r}, expected one of {', '.join(known)}.")
    return known[name]
