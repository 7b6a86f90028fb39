"""Fixtures that more than one test module uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

# One thread a process: the tests compute little, and two cores with four threads crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TCLAP_BATCH"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("SLURM_CONF", os.devnull)  # as the Makefile does

CHECKOUT = Path(__file__).resolve().parent.parent


def _shared(variable: str, name: str, *files: str) -> Path:
    """A folder of real data: where a variable points, or beside the checkout; skips without all files."""
    root = Path(os.environ.get(variable) or CHECKOUT.parent / "shared" / name)
    if not all((root / file).is_file() for file in files):
        pytest.skip(f"no {', '.join(files)} in {root}; set {variable} to run this test")
    return root


@pytest.fixture(scope="session")
def esc50_root() -> Path:
    """Real ESC-50 clips."""
    return _shared("ESC50_ROOT", "esc50", "meta/esc50.csv")


@pytest.fixture
def project_root(tmp_path, monkeypatch) -> Path:
    """A folder of its own for everything a test writes."""
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def text_trunk():
    """Stands for a pretrained text trunk."""
    from tiny import WordVectors

    return WordVectors()


@pytest.fixture
def tiny_model(text_trunk):
    """A compact model of a few thousand weights on half a second of audio, with the fake text trunk."""
    import torch

    from tclap.models.compact import Compact

    torch.manual_seed(0)
    sizes = {"window": 0.5, "sample_rate": 8000, "n_fft": 256, "hop": 80, "mels": 16}
    model = Compact(**sizes, width=8, hidden=8, dim=12).eval()
    model.text_trunk = text_trunk
    return model


@pytest.fixture
def tiny_clips():
    """Clips table of four labels, three clips of each a split; there are no files, see ``tiny_audio``."""

    rows = [
        {"clip_id": f"{label}-{split}-{n}", "label": label, "captions": [label], "split": split}
        for label in ("bell", "crow", "dog", "rain")
        for split in ("base", "post", "validation")
        for n in range(3)
    ]
    clips = pd.DataFrame(rows)
    return clips.assign(source=clips["clip_id"])


@pytest.fixture
def tiny_audio():
    """Reads the clips of ``tiny_clips``: tones in noise, a pitch a label."""
    import numpy as np

    class Audio:
        sample_rate = 8000

        def __call__(self, clip_id: str) -> np.ndarray:
            rng = np.random.default_rng(list(clip_id.encode()))
            pitch = 200 * 2 ** ("bcdr".index(clip_id[0]) + rng.uniform(0, 0.3))
            time = np.arange(4000) / self.sample_rate
            tone = np.sin(2 * np.pi * pitch * time) * rng.uniform(0.1, 0.3)
            return (tone + 0.02 * rng.standard_normal(4000)).astype(np.float32)

    return Audio()


@pytest.fixture
def banks(tiny_model, tiny_clips, tiny_audio):
    """Mel power of the clips of ``tiny_clips``, by split."""
    from tclap.data.batches import SegmentBank

    mel = tiny_model.audio_trunk.mel
    return {
        stage: SegmentBank(tiny_clips[tiny_clips["split"] == stage], tiny_audio, mel, tiny_model.window)
        for stage in ("base", "post", "validation")
    }


@pytest.fixture(scope="session")
def audiocaps_root() -> Path:
    """The official csv files of AudioCaps."""
    return _shared("AUDIOCAPS_ROOT", "audiocaps", "test.csv")


@pytest.fixture(scope="session")
def clotho_root() -> Path:
    """Official csv files of Clotho."""
    return _shared("CLOTHO_ROOT", "clotho", "clotho_captions_evaluation.csv")


@pytest.fixture(scope="session")
def hub_root() -> Path:
    """Configurations and tokenizers of bert-base-uncased and gpt2, to which TCLAP_HUB then points."""
    root = _shared("TCLAP_HUB", "hub", "bert-base-uncased/config.json", "gpt2/config.json")
    os.environ["TCLAP_HUB"] = str(root)
    return root


def _random_weights(name: str, tmp_path_factory) -> Iterator[Path]:
    from benchmarks import random_weights

    path = random_weights.write(name, tmp_path_factory.mktemp("weights") / f"{name}.pth")
    yield path
    path.unlink()  # pytest would keep those of the last three sessions


@pytest.fixture(scope="session")
def random_weights_2022(hub_root, tmp_path_factory) -> Iterator[Path]:
    """A checkpoint of msclap-2022 in the official format, with random weights (785 MB)."""
    yield from _random_weights("msclap-2022", tmp_path_factory)


@pytest.fixture(scope="session")
def random_weights_2023(hub_root, tmp_path_factory) -> Iterator[Path]:
    """A checkpoint of msclap-2023 in the official format, with random weights (640 MB)."""
    yield from _random_weights("msclap-2023", tmp_path_factory)


@pytest.fixture
def summary() -> dict:
    """A made-up summary that the test may change."""
    import made_up

    return made_up.summary()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty root for all outputs."""
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(root) -> Path:
    """A complete made-up run in the place where a real one would be."""
    import made_up

    return made_up.write(root / "runs" / "synthetic" / "compact")
