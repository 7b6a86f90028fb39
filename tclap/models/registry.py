"""Models by name: :func:`load_model`.

A model's module is imported when it is asked for, so that nobody needs the packages of all of them.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tclap.models.base import AudioTextModel
from tclap.models.encoder import Encoder
from tclap.models.weights import read_checkpoint

MODELS = {
    "compact": "tclap.models.compact:Compact",
    "sfx": "tclap.models.sfx:Sfx",
    "msclap-2022": "tclap.models.msclap:Msclap2022",
    "msclap-2023": "tclap.models.msclap:Msclap2023",
}
CLAP_MODEL = "tclap.models.transformers:TransformersClap"  # of an id on the hub, or a folder
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SLOTS = "tclap.slots.model:SlotModel"  # of a json file


def load_model(
    name: str | Path,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> Encoder:
    """Load a model by name.

    ========================================  ==========================================================
    name                                      model
    ========================================  ==========================================================
    ``compact``                               the embedded default (:mod:`tclap.models.compact`)
    ``sfx``                                   a pretrained encoder of sound effects, with heads that are
                                              trained here (:mod:`tclap.models.sfx`)
    ``msclap-2022``, ``msclap-2023``          Microsoft's CLAP (:mod:`tclap.models.msclap`)
    ``laion/clap-htsat-fused``, or any id on  a ``ClapModel`` of transformers
    the hub, or the path of a folder          (:mod:`tclap.models.transformers`)
    the path of a ``.json`` file              what a model with slots wrote (:mod:`tclap.slots.model`)
    ========================================  ==========================================================

    Args:
        name: one of the table.
        weights: a ``.safetensors`` file written by :meth:`AudioTextModel.save`, or of an msclap and ``sfx``
            the published file. None: the published weights; what has none (all of ``compact``, the heads of
            ``sfx``) is freshly initialised.
        device: where to put it; None: the CPU.
        options: configuration of the model (see its module); of an msclap and ``sfx``, with a checkpoint of
            ours, also ``pretrained``, the published file that it was made on.

    Returns:
        The model, an :class:`AudioTextModel` where it has trunks and heads; ``loaded_from`` says what loads
        the same again, its name and path as strings, and is None where weights are fresh.

    Raises:
        ValueError: on an unknown name or option, or weights that are damaged, edited or another model's.
        OSError: when the weights are missing.
    """
    if str(name).endswith(".json"):
        return _imported(SLOTS).load(name, device)
    name, folder_or_id = _resolved(str(name))
    model_class = _imported(CLAP_MODEL if folder_or_id else MODELS[name])
    on_published = "audio_trunk." in model_class.pretrained
    theirs = on_published and not folder_or_id and Path(weights or "").suffix != ".safetensors"
    ours = weights is not None and not theirs
    source = model_class.from_pretrained if on_published else model_class
    accepted = [option for option in inspect.signature(source).parameters if option != "weights"]
    accepted += ["pretrained"] if ours and on_published and not folder_or_id else []
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}, expected among {', '.join(accepted)}.")
    weights = None if weights is None else str(Path(weights).resolve())
    if "pretrained" in options:
        options["pretrained"] = str(Path(options["pretrained"]).resolve())
    loaded_from = {"name": name, "weights": weights, "options": dict(options)}
    if ours:
        config, state = read_checkpoint(Path(weights), model_class.name)
        pretrained = options.pop("pretrained", folder_or_id)
        model = _rebuilt(model_class, config | options, pretrained)
        model.load_own_state(state, weights)
    else:
        model = source(**({"weights": folder_or_id or weights} if on_published else {}), **options)
    if model.origin and model.origin["revision"]:  # the hub's newest is another one tomorrow
        loaded_from["options"]["revision"] = model.origin["revision"]
    if ours or model.is_published:  # fresh weights are others each time
        model.set_loaded_from(loaded_from)
    return model.to(device).eval()


def _resolved(name: str) -> tuple[str, str | None]:
    """The name, of a folder its absolute path, and where the published weights lie if it says so."""
    if name in MODELS:
        return name, None
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
    elif not HUB_ID.fullmatch(name):
        raise ValueError(
            f"a model's name is one of {', '.join(MODELS)}, an id on the hub such as laion/clap-htsat-fused "
            f"or the path of a folder with a ClapModel of transformers, got {name!r}."
        )
    return name, name


def _imported(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def _rebuilt(
    model_class: type[AudioTextModel], config: Mapping[str, Any], pretrained: str | None
) -> AudioTextModel:
    """The model of a checkpoint's config on its published weights, if any; its own are not yet loaded."""
    config = dict(config)
    origin = config.pop("origin", None)
    if origin is None:
        return model_class(**config)
    if origin.get("revision"):
        config.setdefault("revision", origin["revision"])  # the hub's files of the commit that was used then
    model = model_class.from_pretrained(origin["path"] if pretrained is None else pretrained, **config)
    if model.origin["sha256"] != origin["sha256"]:
        raise ValueError(
            f"{model.origin['path'] or 'the hub file'} has sha256 {model.origin['sha256'][:12]}, but "
            f"the checkpoint was made on published weights with sha256 {origin['sha256'][:12]}."
        )
    return model
