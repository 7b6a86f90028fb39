"""Number of steps, learning rate and optimiser of a training: plain values, with named presets."""

import math
from dataclasses import dataclass
from typing import Any, Self

from tclap.arguments import is_number

PRESETS: dict[str, dict[str, Any]] = {
    # Ours: a linear ramp, then half a cosine.
    "cosine": {
        "optimiser": "adamw",
        "decay": "cosine",
        "warmup": 0.1,
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "loss_scale": 1.0,
    },
    # The draft's authors', by their code: 10 epochs of batches of 32 at 1e-3 (see Sinha et al., arXiv
    # 2408.09269). With Adam the loss's factor acts through the bound on the gradient only.
    "published": {
        "optimiser": "adam",
        "decay": "epoch",
        "gamma": 0.95,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "clip_norm": 0.5,
        "loss_scale": 0.8,
    },
}


@dataclass(frozen=True)
class Schedule:
    """Number of steps, learning rate and optimiser; the defaults are the preset ``cosine``."""

    steps: int  # updates
    lr: float  # the largest learning rate
    validate_every: int = 25  # steps between validations, which are followed by a checkpoint
    epoch: int = 1  # steps per epoch
    optimiser: str = "adamw"  # or "adam"
    decay: str = "cosine"  # to 0 at the end; or "epoch": times gamma per epoch
    gamma: float = 1.0
    warmup: float = 0.1  # fraction of the steps in which the rate rises
    weight_decay: float = 1e-4
    clip_norm: float = 1.0  # bound on the norm of all gradients together
    loss_scale: float = 1.0  # what the loss is multiplied by before its gradient is taken

    @classmethod
    def of(cls, preset: str, steps: int, lr: float, **changes: Any) -> Self:
        """The schedule of a named preset; ValueError on a name not in :data:`PRESETS`, or a bad rate."""
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}.")
        if not is_number(lr) or lr <= 0:
            raise ValueError(f"lr is {lr}, expected a finite number above 0.")
        return cls(steps, lr, **(PRESETS[preset] | changes))

    def rate(self, step: int) -> float:
        """Learning rate of a step, as a fraction of ``lr``."""
        ramp = max(round(self.warmup * self.steps), 1)
        if step < ramp:
            return (step + 1) / ramp
        if self.decay == "epoch":
            return self.gamma ** (step // self.epoch)
        return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(self.steps - ramp, 1)))
