"""The pool of a published model: rendered waveforms, their captions, and the steps drawn from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import LABELS, TinyPublished, write_clips
from torch import Tensor

from tclap import files
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, render
from tclap.training.audio_features import AudioFeatures
from tclap.training.pool import Pool, Views, make_waveform_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.store import FeatureStore
from tclap.training.variants import variant


@pytest.fixture
def tiny_published() -> TinyPublished:
    return TinyPublished()


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> pd.DataFrame:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(params=[False, True], ids=["held", "stored"])
def features(request, tiny_published, clips, tmp_path) -> AudioFeatures:
    store = FeatureStore(tmp_path / "store", torch.float32) if request.param else None
    return AudioFeatures(tiny_published, clips, ClipAudio(clips, 8000), store)


def pool_of(features: AudioFeatures, clips: pd.DataFrame, pairs=9, base_items=30, seed=7, **options) -> Pool:
    return make_waveform_pool(features, clips, pairs=pairs, base_items=base_items, seed=seed, **options)


def rendered(model: TinyPublished, row: dict, view: str, clips: pd.DataFrame) -> Tensor:
    with torch.no_grad():
        return model.audio_trunk(torch.from_numpy(render(row, view, ClipAudio(clips, 8000)))[None])[0]


@pytest.mark.parametrize("distinct", [False, True])
def test_each_composite_is_the_trunks_output_of_its_manifest_row(features, clips, distinct):
    made, model = pool_of(features, clips, distinct=distinct), features.model
    count = 8 if distinct else 9  # four classes make groups of two pairs
    assert len(made.composites) == len(made.captions) == len(made.events) == count
    assert made.group == (2 if distinct else None)
    pairs = draw_pairs(clips, "post", count, seed=7, distinct=distinct)
    manifest = place(pairs, ClipAudio(clips, 8000), model.window)
    prompted = 0
    for n, row in enumerate(manifest.to_dict("records")):
        for v, view in enumerate(VIEWS):
            expected = rendered(model, row, view, clips)
            torch.testing.assert_close(made.composites[[n]][0, v], expected, atol=1e-5, rtol=0)
        a, b = row["label_i"], row["label_j"]
        words = [f"{a} before {b}", f"{b} before {a}", f"{a} while {b}"]
        if row["sigma"] == "succeeding":
            words = [f"{b} after {a}", f"{a} after {b}", f"{a} while {b}"]
        is_prompted = made.captions[n][0].startswith("this is a sound of ")
        prompted += is_prompted
        assert made.captions[n] == [("this is a sound of " if is_prompted else "") + w for w in words]
        assert made.events[n] == [f"{a} > {b}", f"{b} > {a}", " & ".join(sorted([a, b]))]
    assert 0 < prompted < count


def test_base_items_sound_as_they_are_captioned(features, clips):
    """Every item is one clip, or two in one of two ways, of the labels that its events name."""
    made, model = pool_of(features, clips, pairs=1), features.model
    train = clips[clips["split"] == "train"]
    both = pd.DataFrame(
        [{"clip_i": i, "clip_j": j} for i in train["clip_id"] for j in train["clip_id"] if i[:3] != j[:3]]
    )
    manifest = place(both, ClipAudio(clips, 8000), model.window).to_dict("records")
    label = dict(zip(train["clip_id"], train["label"], strict=True))
    known = {"first": [], "overlap": [], "forward": []}
    for view, rows in known.items():
        rows += [(rendered(model, row, view, clips), row) for row in manifest]
    kinds = dict.fromkeys(known, 0)
    for features_of_item, caption, events in zip(
        made.base[np.arange(30)], made.base_captions, made.base_events, strict=True
    ):
        matches = {
            (view, label[row["clip_i"]], label[row["clip_j"]] if view != "first" else None)
            for view, rows in known.items()
            for output, row in rows
            if torch.allclose(output, features_of_item, atol=1e-5)
        }
        # An overlap of two clips is that of the two the other way round.
        sorts = {(view, frozenset((a, b))) for view, a, b in matches}
        assert len(sorts) == 1, (caption, matches)
        view, a, b = matches.pop()
        kinds[view] += 1
        named = caption.removeprefix("this is a sound of ").split(" and ")
        if view == "first":
            assert events == a and caption.endswith(a) and len(named) == 1
        else:
            assert events == " + ".join(sorted((a, b))) and sorted(named) == sorted((a, b))
    assert min(kinds.values()) >= 4  # of 30, about 9, 10 and 10


def test_distinct_groups_hold_every_class_once(features, clips):
    made = pool_of(features, clips, pairs=13, distinct=True)
    assert len(made.events) == 12
    for n in range(0, 12, 2):
        labels = sum((events[0].split(" > ") for events in made.events[n : n + 2]), [])
        assert sorted(labels) == list(LABELS)


@pytest.mark.parametrize(("stage", "split"), [("post", "train"), ("validation", "validation")])
def test_a_stage_reads_its_own_clips_only(tiny_published, clips, stage, split):
    """Others may not even be there; and which clips sound shows in the outputs."""
    own = clips[clips["split"] == split]
    reader, heard = ClipAudio(clips, 8000), set()

    class Listening:
        sample_rate = 8000

        def __call__(self, clip_id: str) -> np.ndarray:
            heard.add(clip_id)
            return reader(clip_id)

    made = pool_of(AudioFeatures(tiny_published, clips, Listening()), clips, stage=stage)
    assert heard == set(own["clip_id"])
    alone = pool_of(AudioFeatures(tiny_published, own, ClipAudio(own, 8000)), own, stage=stage)
    rows = np.arange(9)
    assert torch.equal(made.composites[rows], alone.composites[rows])
    assert torch.equal(made.base, alone.base) and made.base_captions == alone.base_captions


def test_the_pool_is_a_function_of_the_seed(tiny_published, clips):
    features = AudioFeatures(tiny_published, clips, ClipAudio(clips, 8000))
    one, again, other = (pool_of(features, clips, seed=seed) for seed in (1, 1, 2))
    rows = np.arange(9)
    assert torch.equal(one.composites[rows], again.composites[rows]) and torch.equal(one.base, again.base)
    assert (one.captions, one.base_captions) == (again.captions, again.base_captions)
    assert not torch.equal(one.composites[rows], other.composites[rows])
    assert one.captions != other.captions and one.base_captions != other.base_captions


def test_views_are_three_rows_a_pair():
    flat = torch.arange(4 * 3 * 2 * 5).reshape(12, 2, 5)
    views = Views(flat)
    assert len(views) == 4
    found = views[np.array([2, 0, 2])]
    assert found.shape == (3, 3, 2, 5)
    for place_, pair in enumerate((2, 0, 2)):
        for v in range(3):
            assert torch.equal(found[place_, v], flat[3 * pair + v])
    assert torch.equal(views[[3]], flat[9:][None])
    with pytest.raises(IndexError):
        views[np.array([4])]


# Steps of a model with dropout in its heads


@pytest.fixture
def pools(tiny_published, clips) -> tuple[Pool, Pool]:
    features = AudioFeatures(tiny_published, clips, ClipAudio(clips, 8000))
    return tuple(pool_of(features, clips, pairs=6, base_items=12, stage=s) for s in ("post", "validation"))


def test_post_pretraining_leaves_published_weights_alone(tiny_published, pools):
    base = tiny_published
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    trained = base.with_readout("residual-segments")
    schedule = Schedule.of("published", 6, 0.01, epoch=3, validate_every=3)
    post_pretrain(
        trained, variant("t-clap"), base.text_trunk, *pools, schedule, batch=4, replay_batch=4, seed=0
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert trained.audio_trunk is base.audio_trunk and not trained.training
    assert files.hash_state(trained.audio_trunk.state_dict()) == TinyPublished().audio_trunk.fingerprint
    own = trained.own_state()
    assert not any(name.startswith(("audio_trunk.", "text_trunk.")) for name in own)
    changed = {name for name in own if name in before and not torch.equal(own[name], before[name])}
    assert changed >= {"audio_head.inner.weight", "text_head.project.weight"}
    assert own["audio_head.order.outer.weight"].any()  # it was zero
    assert own["logit_scale"] != before["log_scale"]
