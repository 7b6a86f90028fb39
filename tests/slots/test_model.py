"""Slots by hand: which parts of a recording and which words are embedded, and where they go."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import close
from torch.nn.functional import normalize

import tclap
from tclap.models.encoder import Encoder
from tclap.models.windows import Windows
from tclap.slots.model import SlotModel, places
from tclap.slots.reader import Reading

PROMPT = "this is a sound of {}"


class Sums(Encoder):
    """Of 8 samples: the sums of either half and 1, normalised; of a caption its letters a, b and c."""

    name, sample_rate, window, dim, batch_size = "sums", 8, 1.0, 3, 4
    logit_scale = torch.tensor(5.0)

    def embed_windows(self, waveforms):
        return normalize(
            torch.cat([waveforms.unflatten(1, (2, -1)).sum(2), torch.ones(len(waveforms), 1)], 1), dim=-1
        )

    def embed_texts(self, captions):
        return normalize(torch.tensor([[1.0 + c.count(x) for x in "ABC"] for c in captions]), dim=-1)


class Told:
    """A reader that is told what captions say; the others are plain."""

    def __init__(self, **readings: Reading) -> None:
        self.readings = {caption.replace("_", " "): reading for caption, reading in readings.items()}

    def read(self, captions):
        return [self.readings.get(caption, Reading("plain")) for caption in captions]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


# Recordings


@pytest.mark.filterwarnings("error")  # of a long recording nothing is left out
@pytest.mark.parametrize("hop", [None, 0.5])
def test_parts_are_parts_of_the_recordings_own_duration(hop):
    base, recordings = Sums(), [noise(n, n) for n in (5, 8, 13, 40, 83)]
    model = SlotModel(base, Told(), parts=[0.25, 0.5], hop=hop)
    found = model.encode_audio(recordings)
    windows = Windows(8, 1.0, "cover", hop=hop)

    def embedded(waveform, start, end):
        part = waveform[round(start * len(waveform)) : round(end * len(waveform))]
        return normalize(base.encode_audio(windows.cut(part)).sum(0), dim=0)

    for waveform, row in zip(recordings, found, strict=True):
        first = normalize(embedded(waveform, 0, 0.25) + embedded(waveform, 0, 0.5), dim=0)
        last = normalize(embedded(waveform, 0.75, 1) + embedded(waveform, 0.5, 1), dim=0)
        expected = torch.cat([embedded(waveform, 0, 1), first, last]) / 3**0.5
        close(row, torch.cat([expected, torch.zeros(1)]))
    close(found.norm(dim=1), torch.ones(5))
    for n, waveform in enumerate(recordings):
        close(model.encode_audio([waveform], batch_size=1)[0], found[n])


def test_three_slots_are_spread_over_the_time():
    model = SlotModel(Sums(), Told(), slots=3)
    a, b = 0.7 / 3, 1 / 3
    thirds = [(0, 1), (0, a), (0, b), (0.5 - a / 2, 0.5 + a / 2), (b, 2 * b), (1 - a, 1), (1 - b, 1)]
    np.testing.assert_allclose(model.spans, thirds)
    assert model.dim == 13 and model.encode_audio([noise(8)]).shape == (1, 13)
    close(model.logit_scale, torch.tensor(10.0))


def test_the_trunks_frames_are_cut_where_it_is_the_source(tiny_model):
    model, waveform = SlotModel(tiny_model, Told(), [0.25, 0.5], source="trunk"), noise(4000)
    frames = tiny_model.audio_trunk(torch.from_numpy(waveform)[None])[0]
    count = len(frames)

    def embedded(part):
        return tiny_model.embed_features(part[None])[0]

    quarter, half = round(count / 4), round(count / 2)
    first = normalize(embedded(frames[:quarter]) + embedded(frames[:half]), dim=0)
    last = normalize(embedded(frames[-quarter:]) + embedded(frames[-half:]), dim=0)
    expected = torch.cat([embedded(frames), first, last]) / 3**0.5
    close(model.encode_audio([waveform])[0, :-1], expected)


@pytest.mark.parametrize("samples", [2000, 10000])
def test_frames_are_those_of_the_recording_alone(tiny_model, samples):
    """Half a window has the first half of its frames, two and a half windows have those of three."""
    model, waveform = SlotModel(tiny_model, Told(), source="trunk", parts=[0.4]), noise(samples)
    if samples < 4000:
        made = tiny_model.audio_trunk(torch.from_numpy(np.tile(waveform, 2))[None])[0]
        frames = made[: round(len(made) / 2)]
    else:
        windows = np.stack([waveform[:4000], waveform[4000:8000], waveform[6000:]])
        made = tiny_model.audio_trunk(torch.from_numpy(windows))
        frames = torch.cat([*made[:2], made[2, made.shape[1] // 2 :]])
    part = round(0.4 * len(frames))
    found = model.encode_audio([waveform])[0, :-1].unflatten(0, (3, -1)) * 3**0.5
    close(found[1], tiny_model.embed_features(frames[None, :part])[0])
    close(found[2], tiny_model.embed_features(frames[None, -part:])[0])
    close(found[0], tiny_model.encode_audio([waveform], policy="cover")[0])


# Captions


def test_text_slots_by_hand():
    base = Sums()
    reader = Told(
        A_before_B=Reading("forward", ("A", "B"), (0, 1)), B_after_A=Reading("backward", ("A", "B"), (0, 1)),
        A_while_B=Reading("together", ("A", "B"), (0, 0)),
        first_A=Reading("start", ("A",), (0,)), last_A=Reading("end", ("A",), (0,)),
        A_B_C=Reading("forward", ("A", "B", "C"), (0, 1, 2)),
        A_then_B_while_C=Reading("forward", ("A", "B", "C"), (0, 1, 1)),
        C_throughout_A_then_B=Reading("forward", ("A", "B"), (0, 1), ("C",)),
    )  # fmt: skip
    model = SlotModel(base, reader)
    names = ("A", "B", "C", "A and B", "B and C", "A and C")
    a, b, c, a_b, b_c, a_c = base.encode_text([PROMPT.format(name) for name in names])
    plain = base.encode_text(["some words"])[0]
    zero, none, rest = torch.zeros(3), torch.zeros(1), torch.tensor([0.5**0.5])
    expected = {
        "A before B": (zero, a / 2, b / 2, rest),
        "B after A": (zero, a / 2, b / 2, rest),
        "A while B": (zero, a_b / 2, a_b / 2, rest),
        "first A": (zero, a, zero, none),
        "last A": (zero, zero, a, none),
        # Three events are told by the first and the last.
        "A B C": (zero, a / 2, c / 2, rest),
        "A then B while C": (zero, a / 2, b_c / 2, rest),
        "C throughout A then B": (zero, a_c / 2, b_c / 2, rest),
        "some words": (plain, zero, zero, none),
    }
    found = model.encode_text(list(expected))
    close(found, torch.stack([torch.cat(row) for row in expected.values()]))
    close(found.norm(dim=1), torch.ones(len(found)))


def test_a_part_of_the_weight_for_the_whole():
    base = Sums()
    reader = Told(A_before_B=Reading("forward", ("A", "B"), (0, 1)), first_A=Reading("start", ("A",), (0,)))
    found = SlotModel(base, reader, whole=0.25).encode_text(["A before B", "first A", "other"])
    own, first, a, b, other = base.encode_text(
        ["A before B", "first A", PROMPT.format("A"), PROMPT.format("B"), "other"]
    )
    close(found[0, :9], torch.cat([0.25 * own, 0.375 * a, 0.375 * b]))
    close(found[1, :6], torch.cat([0.25 * first, 0.75 * a]))
    close(found[2], torch.cat([other, torch.zeros(7)]))
    close(found.norm(dim=1), torch.ones(3))


def test_without_time_the_score_is_the_models_own():
    base = Sums()
    model, recordings, captions = SlotModel(base, Told()), [noise(8), noise(30)], ["A", "some B"]
    found = model.logit_scale * model.encode_audio(recordings) @ model.encode_text(captions).T
    close(
        found, base.logit_scale * base.encode_audio(recordings, policy="cover") @ base.encode_text(captions).T
    )


def test_events_and_slots_are_spread_over_time():
    assert places(2, 2) == [(0, 1), (1, 2)]
    assert places(3, 2) == [(0, 1), (2, 2)]
    assert places(2, 3) == [(0, 1), (1, 3)]
    assert places(3, 3) == [(0, 1), (1, 2), (2, 3)]
    assert places(5, 3) == [(0, 1), (2, 2), (4, 3)]


# Around any model


def test_add_slots_takes_any_object_and_leaves_it_alone():
    class Theirs:
        sample_rate, window = 8, 1.0
        encode_audio, encode_text = Sums().encode_audio, Sums().encode_text

    found = tclap.add_slots(Theirs(), Told(), slots=3)
    expected = SlotModel(Sums(), Told(), slots=3)
    close(found.encode_audio([noise(20)]), expected.encode_audio([noise(20)]))
    with pytest.raises(TypeError, match="object has no methods that are known"):
        tclap.add_slots(object(), Told())


@pytest.mark.parametrize(
    "options",
    [{"parts": []}, {"parts": [1.2]}, {"whole": 1.0}, {"slots": 1}, {"source": "trunk"}, {"source": "file"}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        SlotModel(Sums(), Told(), **options)
    with pytest.raises(ValueError, match="sums has slots already"):
        SlotModel(SlotModel(Sums(), Told()), Told())


def test_saved_and_loaded_without_weights(tiny_model, tmp_path, monkeypatch):
    """The file says how the base model is loaded, and refuses it when its weights are others."""
    asked = []
    monkeypatch.setattr("tclap.slots.model.load_model", lambda *given: asked.append(given) or tiny_model)
    saved = tclap.add_slots(tiny_model, parts=[0.5], slots=3, whole=0.25, hop=0.5)
    saved.save(tmp_path / "model.json", "compact", "weights.safetensors")
    assert (tmp_path / "model.json").stat().st_size < 1000
    loaded = tclap.slots.load(tmp_path / "model.json")
    assert asked == [("compact", str(Path("weights.safetensors").resolve()), None)]
    recordings, captions = [noise(9000)], ["a dog barks, then rain falls"]
    assert loaded.encode_audio(recordings).equal(saved.encode_audio(recordings))
    assert loaded.encode_text(captions).equal(saved.encode_text(captions))
    with torch.no_grad():
        tiny_model.log_scale.add_(1.0)
    with pytest.raises(ValueError, match="model.json is of compact with other weights"):
        tclap.slots.load(tmp_path / "model.json")
    (tmp_path / "model.json").write_text((tmp_path / "model.json").read_text().replace("0.25", "0.5"))
    with pytest.raises(ValueError, match="model.json is damaged, edited or another kind of file"):
        tclap.slots.load(tmp_path / "model.json")


def test_what_no_file_can_say_is_not_saved(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"saved as \*.json, got"):
        tclap.add_slots(tiny_model).save(tmp_path / "slots.safetensors", "compact")
    with pytest.raises(ValueError, match="its reader is not the package's"):
        SlotModel(tiny_model, Told()).save(tmp_path / "slots.json", "compact")
    with pytest.raises(ValueError, match="sums is no model of tclap.load_model"):
        tclap.add_slots(Sums()).save(tmp_path / "slots.json", "compact")
    (tmp_path / "slots.json").write_text("{}")
    with pytest.raises(ValueError, match="slots.json is damaged, edited or another kind of file"):
        tclap.slots.load(tmp_path / "slots.json")
