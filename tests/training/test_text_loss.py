"""The text-only loss on three words and a fake text trunk."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from tclap.training.features import TextFeatures
from tclap.training.text_loss import TextOnlyLoss

LABELS = ["crow", "dog", "rain"]


def reading(read) -> TextOnlyLoss:
    """For a model that embeds each caption as ``read(caption)``, a list of numbers."""
    text = list  # captions instead of a trunk's outputs

    def embed_text(captions: list[str]) -> torch.Tensor:
        return normalize(torch.tensor([read(caption) for caption in captions]), dim=1)

    return TextOnlyLoss(SimpleNamespace(embed_text=embed_text), text, LABELS, seed=0)


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
    assert reading(perfect).accuracy() == 100.0
    assert reading(blind).accuracy() == 0.0  # ties count against it


def test_losses_of_a_perfect_and_a_blind_model():
    good, bad = reading(perfect).losses(0, 16), reading(blind).losses(0, 16)
    assert float(good["loss_contrast"]) < 0.1
    # Forward and reversed cannot be told apart: log 2 at least for those two thirds of the anchors.
    assert float(bad["loss_contrast"]) > math.log(2) * 2 / 3


def test_the_slots_loss_by_hand():
    torch.manual_seed(0)
    table: dict[str, list[float]] = {}

    def any_vector(caption: str) -> list[float]:
        return table.setdefault(caption, torch.randn(4).tolist())

    asked: list[list[str]] = []
    made = reading(any_vector)
    embed = made.model.embed_text
    made.model.embed_text = lambda captions: asked.append(captions) or embed(captions)
    found = float(made.losses(3, 4)["loss_slots"])
    (together,) = asked
    captions, prompts = together[: 2 * 3 * 4 + 2], together[2 * 3 * 4 + 2 :]
    assert prompts == [
        f"In this concatenated sound, the {place} sound is {label}"
        for place in ("first", "second")
        for label in LABELS
    ]
    vectors = {
        caption: torch.tensor(table[caption]) / torch.tensor(table[caption]).norm() for caption in table
    }
    total = 0.0
    for caption in captions:
        heard = events(caption)
        firsts, seconds = (heard, heard) if " while " in caption else (heard[:1], heard[-1:])
        logits = torch.stack([20 * vectors[caption] @ vectors[prompt] for prompt in prompts])
        for place, true in (("first", firsts), ("second", seconds)):
            for label in true:
                row = prompts.index(f"In this concatenated sound, the {place} sound is {label}")
                total -= float(logits.log_softmax(0)[row]) / (2 * len(true))
    assert found == pytest.approx(total / len(captions), abs=1e-4)


def test_wordings_of_both_sides_mean_the_same_and_differ_in_words():
    asked: list[list[str]] = []
    made = reading(perfect)
    embed = made.model.embed_text
    made.model.embed_text = lambda captions: asked.append(captions) or embed(captions)
    made.losses(0, 40)
    one, other = asked[0][:120], asked[0][120:240]
    for view in range(3):
        for a, b in zip(one[40 * view : 40 * view + 40], other[40 * view : 40 * view + 40], strict=True):
            assert (" while " in a) == (" while " in b) == (view == 2)
            assert (set(events(a)) == set(events(b))) if view == 2 else (events(a) == events(b))
    assert [events(a) for a in one[:40]] == [events(a)[::-1] for a in one[40:80]]
    assert one != other


def test_wordings_are_those_given_in_their_places():
    ordered, simultaneous = ["{a} ere {b}", "no {b} until {a}"], ["{a} amid {b}"]
    asked: list[list[str]] = []
    made = TextOnlyLoss(
        SimpleNamespace(embed_text=lambda captions: asked.append(captions) or torch.eye(len(captions))),
        list,
        LABELS,
        seed=0,
        ordered=ordered,
        simultaneous=simultaneous,
    )
    made.losses(0, 40)

    def first_and_second(caption: str) -> tuple[str, ...]:
        found = re.fullmatch(r"(\w+) ere (\w+)|no (\w+) until (\w+)", caption)
        return found.groups()[:2] if found[1] else found.groups()[:1:-1]

    captions = asked[0]
    for start in (0, 120):
        forward, inverse, both = (captions[start + n : start + n + 40] for n in (0, 40, 80))
        assert {" ere " in caption for caption in forward} == {True, False}
        for one, other, mixed in zip(forward, inverse, both, strict=True):
            a, b = first_and_second(one)
            assert (b, a) == first_and_second(other) and mixed == f"{a} amid {b}"


def test_the_vocabulary_has_the_captions_of_all_steps():
    asked: list[str] = []
    made = reading(perfect)
    embed = made.model.embed_text
    made.model.embed_text = lambda captions: asked.extend(captions) or embed(captions)
    for steps in (1, 2, 3):
        before = set(asked)
        made.losses(steps - 1, 2)
        assert made.vocabulary(steps, 2) == set(asked) > before


def test_everything_is_on_the_models_device(tiny_model, monkeypatch):
    """On "meta", a device without values, that meets a tensor of the CPU as a GPU does: with an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which "meta" does not have
    tiny_model.text_head = torch.nn.Linear(384, 12)
    tiny_model.to("meta")
    text = TextFeatures(tiny_model.text_trunk, device="meta")
    loss = TextOnlyLoss(tiny_model, lambda captions: text(captions).values[:, 0], LABELS, 0)
    assert {term.device.type for term in loss.losses(0, 4).values()} == {"meta"}


def test_a_draw_depends_on_seed_and_step_alone(tiny_model):
    def values(step: int, seed: int = 0, before: int | None = None) -> list[float]:
        loss = TextOnlyLoss(tiny_model, TextFeatures(tiny_model.text_trunk), LABELS, seed)
        if before is not None:
            loss.losses(before, 4)
        return [term.item() for term in loss.losses(step, 4).values()]

    assert values(1) == values(1, before=0)
    assert values(1) != values(2) and values(1) != values(1, seed=1)
