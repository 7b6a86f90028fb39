"""Training the caption reader: what it learns from, that it learns, and that it is the seed's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import tclap
from tclap import files
from tclap.models.registry import load_model
from tclap.slots.event_captions import ALL_WORDINGS, EventCaption, closed_class
from tclap.slots.model import Reading, SlotModel
from tclap.slots.reader import BEGIN, INSIDE, OUTSIDE
from tclap.slots.training import IGNORED, _relation_loss, _words_loss, any_words, token_labels, train_reader

FEW = {
    "plain": ("{a} and {b}", "{a}"),
    "forward": ("{a} before {b}",),
    "backward": ("{b} after {a}",),
    "together": ("{a} while {b}",),
    "start": ("the first sound is {a}",),
    "end": ("the last sound is {a}",),
}


def test_labels_of_tokens_by_hand():
    caption = EventCaption("first a dog, then hail", [(6, 11), (18, 22)], "forward")
    offsets = [(0, 0), (0, 5), (6, 7), (7, 11), (11, 12), (12, 17), (17, 22), (0, 0)]
    # Two tokens have the space before their word, as byte-level tokenizers give it.
    expected = [IGNORED, OUTSIDE, BEGIN, INSIDE, OUTSIDE, OUTSIDE, BEGIN, IGNORED]
    assert token_labels(caption, offsets).tolist() == expected


def test_words_are_neither_of_time_nor_of_the_classes(tiny_model):
    model = SlotModel(tiny_model)
    assert any_words(model) == ["dog", "green", "lamp", "river", "table"]
    assert any_words(model, exclude=["hot dog", "River"]) == ["green", "lamp", "table"]


def test_a_reader_learns(tiny_model):
    model = SlotModel(tiny_model, closed_class=closed_class(FEW))
    history = train_reader(model, wordings=FEW, steps=150, pool=300, batch=32)
    assert history["part"].value_counts().to_dict() == {"words": 150, "relation": 150}
    for _, part in history.groupby("part"):
        assert part["loss"].tail(10).mean() < 0.5 * part["loss"].head(5).mean()
    assert model.read(["kettle before piano", "piano after kettle"]) == [
        Reading("forward", ("kettle", "piano")),
        Reading("backward", ("kettle", "piano")),
    ]
    assert not model.reader.training and not any(p.requires_grad for p in model.parameters())


def test_slots_learn_from_the_seed_and_the_wordings_given(tiny_model):
    few = {"steps": 3, "pool": 20, "batch": 4, "wordings": FEW}
    model, other = tclap.add_slots(tiny_model, **few), tclap.add_slots(tiny_model, **few, seed=1)
    expected = SlotModel(tiny_model, closed_class=closed_class(FEW))
    train_reader(expected, **few)
    assert model.config == expected.config
    found, again, different = (files.hash_state(m.own_state()) for m in (model, expected, other))
    assert found == again != different


def test_one_call_leaves_the_model_and_the_generators_alone(tiny_model):
    before, state = copy.deepcopy(tiny_model.state_dict()), torch.get_rng_state()
    captions = ["A dog barks while rain falls"]
    slotted = tclap.add_slots(tiny_model, steps=2, pool=20, captions=captions, whole=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(slotted, SlotModel) and slotted.whole == 0.3
    assert slotted.closed_class == closed_class(ALL_WORDINGS)
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_batches_are_on_the_models_device(tiny_model, monkeypatch):
    """On "meta", where a tensor of the CPU beside one of the device is an error, as on a GPU."""
    model, rows = SlotModel(tiny_model).to("meta"), [torch.ones(3, 384), torch.ones(2, 384)]
    monkeypatch.setattr(
        model.reader, "label", lambda tokens, closed: tokens.values[..., :3] + closed[..., None]
    )
    monkeypatch.setattr(
        model.reader, "relate", lambda tokens: tokens.values[:, 0, :6] + tokens.lengths[:, None]
    )
    words = [(row, torch.ones(len(row)).long(), torch.ones(len(row)).long()) for row in rows]
    assert _words_loss(model)(words).device.type == "meta"
    assert _relation_loss(model)([(row, 1) for row in rows]).device.type == "meta"


@pytest.mark.parametrize("name", ["steps", "pool", "batch"])
def test_numbers_below_one_are_refused(tiny_model, name):
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least 1"):
        train_reader(SlotModel(tiny_model), **{name: 0})


@pytest.mark.parametrize("name", ["captions", "exclude"])
def test_one_string_is_not_read_letter_by_letter(tiny_model, name):
    with pytest.raises(TypeError, match=r"got one string or path: pass \['dog bark'\]"):
        tclap.add_slots(tiny_model, **{name: "dog bark"})


def test_on_minilm_labels_that_were_never_read_are_put_in_order():
    """A short training on a real text trunk: classes and one wording it did not learn from."""
    model = SlotModel(load_model("compact"))
    few = {relation: wordings[:28:2] for relation, wordings in ALL_WORDINGS.items()}
    labels = ["church bells", "crying baby", "hand saw", "dog", "sea waves", "helicopter"]
    train_reader(model, exclude=labels, wordings=few, steps=200, pool=600, batch=32)
    asked = {
        "this is a sound of {} before {}": (0, 1),
        "{} after {}": (1, 0),
        "first {}, then {}": (0, 1),
        "{} followed by {}": (0, 1),
    }
    right = []
    for wording, order in asked.items():
        pairs = [(a, b) for a in labels for b in labels if a != b]
        found = model.read([wording.format(a, b) for a, b in pairs])
        right += [r.events == (p[order[0]], p[order[1]]) for r, p in zip(found, pairs, strict=True)]
    assert np.mean(right) > 0.85
    assert all(r.relation == "plain" for r in model.read([f"this is a sound of {label}" for label in labels]))
