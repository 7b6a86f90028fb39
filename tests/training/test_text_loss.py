"""The text-only loss on three words and a fake text trunk."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from tclap.training.features import TextFeatures
from tclap.training.text_loss import TextOnlyLoss

LABELS = ["crow", "dog", "rain"]


def reading(read, **templates) -> tuple[TextOnlyLoss, list[str]]:
    """For a model that embeds each caption as ``read(caption)``, a list of numbers; and what it is asked."""
    asked: list[str] = []

    def embed_tokens(captions: list[str]) -> torch.Tensor:
        asked.extend(captions)
        return normalize(torch.tensor([read(caption) for caption in captions]), dim=1)

    text = list  # captions instead of a trunk's outputs
    return TextOnlyLoss(SimpleNamespace(embed_tokens=embed_tokens), text, LABELS, seed=0, **templates), asked


def events(caption: str) -> list[str]:
    """The labels a caption names, in the order in which they sound."""
    named = sorted((caption.index(label), label) for label in LABELS if label in caption)
    ordered = [label for _, label in named]
    return ordered[::-1] if " after " in caption else ordered


def one_hot(label: str) -> list[float]:
    return [float(label == other) for other in LABELS]


def perfect(caption: str) -> list[float]:
    """First and second event in places of their own, as a model that understood would have them."""
    heard = events(caption)
    if "the first sound" in caption:
        return one_hot(heard[0]) + [0.0] * 3
    if "the second sound" in caption:
        return [0.0] * 3 + one_hot(heard[0])
    if " while " in caption:
        both = [(a + b) / 2 for a, b in zip(one_hot(heard[0]), one_hot(heard[1]), strict=True)]
        return both + both
    return one_hot(heard[0]) + one_hot(heard[-1])


def blind(caption: str) -> list[float]:
    """Which events, and nothing of their order."""
    heard = events(caption)
    return [sum(place) for place in zip(*map(one_hot, heard), strict=True)]


def test_accuracy_of_a_model_that_knows_and_of_one_that_cannot():
    assert reading(perfect)[0].accuracy() == 100.0
    assert reading(blind)[0].accuracy() == 0.0  # ties count against it


def test_losses_of_a_perfect_and_a_blind_model():
    good, bad = (reading(read)[0].losses(0, 16) for read in (perfect, blind))
    assert float(good["loss_contrast"]) < 0.1
    # Forward and reversed cannot be told apart: log 2 at least for those two thirds of the anchors.
    assert float(bad["loss_contrast"]) > math.log(2) * 2 / 3


def test_the_slots_loss_by_hand():
    torch.manual_seed(0)
    table: dict[str, list[float]] = {}
    loss, asked = reading(lambda caption: table.setdefault(caption, torch.randn(4).tolist()))
    found = float(loss.losses(3, 4)["loss_slots"])
    captions, prompts = asked[: 2 * 3 * 4 + 2], asked[2 * 3 * 4 + 2 :]
    places = [(place, label) for place in ("first", "second") for label in LABELS]
    assert prompts == [f"In this concatenated sound, the {place} sound is {label}" for place, label in places]
    total = 0.0
    for caption in captions:
        heard = events(caption)
        firsts, seconds = (heard, heard) if " while " in caption else (heard[:1], heard[-1:])
        vectors = normalize(torch.tensor([table[text] for text in (caption, *prompts)]), dim=1)
        shares = (20 * vectors[1:] @ vectors[0]).log_softmax(0).tolist()
        for (place, label), share in zip(places, shares, strict=True):
            true = firsts if place == "first" else seconds
            total -= share / (2 * len(true)) * (label in true)
    assert found == pytest.approx(total / len(captions), abs=1e-4)


GIVEN = {"ordered": ["{a} before {b}!", "{b} after {a}?"], "simultaneous": ["{a} while {b}."]}


@pytest.mark.parametrize("templates", [{}, GIVEN], ids=["its own", "given"])
def test_wordings_of_both_sides_mean_the_same_and_differ_in_words(templates):
    loss, asked = reading(perfect, **templates)
    loss.losses(0, 40)
    one, other = asked[:120], asked[120:240]
    for n, (a, b) in enumerate(zip(one, other, strict=True)):
        assert (" while " in a) == (" while " in b) == (n >= 80)
        assert (set(events(a)) == set(events(b))) if n >= 80 else (events(a) == events(b))
        assert not templates or {a[-1], b[-1]} <= set("." if n >= 80 else "!?")
    assert [events(a) for a in one[:40]] == [events(a)[::-1] for a in one[40:80]]
    assert one != other


def test_the_vocabulary_has_the_captions_of_all_steps():
    loss, asked = reading(perfect)
    for steps in (1, 2, 3):
        before = set(asked)
        loss.losses(steps - 1, 2)
        assert loss.vocabulary(steps, 2) == set(asked) > before


def test_everything_is_on_the_models_device(tiny_model, monkeypatch):
    """On "meta", a device without values, that meets a tensor of the CPU as a GPU does: with an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which "meta" does not have
    tiny_model.text_head = torch.nn.Linear(384, 12)
    tiny_model.to("meta")
    text = TextFeatures(tiny_model.text_trunk, device="meta")
    loss = TextOnlyLoss(tiny_model, lambda captions: text(captions).values[:, 0], LABELS, 0)
    assert {term.device.type for term in loss.losses(0, 4).values()} == {"meta"}
