"""Models by name: :func:`load_model`.

A model's module is imported when it is asked for, so that nobody needs the packages of all of them.
"""

import importlib
import re
from pathlib import Path
from typing import Any

import torch

from tclap.models.base import AudioTextModel
from tclap.models.weights import read_checkpoint

MODELS = {
    "compact": "tclap.models.compact:Compact",
    "sfx": "tclap.models.sfx:Sfx",
    "msclap-2022": "tclap.models.msclap:Msclap2022",
    "msclap-2023": "tclap.models.msclap:Msclap2023",
}
SHIPPED = {"compact": Path(__file__).with_name("compact.safetensors")}  # see MODEL_CARD.md
CLAP_MODEL = "tclap.models.transformers:TransformersClap"  # of an id on the hub, or a folder
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_model(
    name: str | Path,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> AudioTextModel:
    """Load a model by name.

    Args:
        name: ``compact``, the embedded default, a scale model that was trained on synthesised sounds (an
            untrained one is :class:`tclap.models.compact.Compact`); ``sfx``, a pretrained encoder of sound
            effects with heads that are trained here; ``msclap-2022`` or ``msclap-2023``, Microsoft's CLAP; of
            a ``ClapModel`` of transformers its id on the hub, such as ``laion/clap-htsat-fused``, or the path
            of its folder.
        weights: a ``.safetensors`` file written by :meth:`AudioTextModel.save`, or of an msclap and ``sfx``
            the published file. None: the published weights, of ``compact`` the package's own; the heads of
            ``sfx``, which have none, are freshly initialised.
        device: where to put it; None: the CPU.
        options: configuration of the model (see its module); of an msclap and ``sfx``, with a checkpoint of
            ours, also ``pretrained``, the published file that it was made on.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: on an unknown name or device, or weights that are damaged, edited or another model's.
        TypeError: on an unknown option.
        OSError: when a file is missing or not readable.
        ModuleNotFoundError: when a package that the model needs is missing.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device is {device!r}, expected one that torch has here, such as cpu.") from error
    name = str(name)
    folder_or_id = None if name in MODELS else _folder_or_id(name)
    module, _, class_name = MODELS.get(name, CLAP_MODEL).partition(":")
    model_class = getattr(importlib.import_module(module), class_name)
    weights = SHIPPED.get(name) if weights is None else weights
    on_published = "audio_trunk." in model_class.pretrained
    theirs = on_published and not folder_or_id and Path(weights or "").suffix != ".safetensors"
    if weights is not None and not theirs:
        config, state = read_checkpoint(Path(weights), model_class.name)
        model = _rebuilt(model_class, config | options, folder_or_id)
        model.load_own_state(state, weights)
    elif on_published:
        model = model_class.from_pretrained(folder_or_id or weights, **options)
    else:
        model = model_class(**options)
    return model.to(device).eval()


def _folder_or_id(name: str) -> str:
    """The name, where it is of a folder or may be of a repository on the hub; else ValueError."""
    if name and Path(name).is_dir() or HUB_ID.fullmatch(name):
        return name
    raise ValueError(
        f"a model's name is one of {', '.join(MODELS)}, an id on the hub such as laion/clap-htsat-fused or "
        f"the path of a folder with a ClapModel of transformers, got {name!r}."
    )


def _rebuilt(model_class: Any, config: dict[str, Any], folder_or_id: str | None) -> AudioTextModel:
    """The model of a checkpoint's config on its published weights, if any; its own are not yet loaded."""
    origin = config.pop("origin", None)
    if origin is None:
        return model_class(**config)
    if origin["revision"]:
        config.setdefault("revision", origin["revision"])  # the hub's files of the commit that was used then
    model = model_class.from_pretrained(config.pop("pretrained", folder_or_id or origin["path"]), **config)
    if model.origin["sha256"] != origin["sha256"]:
        raise ValueError(
            f"{model.origin['path'] or 'the hub file'} has sha256 {model.origin['sha256'][:12]}, but "
            f"the checkpoint was made on published weights with sha256 {origin['sha256'][:12]}."
        )
    return model
