"""mteb's own evaluator gives what :func:`tclap.evaluate` gives, on a model whose answers are no ties."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import tclap

mteb = pytest.importorskip("mteb", reason="mteb is not installed")
bridge = pytest.importorskip("tclap.evaluation.mteb")

RATE, WINDOW, PAIRS = 8000, 1.0, 12


class Spectral:
    """Embeds the spectra of a sound's quarters and the letters of a caption through fixed random maps."""

    sample_rate, window = RATE, WINDOW

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._audio = torch.randn(4 * 40, 16, generator=generator)
        self._text = torch.randn(64 * 27, 16, generator=generator)

    def encode_audio(self, waveforms):
        spectra = [np.abs(np.fft.rfft(w[: RATE // 4 * 4].reshape(4, -1)))[:, :400] for w in waveforms]
        features = [s.reshape(4, 40, 10).mean(2).ravel() for s in spectra]
        return normalize(torch.tensor(np.log1p(features)).float() @ self._audio, dim=1)

    def encode_text(self, captions):
        features = torch.zeros(len(captions), 64, 27)
        for n, caption in enumerate(captions):
            for place, letter in enumerate(caption[:64]):
                features[n, place, ord(letter) - 96 if letter.isalpha() else 0] = 1
        return normalize(features.flatten(1) @ self._text, dim=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    counts = {"base": 1, "post": 1, "validation": 1, "test": 3}
    labels = ["dog", "rain", "siren", "engine"]
    return tclap.load_clips(
        "synthetic", tmp_path_factory.mktemp("sounds"), clips_per_class=counts, labels=labels
    )


@pytest.fixture(scope="module")
def tasks(clips):
    return bridge.order_tasks(clips, sample_rate=RATE, window=WINDOW, pairs=PAIRS)


@pytest.fixture(scope="module")
def expected(clips):
    rows = tclap.evaluate(Spectral(), clips, ["tasks", "retrieval"], pairs=PAIRS)
    return rows.groupby("task")["correct"].mean()


@pytest.mark.parametrize("back_and_forth", [False, True])
def test_scores_are_those_of_evaluate(tasks, expected, back_and_forth):
    encoder = bridge.AudioTextEncoder(Spectral())
    if back_and_forth:
        encoder = bridge.AudioTextEncoder(bridge.from_encoder(encoder, RATE, WINDOW))
    results = mteb.evaluate(encoder, tasks, cache=None, show_progress_bar=False).task_results
    two_way, retrieval = (result.scores["test"][0] for result in results)
    assert two_way["hit_rate_at_1"] == pytest.approx(expected["2way_before"], abs=1e-4)
    assert 0 < two_way["hit_rate_at_1"] < 1
    for k in (1, 5, 10):
        of = expected[f"retrieval: ordered, text to audio, R@{k}"]
        assert retrieval[f"hit_rate_at_{k}"] == pytest.approx(of, abs=1e-4)


def test_a_model_of_mteb_answers_the_benchmark(clips, expected):
    wrapped = bridge.from_encoder(bridge.AudioTextEncoder(Spectral()), RATE, WINDOW)
    rows = tclap.evaluate(wrapped, clips, "tasks", pairs=PAIRS)
    found = rows.groupby("task")["correct"].mean()
    assert found.to_dict() == expected[found.index].to_dict()
