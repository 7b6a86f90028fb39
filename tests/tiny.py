"""A published model of a few hundred weights and the clips that tests ask it about."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tclap import files
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.readouts import ResidualSegments

LABELS = ("bell", "crow", "dog", "rain")
SPLITS = {"train": 3, "validation": 2, "test": 2}


class Trunk(nn.Module):
    """A frozen random convolution: ``[N, samples] -> [N, T, 6]``. Counts the waveforms it is given."""

    hop = 80

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 160, stride=self.hop)
        nn.init.normal_(self.conv.weight, std=2.0, generator=generator)
        nn.init.zeros_(self.conv.bias)
        self.seen = 0

    @property
    def fingerprint(self) -> str:
        return files.hash_state(self.state_dict())

    def decibels(self, waveforms: Tensor) -> Tensor:
        return 10 * (self.conv(waveforms[:, None]).square() + 1e-8).log10().transpose(1, 2)

    def forward(self, waveforms: Tensor) -> Tensor:
        self.seen += len(waveforms)
        return nn.functional.avg_pool1d(self.decibels(waveforms).transpose(1, 2), 7).transpose(1, 2) / 20


class WordVectors(nn.Module):
    """A fixed random vector per word, as wide as MiniLM's. Keeps what it is asked."""

    fingerprint, width = "words", 384

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.asked = dtype, []

    def forward(self, captions: list[str]) -> Tokens:
        self.asked.append(list(captions))
        rows = [torch.stack([self.vector(word) for word in caption.split()]) for caption in captions]
        return Tokens(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))

    def vector(self, word: str) -> Tensor:
        rng = np.random.default_rng(zlib.crc32(word.encode()))
        return torch.from_numpy(rng.standard_normal(self.width)).to(self.dtype)


class Words(nn.Module):
    """A frozen random vector a word. Counts the captions it is given."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1009, 6, generator=generator))
        self.seen = 0

    @property
    def fingerprint(self) -> str:
        return files.hash_state(self.state_dict())

    def forward(self, captions: list[str]) -> Tokens:
        self.seen += len(captions)
        rows = [self.table[[zlib.crc32(word.encode()) % 1009 for word in c.split()]] for c in captions]
        return Tokens(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))


class Heard(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.outer, self.order = nn.Linear(6, 8), nn.Linear(8, dim), None
        self.dropout = nn.Dropout(0.3)

    def forward(self, features: Tensor) -> Tensor:
        published = self.outer(self.dropout(torch.relu(self.inner(features.mean(1)))))
        return published if self.order is None else published + self.order(features)


class Read(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dropout, self.project = nn.Dropout(0.3), nn.Linear(12, dim)

    def forward(self, tokens: Tokens) -> Tensor:
        last = tokens.values[torch.arange(len(tokens.lengths)), tokens.lengths - 1]
        mean = tokens.values.sum(1) / tokens.lengths[:, None]
        return self.project(self.dropout(torch.cat([last, mean], dim=1)))


class TinyPublished(AudioTextModel):
    """Half a second at 8 kHz; its "published weights" are a file whose text is the seed of all of them."""

    name = "tiny"
    pretrained = ("audio_trunk.", "text_trunk.")
    is_published = True
    batch_size = 4
    sample_rate, window, dim = 8000, 0.5, 5

    def __init__(self, readout: str = "published", seed: int = 0) -> None:
        super().__init__()
        self.config = {"readout": readout}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            self.audio_trunk, self.audio_head = Trunk(generator), Heard(self.dim)
            self.text_trunk, self.text_head = Words(generator), Read(self.dim)
        for part in (self.audio_trunk, self.text_trunk):
            part.requires_grad_(False)
        if readout != "published":
            self.audio_head.order = ResidualSegments(6, self.dim, 4)
        self.eval()

    @classmethod
    def from_pretrained(cls, weights: str | Path | None = None, readout: str = "published") -> TinyPublished:
        path = Path(weights)
        model = cls(readout, int(path.read_text()))
        origin = {"path": str(path.resolve()), "revision": None, "sha256": files.sha256_file(path)}
        model.origin = origin | {"random_weights": True}
        model.config |= {"origin": model.origin}
        return model

    def with_readout(self, readout: str) -> TinyPublished:
        other = self.with_own_heads()
        other.audio_head.order = None if readout == "published" else ResidualSegments(6, self.dim, 4)
        other.config = self.config | {"readout": readout}
        return other.eval()


def write_clips(folder: Path, seed: int = 0) -> pd.DataFrame:
    """A clips table with its files: a pitch a label, a loud part somewhere, some shorter than a window."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows = []
    for number, label in enumerate(LABELS):
        for split, n in ((split, n) for split, count in SPLITS.items() for n in range(count)):
            time = np.arange(2000 + 1500 * n) / 8000
            tone = np.sin(2 * np.pi * 300 * 2 ** (number + generator.uniform(0, 0.3)) * time)
            sound = tone * np.interp(time, time[[0, len(time) // 3, -1]], generator.uniform(0.02, 0.3, 3))
            path = folder / f"{label}-{split}-{n}.wav"
            soundfile.write(path, sound + 0.01 * generator.standard_normal(len(time)), 8000, subtype="FLOAT")
            facts = {"clip_id": path.stem, "path": str(path), "label": label, "captions": [label]}
            rows.append(facts | {"split": split, "fold": 1, "source": path.stem, "duration": time[-1]})
    return pd.DataFrame(rows)


def noise(count: int, samples: int = 4000, seed: int = 0) -> np.ndarray:
    """Noises of different level and colour, float32 ``[count, samples]``."""
    rng = np.random.default_rng(seed)
    waveforms = rng.standard_normal((count, samples)).cumsum(axis=1) * 0.002
    waveforms += rng.standard_normal((count, samples)) * rng.uniform(0.005, 0.05, size=(count, 1))
    return waveforms.astype(np.float32).clip(-1, 1)


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    """Assert that all values are near."""
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)
