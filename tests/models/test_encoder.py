"""What becomes of recordings of any length, batch by batch, on a model whose embedding one can compute."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tclap.models.encoder import Encoder


class Halves(Encoder):
    """Of 8 samples the sums of either half, normalised; of a caption its length and 1."""

    name, sample_rate, window, dim, batch_size = "halves", 8, 1.0, 2, 3

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def embed_windows(self, waveforms):
        self.batches.append(tuple(waveforms.shape))
        return normalize(waveforms.unflatten(1, (2, -1)).sum(2), dim=-1)

    def embed_texts(self, captions):
        return normalize(torch.tensor([[float(len(caption)), 1.0] for caption in captions]), dim=-1)


def ramp(length: int) -> np.ndarray:
    return np.arange(1, length + 1, dtype=np.float32) / 64


def expected(waveform: np.ndarray, starts: list[int]) -> torch.Tensor:
    """The same by a loop: each window's embedding, their mean, normalised."""
    windows = [np.resize(waveform[start : start + 8], 8) for start in starts]
    found = [np.array([w[:4].sum(), w[4:].sum()]) for w in windows]
    mean = np.mean([f / np.linalg.norm(f) for f in found], axis=0)
    return torch.from_numpy(mean / np.linalg.norm(mean)).float()


def test_cover_is_the_mean_over_windows_that_share_batches_with_other_recordings():
    model, items = Halves(), [ramp(n) for n in (20, 5, 8, 17)]
    found = model.encode_audio(items, policy="cover")
    starts = [[0, 8, 12], [0], [0], [0, 8, 9]]
    torch.testing.assert_close(
        found, torch.stack([expected(*pair) for pair in zip(items, starts, strict=True)])
    )
    assert model.batches == [(3, 8), (3, 8), (2, 8)]
    alone = torch.cat([model.encode_audio([item], batch_size=1, policy="cover") for item in items])
    torch.testing.assert_close(alone, found)


def test_dropping_more_than_half_of_a_recording_is_said_once():
    model = Halves()
    with pytest.warns(UserWarning, match="lasts 2.1 s, of which one window of 1 s is embedded") as caught:
        model.encode_audio([ramp(17), ramp(30)])
        model.encode_audio([ramp(17)])
        Halves().encode_audio([ramp(16)])
        Halves().encode_audio([ramp(60)], policy="cover")  # nothing is left out
    assert len(caught) == 1 and caught[0].filename == __file__
