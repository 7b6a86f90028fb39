"""Checkpoints with random weights, in the official format."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import nn

from artifact import random_weights


class Small(nn.Module):
    """Stands for an msclap model: two convolutions with batch norms, and a scale that is kept."""

    sample_rate, window = 8000, 0.5

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(1, 6, (3, 3)), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, (3, 3))]
        stack = nn.Sequential(*layers, nn.BatchNorm2d(4), nn.Flatten(1))
        self.audio_trunk = nn.Sequential(nn.Unflatten(1, (1, 40, 100)), stack)
        self.eval()

    def official_state(self) -> dict:
        return self.state_dict()


@pytest.fixture
def small(monkeypatch):
    """In place of msclap-2022, whose file takes seconds to write."""
    module = types.SimpleNamespace(Small=Small)
    monkeypatch.setitem(random_weights.MODELS, "msclap-2022", "small:Small")
    monkeypatch.setattr(random_weights.importlib, "import_module", {"small": module}.__getitem__)


def test_the_seed_decides_and_nobody_elses_numbers_change(small, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    paths = [
        random_weights.write("msclap-2022", tmp_path / f"{n}.pth", seed) for n, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(torch.rand(3), expected)
    first, second, other = (torch.load(path, weights_only=True)["model"] for path in paths)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[n], other[n]) for n in first if n.endswith(("0.weight", "running_mean")))
    assert paths[0] == tmp_path / "0.pth" and len(list(tmp_path.iterdir())) == 3


def test_the_file_says_that_its_weights_are_random(small, tmp_path):
    assert random_weights.main(["msclap-2022", str(tmp_path / "m.pth"), "--seed", "3"]) == 0
    content = torch.load(tmp_path / "m.pth", weights_only=True)
    assert content.keys() == {"model", "random_weights"} and content["random_weights"] is True
    random_weights.write("msclap-2022", tmp_path / "n.pth", seed=3)
    same = torch.load(tmp_path / "n.pth", weights_only=True)["model"]
    assert all(torch.equal(content["model"][name], same[name]) for name in same)


def test_other_names(tmp_path):
    with pytest.raises(ValueError, match="there for msclap-2022 and msclap-2023, not for 'compact'"):
        random_weights.write("compact", tmp_path / "m.pth")
    with pytest.raises(SystemExit):
        random_weights.main(["laion-clap", str(tmp_path / "m.pth")])
    assert list(tmp_path.iterdir()) == []


def test_norms_take_on_what_they_meet(small):
    torch.manual_seed(0)
    trunk = Small().audio_trunk
    waveforms = 3 * torch.randn(8, 4000) + 1
    random_weights.settle_norms(trunk, waveforms)
    first, norm, rectify, second, last = list(trunk[1])[:5]
    with torch.no_grad():
        met = first(waveforms.unflatten(1, (1, 40, 100)))
        torch.testing.assert_close(norm.running_mean, met.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, met.var((0, 2, 3)))
        # The second meets what the first has already put in order.
        met = second(rectify(norm(met)))
        torch.testing.assert_close(last.running_mean, met.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    for layer in (norm, last):
        assert not layer.training and layer.momentum == 0.1 and layer.num_batches_tracked == 0


def test_bursts_have_one_level_and_many_colours():
    torch.manual_seed(0)
    sounds = random_weights.bursts(22050, 44100)
    assert sounds.shape == (12, 22050)
    np.testing.assert_allclose(sounds.square().mean(1).sqrt(), 0.05, rtol=1e-5)
    power = torch.fft.rfft(sounds).abs().square()
    frequency = torch.fft.rfftfreq(22050, 1 / 44100)
    centroid = (power * frequency).sum(1) / power.sum(1)
    assert (centroid.diff() > 0).sum() >= 9 and centroid[0] < 1000 and centroid[-1] > 10000


@pytest.mark.parametrize("version", ["2022", "2023"])
def test_the_official_file(version, request):
    content = torch.load(request.getfixturevalue(f"random_weights_{version}"), mmap=True, weights_only=True)
    assert content["random_weights"] is True
    state = content["model"]
    assert {name.split(".")[0] for name in state} == {"audio_encoder", "caption_encoder", "logit_scale"}
    assert float(state["logit_scale"]) == pytest.approx(np.log(1 / 0.07))
    norm = {"2022": "audio_encoder.base.bn0", "2023": "audio_encoder.base.htsat.bn0"}[version]
    assert state[f"{norm}.running_mean"].min() < -10  # decibels of a sound, not the usual start value 0
    assert all(tensor.isfinite().all() for name, tensor in state.items() if "running" in name)
