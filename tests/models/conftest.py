"""Published models, each loaded once: msclap's on random weights, ClapModels tiny ones of LAION's shape."""

import math
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizerFast

from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model

TEXT = ["a dog", "this is a sound of rain before church bells", "x", "", "siren, while a crow!"]


def write_clap_model(folder: Path, fused: bool) -> Path:
    """A model of a second at 8 kHz in the layout of the hub; every weight counts, none is near zero."""
    vocabulary = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary.train_from_iterator(TEXT * 3, vocab_size=280, special_tokens=special, show_progress=False)
    vocabulary.save_model(str(folder))
    # Read from the files: transformers 4 and 5 do not take the same arguments.
    tokenizer = RobertaTokenizerFast.from_pretrained(folder, model_max_length=512)
    tokenizer.save_pretrained(folder)
    audio = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "depths": [2, 2]}
    audio |= {"num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16}
    audio |= {"drop_path_rate": 0.3, "attention_probs_dropout_prob": 0.2, "enable_fusion": fused}
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 40}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor += 0.2 * torch.randn(tensor.shape, generator=draw)
        norm = network.audio_model.audio_encoder.batch_norm
        norm.running_mean.copy_(-40 + 5 * torch.randn(16, generator=draw))
        norm.running_var.copy_(100 + 50 * torch.rand(16, generator=draw))
        network.logit_scale_t.fill_(math.log(23))
        network.logit_scale_a.fill_(math.log(17))
    network.save_pretrained(folder)
    settings = {"feature_size": 16, "sampling_rate": 8000, "hop_length": 40, "max_length_s": 1}
    settings |= {"fft_window_size": 256, "frequency_min": 50, "frequency_max": 3500}
    truncation = "fusion" if fused else "rand_trunc"
    ClapFeatureExtractor(**settings, truncation=truncation, padding="repeatpad").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unfused_folder(tmp_path_factory) -> Path:
    return write_clap_model(tmp_path_factory.mktemp("unfused"), fused=False)


@pytest.fixture(scope="session")
def fused_folder(tmp_path_factory) -> Path:
    return write_clap_model(tmp_path_factory.mktemp("fused"), fused=True)


@pytest.fixture(scope="session")
def unfused(unfused_folder) -> AudioTextModel:
    return load_model(unfused_folder)


@pytest.fixture(scope="session")
def fused(fused_folder) -> AudioTextModel:
    return load_model(fused_folder)


@pytest.fixture(scope="session")
def msclap_2022(random_weights_2022) -> AudioTextModel:
    return load_model("msclap-2022", random_weights_2022)


@pytest.fixture(scope="session")
def msclap_2023(random_weights_2023) -> AudioTextModel:
    return load_model("msclap-2023", random_weights_2023)
