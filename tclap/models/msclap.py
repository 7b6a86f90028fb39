"""``msclap-2022`` and ``msclap-2023``: Microsoft's CLAP models, on their official weights.

============  ==========================  ===========================================
              msclap-2022                 msclap-2023
============  ==========================  ===========================================
audio         PANNs Cnn14, 5 s            HTSAT, 7 s (at most 7.42 s at once)
text          bert-base-uncased, [CLS]    gpt2, the last token
trained       ``fc1``, last BERT layer,   last norm of HTSAT, last GPT-2 block and norm,
              both projections, τ         both projections, τ
============  ==========================  ===========================================

(Elizalde et al., arXiv 2206.04769 and 2309.05767.) The msclap package is used for its
architecture and configuration alone: its reading of files, random windows, padding of every caption
and ``torchaudio`` are not. What is trained is the published preset of T-CLAP's authors.

Weights: ``CLAP_weights_2022.pth`` and ``CLAP_weights_2023.pth`` of the hub repository
``microsoft/msclap``, from a path, the hub's cache or the hub. They hold the text encoders too, of
which only configuration and tokenizer are needed: from ``$TCLAP_HUB/bert-base-uncased`` and
``$TCLAP_HUB/gpt2`` where that variable is set, else from the hub's cache or the hub.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import struct
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from tclap import files
from tclap.models.base import AudioTextModel
from tclap.models.msclap_parts import (
    AudioTrunk,
    BertHead,
    Cnn14Head,
    Cnn14Trunk,
    Gpt2Head,
    Gpt2Trunk,
    HtsatHead,
    HtsatTrunk,
    TextTrunk,
)
from tclap.models.readouts import PublishedHead

REPOSITORY = "microsoft/msclap"
HUB_VARIABLE = "TCLAP_HUB"
ALIAS = "_tclap_msclap_models"  # not "msclap": the package's own __init__ imports torchaudio

# Buffers that transformers once stored and now builds: the official files have them.
OBSOLETE = re.compile(r"caption_encoder\.base\.(embeddings\.position_ids|h\.\d+\.attn\.(bias|masked_bias))")

# What torch.load raises on bytes that are no checkpoint, or no longer one.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@lru_cache(maxsize=1)
def _architecture() -> ModuleType:
    """The package's ``models`` folder as a module of its own; sys.modules and filters stay as found."""
    package = importlib.util.find_spec("msclap")
    if package is None:
        raise ModuleNotFoundError(
            "the models msclap-2022 and -2023 need the package msclap: pip install msclap."
        )
    folder = Path(package.submodule_search_locations[0]) / "models"
    spec = importlib.util.spec_from_file_location(
        ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        sys.modules[ALIAS] = module
        try:
            spec.loader.exec_module(module)
        finally:
            for name in [n for n in sys.modules if n == ALIAS or n.startswith(f"{ALIAS}.")]:
                del sys.modules[name]
    return module


def _configuration(version: str) -> dict[str, Any]:
    package = importlib.util.find_spec("msclap")
    folder = Path(package.submodule_search_locations[0]) / "configs"
    return yaml.safe_load((folder / f"config_{version}.yml").read_text(encoding="utf-8"))


def _hub_part(load, name: str):
    """A configuration or tokenizer by ``load(source)``: from ``TCLAP_HUB``, the cache or the hub."""
    folder = os.environ.get(HUB_VARIABLE)
    source = str(Path(folder) / name) if folder else name
    if folder and not Path(source).is_dir():
        raise FileNotFoundError(
            f"{HUB_VARIABLE}={folder} has no folder {name} with its config and tokenizer."
        )
    try:
        return load(source)
    # Without its vocabulary transformers tries to convert another library's tokenizer and fails in many ways.
    except (OSError, ImportError, TypeError, ValueError) as error:
        raise FileNotFoundError(
            f"config and tokenizer of {name} are neither in {source!r} nor in the hub's cache nor to be had "
            f"from the hub; set {HUB_VARIABLE} to a folder that has {name}/config.json and tokenizer files."
        ) from error


class Msclap(AudioTextModel):
    """An msclap model; use :func:`tclap.load_model`.

    Args:
        readout: ``published``, or ``residual-segments``: the published embedding plus an order
            head on the trunk's time axis that is zero at first.
    """

    pretrained = ("audio_trunk.", "text_trunk.")
    batch_size = 16
    version: str
    audio_parts: tuple[type[AudioTrunk], type[PublishedHead]]
    text_parts: tuple[type[TextTrunk], type[nn.Module]]
    moved: dict[str, str]  # ours -> msclap's name of what is not simply a trunk's "base"

    def __init__(self, readout: str = "published") -> None:
        super().__init__(1 / 0.07)
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        models, settings = _architecture(), _configuration(self.version)
        self.config = {"readout": readout}
        self.sample_rate, self.window = settings["sampling_rate"], float(settings["duration"])
        self.dim = settings["d_proj"]
        audio = models.audio.get_audio_encoder(settings["audioenc_name"])
        encoder = nn.Module()
        keys = (
            "sampling_rate",
            "window_size",
            "hop_size",
            "mel_bins",
            "fmin",
            "fmax",
            "num_classes",
            "out_emb",
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")  # HTSAT's own call
            encoder.base = audio(*(settings[key] for key in keys))
        encoder.projection = models.clap.Projection(settings["out_emb"], self.dim)
        trunk, head = self.audio_parts
        self.audio_head = head(encoder, self.dim)
        self.audio_head.set_readout(readout)
        self.audio_trunk = trunk(encoder.base)
        name = settings["text_model"]
        tokenizer = _hub_part(AutoTokenizer.from_pretrained, name)
        if "gpt" in name:
            tokenizer.add_special_tokens({"pad_token": "!"})
        text = AutoModel.from_config(_hub_part(AutoConfig.from_pretrained, name))
        if len(tokenizer) != text.config.vocab_size:
            raise ValueError(
                f"the tokenizer of {name} has {len(tokenizer)} tokens, expected {text.config.vocab_size}: "
                "its vocabulary file is damaged or another model's."
            )
        trunk, head = self.text_parts
        self.text_head = head(text, models.clap.Projection(settings["transformer_embed_dim"], self.dim))
        self.text_trunk = trunk(text, tokenizer)
        for part in (self.audio_trunk, self.text_trunk):
            part.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        readout: str = "published",
        revision: str | None = None,
    ) -> Msclap:
        """The model on official weights.

        Args:
            weights: a checkpoint in the official format; None: from the hub's cache or the hub.
            readout: see the class.
            revision: of the hub's file; None: the newest.

        Raises:
            FileNotFoundError: when weights, configuration or tokenizer are not to be had.
            ValueError: when the file is damaged, holds code, or is another model's.
        """
        path, revision = (Path(weights), None) if weights is not None else cls._official_file(revision)
        state, is_random = cls._read(path)
        model = cls(readout)
        model._load_official(state, path)
        origin = {"path": None if weights is None else str(path.resolve()), "revision": revision}
        model.origin = origin | {"sha256": files.sha256_file(path), "random_weights": is_random}
        model.config = model.config | {"origin": model.origin}
        return model

    @classmethod
    def _official_file(cls, revision: str | None = None) -> tuple[Path, str]:
        from huggingface_hub import hf_hub_download

        name = f"CLAP_weights_{cls.version}.pth"
        try:
            path = Path(hf_hub_download(REPOSITORY, name, revision=revision))
        except OSError as error:
            raise FileNotFoundError(
                f"{name} of {REPOSITORY} is not in the hub's cache and cannot be downloaded "
                f"({str(error).split('. ')[0]}); give the path of the file as weights."
            ) from error
        return path, path.parent.name  # the cache keeps a file under its commit

    @classmethod
    def _read(cls, path: Path) -> tuple[dict[str, Tensor], bool]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, expected a checkpoint of {cls.name}.")
        with open(path, "rb") as file:
            is_zip = file.read(2) == b"PK"  # an older format cannot be mapped into memory
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except UNREADABLE as error:
            if "GLOBAL" in str(error):
                reason = "it holds more than tensors and plain values, which could be code, or is damaged"
            else:
                reason = "it is truncated, damaged or no checkpoint"
            raise ValueError(f"{path} cannot be loaded: {reason}.") from error
        state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
        if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
            raise ValueError(
                f"{path} has no weights under the key 'model', expected a checkpoint of {cls.name}."
            )
        return state, bool(checkpoint.get("random_weights", False))

    def official_name(self, name: str) -> str:
        """msclap's name of an entry of this model's ``state_dict``."""
        for ours, theirs in self.moved.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    def _load_official(self, state: dict[str, Tensor], path: Path) -> None:
        names = {
            name: self.official_name(name)
            for name in self.state_dict()
            if not name.startswith("audio_head.order.")
        }
        missing = sorted(set(names.values()) - state.keys())
        unexpected = sorted(k for k in state.keys() - set(names.values()) if not OBSOLETE.fullmatch(k))
        shapes = self.state_dict()
        misshapen = sorted(
            theirs
            for ours, theirs in names.items()
            if theirs in state and shapes[ours].shape != state[theirs].shape
        )
        if missing or unexpected or misshapen:
            raise ValueError(
                f"{path} does not fit {self.name}: missing {missing[:3]}, unexpected {unexpected[:3]}, "
                f"of another shape {misshapen[:3]}."
            )
        self.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=False)
        self.max_log_scale = max(self.max_log_scale, float(self.log_scale.detach()))

    def official_state(self) -> dict[str, Tensor]:
        """The whole model under msclap's own names.

        Raises:
            ValueError: with a readout that the msclap package does not have.
        """
        if self.config["readout"] != "published":
            raise ValueError(
                f"a model with the readout {self.config['readout']} cannot be exported to msclap, "
                "which has the published one only."
            )
        return {self.official_name(n): t.detach().cpu() for n, t in self.state_dict().items()}

    def export(self, path: str | Path) -> None:
        """Write a checkpoint that ``msclap.CLAP(model_fp=path, version=...)`` loads.

        Raises:
            ValueError: with a readout that the msclap package does not have.
        """
        checkpoint: dict[str, Any] = {"model": self.official_state()}
        if self.origin and self.origin.get("random_weights"):
            checkpoint["random_weights"] = True
        with files.replacing(path) as temporary:
            torch.save(checkpoint, temporary)


_COMMON = {
    "audio_trunk.base.": "audio_encoder.base.",
    "audio_head.projection.": "audio_encoder.projection.",
    "text_trunk.base.": "caption_encoder.base.",
    "text_head.projection.": "caption_encoder.projection.",
    "log_scale": "logit_scale",
}


class Msclap2022(Msclap):
    """Cnn14 and BERT."""

    name, version = "msclap-2022", "2022"
    audio_parts, text_parts = (Cnn14Trunk, Cnn14Head), (TextTrunk, BertHead)
    moved = _COMMON | {
        "audio_head.fc1.": "audio_encoder.base.fc1.",
        "text_head.layer.": "caption_encoder.base.encoder.layer.11.",
    }


class Msclap2023(Msclap):
    """HTSAT and GPT-2."""

    name, version = "msclap-2023", "2023"
    audio_parts, text_parts = (HtsatTrunk, HtsatHead), (Gpt2Trunk, Gpt2Head)
    moved = _COMMON | {
        "audio_head.norm.": "audio_encoder.base.htsat.norm.",
        "text_head.layer.": "caption_encoder.base.h.11.",
        "text_head.norm.": "caption_encoder.base.ln_f.",
    }
