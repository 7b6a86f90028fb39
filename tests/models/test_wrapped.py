"""Objects of other libraries as models: each stand-in has the methods, and the quirks, of the real one."""

import numpy as np
import pytest
import torch

import tclap

RATE = 100


def audio_of(waveforms) -> np.ndarray:
    return np.stack([[w[: len(w) // 2].sum(), w[len(w) // 2 :].sum(), 0.5] for w in waveforms])


def text_of(captions) -> np.ndarray:
    return np.array([[len(c), c.count("a"), 1.0] for c in captions])


class Plain:
    sample_rate, window = RATE, 0.5

    def encode_audio(self, waveforms):
        return torch.from_numpy(audio_of(waveforms))

    def encode_text(self, captions):
        return torch.from_numpy(text_of(captions))


class LaionClap:
    """Squeezes one caption's embedding to [d], as laion_clap does."""

    def get_audio_embedding_from_data(self, x, use_tensor):
        assert not use_tensor
        return audio_of(x).astype(np.float32)

    def get_text_embedding(self, x, use_tensor):
        return text_of(x).astype(np.float32).squeeze()


class SentenceTransformer:
    def encode(self, inputs):
        if isinstance(inputs[0], str):
            return text_of(inputs)
        assert all(item["sampling_rate"] == RATE for item in inputs)
        return audio_of([item["array"] for item in inputs])


@pytest.mark.parametrize("kind", [Plain, LaionClap, SentenceTransformer])
def test_every_kind_gives_the_same_unit_vectors(kind):
    model = tclap.wrap(kind(), RATE, 0.5)
    model.batch_size = 2
    recordings = [np.linspace(-1, 1, n, dtype=np.float32) ** 2 for n in (50, 20, 50)]
    given = [np.resize(recording, 50) for recording in recordings]
    expected = audio_of(given) / np.linalg.norm(audio_of(given), axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_audio(recordings), expected, atol=1e-6)
    captions = ["a dog", "x"]
    expected = text_of(captions) / np.linalg.norm(text_of(captions), axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_text(captions), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode_text(["x"]), expected[1:], atol=1e-6)
    assert (model.dim, model.name) == (3, kind.__name__)


def test_what_cannot_be_wrapped_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match="object has no methods that are known, expected encode_audio"):
        tclap.wrap(object(), RATE, 0.5)
    with pytest.raises(ValueError, match="window is None, expected the argument window or"):
        tclap.wrap(LaionClap(), RATE)

    class Short(Plain):
        def encode_audio(self, waveforms):
            return super().encode_audio(waveforms[:1])

    with pytest.raises(ValueError, match=r"audio embeddings have shape \(1, 3\), expected \[2, 3\]"):
        tclap.wrap(Short()).encode_audio(np.ones((2, 50), np.float32))
