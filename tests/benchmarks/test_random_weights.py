"""Checkpoints with random weights, in the official format."""

import pytest
import torch
from torch import nn

from benchmarks import random_weights


class Small(nn.Module):
    """Stands for an msclap model, whose file takes seconds to write: two convolutions with batch norms."""

    sample_rate, window = 8000, 0.5

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(1, 6, (3, 3)), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, (3, 3))]
        self.audio_trunk = nn.Sequential(nn.Unflatten(1, (1, 40, 100)), *layers, nn.BatchNorm2d(4))
        self.eval()

    def official_state(self) -> dict:
        return self.state_dict()


def test_the_seed_decides_and_the_file_says_that_its_weights_are_random(monkeypatch, tmp_path):
    monkeypatch.setitem(random_weights.CLASSES, "msclap-2022", Small)
    generator = torch.get_rng_state()
    for path, seed in (("a.pth", "3"), ("b.pth", "3"), ("c.pth", "4")):
        random_weights.main(["msclap-2022", str(tmp_path / path), "--seed", seed])
    assert torch.equal(torch.get_rng_state(), generator)
    contents = [torch.load(tmp_path / path, weights_only=True) for path in ("a.pth", "b.pth", "c.pth")]
    assert all(content["random_weights"] is True for content in contents)
    first, second, other = (content["model"] for content in contents)
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if name.endswith((".weight", "running_mean")) and first[name].std() > 0]
    assert len(drawn) == 4 and not any(torch.equal(first[name], other[name]) for name in drawn)


def test_norms_take_on_the_statistics_of_their_inputs():
    torch.manual_seed(0)
    trunk, waveforms = Small().audio_trunk, 3 * torch.randn(8, 4000) + 1
    random_weights.settle_norms(trunk, waveforms)
    for norm in (2, 5):
        with torch.no_grad():
            inputs = trunk[:norm](waveforms)  # the second norm's are normalised by the first
        torch.testing.assert_close(trunk[norm].running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trunk[norm].running_var, inputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
        assert not trunk[norm].training and trunk[norm].momentum == 0.1


@pytest.mark.parametrize(("version", "norm"), [("2022", "base.bn0"), ("2023", "base.htsat.bn0")])
def test_the_norms_of_the_official_file_are_settled(version, norm, request):
    state = torch.load(request.getfixturevalue(f"random_weights_{version}"), mmap=True)["model"]
    assert state[f"audio_encoder.{norm}.running_mean"].min() < -10  # decibels of a sound, not the usual 0
