"""Models by name: :func:`load_model`.

A model's module is imported when it is asked for, so that nobody needs the packages of all of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tclap.models.base import AudioTextModel
from tclap.models.weights import read_checkpoint

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
        weights: a ``.safetensors`` file written by :meth:`AudioTextModel.save`, or published weights (see
            the model's module). None: the published ones of the hub, or for ``compact`` freshly
            initialised ones.
        device: where to put it; None: the CPU.
        options: configuration of the model (see its module); with a checkpoint of ours also
            ``pretrained``, where the published weights lie that it was made on.

    Raises:
        ValueError: on an unknown name or option, or weights that are damaged, edited or another model's.
        OSError: when the weights are missing.
    """
    if name not in MODELS:
        raise ValueError(f"base model must be one of {', '.join(MODELS)}, got {name!r}.")
    model_class = _imported(MODELS[name])
    is_published = "audio_trunk." in model_class.pretrained
    ours = weights is not None and not (is_published and Path(weights).suffix != ".safetensors")
    source = model_class.from_pretrained if is_published else model_class
    accepted = [option for option in inspect.signature(source).parameters if option != "weights"]
    accepted += ["pretrained"] if ours and is_published else []
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}, expected among {', '.join(accepted)}.")
    if not ours:
        given = {"weights": weights} if is_published else {}
        return source(**given, **options).to(device).eval()
    config, state = read_checkpoint(Path(weights), name)
    pretrained = options.pop("pretrained", None)
    slots = config.pop("slots", None)
    model = _rebuilt(model_class, config | options, pretrained)
    if slots is not None:
        model = _imported(SLOTS)(model, **slots)
    model.load_own_state(state, weights)
    return model.to(device).eval()


def _imported(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def _rebuilt(
    model_class: type[AudioTextModel], config: Mapping[str, Any], pretrained: str | Path | None
) -> AudioTextModel:
    """The model of a checkpoint's config on its published weights, if any; its own are not yet loaded."""
    config = dict(config)
    origin = config.pop("origin", None)
    if origin is None:
        return model_class(**config)
    pretrained = origin["path"] if pretrained is None else pretrained
    if pretrained is None and origin.get("revision"):
        config["revision"] = origin["revision"]  # the hub's files of the commit that was used then
    model = model_class.from_pretrained(pretrained, **config)
    if model.origin["sha256"] != origin["sha256"]:
        raise ValueError(
            f"{model.origin['path'] or 'the hub file'} has sha256 {model.origin['sha256'][:12]}, but "
            f"the checkpoint was made on published weights with sha256 {origin['sha256'][:12]}."
        )
    return model
