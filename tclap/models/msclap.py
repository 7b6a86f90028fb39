"""``msclap-2022`` and ``msclap-2023``: Microsoft's CLAP models, on their official weights.

============  ==========================  ===========================================
              msclap-2022                 msclap-2023
============  ==========================  ===========================================
audio         PANNs Cnn14, 5 s            HTSAT, 7 s (at most 7.42 s at once)
text          bert-base-uncased, [CLS]    gpt2, the last token
trained       ``fc1``, last BERT layer,   last norm of HTSAT, last GPT-2 block and norm,
              both projections, τ         both projections, τ
============  ==========================  ===========================================

(Elizalde et al., arXiv 2206.04769 and 2309.05767.) The encoders are made of the msclap package's layers and
configuration; its reading of files, random windows, padding of every caption and ``torchaudio`` are not
used. Its pins on numpy, pandas and transformers need not hold: with newer ones, ``pip install torchlibrosa``
and ``pip install --no-deps msclap``. What is trained is the published preset of T-CLAP's authors.

Weights: ``CLAP_weights_2022.pth`` and ``CLAP_weights_2023.pth`` of the hub's ``microsoft/msclap``. They
hold the text encoders too, of which only configuration and tokenizer are needed: from
``$TCLAP_HUB/bert-base-uncased`` and ``$TCLAP_HUB/gpt2`` where that variable is set, else from the hub.
"""

import importlib.util
import os
import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
import yaml
from huggingface_hub import hf_hub_download
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tclap import files
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.readouts import PublishedHead
from tclap.models.towers import FirstTokenHead, HtsatHead, TextTrunk, Trunk, first_output
from tclap.models.weights import in_one_sentence, load_exactly, read_weights

REPOSITORY = "microsoft/msclap"
HUB_VARIABLE = "TCLAP_HUB"
ALIAS = "_tclap_msclap_models"  # not "msclap": the package's own __init__ imports torchaudio
FRONT = ("sampling_rate", "window_size", "hop_size", "mel_bins", "fmin", "fmax", "num_classes", "out_emb")


def _package() -> Path:
    """The folder of the msclap package; ModuleNotFoundError where it or what its layers import is missing."""
    found: dict[str, Any] = {
        name: importlib.util.find_spec(name) for name in ("msclap", "torchlibrosa", "librosa")
    }
    for name, spec in found.items():
        if spec is None:
            raise ModuleNotFoundError(
                f"msclap's models need {name}: pip install torchlibrosa && pip install --no-deps msclap"
            )
    return Path(found["msclap"].submodule_search_locations[0])


@lru_cache(maxsize=1)
def _architecture() -> ModuleType:
    """The package's ``models`` folder as a module of its own; the filters of warnings stay as found."""
    folder = _package() / "models"
    spec: Any = importlib.util.spec_from_file_location(
        ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[ALIAS] = module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        spec.loader.exec_module(module)
    return module


class AudioTrunk(Trunk):
    """The package's audio encoder ``base`` up to its global pooling: ``[N, samples] -> [N, T, D]``."""

    hop = 320  # samples from frame to frame

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base: Any = base

    @property
    def front(self) -> Any:
        """The module that has the spectrogram's layers."""
        return getattr(self.base, "htsat", self.base)

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB; a spectrum needs all of float32's digits."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.front.logmel_extractor(self.front.spectrogram_extractor(waveforms.float()))[:, 0]

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Normalised log-mel ``[N, 1, frames, bands]``."""
        return self.front.bn0(self.decibels(waveforms)[:, None].transpose(1, 3)).transpose(1, 3)


class Cnn14Trunk(AudioTrunk):
    """Cnn14's maps, averaged over frequency: 2048 channels, a step every 32 frames (0.23 s)."""

    width = 2048

    def forward(self, waveforms: Tensor) -> Tensor:
        maps, device = self.log_mel(waveforms), waveforms.device.type
        for k in range(1, 7):
            # The first block is never in lower precision: a log-mel's small differences would be lost.
            with torch.autocast(device, enabled=k > 1 and torch.is_autocast_enabled(device)):
                block = getattr(self.base, f"conv_block{k}")
                maps = block(maps, pool_size=(2, 2) if k < 6 else (1, 1))
        return maps.mean(3).transpose(1, 2).float()


class HtsatTrunk(AudioTrunk):
    """HTSAT's tokens before the last norm: 32 steps in time, two frequency halves of 768 side by side.

    The spectrogram is stretched to 1024 frames, cut into four quarters, and these are stacked into
    a square picture: the token in row 2 · quarter + half is of the time 8 · quarter + column.
    """

    width = 2 * 768

    def forward(self, waveforms: Tensor) -> Tensor:
        htsat = self.base.htsat
        longest = htsat.spec_size * htsat.freq_ratio
        log_mel = self.log_mel(waveforms)
        if log_mel.shape[2] > longest:
            # The msclap package averages several crops of longer audio, across which order is lost.
            raise ValueError(
                f"HTSAT takes at most {longest} frames at once, got {log_mel.shape[2]}: use the policy fit."
            )
        tokens = htsat.pos_drop(htsat.patch_embed(htsat.reshape_wav2img(log_mel)))
        for layer in htsat.layers:
            tokens, _ = layer(tokens)
        side = htsat.spec_size // 2 ** (len(htsat.layers) - 1) // htsat.patch_stride[0]
        quarters = htsat.freq_ratio
        grid = tokens.unflatten(1, (quarters, side // quarters, side))  # quarter, half, column
        return grid.transpose(2, 3).flatten(1, 2).flatten(2).float()


class Cnn14Head(PublishedHead):
    """Mean + maximum over time, ``fc1``, projection."""

    def __init__(self, fc1: nn.Module, projection: nn.Module, dim: int) -> None:
        super().__init__(projection, Cnn14Trunk.width, dim)
        self.fc1, self.dropout = fc1, nn.Dropout(0.5)

    def pooled(self, features: Tensor) -> Tensor:
        pooled = self.dropout(features.amax(1) + features.mean(1))
        return self.dropout(torch.relu(self.fc1(pooled)))


class Gpt2Trunk(TextTrunk):
    """GPT-2 with msclap's rules: an end-of-text token, "!" (id 0) as padding, and the token read out.

    msclap reads token *count(ids ≠ 0) − 1*, which in a caption with a "!" of its own is not the last
    one. Attention looks back only, so what comes after that token is cut off here.
    """

    suffix = " <|endoftext|>"

    def __init__(self, encoder: Any, tokenizer: Any, longest: int) -> None:
        super().__init__(encoder, tokenizer, longest)
        tokenizer.add_special_tokens({"pad_token": "!"})

    def lengths(self, encoded: Mapping[str, Tensor]) -> Tensor:
        """Number of tokens ``[N]`` up to the one that is read out."""
        return (encoded["input_ids"] != 0).sum(1)


class Gpt2Head(nn.Module):
    """GPT-2's last block and norm, the last token, projection. Causal: padding is never looked at."""

    def __init__(self, layer: nn.Module, norm: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm, self.projection = layer, norm, projection

    def forward(self, tokens: Tokens) -> Tensor:
        values, lengths = tokens
        values = first_output(self.layer(values))
        last = values[torch.arange(len(values), device=values.device), lengths - 1]
        return self.projection(self.norm(last))


class Msclap(AudioTextModel):
    """An msclap model; use :func:`tclap.load_model`. A subclass cuts the encoders into trunk and head.

    ``readout`` is one of :data:`tclap.models.PUBLISHED_READOUTS`.
    """

    pretrained = ("audio_trunk.", "text_trunk.")
    is_published = True
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
    ) -> Self:
        """The model on official weights; errors as of :func:`tclap.load_model`.

        ``weights`` is a file in the official format; None: the hub's of ``revision`` (None: the newest),
        from its cache or the hub.
        """
        _package()  # before a download
        if weights is None:
            file = f"CLAP_weights_{cls.name[-4:]}.pth"
            with in_one_sentence(f"{file} of the hub's {REPOSITORY}", "give the path of the file as weights"):
                path = Path(hf_hub_download(REPOSITORY, file, revision=revision))
            revision = path.parent.name  # the cache keeps a file under its commit
        else:
            path, revision = Path(weights), None
        content = read_weights(path)
        model = cls(readout)
        published = [name for name in model.state_dict() if not name.startswith("audio_head.order.")]
        names = {name: model.official_name(name) for name in published}
        load_exactly(model, content.get("model", {}), path, names)
        model.max_log_scale = max(model.max_log_scale, float(model.log_scale.detach()))
        model.origin = {
            "path": None if weights is None else str(path.resolve()),
            "revision": revision,
            "sha256": files.sha256_file(path),
            "random_weights": bool(content.get("random_weights", False)),
        }
        model.config = model.config | {"origin": model.origin}
        return model

    def _take_audio(self, encoder: Any, projection: nn.Module) -> None:
        raise NotImplementedError

    def _take_text(self, encoder: Any, tokenizer: Any, projection: nn.Module) -> None:
        raise NotImplementedError

    def official_name(self, name: str) -> str:
        """msclap's name of an entry of this model's ``state_dict``."""
        (prefix,) = [ours for ours in self.moved if name.startswith(ours)] or [""]
        return self.moved.get(prefix, "") + name.removeprefix(prefix)

    def official_state(self) -> dict[str, Tensor]:
        """The whole model under msclap's own names; ValueError with a readout that msclap does not have."""
        if self.config["readout"] != "published":
            raise ValueError(f"the readout {self.config['readout']} cannot be exported: msclap has no such.")
        return {self.official_name(n): t.detach().cpu() for n, t in self.state_dict().items()}

    def export(self, path: str | Path) -> None:
        """Write a checkpoint that ``msclap.CLAP(model_fp=path, version=...)`` loads; errors as above."""
        is_random = bool(self.origin and self.origin["random_weights"])
        with files.replacing(path) as temporary:
            torch.save({"model": self.official_state(), "random_weights": is_random}, temporary)


def _text_encoder(name: str) -> tuple[nn.Module, Any]:
    """An encoder with fresh weights and its tokenizer: from ``TCLAP_HUB``, the hub's cache or the hub."""
    folder = os.environ.get(HUB_VARIABLE)
    source = name if folder is None else str(Path(folder) / name)
    hint = f"set {HUB_VARIABLE} to a folder that has {name}/config.json and tokenizer files"
    with in_one_sentence(f"config and tokenizer of {source}", hint):
        # Without False, transformers asks on standard input whether to run a folder's own code.
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    # In transformers 5 a GPT-2 layer without a mask is causal with sdpa, but not with eager attention.
    return AutoModel.from_config(config, attn_implementation="sdpa"), tokenizer


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

    def _take_audio(self, encoder: Any, projection: nn.Module) -> None:
        self.audio_head = Cnn14Head(encoder.fc1, projection, self.dim)
        encoder.fc1 = nn.Identity()
        self.audio_trunk = Cnn14Trunk(encoder)

    def _take_text(self, encoder: Any, tokenizer: Any, projection: nn.Module) -> None:
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

    def _take_audio(self, encoder: Any, projection: nn.Module) -> None:
        self.audio_head = HtsatHead(encoder.htsat.norm, projection, HtsatTrunk.width, self.dim)
        encoder.htsat.norm = nn.Identity()
        self.audio_trunk = HtsatTrunk(encoder)

    def _take_text(self, encoder: Any, tokenizer: Any, projection: nn.Module) -> None:
        self.text_head = Gpt2Head(encoder.h[-1], encoder.ln_f, projection)
        del encoder.h[-1]
        encoder.ln_f = nn.Identity()
        self.text_trunk = Gpt2Trunk(encoder, tokenizer, encoder.config.max_position_embeddings)
