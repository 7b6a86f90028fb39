"""T-CLAP: a sense of time for audio-language models.

The public names are imported when they are first used, so that drawing a figure does not have
to wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "add_slots": "tclap.slots.model",
    "clip_loss": "tclap.losses",
    "evaluate": "tclap.evaluation.benchmark",
    "fine_tune": "tclap.training.post_pretraining",
    "temporal_nce": "tclap.losses",
    "load_clips": "tclap.data.clips",
    "load_model": "tclap.models.registry",
    "wrap": "tclap.models.wrapped",
}
__all__ = list(_HOMES)


if TYPE_CHECKING:
    from tclap import slots as slots
    from tclap.data.clips import load_clips as load_clips
    from tclap.evaluation.benchmark import evaluate as evaluate
    from tclap.losses import clip_loss as clip_loss
    from tclap.losses import temporal_nce as temporal_nce
    from tclap.models.registry import load_model as load_model
    from tclap.models.wrapped import wrap as wrap
    from tclap.slots.model import add_slots as add_slots
    from tclap.training.post_pretraining import fine_tune as fine_tune
else:

    def __getattr__(name: str) -> Any:
        if name == "slots":
            return import_module("tclap.slots")
        if name not in _HOMES:
            raise AttributeError(f"module 'tclap' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, "slots"]
