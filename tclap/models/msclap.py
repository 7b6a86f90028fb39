"""``msclap-2022`` and ``msclap-2023``: Microsoft's CLAP models, on their official weights.

============  ==========================  ===========================================
              msclap-2022                 msclap-2023
============  ==========================  ===========================================
audio         PANNs Cnn14, 5 s            HTSAT, 7 s (at most 7.42 s at once)
text          bert-base-uncased, [CLS]    gpt2, the last token
trained       ``fc1``, last BERT layer,   last norm of HTSAT, last GPT-2 block and norm,
              both projections, τ         both projections, τ
============  ==========================  ===========================================

(Elizalde et al., arXiv 2206.04769 and 2309.05767.) The msclap package is used for its architecture and
configuration alone: its reading of files, random windows, padding of every caption and ``torchaudio``
are not. What is trained is the published preset of T-CLAP's authors.

Weights: ``CLAP_weights_2022.pth`` and ``CLAP_weights_2023.pth`` of the hub's ``microsoft/msclap``. They
hold the text encoders too, of which only configuration and tokenizer are needed: from
``$TCLAP_HUB/bert-base-uncased`` and ``$TCLAP_HUB/gpt2`` where that variable is set, else from the hub.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from huggingface_hub import hf_hub_download
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tclap import files
from tclap.models.base import AudioTextModel
from tclap.models.msclap_parts import Cnn14Head, Cnn14Trunk, Gpt2Head, Gpt2Trunk, HtsatTrunk
from tclap.models.towers import FirstTokenHead, HtsatHead, TextTrunk
from tclap.models.weights import in_one_sentence, load_exactly, read_weights

REPOSITORY = "microsoft/msclap"
HUB_VARIABLE = "TCLAP_HUB"
ALIAS = "_tclap_msclap_models"  # not "msclap": the package's own __init__ imports torchaudio
FRONT = ("sampling_rate", "window_size", "hop_size", "mel_bins", "fmin", "fmax", "num_classes", "out_emb")


def _package() -> Path:
    found = importlib.util.find_spec("msclap")
    if found is None:
        raise ModuleNotFoundError("msclap-2022 and -2023 need the package msclap: pip install msclap.")
    return Path(found.submodule_search_locations[0])


@lru_cache(maxsize=1)
def _architecture() -> ModuleType:
    """The package's ``models`` folder as a module of its own; the filters of warnings stay as found."""
    folder = _package() / "models"
    spec = importlib.util.spec_from_file_location(
        ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[ALIAS] = module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        spec.loader.exec_module(module)
    return module


class Msclap(AudioTextModel):
    """An msclap model; use :func:`tclap.load_model`. A subclass cuts the encoders into trunk and head.

    Args:
        readout: one of :data:`tclap.models.PUBLISHED_READOUTS`.
    """

    pretrained = ("audio_trunk.", "text_trunk.")
    batch_size = 16
    moved: dict[str, str]  # prefixes of our names and msclap's

    def __init__(self, readout: str = "published") -> None:
        super().__init__()
        models = _architecture()
        path = _package() / "configs" / f"config_{self.name[-4:]}.yml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.config = {"readout": readout}
        self.sample_rate, self.window = settings["sampling_rate"], float(settings["duration"])
        self.dim = settings["d_proj"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")  # HTSAT's own call
            audio = models.audio.get_audio_encoder(settings["audioenc_name"])(*(settings[k] for k in FRONT))
        self._take_audio(audio, models.clap.Projection(settings["out_emb"], self.dim))
        self.audio_head.set_readout(readout)
        text, tokenizer = _text_encoder(settings["text_model"])
        self._take_text(text, tokenizer, models.clap.Projection(settings["transformer_embed_dim"], self.dim))
        for part in (self.audio_trunk, self.text_trunk):
            part.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, weights: str | Path | None = None, readout: str = "published", revision: str | None = None
    ) -> Msclap:
        """The model on official weights.

        ``weights`` is a file in the official format; None: the hub's of ``revision`` (None: the newest),
        from its cache or the hub.

        Raises:
            OSError: when weights, configuration or tokenizer are missing or not readable.
            ValueError: when the weights are damaged, hold code, or are another model's.
        """
        path, revision = (Path(weights), None) if weights is not None else cls._official_file(revision)
        content = read_weights(path, "model")
        model = cls(readout)
        model._load_official(content["model"], path)
        model.origin = {
            "path": None if weights is None else str(path.resolve()),
            "revision": revision,
            "sha256": files.sha256_file(path),
            "random_weights": bool(content.get("random_weights", False)),
        }
        model.config = model.config | {"origin": model.origin}
        return model

    @classmethod
    def _official_file(cls, revision: str | None = None) -> tuple[Path, str]:
        name = f"CLAP_weights_{cls.name[-4:]}.pth"
        with in_one_sentence(f"{name} of the hub's {REPOSITORY}", "give the path of the file as weights"):
            path = Path(hf_hub_download(REPOSITORY, name, revision=revision))
        return path, path.parent.name  # the cache keeps a file under its commit

    def official_name(self, name: str) -> str:
        """msclap's name of an entry of this model's ``state_dict``."""
        for ours, theirs in self.moved.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    def _load_official(self, state: dict[str, Tensor], path: Path) -> None:
        published = [name for name in self.state_dict() if not name.startswith("audio_head.order.")]
        load_exactly(self, state, path, {name: self.official_name(name) for name in published})
        self.max_log_scale = max(self.max_log_scale, float(self.log_scale.detach()))

    def official_state(self) -> dict[str, Tensor]:
        """The whole model under msclap's own names; ValueError with a readout that msclap does not have."""
        if self.config["readout"] != "published":
            raise ValueError(
                f"a model with the readout {self.config['readout']} cannot be exported to msclap, "
                "which has the published one only."
            )
        return {self.official_name(n): t.detach().cpu() for n, t in self.state_dict().items()}

    def export(self, path: str | Path) -> None:
        """Write a checkpoint that ``msclap.CLAP(model_fp=path, version=...)`` loads; errors as above."""
        checkpoint: dict[str, Any] = {"model": self.official_state()}
        if self.origin and self.origin.get("random_weights"):
            checkpoint["random_weights"] = True
        with files.replacing(path) as temporary:
            torch.save(checkpoint, temporary)


def _text_encoder(name: str) -> tuple[nn.Module, Any]:
    """An encoder with fresh weights and its tokenizer: from ``TCLAP_HUB``, the hub's cache or the hub."""
    folder = os.environ.get(HUB_VARIABLE)
    source = name if folder is None else str(Path(folder) / name)
    hint = f"set {HUB_VARIABLE} to a folder that has {name}/config.json and tokenizer files"
    with in_one_sentence(f"config and tokenizer of {source}", hint):
        tokenizer, config = AutoTokenizer.from_pretrained(source), AutoConfig.from_pretrained(source)
    return AutoModel.from_config(config), tokenizer


_COMMON = {
    "audio_trunk.base.": "audio_encoder.base.",
    "audio_head.projection.": "audio_encoder.projection.",
    "text_trunk.encoder.": "caption_encoder.base.",
    "text_head.projection.": "caption_encoder.projection.",
    "log_scale": "logit_scale",
}


class Msclap2022(Msclap):
    """Cnn14 and BERT."""

    name = "msclap-2022"
    moved = _COMMON | {
        "audio_head.fc1.": "audio_encoder.base.fc1.",
        "text_head.layer.": "caption_encoder.base.encoder.layer.11.",
    }

    def _take_audio(self, encoder: nn.Module, projection: nn.Module) -> None:
        self.audio_head = Cnn14Head(encoder.fc1, projection, self.dim)
        encoder.fc1 = nn.Identity()
        self.audio_trunk = Cnn14Trunk(encoder)

    def _take_text(self, encoder: nn.Module, tokenizer, projection: nn.Module) -> None:
        self.text_head = FirstTokenHead(encoder.encoder.layer[-1], projection)
        del encoder.encoder.layer[-1]
        self.text_trunk = TextTrunk(encoder, tokenizer, encoder.config.max_position_embeddings)


class Msclap2023(Msclap):
    """HTSAT and GPT-2."""

    name = "msclap-2023"
    moved = _COMMON | {
        "audio_head.norm.": "audio_encoder.base.htsat.norm.",
        "text_head.layer.": "caption_encoder.base.h.11.",
        "text_head.norm.": "caption_encoder.base.ln_f.",
    }

    def _take_audio(self, encoder: nn.Module, projection: nn.Module) -> None:
        self.audio_head = HtsatHead(encoder.htsat.norm, projection, HtsatTrunk.width, self.dim)
        encoder.htsat.norm = nn.Identity()
        self.audio_trunk = HtsatTrunk(encoder)

    def _take_text(self, encoder: nn.Module, tokenizer, projection: nn.Module) -> None:
        self.text_head = Gpt2Head(encoder.h[-1], encoder.ln_f, projection)
        del encoder.h[-1]
        encoder.ln_f = nn.Identity()
        self.text_trunk = Gpt2Trunk(encoder, tokenizer, encoder.config.max_position_embeddings)
