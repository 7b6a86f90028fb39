"""The one optimisation loop of every training, resumable and over processes.

Every draw comes from (seed, RNG stream, step), and no layer mixes the items of a batch. So a training that
was killed continues from its last checkpoint to the same bits, and several processes that share a batch
compute what one would.
"""

import io
import logging
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from tclap import files
from tclap.models.weights import check_zip, in_one_sentence
from tclap.progress import progress
from tclap.training.distributed import Processes
from tclap.training.schedule import Schedule

log = logging.getLogger(__name__)

SHOWN = ("loss", "validation_loss", "validation_two_way", "validation_accuracy")  # beside a progress bar


def optimise(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[int], dict[str, Tensor]],
    schedule: Schedule,
    what: str,
    *,
    module: nn.Module,
    validate: Callable[[], dict[str, float]] | None = None,
    after_step: Callable[[], None] | None = None,
    checkpoint: Path | None = None,
    processes: Processes | None = None,
) -> pd.DataFrame:
    """Minimise ``losses(step)["loss"]`` and return the history, one row per step.

    Args:
        losses: the loss and its terms at a step. Of several processes each takes the gradient of its
            part; what is summed over them is the gradient of the whole.
        what: shown beside the progress.
        module: holds all that is trained.
        validate: metrics on validation data, every ``validate_every`` steps and after the last. With a
            ``validation_loss`` among them the module ends with the weights of the lowest.
        after_step: called after every update.
        checkpoint: the file in which the state is kept after every validation, and from which a training
            continues; its name tells trainings apart. The state before is kept beside it, and continued from
            where the newest is damaged. None: nothing is kept.
        processes: that train together, in lockstep; None: this one alone.

    Returns:
        The history: ``step, lr, grad_norm``, the terms, and where there was a validation its metrics.

    Raises:
        FloatingPointError: on a loss or gradient that is not finite. The weights are then those before the
            step.
        OSError: when the checkpoint's folder cannot be written, or no state that is kept can be read.
    """
    parameters = list(parameters)
    processes = processes or Processes()
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[schedule.optimiser]
    optimiser = kind(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay)
    rows: list[dict[str, float]] = []
    lowest, best, start = math.inf, None, 0
    if checkpoint is not None:
        files.check_writable(checkpoint.parent)
        if (state := processes.on_main(lambda: load(checkpoint))) is not None:
            start, rows, lowest, best = (state[name] for name in ("step", "history", "lowest", "best"))
            module.load_state_dict(state["module"])
            optimiser.load_state_dict(state["optimiser"])
            log.info("%s: continues after step %d", what, start)
    processes.broadcast(parameters)
    bar = progress(range(start, schedule.steps), what)
    for row in rows:
        bar.on_step(row)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        terms = losses(step)
        optimiser.zero_grad(set_to_none=True)
        if terms["loss"].requires_grad:  # a process may have no part in a loss
            (schedule.loss_scale * terms["loss"]).backward()
        processes.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
        if not (torch.isfinite(terms["loss"]) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"{what}: loss {terms['loss'].item()} and gradient norm {norm.item()} at step {step}, "
                "expected finite numbers."
            )
        optimiser.step()
        if after_step is not None:
            after_step()
        row = {"step": step, "lr": optimiser.param_groups[0]["lr"], "grad_norm": float(norm)}
        row |= {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}
        rows.append(row)
        checked = step == schedule.steps - 1 or (step + 1) % schedule.validate_every == 0
        if checked and validate is not None:
            with torch.no_grad():
                row |= validate()
            if row.get("validation_loss", math.inf) < lowest:
                lowest = row["validation_loss"]
                best = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            metrics = ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k not in ("step", "lr"))
            log.info("%s, step %d: %s", what, step + 1, metrics)
            bar.set_postfix_str(", ".join(f"{k} {row[k]:.3g}" for k in SHOWN if k in row))
        bar.on_step(row)
        if checked and checkpoint is not None and processes.is_main:
            state = {"step": step + 1, "history": rows, "lowest": lowest, "best": best}
            save(checkpoint, state | {"module": module.state_dict(), "optimiser": optimiser.state_dict()})
    if best is not None:
        module.load_state_dict(best)
    return pd.DataFrame(rows)


def save(checkpoint: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all, and keep the one before; what the disk refuses is logged."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with files.replacing(checkpoint) as temporary, open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
            if checkpoint.exists():
                os.replace(checkpoint, _before(checkpoint))
    except OSError as error:
        log.warning("%s is not written (%s); the state before is kept", checkpoint, error.strerror or error)


def load(checkpoint: Path) -> dict[str, Any] | None:
    """The newest state that is whole; None where nothing is kept, OSError where nothing is whole."""
    kept = [path for path in (checkpoint, _before(checkpoint)) if path.exists()]
    for path in kept:
        try:
            with in_one_sentence(str(path), "remove it, and the training starts anew"):
                check_zip(path)
                return torch.load(path, weights_only=True, map_location="cpu")
        except OSError:
            if path == kept[-1]:
                raise
            log.warning("%s is damaged, continues from the state before it", path)
    return None


def _before(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(f".before{checkpoint.suffix}")


def order_metrics(audio: Tensor, text: Tensor) -> dict[str, float]:
    """2-way accuracy and cosine(forward, reversed) of embeddings ``[≥ 2 views, N, d]``.

    2-way: each forward and reversed composite must be nearer to its own caption than to its
    inversion's; ties count against the model.
    """
    own = (audio[:2] * text[:2]).sum(-1)
    inverse = (audio[:2] * text[[1, 0]]).sum(-1)
    return {
        "validation_two_way": 100 * float((own > inverse).float().mean()),
        "cosine_audio": float((audio[0] * audio[1]).sum(-1).mean()),
        "cosine_text": float((text[0] * text[1]).sum(-1).mean()),
    }
