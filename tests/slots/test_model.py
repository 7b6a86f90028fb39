"""Slots by hand: which words are events, where their embeddings go, and what stays as it was."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch.nn.functional import normalize

from tclap import files
from tclap.models.registry import load_model
from tclap.slots.event_captions import RELATIONS
from tclap.slots.model import PARTS, Reading, SlotAudioHead, SlotModel, places
from tclap.slots.reader import BEGIN, INSIDE, OUTSIDE, CaptionReader, canonical, spans_of

PROMPT = "this is a sound of {}"


@pytest.fixture
def slotted(tiny_model) -> SlotModel:
    return SlotModel(tiny_model)


def reads(monkeypatch, model, **readings):
    """Let a model read captions as told, the others as plain."""
    known = {caption.replace("_", " "): reading for caption, reading in readings.items()}
    monkeypatch.setattr(
        model, "read", lambda captions, text=None: [known.get(c, Reading("plain", ())) for c in captions]
    )


def close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


# Reading


def test_spans_from_labels():
    caption = "a dog barks, then hail; rain"
    offsets = [(0, 0), (0, 1), (2, 5), (6, 11), (11, 12), (13, 17), (18, 22), (22, 23), (24, 28), (0, 0)]
    labels = [INSIDE, BEGIN, INSIDE, INSIDE, OUTSIDE, OUTSIDE, BEGIN, OUTSIDE, INSIDE, BEGIN]
    found = spans_of(caption, labels, offsets)
    # An inside without a begin begins one; special tokens are passed over.
    assert [caption[s:e] for s, e in found] == ["a dog barks", "hail", "rain"]
    # Two events side by side are two when the second begins.
    assert spans_of("dog rain", [BEGIN, BEGIN], [(0, 3), (4, 8)]) == [(0, 3), (4, 8)]
    assert spans_of("dog rain", [BEGIN, INSIDE], [(0, 3), (4, 8)]) == [(0, 8)]
    # A word is not cut into its pieces "chai" and "nsa".
    pieces = [(0, 4), (4, 7), (8, 14)]
    assert spans_of("chainsa before", [BEGIN, OUTSIDE, OUTSIDE], pieces) == [(0, 7)]
    assert spans_of("chainsa before", [OUTSIDE, BEGIN, OUTSIDE], pieces) == []


def test_closed_words_are_numbered_per_token_and_events_replaced():
    assert canonical("hail before a loud gong!", [(0, 4), (12, 23)]) == "a sound before a sound!"
    reader = CaptionReader(4, ["before", "then", ","], hidden=4)
    offsets = [(0, 0), (0, 5), (5, 6), (6, 11), (11, 18), (0, 0)]
    # The fourth token has the space before it, as byte-level tokenizers have.
    assert reader.closed_words("hails, then Before", offsets).tolist() == [0, 0, 3, 2, 1, 0]


def test_padding_changes_no_label_and_no_relation(text_trunk):
    torch.manual_seed(0)
    reader = CaptionReader(384, ["before"], hidden=8).eval()
    captions = ["hail before rain", "a very long caption of hail before rain and more"]
    tokens, offsets = text_trunk(captions), text_trunk.offsets(captions)
    together = reader.spans(captions, tokens, offsets)
    alone = [reader.spans([c], text_trunk([c]), text_trunk.offsets([c]))[0] for c in captions]
    assert together == alone
    close(reader.relate(tokens)[:1], reader.relate(text_trunk(captions[:1])))


@pytest.mark.parametrize(
    ("relation", "spans", "expected"),
    [
        ("forward", [(0, 4), (12, 16)], Reading("forward", ("hail", "rain"))),
        ("backward", [(0, 4), (12, 16)], Reading("backward", ("rain", "hail"))),
        ("together", [(0, 4), (12, 16)], Reading("together", ("hail", "rain"))),
        ("start", [(0, 4)], Reading("start", ("hail",))),
        ("plain", [(0, 4), (12, 16)], Reading("plain", ())),
        # What makes no sense is left to the model.
        ("forward", [(0, 4)], Reading("plain", ())),
        ("end", [], Reading("plain", ())),
    ],
)
def test_readings_are_in_the_order_of_time(slotted, monkeypatch, relation, spans, expected):
    monkeypatch.setattr(slotted.reader, "spans", lambda captions, tokens, offsets: [spans] * len(captions))
    logits = torch.eye(len(RELATIONS))[[RELATIONS.index(relation)]]
    monkeypatch.setattr(slotted.reader, "relate", lambda tokens: logits.expand(len(tokens.lengths), -1))
    assert slotted.read(["hail before rain"]) == [expected]


# Embeddings


def test_text_slots_by_hand(slotted, tiny_model, monkeypatch):
    reads(
        monkeypatch, slotted,
        A_before_B=Reading("forward", ("A", "B")), B_after_A=Reading("backward", ("A", "B")),
        A_while_B=Reading("together", ("A", "B")),
        first_A=Reading("start", ("A",)), last_A=Reading("end", ("A",)),
        A_B_C=Reading("forward", ("A", "B", "C")),
    )  # fmt: skip
    phrases = [PROMPT.format(x) for x in ("A", "B", "C", "A and B")]
    a, b, c, both = tiny_model.encode_text(phrases)
    plain = tiny_model.encode_text(["some words"])[0]
    zero, none, rest = torch.zeros(tiny_model.dim), torch.zeros(1), torch.tensor([0.5**0.5])
    expected = {
        "A before B": (zero, a / 2, b / 2, rest),
        "B after A": (zero, a / 2, b / 2, rest),
        "A while B": (zero, both / 2, both / 2, rest),
        "first A": (zero, a, zero, none),
        "last A": (zero, zero, a, none),
        # Three events are told by the first and the last.
        "A B C": (zero, a / 2, c / 2, rest),
        "some words": (plain, zero, zero, none),
    }
    found = slotted.encode_text(list(expected))
    close(found, torch.stack([torch.cat(row) for row in expected.values()]))
    close(found.norm(dim=1), torch.ones(len(found)))


def test_a_part_of_the_weight_for_the_whole(tiny_model, monkeypatch):
    model = SlotModel(tiny_model, whole=0.25)
    reads(monkeypatch, model, A_before_B=Reading("forward", ("A", "B")), first_A=Reading("start", ("A",)))
    phrases = ["A before B", "first A", PROMPT.format("A"), PROMPT.format("B")]
    own, first, a, b = tiny_model.encode_text(phrases)
    found = model.encode_text(["A before B", "first A", "other"])
    d = tiny_model.dim
    close(found[0, : 3 * d], torch.cat([0.25 * own, 0.375 * a, 0.375 * b]))
    close(found[1, : 2 * d], torch.cat([0.25 * first, 0.75 * a]))
    # A caption without time has none of it.
    close(found[2, :d].norm(), torch.tensor(1.0))
    close(found.norm(dim=1), torch.ones(3))


def test_audio_slots_are_the_heads_own_embeddings_of_parts(tiny_model):
    model = SlotModel(tiny_model, parts=(0.25, 0.5), slots=3)
    waveforms = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = tiny_model.audio_trunk(waveforms)

        def head(x):
            return normalize(tiny_model.audio_head(x), dim=1)

        frames, slots = features.shape[1], []
        for place in (0, 0.5, 1):
            lengths = [round(part * frames) for part in (0.25, 0.5)]
            starts = [round(place * (frames - n)) for n in lengths]
            parts = [head(features[:, s : s + n]) for s, n in zip(starts, lengths, strict=True)]
            slots.append(normalize(parts[0] + parts[1], dim=1))
        expected = torch.cat([head(features), *slots, torch.zeros(3, 1)], dim=1) / 2
        close(model.embed_audio(features), expected)


def test_without_time_the_score_is_the_models_own(slotted, tiny_model, monkeypatch):
    reads(monkeypatch, slotted)
    captions = ["dog", "this is a sound of rain", "someone opens a can and pours water"]
    waveforms = 0.1 * torch.randn(4, 4000, generator=torch.Generator().manual_seed(1))
    models = (slotted, tiny_model)
    ours, base = (m.logit_scale * m.encode_text(captions) @ m.encode_audio(waveforms).T for m in models)
    close(ours, base, atol=1e-4)


def test_the_base_is_left_as_it_is_and_nothing_of_sound_is_added(slotted, tiny_model):
    before = copy.deepcopy(tiny_model.state_dict())
    added = {n for n, _ in slotted.named_parameters() if n.startswith("reader.")}
    heads = {n.replace("audio_head.head.", "audio_head.") for n, _ in slotted.named_parameters()} - added
    assert heads == {n for n, _ in tiny_model.named_parameters()}
    with torch.no_grad():
        slotted.audio_head.head.mlp[0].weight.zero_()
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, before[name])
    assert slotted.audio_trunk is tiny_model.audio_trunk


def test_no_caption_and_one_string(slotted):
    assert slotted.encode_text([]).shape == (0, slotted.dim)
    for method in (slotted.encode_text, slotted.read):
        with pytest.raises(TypeError, match=r"got one string or path: pass \['dog'\]"):
            method("dog")
    with pytest.raises(TypeError, match="encode_text"):
        slotted.embed_text(None)


def test_events_and_slots_are_spread_over_time():
    assert places(2, 2) == [(0, 1), (1, 2)] and places(3, 2) == [(0, 1), (2, 2)]
    assert places(2, 3) == [(0, 1), (1, 3)] and places(3, 3) == [(0, 1), (1, 2), (2, 3)]
    assert places(5, 3) == [(0, 1), (2, 2), (4, 3)]


def test_three_slots_by_hand(tiny_model, monkeypatch):
    model = SlotModel(tiny_model, slots=3)
    assert model.audio_head.parts == pytest.approx([2 * part / 3 for part in PARTS])
    reads(
        monkeypatch, model,
        A_B_C=Reading("forward", ("A", "B", "C")), A_B=Reading("backward", ("A", "B")),
        A_while_B=Reading("together", ("A", "B")), last_A=Reading("end", ("A",)),
    )  # fmt: skip
    phrases = [PROMPT.format(x) for x in ("A", "B", "C", "A and B")]
    a, b, c, both = tiny_model.encode_text(phrases)
    zero, none = torch.zeros(tiny_model.dim), torch.zeros(1)
    expected = {
        "A B C": (zero, a / 3, b / 3, c / 3, torch.tensor([(2 / 3) ** 0.5])),
        "A B": (zero, a / 2, zero, b / 2, torch.tensor([0.5**0.5])),
        "A while B": (zero, both / 3, both / 3, both / 3, torch.tensor([(2 / 3) ** 0.5])),
        "last A": (zero, zero, zero, a, none),
    }
    close(model.encode_text(list(expected)), torch.stack([torch.cat(row) for row in expected.values()]))
    assert model.logit_scale.item() == pytest.approx(2 * tiny_model.logit_scale.item())


@pytest.mark.parametrize(
    "options", [{"slots": 1}, {"parts": ()}, {"parts": (0.5, 1.5)}, {"whole": 1.0}, {"prompt": "a sound"}]
)
def test_options_out_of_range_are_refused(slotted, tiny_model, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}, expected")):
        SlotModel(tiny_model, **options)
    with pytest.raises(ValueError, match="has slots already"):
        SlotModel(slotted, **options)


def test_saved_and_loaded(tiny_model, text_trunk, tmp_path, monkeypatch):
    model = SlotModel(tiny_model, parts=(0.3,), whole=0.2, closed_class=["before", "after"], slots=3)
    with torch.no_grad():
        for parameter in model.reader.parameters():
            parameter.add_(0.1)
    model.save(tmp_path / "slots.safetensors")
    monkeypatch.setattr("tclap.models.compact.TextTrunk", lambda: text_trunk)
    loaded = load_model("compact", tmp_path / "slots.safetensors")
    assert isinstance(loaded, SlotModel) and loaded.config == model.config
    assert isinstance(loaded.audio_head, SlotAudioHead) and loaded.audio_head.parts == (0.3,)
    assert files.hash_state(loaded.own_state()) == files.hash_state(model.own_state())
    captions = ["dog before rain", "rain", "first hail"]
    close(loaded.encode_text(captions), model.encode_text(captions))
    assert loaded.logit_scale.item() == pytest.approx(2 * tiny_model.logit_scale.item())
