"""Search in recordings: what they hold, which are found, and when, by models whose answers are known."""

from __future__ import annotations

import re
from collections import Counter

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

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


@pytest.mark.parametrize(("seconds", "window"), [(2, 0.5), (8, 1), (60, 3)])
def test_windows_cover_a_recording_of_any_length(slots, seconds, window):
    """A short one has four windows' worth, a long one twenty, of which the model makes means."""
    times = search.event_times(slots, sounds(("dog", seconds / 2), ("bell", seconds / 2)), ["bell"])
    assert times.index[0] == window / 2 and times.index[-1] == seconds - window / 2
    np.testing.assert_allclose(np.diff(times.index), window / 2)
    assert times["bell"].idxmax() > seconds / 2 > times["bell"][times["bell"] < 0.01].index[-1]


def test_the_figure_shows_the_curves_and_their_maxima():
    times = pd.DataFrame({"dog": [0.9, 0.5, 0.1], "rain": [0.2, 0.1, 0.7]}, index=[0.5, 1.0, 1.5])
    sound = Sound("a", np.zeros(200), RATE, np.linspace(-80, 0, 80).reshape(4, 20), 0.1)
    above, below = search.figure_found(sound, times).axes
    curves, lines = below.lines[::2], below.lines[1::2]
    for curve, line, (event, values) in zip(curves, lines, times.items(), strict=True):
        assert curve.get_label() == event and list(curve.get_xdata()) == [0.5, 1.0, 1.5]
        assert list(curve.get_ydata()) == list(values)
        assert to_hex(curve.get_color()) == to_hex(line.get_color())
    assert [line.get_xdata()[0] for line in lines] == [0.5, 1.5]
    assert [line.get_xdata()[0] for line in above.lines] == [0.5, 1.5]


def test_ranks_by_hand():
    captions = ["a, then b", "b, then a", "c", "a, then c"]
    exact = torch.eye(4)
    order_blind = torch.tensor([[1.0, 1, 0, 0.5], [1, 1, 0, 0.4], [0, 0, 1, 0.6], [0, 0, 0, 0.3]])
    table = search.ranks({"exact": exact, "order-blind": order_blind}, captions)
    assert list(table.columns) == ["n", "found first (%)", "mean rank", "n inverted", "above inversion (%)"]
    assert table.loc["exact"].tolist() == [4, 100, 1, 2, 100]
    # Ties are no success: ranks 2, 2, 1 and 4.
    assert table.loc["order-blind"].tolist() == [4, 25, 2.2, 2, 0]
    assert table.loc["chance"].tolist() == [4, 25, 2.5, 2, 50]
    one_way = search.ranks({"m": torch.tensor([[0.9, 0.1], [0.2, 0.1]])}, captions[:2])
    assert one_way.loc["m"].tolist() == [2, 50, 1.5, 2, 50], "the second caption has a tie"
    alone = search.ranks({"m": torch.ones(1, 1)}, ["c"]).loc["m"]
    assert alone["n inverted"] == 0 and np.isnan(alone["above inversion (%)"])


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
    folder = search.synthesise_recordings(experiment, 3)
    found = search.list_recordings(folder)
    told = [tuple(caption.split(", then ")) for caption in found["caption"]]
    assert Counter(map(len, told)) == {1: 2, 2: 12, 3: 6} and len(set(told)) == 20
    assert all(events[::-1] in told for events in told) and ("a dog", "rain") in told
    assert {event for events in told for event in events} == {"a dog", "rain", "a siren", "a clock tick"}
    waveforms = [audio.read(path) for path in found["path"]]
    seconds = sorted(len(waveform) / 16000 for waveform in waveforms)
    assert (round(seconds[0], 2), round(seconds[-1], 2)) == (3, 40)
    # Each event of the longest lasts longer than a clip, which is repeated: it starts with one of its class.
    longest = int(np.argmax([len(waveform) for waveform in waveforms]))
    clips = experiment.clips[experiment.clips["split"] == "test"].set_index("clip_id")["label"]
    alike = {n: np.corrcoef(experiment.audio(n), waveforms[longest][:64000])[0, 1] for n in clips.index}
    best = max(alike, key=alike.get)
    assert alike[best] > 0.999 and told[longest][0].endswith(clips[best])
    assert len(load_clips("folder", folder)) == 20
    # Reused as they are; made again when one is cut, and another for another seed.
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(search.audio, "write_wav", lambda *_: pytest.fail("made again"))
        search.synthesise_recordings(experiment, 3)
    (folder / "recording-01.wav").write_bytes(b"cut")
    search.synthesise_recordings(experiment, 3)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    other = search.list_recordings(search.synthesise_recordings(experiment, 4))
    assert other["caption"].tolist() != found["caption"].tolist()
    # The notebook's query is among them, however few of many pairs are drawn.
    monkeypatch.setattr(search, "COUNTS", {2: 1})
    few = search.list_recordings(search.synthesise_recordings(experiment, 5))
    assert set(few["caption"]) == {"a dog, then rain", "rain, then a dog"}


@pytest.fixture
def box(slots, tmp_path, monkeypatch) -> search.SearchBox:
    """Four recordings, and their index."""
    told = [[("dog", 2), ("rain", 2)], [("rain", 2), ("dog", 2)], [("bell", 3)], [("dog", 50), ("bell", 40)]]
    for number, events in enumerate(told):
        audio.write_wav(tmp_path / f"{number}<.wav", sounds(*events), RATE)

    def shown(run, path, title):
        return Sound(title, audio.read(path), RATE, np.linspace(-80, 0, 80).reshape(4, 20), 0.1)

    monkeypatch.setattr(search, "recording", shown)
    table = search.list_recordings(tmp_path)
    return search.SearchBox(None, slots, table, slots.encode_audio(table["path"]).numpy(), "dog, then rain")


def test_the_recording_with_the_events_in_their_order_comes_first(box):
    assert box.find("dog, then rain")["file"].tolist()[0] == "0<.wav"
    assert box.find("rain, then dog", 2)["file"].tolist()[0] == "1<.wav" and len(box.find("dog", 2)) == 2
    found = box.find("bell")
    assert found["file"].tolist()[0] == "2<.wav", "a query without order, by the whole"
    assert (
        found["similarity"].iloc[0] == pytest.approx(3**-0.5) and found["similarity"].is_monotonic_decreasing
    )


def test_a_page_says_what_was_found_and_when(box):
    page = box.page("dog, then bell")
    first = repr(page).splitlines()[2]
    # Of 90 s a window is 4.5 s long; the first and the last that are all bell: the earliest counts.
    assert re.fullmatch(r"\S+ 3<.wav \(no caption\): dog at 2\.2 s, bell at (5[2-9]|[6-8]\d)\.\d s", first), (
        first
    )
    assert "3&lt;.wav" in page.data and "3<.wav" not in page.data
    assert page.data.count("<audio") == page.data.count("<img") == 3
    lengths = [len(part) for part in re.findall(r"base64,([^\"]+)\" type=.audio/wav", page.data)]
    assert max(lengths) == pytest.approx(60 * RATE * 2 * 4 / 3, rel=0.01), "a minute of the longest"
    assert "bell at" in repr(box.page("bell")) and "(plain)" in box.page("bell").data


def test_typing_searches_again_and_a_batch_run_has_no_widget(box, monkeypatch):
    assert set(box._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setenv("TCLAP_BATCH", "")
    bundle = box._repr_mimebundle_()
    assert any("widget" in kind for kind in bundle) and "<audio" in bundle["text/html"], (
        "what stands there without one"
    )
    before = box.results.value
    box.box.value = " "
    assert box.results.value == before
    box.box.value = "rain, then dog"
    assert box.results.value == box.page("rain, then dog").data != before


def test_weights_are_at_hand_in_a_folder_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert search.is_at_hand(str(tmp_path)) and not search.is_at_hand("")
    assert not search.is_at_hand(str(tmp_path / "gone")) and not search.is_at_hand("some/clap")
    cache = tmp_path / "models--some--clap"
    for name in ("refs/main", "snapshots/abc/config.json", "snapshots/abc/pytorch_model.bin"):
        assert not search.is_at_hand("some/clap")
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("abc")
    assert search.is_at_hand("some/clap")
