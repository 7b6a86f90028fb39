"""Search in recordings: what they hold, which are found, and when, by models whose answers are known."""

import re

import numpy as np
import pytest
import torch

from artifact.notebook import search
from artifact.notebook.sounds import Sound
from tclap import audio
from tclap.data.clips import load_clips
from tclap.models.encoder import Encoder
from tclap.slots.model import SlotModel
from tclap.slots.reader import Reading

RATE = 100
LEVELS = {"dog": 0.125, "rain": 0.25, "bell": 0.5}  # a sound is its level


class Levels(Encoder):
    """Embeds a window as the time that each sound of ``LEVELS`` lasts, and a caption as its words."""

    name, sample_rate, window, dim = "levels", RATE, 1.0, len(LEVELS)

    def embed_windows(self, waveforms):
        shares = torch.stack([(waveforms == level).float().mean(1) for level in LEVELS.values()], dim=1)
        return torch.nn.functional.normalize(shares, dim=1)

    def embed_texts(self, captions):
        words = torch.tensor([[float(name in caption) for name in LEVELS] for caption in captions])
        return torch.nn.functional.normalize(words, dim=1)


class Commas:
    def read(self, captions):
        parts = [tuple(caption.split(", then ")) for caption in captions]
        return [Reading("forward", p, tuple(range(len(p)))) if p[1:] else Reading("plain") for p in parts]


def sounds(*told: tuple[str, float]) -> np.ndarray:
    """One sound after the other, each of so many seconds."""
    return np.concatenate([np.full(round(s * RATE), LEVELS[name], np.float32) for name, s in told])


@pytest.fixture
def slots() -> SlotModel:
    return SlotModel(Levels(), Commas())


def test_events_are_found_where_they_sound(slots):
    times = search.event_times(slots, sounds(("dog", 4), ("rain", 4)), ["dog", "rain", "dog"])
    # Windows of the model's one second, half a second apart; the one in the middle holds half of each.
    np.testing.assert_allclose(times.index, np.arange(0.5, 8, 0.5))
    np.testing.assert_allclose(times["dog"], [1] * 7 + [0.5**0.5] + [0] * 7, atol=1e-6)
    np.testing.assert_allclose(times["rain"], times["dog"][::-1], atol=1e-6)


def test_ranks_by_hand():
    exact = torch.eye(4)
    order_blind = torch.tensor([[1.0, 1, 0, 0.5], [1, 1, 0, 0.4], [0, 0, 1, 0.6], [0, 0, 0, 0.3]])
    table = search.ranks({"exact": exact, "order-blind": order_blind})
    assert list(table.columns) == ["found first (%)", "mean rank"]
    # Ties are no success: ranks 2, 2, 1 and 4.
    assert table.T.to_dict("list") == {"exact": [100, 1], "order-blind": [25, 2.2], "chance": [25, 2.5]}


def test_recordings_are_listed_with_their_captions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file in .*, expected recordings such as \*.wav"):
        search.list_recordings(tmp_path)
    for name in ("b.WAV", "a/x.flac", "a/y.mp3", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert search.list_recordings(tmp_path)["caption"].tolist() == ["", "", ""]
    (tmp_path / "clips.csv").write_text("file,caption\nb.WAV,rain\nb.WAV,more rain\na/x.flac,\ngone.wav,x\n")
    found = search.list_recordings(tmp_path)
    assert found["file"].tolist() == ["a/x.flac", "a/y.mp3", "b.WAV"]
    assert found["caption"].tolist() == ["", "", "rain"] and all(path.is_file() for path in found["path"])


def test_twenty_recordings_say_what_comes_when(experiment, monkeypatch):
    monkeypatch.setattr(search, "PAIRS", 3)  # of six that four classes have
    monkeypatch.setattr(search, "SECONDS", (5, 20))  # a clip is shorter, and repeated
    folder = search.synthesise_recordings(experiment, 3)
    found = search.list_recordings(folder)
    told = [tuple(caption.split(", then ")) for caption in found["caption"]]
    assert len(told) == len(set(told)) == 6 and all(events[::-1] in told for events in told)
    # A recording and its inverse are the same two events; each starts with the clip of its class.
    waveforms = {events: audio.read(path) for events, path in zip(told, found["path"], strict=True)}
    pair = experiment.table("data/pairs-test.parquet").iloc[0]
    for first, second in (("i", "j"), ("j", "i")):
        waveform = waveforms[pair[f"label_{first}"], pair[f"label_{second}"]]
        assert 10 <= len(waveform) / 16000 <= 40
        begin = experiment.audio(pair[f"clip_{first}"])[:16000]
        assert np.corrcoef(begin, waveform[:16000])[0, 1] > 0.999
    assert len(load_clips("folder", folder)) == 6
    before = {path: path.read_bytes() for path in folder.iterdir()}
    search.synthesise_recordings(experiment, 3)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_page_says_when_the_events_were_found(slots, tmp_path, monkeypatch):
    audio.write_wav(tmp_path / "long<.wav", sounds(("dog", 50), ("bell", 40)), RATE)

    def shown(run, path, title):
        return Sound(title, audio.read(path), RATE, np.linspace(-80, 0, 80).reshape(4, 20), 0.1)

    monkeypatch.setattr(search, "recording", shown)
    found = search.list_recordings(tmp_path).assign(similarity=0.5)
    page = search.found_page(None, slots, found, "dog, then bell").data
    # Of 90 s a window is 4.5 s long; of several that are all bell the earliest counts.
    assert re.search(r"<p>dog at 2\.2 s, bell at (5[2-9]|[6-8]\d)\.\d s</p>", page), page
    assert "0.500 long&lt;.wav (no caption)" in page and "long<.wav" not in page
    assert (page.count("<audio"), page.count("<img")) == (1, 2)
    (length,) = [len(part) for part in re.findall(r"audio/wav;base64,([^\"]+)", page)]
    assert length == pytest.approx(60 * RATE * 2 * 4 / 3, rel=0.01), "a minute of it"
