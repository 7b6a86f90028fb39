"""The pool of trunk outputs, recomputed one item at a time, and the rows that a step takes of it."""

import numpy as np
import pandas as pd
import pytest
import torch

from tclap.data.batches import base_batch, composite_batch, draw_base_items
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, render
from tclap.training import pool as module
from tclap.training.features import AudioFeatures
from tclap.training.pool import Items, MelSource, Pool, WaveformSource, batch_rows, make_pool

LABELS = ["bell", "crow", "dog", "rain"]


# Rows of a step


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (12, 5), (7, 3), (4, 10)])
def test_every_row_once_per_epoch(size, batch):
    drawn = np.concatenate([batch_rows(size, batch, step, seed=3) for step in range(size)])  # `batch` epochs
    assert all(len(batch_rows(size, batch, step, seed=3)) == batch for step in range(size))
    epochs = drawn.reshape(batch, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("size", [12, 14])
def test_whole_groups_stay_together(size):
    steps = [batch_rows(size, 4, step, seed=1, whole=True) for step in range(6)]
    for rows in steps:
        assert rows[0] % 4 == 0 and (rows == rows[0] + np.arange(4)).all()
    for epoch in (steps[:3], steps[3:]):
        assert sorted(rows[0] for rows in epoch) == [0, 4, 8]


# Both sources


@pytest.fixture
def mel(tiny_model, banks) -> MelSource:
    return MelSource(tiny_model, banks["post"])


@pytest.fixture
def waveforms(tiny_published, recorded) -> WaveformSource:
    features = AudioFeatures(tiny_published, ClipAudio(recorded, 8000))
    return WaveformSource(features, recorded)


@pytest.fixture(params=["mel", "waveforms"])
def source(request) -> MelSource | WaveformSource:
    return request.getfixturevalue(request.param)


def pool_of(
    source: MelSource | WaveformSource, pairs: int = 9, base_items: int = 10, seed: int = 7, **options
):
    return make_pool(source, pairs=pairs, base_items=base_items, seed=seed, **options)


def same(one: Pool, other: Pool) -> bool:
    return one.group == other.group and all(
        torch.equal(a.features, b.features) and (a.captions, a.events) == (b.captions, b.events)
        for a, b in ((one.composites, other.composites), (one.base, other.base))
    )


def heard(events: list[list[str]]) -> set[str]:
    return {label for views in events for label in views[0].replace(" > ", " + ").split(" + ")}


def assert_worded(made: Pool, pairs: pd.DataFrame) -> None:
    """Each composite's captions, bare or prompted, and events are those of its pair."""
    prompted = set()
    for n, pair in enumerate(pairs.to_dict("records")):
        a, b = pair["label_i"], pair["label_j"]
        words = {
            "preceding": [f"{a} before {b}", f"{b} before {a}", f"{a} while {b}"],
            "succeeding": [f"{b} after {a}", f"{a} after {b}", f"{a} while {b}"],
        }[pair["sigma"]]
        prompt = "this is a sound of " if made.composites.captions[n][0].startswith("this") else ""
        prompted.add(prompt)
        assert made.composites.captions[n] == [prompt + text for text in words]
        assert made.composites.events[n] == [f"{a} > {b}", f"{b} > {a}", " & ".join(sorted([a, b]))]
    assert len(prompted) == 2


def test_distinct_groups_hold_every_class_once(source):
    made = pool_of(source, pairs=13, distinct=True)
    assert made.group == 2  # four classes make two pairs
    assert len(made.composites) == len(made.composites.features) == 12
    for n in range(0, 12, 2):
        labels = sum((events[0].split(" > ") for events in made.composites.events[n : n + 2]), [])
        assert sorted(labels) == LABELS
    assert pool_of(source, distinct=True, largest=1).group == 1


def test_the_pool_is_a_function_of_the_seed(source):
    one = pool_of(source, seed=1)
    assert same(one, pool_of(source, seed=1)) and not same(one, pool_of(source, seed=2))
    assert one.vocabulary == {
        text for items in (one.composites, one.base) for c in items.captions for text in c
    }


# Mel power


@pytest.mark.parametrize("augment", [True, False])
def test_items_are_the_trunks_outputs_of_batches_of_the_chunks_own_generator(
    tiny_model, banks, monkeypatch, augment
):
    monkeypatch.setattr(module, "CHUNK", 8)
    made = pool_of(MelSource(tiny_model, banks["post"], augment), pairs=16, base_items=20)
    log, trunk = tiny_model.audio_trunk.mel.log, tiny_model.audio_trunk.from_log_mel
    pairs = draw_pairs(banks["post"].clips, "post", 16, seed=7)
    generator = np.random.default_rng([7, module.PAIRS, 8]) if augment else None
    batch = composite_batch(banks["post"], pairs.iloc[8:], log, generator)
    last = base_batch(banks["post"], 4, log, np.random.default_rng([7, module.BASE_ITEMS, 16]), augment)
    with torch.no_grad():
        expected, expected_last = trunk(batch.log_mel).unflatten(0, (3, 8)), trunk(last.log_mel)
    found = made.composites.features[8:].transpose(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not found.is_inference()  # it can be trained on
    torch.testing.assert_close(made.base.features[16:, 0], expected_last, atol=1e-5, rtol=0)
    assert sum(made.base.captions[16:], []) == last.captions and sum(made.base.events[16:], []) == last.events
    assert len(made.base) == len(made.base.features) == 20
    if augment:
        assert_worded(made, pairs)


# Waveforms


def rendered(model, row: dict, view: str, clips: pd.DataFrame) -> torch.Tensor:
    with torch.no_grad():
        return model.audio_trunk(torch.from_numpy(render(row, view, ClipAudio(clips, 8000)))[None])[0]


@pytest.mark.parametrize("distinct", [False, True])
def test_composites_are_the_trunks_output_of_their_manifest_row(
    waveforms, tiny_published, recorded, distinct
):
    made = pool_of(waveforms, distinct=distinct)
    pairs = draw_pairs(recorded, "post", len(made.composites), seed=7, distinct=distinct)
    seed = [7, module.DISTINCT_PAIRS if distinct else module.PAIRS]
    manifest = place(pairs, ClipAudio(recorded, 8000), tiny_published.window, seed=seed)
    assert_worded(made, manifest)
    for n, row in enumerate(manifest.to_dict("records")):
        expected = torch.stack([rendered(tiny_published, row, view, recorded) for view in VIEWS])
        torch.testing.assert_close(made.composites.features[n], expected, atol=1e-5, rtol=0)


def test_base_items_sound_as_they_are_captioned(waveforms, tiny_published, recorded):
    made, clips = pool_of(waveforms, pairs=1, base_items=30), for_stage(recorded, "post")
    seed = [7, module.BASE_ITEMS]
    kinds, *ends = draw_base_items(clips, 30, np.random.default_rng(seed))
    assert len(set(kinds)) == 3
    i, j = (clips.iloc[rows].reset_index(drop=True) for rows in ends)
    pairs = pd.DataFrame({"clip_i": i["clip_id"], "clip_j": j["clip_id"]})
    manifest = place(pairs, ClipAudio(recorded, 8000), tiny_published.window, seed=seed)
    for n, row in enumerate(manifest.to_dict("records")):
        view = {"single": "first", "overlap": "overlap", "sequence": "forward"}[kinds[n]]
        expected = rendered(tiny_published, row, view, recorded)
        torch.testing.assert_close(made.base.features[n, 0], expected, atol=1e-5, rtol=0)
        names = {i["label"][n]} if view == "first" else {i["label"][n], j["label"][n]}
        assert {name for name in LABELS if name in made.base.captions[n][0]} == names
        assert made.base.events[n] == [" + ".join(sorted(names))]


@pytest.mark.parametrize(("stage", "split"), [("post", "train"), ("validation", "validation")])
def test_a_stage_reads_its_own_clips_only(tiny_published, recorded, stage, split):
    own = recorded[recorded["split"] == split]  # others may not even be there
    alone = WaveformSource(AudioFeatures(tiny_published, ClipAudio(own, 8000)), own)
    every = WaveformSource(AudioFeatures(tiny_published, ClipAudio(recorded, 8000)), recorded)
    assert same(pool_of(every, stage=stage), pool_of(alone, stage=stage))
    with pytest.raises(ValueError, match="no clips for stage 'base'"):
        pool_of(WaveformSource(every._features, own[own["split"] == "validation"]), stage="base")


@pytest.mark.parametrize(("group", "batch", "steps"), [(None, 8, 1), (None, 4, 3), (2, 8, 7), (None, 20, 1)])
def test_an_epoch_is_the_composites_in_whole_batches_of_either_sampler(group, batch, steps):
    items = Items(torch.zeros(14, 3, 1, 1), [[""] * 3] * 14, [[""] * 3] * 14)
    assert Pool(items, items, group).steps_per_epoch(batch) == steps
