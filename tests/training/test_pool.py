"""The pool of trunk outputs, recomputed one item at a time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tclap.data.batches import SegmentBank, base_batch, composite_batch
from tclap.data.composites import draw_pairs, render_single
from tclap.training import pool as module
from tclap.training.pool import Pool, batch_rows, make_pool

FRAMES, WIDTH = 7, 8  # 50 frames of mel, 8 to one


@pytest.fixture
def bank(tiny_model, tiny_clips, tiny_audio) -> SegmentBank:
    clips = tiny_clips[tiny_clips["split"] == "post"]
    return SegmentBank(clips, tiny_audio, tiny_model.audio_trunk.mel, tiny_model.window)


def same(one: Pool, other: Pool) -> bool:
    lists = ("captions", "events", "base_captions", "base_events", "group")
    tensors = ("composites", "base")
    return all(getattr(one, n) == getattr(other, n) for n in lists) and all(
        torch.equal(getattr(one, n), getattr(other, n)) for n in tensors
    )


# Rows of a step


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (12, 5), (7, 3), (5, 5)])
def test_every_row_once_an_epoch(size, batch):
    drawn = np.concatenate([batch_rows(size, batch, step, seed=3) for step in range(size)])  # `batch` epochs
    assert all(len(batch_rows(size, batch, step, seed=3)) == batch for step in range(size))
    epochs = drawn.reshape(batch, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_larger_than_the_pool_wraps_around():
    assert Counter(batch_rows(4, 10, 0, seed=0).tolist()).most_common(4)[-1][1] >= 2
    assert len(batch_rows(4, 10, 0, seed=0)) == 10


@pytest.mark.parametrize("size", [12, 14])
def test_whole_groups_stay_together(size):
    steps = [batch_rows(size, 4, step, seed=1, whole=True) for step in range(6)]
    for rows in steps:
        assert rows[0] % 4 == 0 and (rows == rows[0] + np.arange(4)).all()
    for epoch in (steps[:3], steps[3:]):
        assert sorted(rows[0] for rows in epoch) == [0, 4, 8]


def test_rows_depend_on_seed_and_step_alone():
    assert (batch_rows(50, 8, 3, seed=0) == batch_rows(50, 8, 3, seed=0)).all()
    assert (batch_rows(50, 8, 3, seed=0) != batch_rows(50, 8, 3, seed=1)).any()
    assert (batch_rows(50, 8, 3, seed=0) != batch_rows(50, 8, 4, seed=0)).any()


# The pool


def test_composites_are_what_the_trunk_makes_of_each(tiny_model, tiny_audio, bank, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 5)  # 12 pairs in chunks of 5, 5 and 2
    made = make_pool(tiny_model, bank, pairs=12, base_items=3, seed=7, augment=False)
    assert made.composites.shape == (12, 3, FRAMES, WIDTH)
    assert made.group is None
    mel = tiny_model.audio_trunk.mel
    pairs = draw_pairs(bank.clips, "post", 12, seed=7)

    def power(clip_id: str) -> torch.Tensor:
        waveform = render_single(tiny_audio(clip_id), tiny_model.window, 8000)[:2000]  # half a window
        return mel(torch.from_numpy(waveform)[None])

    for n, pair in enumerate(pairs.to_dict("records")):
        i, j = power(pair["clip_i"]), power(pair["clip_j"])
        mixed = (i + j) / 2
        views = torch.cat([torch.cat(parts, dim=1) for parts in ((i, j), (j, i), (mixed, mixed))])
        with torch.no_grad():
            expected = tiny_model.audio_trunk.from_log_mel(mel.log(views))
        torch.testing.assert_close(made.composites[n], expected, atol=1e-5, rtol=0)
        a, b = pair["label_i"], pair["label_j"]
        words = {
            "preceding": [f"{a} before {b}", f"{b} before {a}", f"{a} while {b}"],
            "succeeding": [f"{b} after {a}", f"{a} after {b}", f"{a} while {b}"],
        }[pair["sigma"]]
        assert made.captions[n] == [f"this is a sound of {text}" for text in words]
        assert made.events[n] == [f"{a} > {b}", f"{b} > {a}", " & ".join(sorted([a, b]))]


def test_augmented_items_come_from_the_chunks_own_generator(tiny_model, bank, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    made = make_pool(tiny_model, bank, pairs=16, base_items=20, seed=7)
    log, trunk = tiny_model.audio_trunk.mel.log, tiny_model.audio_trunk.from_log_mel
    pairs = draw_pairs(bank.clips, "post", 16, seed=7).iloc[8:]
    items = composite_batch(bank, pairs, log, np.random.default_rng([7, module.PAIRS, 8]))
    with torch.no_grad():
        expected = trunk(items.log_mel)
    for k in range(8):
        for view in range(3):
            torch.testing.assert_close(
                made.composites[8 + k, view], expected[8 * view + k], atol=1e-5, rtol=0
            )
            assert made.captions[8 + k][view] == items.captions[8 * view + k]
            assert made.events[8 + k][view] == items.events[8 * view + k]
    last = base_batch(bank, 4, log, np.random.default_rng([7, module.BASE_ITEMS, 16]))
    with torch.no_grad():
        torch.testing.assert_close(made.base[16:], trunk(last.log_mel), atol=1e-5, rtol=0)
    assert (made.base_captions[16:], made.base_events[16:]) == (last.captions, last.events)
    assert made.base.shape == (20, FRAMES, WIDTH)
    assert len(made.base_captions) == len(made.base_events) == 20


def test_distinct_groups_hold_every_class_once(tiny_model, bank):
    made = make_pool(tiny_model, bank, pairs=13, base_items=4, seed=0, distinct=True)
    assert made.group == 2  # four classes make two pairs
    assert len(made.composites) == len(made.events) == 12
    for n in range(0, 12, 2):
        labels = sum((events[0].split(" > ") for events in made.events[n : n + 2]), [])
        assert sorted(labels) == ["bell", "crow", "dog", "rain"]


def test_composites_of_some_labels_and_replay_of_all(tiny_model, bank):
    made = make_pool(tiny_model, bank, pairs=1000, base_items=60, seed=0, labels=["crow", "rain"])
    heard = {label for events in made.events for label in events[0].split(" > ")}
    assert heard == {"crow", "rain"}
    # Three clips of each make 18 ordered pairs; there are no more.
    assert len(made.composites) == 18
    replayed = {label for events in made.base_events for label in events.split(" + ")}
    assert replayed == {"bell", "crow", "dog", "rain"}


def test_the_pool_is_a_function_of_the_seed(tiny_model, bank):
    def made(seed: int) -> Pool:
        return make_pool(tiny_model, bank, pairs=6, base_items=6, seed=seed)

    one = made(1)
    assert same(one, made(1))
    assert not torch.equal(one.composites, made(2).composites)
    assert not torch.equal(one.base, made(2).base)
    assert not torch.equal(
        one.composites, make_pool(tiny_model, bank, pairs=6, base_items=6, seed=1, augment=False).composites
    )


def test_the_outputs_can_be_trained_on(tiny_model, bank):
    made = make_pool(tiny_model, bank, pairs=2, base_items=2, seed=0)
    for features in (made.base, made.composites.flatten(0, 1)):
        assert not features.is_inference() and not features.requires_grad
        tiny_model.embed_audio(features).sum().backward()
    assert tiny_model.audio_trunk.project.weight.grad is None


def test_another_stage(tiny_model, tiny_clips, tiny_audio, bank):
    clips = tiny_clips[tiny_clips["split"] == "validation"]
    other = SegmentBank(clips, tiny_audio, tiny_model.audio_trunk.mel, tiny_model.window)
    made = make_pool(tiny_model, other, pairs=4, base_items=4, seed=0, stage="validation")
    assert made.composites.shape[0] == 4
    with pytest.raises(ValueError, match="no clips for stage 'validation'"):
        make_pool(tiny_model, bank, pairs=4, base_items=4, seed=0, stage="validation")
