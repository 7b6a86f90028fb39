"""Any ``ClapModel`` of transformers, by its id on the hub or a folder: HTSAT and RoBERTa.

(LAION's CLAP, Wu et al., ICASSP 2023, arXiv 2211.06687, and what was made from it.) Post-pretraining trains
HTSAT's last norm, RoBERTa's last layer and pooler, both projections and τ.

``ClapFeatureExtractor`` crops audio longer than its window (10 s) at random, and of a model *with* feature
fusion (``clap-htsat-fused``) it marks one item of every batch as longer, drawn at random, even where none is.
Here recordings are cut into windows before, each is embedded as the extractor prepares short audio, and none
is marked: an embedding depends on the recording alone.

The checkpoints hold two temperatures. As in ``ClapModel``, the similarity of texts (rows) to audio is
scaled by ``logit_scale_t``, which is τ here.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel
from transformers.models.clap.modeling_clap import ClapAudioEncoder
from transformers.utils import cached_file

from tclap import files
from tclap.models.base import AudioTextModel
from tclap.models.towers import FirstTokenHead, HtsatHead, TextTrunk, Trunk, power_spectrum
from tclap.models.weights import in_one_sentence, load_exactly, read_weights

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PADDINGS = {"repeat": "repeat", "repeatpad": "repeat-whole"}  # the extractor's and ours; else it pads


class AudioTrunk(Trunk):
    """HTSAT before its last norm: ``[N, samples] -> [N, T, F · C]``.

    HTSAT cuts the spectrogram's time into blocks and stacks them into a square picture, so that a row
    of its grid is a frequency of one block. Here the T steps are in time order (32 of 0.3 s in LAION's
    models), each with its F frequency positions (2) of C channels (768 or 1024) side by side.
    """

    filters: Tensor
    hann: Tensor

    def __init__(self, encoder: ClapAudioEncoder, settings: ClapFeatureExtractor) -> None:
        super().__init__()
        self.encoder = encoder
        self.hop, self.samples = settings.hop_length, settings.nb_max_samples
        fusion = settings.truncation == "fusion"
        self.channels = 4 if fusion else 1
        filters = settings.mel_filters if fusion else settings.mel_filters_slaney
        self.register_buffer("filters", torch.from_numpy(filters).double())
        self.register_buffer("hann", torch.hann_window(settings.fft_window_size, dtype=torch.float64))

    def decibels(self, waveforms: Tensor) -> Tensor:
        """Mel power ``[N, frames, bands]`` in dB, float32.

        Equal to ``ClapFeatureExtractor``'s for a waveform that it neither cuts nor pads.
        """
        # The extractor's spectrum is double; a quiet band beside a loud one needs it, and autocast spares it.
        power = power_spectrum(waveforms.double(), self.hann, self.hop) @ self.filters
        return (10 * power.clamp(min=1e-10).log10()).float()

    def forward(self, waveforms: Tensor) -> Tensor:
        if waveforms.shape[1] != self.samples:
            # The encoder would stretch a shorter spectrogram in time.
            raise ValueError(
                f"ClapModel takes exactly one window of {self.samples} samples, got {waveforms.shape[1]}; "
                "the window policies fit and cover take windows from longer audio and pad shorter."
            )
        log_mel = self.decibels(waveforms)[:, None].expand(-1, self.channels, -1, -1)
        is_longer = torch.zeros(len(waveforms), 1, dtype=torch.bool, device=waveforms.device)
        maps = self.encoder(log_mel, is_longer=is_longer).last_hidden_state  # [N, C, F, T]
        return maps.permute(0, 3, 2, 1).flatten(2).float()


class TransformersClap(AudioTextModel):
    """A ``ClapModel``; use :func:`tclap.load_model`.

    ``network`` is taken apart; ``settings`` are of its log-mel, rate, window and padding; ``readout`` is one
    of :data:`tclap.models.PUBLISHED_READOUTS`.
    """

    name = "transformers"
    pretrained = ("audio_trunk.", "text_trunk.")
    is_published = True
    batch_size = 16

    def __init__(
        self, network: ClapModel, tokenizer: Any, settings: ClapFeatureExtractor, readout: str = "published"
    ) -> None:
        super().__init__()
        with torch.no_grad():
            self.log_scale.copy_(network.logit_scale_t)
        self.max_log_scale = max(self.max_log_scale, float(self.log_scale.detach()))
        self.config = {"readout": readout}
        self.sample_rate, self.window = settings.sampling_rate, float(settings.max_length_s)
        self.padding = PADDINGS.get(settings.padding, "silence")
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
        cls, weights: str | Path, readout: str = "published", revision: str | None = None
    ) -> Self:
        """The model on published weights; errors as of :func:`tclap.load_model`.

        ``weights`` is a folder with files as on the hub: ``config.json``, the feature extractor's and the
        tokenizer's, and ``model.safetensors`` or ``pytorch_model.bin``; or an id on the hub, whose files of
        ``revision`` (None: the newest) come from its cache or the hub.
        """
        is_folder = Path(weights).is_dir()
        source = str(Path(weights).resolve()) if is_folder else str(weights)
        with in_one_sentence(f"the ClapModel {weights}", "give an id on the hub, or a folder with all files"):
            folder = Path(cached_file(source, "config.json", revision=revision)).parent
            revision = None if is_folder else folder.name  # the cache keeps a commit's files under it
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
            if not isinstance(config, ClapConfig):
                raise ValueError(f"config.json is of the model type {config.model_type}, not clap")
            settings = ClapFeatureExtractor.from_pretrained(source, revision=revision)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
            file = _weights(source, revision)
        network = ClapModel(config)
        load_exactly(network, read_weights(file), file)
        model = cls(network, tokenizer, settings, readout)
        path = source if is_folder else None
        model.origin = {"path": path, "revision": revision, "sha256": files.sha256_file(file)}
        model.config = model.config | {"origin": model.origin}
        return model


def _weights(source: str, revision: str | None) -> Path:
    """The file of weights in a folder or of a repository: the first of :data:`WEIGHTS` that there is."""
    try:
        return Path(cached_file(source, WEIGHTS[0], revision=revision))
    except OSError:
        return Path(cached_file(source, WEIGHTS[1], revision=revision))
