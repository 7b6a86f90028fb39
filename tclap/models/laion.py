"""``laion-clap``: LAION's CLAP (HTSAT and RoBERTa) on its published weights, through transformers.

(Wu et al., ICASSP 2023, arXiv 2211.06687.) The architecture is transformers' ``ClapModel``, the default
weights are the hub's ``laion/clap-htsat-unfused``. Post-pretraining trains HTSAT's last norm, RoBERTa's
last layer and pooler, both projections and τ.

``ClapFeatureExtractor`` takes a window at random of audio longer than 10 s; only its log-mel is used,
computed here. The variant *with* feature fusion (``clap-htsat-fused``), which was trained on several
random crops of long audio side by side, is refused.

LAION's checkpoints hold two temperatures. As in ``ClapModel``, the similarity of texts (rows) to audio is
scaled by ``logit_scale_t``, which is τ here. The other, of audio (rows) to texts, is the buffer
``logit_scale_a``: saved and loaded, used by nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from torch import Tensor, nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizerFast
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from tclap import files
from tclap.models.base import AudioTextModel
from tclap.models.towers import FirstTokenHead, HtsatHead, TextTrunk, Trunk, power_spectrum
from tclap.models.weights import in_one_sentence, load_exactly, read_weights

REPOSITORY = "laion/clap-htsat-unfused"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class AudioTrunk(Trunk):
    """HTSAT before its last norm: ``[N, samples] -> [N, T, F · C]``.

    HTSAT cuts the spectrogram's time into blocks and stacks them into a square picture, so that a row
    of its grid is a frequency of one block. Here the T steps are in time order (32 of 0.3 s in LAION's
    models), each with its F frequency positions (2) of C channels (768) side by side.
    """

    def __init__(self, encoder: ClapAudioEncoder, settings: ClapFeatureExtractor) -> None:
        super().__init__()
        self.encoder = encoder
        self.hop, self.samples = settings.hop_length, settings.nb_max_samples
        self.register_buffer("filters", torch.from_numpy(settings.mel_filters_slaney).double())
        self.register_buffer("hann", torch.hann_window(settings.fft_window_size, dtype=torch.float64))

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB, float32.

        Equal to ``ClapFeatureExtractor``'s with ``truncation="rand_trunc"``, whose Slaney filters LAION's
        models without fusion were trained on, for a waveform that it neither cuts nor pads.
        """
        # The extractor's spectrum is double; a quiet band beside a loud one needs it, and autocast spares it.
        power = power_spectrum(waveforms.double(), self.hann, self.hop) @ self.filters
        return (10 * power.clamp(min=1e-10).log10()).float()

    def forward(self, waveforms: Tensor) -> Tensor:
        if waveforms.shape[1] != self.samples:
            # The encoder would stretch a shorter spectrogram in time.
            raise ValueError(
                f"LAION-CLAP takes exactly one window of {self.samples} samples, got {waveforms.shape[1]}; "
                "the window policy fit takes one from longer audio and repeats shorter."
            )
        maps = self.encoder(self.decibels(waveforms)[:, None]).last_hidden_state  # [N, C, F, T]
        return maps.permute(0, 3, 2, 1).flatten(2).float()


class Laion(AudioTextModel):
    """LAION-CLAP; use :func:`tclap.load_model`.

    ``network`` is taken apart; ``settings`` are of its log-mel, rate and window; ``readout`` is one of
    :data:`tclap.models.PUBLISHED_READOUTS`. A model with feature fusion is a ValueError.
    """

    name = "laion-clap"
    pretrained = ("audio_trunk.", "text_trunk.")
    batch_size = 16

    def __init__(
        self,
        network: ClapModel,
        tokenizer: RobertaTokenizerFast,
        settings: ClapFeatureExtractor,
        readout: str = "published",
    ) -> None:
        if network.config.audio_config.enable_fusion:
            raise ValueError(
                "LAION-CLAP with feature fusion (clap-htsat-fused) is not supported: it takes random crops "
                f"of long audio; expected one without, such as {REPOSITORY}."
            )
        super().__init__()
        with torch.no_grad():
            self.log_scale.copy_(network.logit_scale_t)
        self.max_log_scale = max(self.max_log_scale, float(self.log_scale.detach()))
        self.register_buffer("logit_scale_a", network.logit_scale_a.detach().clone())
        self.config = {"readout": readout}
        self.sample_rate, self.window = settings.sampling_rate, float(settings.max_length_s)
        self.dim = network.config.projection_dim

        audio, text = network.audio_model.audio_encoder, network.text_model
        norm, audio.norm = audio.norm, nn.Identity()
        bands = audio.input_resolutions[-1][0] // audio.freq_ratio
        self.audio_trunk = AudioTrunk(audio, settings)
        self.audio_head = HtsatHead(norm, network.audio_projection, bands * audio.num_features, self.dim)
        self.audio_head.set_readout(readout)

        layer, pooler = text.encoder.layer[-1], text.pooler
        del text.encoder.layer[-1]
        text.pooler = None
        positions = text.config.max_position_embeddings - text.config.pad_token_id - 1
        self.text_trunk = TextTrunk(text, tokenizer, min(positions, tokenizer.model_max_length))
        self.text_head = FirstTokenHead(layer, network.text_projection, pooler)
        for part in (self.audio_trunk, self.text_trunk):
            part.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, weights: str | Path | None = None, readout: str = "published", revision: str | None = None
    ) -> Laion:
        """The model on published weights.

        ``weights`` is a folder as on the hub: ``config.json``, ``preprocessor_config.json``, the tokenizer's
        files and ``model.safetensors`` or ``pytorch_model.bin``; None: ``laion/clap-htsat-unfused`` of
        ``revision`` (None: the newest) from the hub's cache or the hub.

        Raises:
            OSError: when the folder or one of its files is missing or not readable.
            ValueError: when the weights are damaged, hold code, or are another model's.
        """
        folder = _official_folder(revision) if weights is None else Path(weights)
        for path in (folder / "config.json", folder / "preprocessor_config.json"):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing, expected a folder with files as on the hub.")
        with in_one_sentence(f"LAION-CLAP in {folder}", "expected a folder with its files as on the hub"):
            config = ClapConfig.from_pretrained(folder)
            settings = ClapFeatureExtractor.from_pretrained(folder)
            tokenizer = RobertaTokenizerFast.from_pretrained(folder)
        file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
        network = ClapModel(config)
        load_exactly(network, read_weights(file), file)
        model = cls(network, tokenizer, settings, readout)
        model.origin = {
            "path": None if weights is None else str(folder.resolve()),
            "revision": folder.name if weights is None else None,  # the cache keeps a commit's files under it
            "sha256": files.sha256_file(file),
        }
        model.config = model.config | {"origin": model.origin}
        return model


def _official_folder(revision: str | None) -> Path:
    with in_one_sentence(f"the hub's {REPOSITORY}", "give a folder with its files as weights"):
        wanted = ["*.json", "*.txt", WEIGHTS[0]]
        folder = Path(snapshot_download(REPOSITORY, revision=revision, allow_patterns=wanted))
        if not (folder / WEIGHTS[0]).is_file():
            hf_hub_download(REPOSITORY, WEIGHTS[1], revision=folder.name)
    return folder
