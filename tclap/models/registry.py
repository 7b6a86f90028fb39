"""Models by name: :func:`load_model`.

A model's module is imported when it is asked for, so that nobody needs the packages of all of them.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tclap import files
from tclap.models.base import AudioTextModel

MODELS = {
    "compact": "tclap.models.compact:Compact",
    "msclap-2022": "tclap.models.msclap:Msclap2022",
    "msclap-2023": "tclap.models.msclap:Msclap2023",
    "laion-clap": "tclap.models.laion:Laion",
}
SLOTS = "tclap.slots.model:SlotModel"  # what a checkpoint with slots is wrapped in


def load_model(
    name: str, weights: str | Path | None = None, device: str | torch.device | None = None, **options: Any
) -> AudioTextModel:
    """Load a model by name.

    Args:
        name: ``compact``, ``msclap-2022``, ``msclap-2023`` or ``laion-clap``.
        weights: a ``.safetensors`` file written by :meth:`AudioTextModel.save`, with its ``.json``
            beside it; for a model with published weights also those (see its module). None: the
            published weights, or for ``compact`` freshly initialised ones.
        device: where to put it; None: the CPU.
        options: configuration of the model (see its module); with a checkpoint of ours also
            ``pretrained``, where the published weights lie that it was made on.

    Raises:
        ValueError: on an unknown name, or weights of another model.
        FileNotFoundError: when the weights or their sidecar are missing.
    """
    if name not in MODELS:
        raise ValueError(f"base model must be one of {', '.join(MODELS)}, got {name!r}.")
    model_class = _imported(MODELS[name])
    has_published = "audio_trunk." in model_class.pretrained
    ours = weights is not None and not (has_published and Path(weights).suffix != ".safetensors")
    source = model_class.from_pretrained if has_published else model_class
    accepted = [name for name in inspect.signature(source).parameters if name != "weights"]
    accepted += ["pretrained"] if ours and has_published else []
    strange = sorted(set(options) - set(accepted))
    if strange:
        raise ValueError(f"{name} has no option {strange[0]!r}, expected among {', '.join(accepted)}.")
    if ours:
        config, state = read_checkpoint(Path(weights), name)
        pretrained = options.pop("pretrained", None)
        slots = config.pop("slots", None)
        model = model_class.restored(config | options, pretrained)
        if slots is not None:
            model = _imported(SLOTS)(model, **slots)
        model.load_own_state(state, str(weights))
        return model.to(device).eval()
    return model_class.from_pretrained(weights, **options).to(device).eval()


def _imported(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def read_checkpoint(weights: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a checkpoint that :meth:`AudioTextModel.save` wrote for the model ``name``.

    Raises:
        FileNotFoundError: when the weights or their sidecar are missing.
        ValueError: when they are damaged, do not belong together or are another model's.
    """
    sidecar = weights.with_suffix(".json")
    for path in (weights, sidecar):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; a checkpoint is a .safetensors and a .json file.")
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        state = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{weights} is no readable checkpoint: {error}") from error
    if not isinstance(facts, dict) or not {"model", "config", "weights_hash"} <= facts.keys():
        raise ValueError(f"{sidecar} is no checkpoint's sidecar, expected model, config and weights_hash.")
    if facts["model"] != name:
        raise ValueError(f"{weights} holds weights of {facts['model']!r}, expected {name!r}.")
    if facts["weights_hash"] != files.hash_state(state):
        raise ValueError(f"{weights} is not what its sidecar describes: it is damaged or of another run.")
    return facts["config"], state
