"""Stand-ins for published weights: checkpoints in the official format with random weights.

For trying out the real thing where the weights are not to be had. Everything computed with them
carries the flag ``random_weights`` in its origin. The numbers of the audio encoders' batch norms
are measured on noise bursts, so that the trunk's outputs depend on the sound: with the usual start
values a signal fades from layer to layer.

    python -m benchmarks.random_weights msclap-2022 CLAP_weights_2022.pth

A ``ClapModel`` of transformers is made as it is asked for:

    tclap evaluate --model benchmarks.random_weights:clap_model --weights bert-base-uncased
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel

from tclap import files
from tclap.models.msclap import Msclap, Msclap2022, Msclap2023
from tclap.models.transformers import TransformersClap

CLASSES = {model.name: model for model in (Msclap2022, Msclap2023)}
BURSTS = 12


def make(name: str, seed: int = 0) -> Msclap:
    """A model of random weights; ``name`` is a key of :data:`CLASSES`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLASSES[name]()
        for layer in model.audio_trunk.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        settle_norms(model.audio_trunk, bursts(round(model.window * model.sample_rate), model.sample_rate))
    model.origin = {"random_weights": True}
    return model


def write(name: str, path: str | Path, seed: int = 0) -> Path:
    """Write the weights of :func:`make` to ``path`` in the official format, and return it."""
    with files.replacing(path) as temporary:
        torch.save({"model": make(name, seed).official_state(), "random_weights": True}, temporary)
    return Path(path)


def clap_model(tokenizer: str | Path = "roberta-base", seed: int = 0) -> TransformersClap:
    """A ``ClapModel`` of the configuration's default size; ``tokenizer``: an id on the hub, or a folder."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = ClapConfig(text_config={"vocab_size": len(words), "pad_token_id": words.pad_token_id})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TransformersClap(ClapModel(config), words, ClapFeatureExtractor(truncation="rand_trunc"))
        settle_norms(model.audio_trunk, bursts(round(model.window * model.sample_rate), model.sample_rate))
    model.origin = {"random_weights": True}
    return model


def bursts(samples: int, sample_rate: int) -> Tensor:
    """Noise of several colours and lengths ``[BURSTS, samples]``, drawn from torch's generator."""
    white = torch.randn(BURSTS, samples)
    slope = torch.linspace(-1.5, 1.5, BURSTS)[:, None]
    frequency = torch.fft.rfftfreq(samples, 1 / sample_rate).clamp_min(50) / 1000
    coloured = torch.fft.irfft(torch.fft.rfft(white) * frequency**slope, n=samples)
    loud = torch.rand(BURSTS, 20).repeat_interleave(-(-samples // 20), dim=1)[:, :samples] ** 3
    sounds = coloured * loud
    return 0.05 * sounds / sounds.square().mean(1, keepdim=True).sqrt()


@torch.no_grad()
def settle_norms(trunk: nn.Module, waveforms: Tensor) -> None:
    """Set every batch norm's mean and variance to those of its inputs on these waveforms, layer by layer."""
    norms = [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running value becomes this batch's
        norm.train()
    trunk(waveforms)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        norm.num_batches_tracked.zero_()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("name", choices=CLASSES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{write(options.name, options.path, options.seed)}\n")


if __name__ == "__main__":
    main()
