"""Trunk outputs of rendered waveforms, and what training and evaluation make of kept ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny import LABELS, TinyPublished, write_clips
from torch import Tensor, nn

from artifact.embeddings import RunEmbeddings, TestAudio
from tclap import audio
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, render, render_single
from tclap.data.conditions import Condition, arrange
from tclap.evaluation import tasks
from tclap.models.base import Tokens
from tclap.training.audio_features import AudioFeatures, Whole
from tclap.training.pool import make_waveform_pool
from tclap.training.post_pretraining import post_pretrain
from tclap.training.schedule import Schedule
from tclap.training.store import FeatureStore, StoredRows
from tclap.training.text_features import StoredText
from tclap.training.variants import variant


@pytest.fixture
def tiny_published() -> TinyPublished:
    return TinyPublished()


@pytest.fixture
def clips(tmp_path) -> pd.DataFrame:
    return write_clips(tmp_path / "clips")


def features_of(model: TinyPublished, clips: pd.DataFrame, store: FeatureStore | None = None):
    return AudioFeatures(model, clips, ClipAudio(clips, model.sample_rate), store)


def placed(clips: pd.DataFrame, count: int = 5, **options) -> list[dict]:
    pairs = draw_pairs(clips, "post", count, seed=0)
    return place(pairs, ClipAudio(clips, 8000), 0.5, **options).to_dict("records")


def every_kind(clips: pd.DataFrame) -> list:
    """Clips as they are played alone, composites in all views, and whole clips."""
    items = [*clips["clip_id"][:3], *((row, view) for row in placed(clips) for view in (*VIEWS, "first"))]
    return [*items, *map(Whole, clips["clip_id"][:6])]


def played(item, clips: pd.DataFrame) -> np.ndarray:
    reader = ClipAudio(clips, 8000)
    if isinstance(item, str):
        return render_single(reader(item), 0.5, 8000)
    if isinstance(item, Whole):
        clip = reader(item.clip_id)
        if len(clip) <= 4000:
            return np.tile(clip, 4)[:4000]
        return audio.crop(clip, audio.most_energetic_start(clip, 4000), 4000)
    return render(*item, reader)


def alone(model: TinyPublished, items: list, clips: pd.DataFrame) -> Tensor:
    """Each item's own pass through the trunk."""
    with torch.no_grad():
        rows = [model.audio_trunk(torch.from_numpy(played(item, clips))[None])[0] for item in items]
    return torch.stack(rows)


# Outputs


@pytest.mark.parametrize("kept", [False, True])
def test_each_row_is_the_trunks_output_of_that_item(tiny_published, clips, tmp_path, kept):
    items = every_kind(clips)
    store = FeatureStore(tmp_path / "store", torch.float32) if kept else None
    found = features_of(tiny_published, clips, store).outputs(items, "test")
    assert isinstance(found, StoredRows if kept else Tensor) and len(found) == len(items)
    expected = alone(tiny_published, items, clips)
    assert expected.std(0).mean() > 0.05  # the trunk tells items apart
    torch.testing.assert_close(found[np.arange(len(items))], expected, atol=1e-5, rtol=0)
    # Not all of a length that is a multiple of the batch, and in another order.
    torch.testing.assert_close(found[[7, 2, 7]], expected[[7, 2, 7]], atol=1e-5, rtol=0)


def test_what_is_held_in_memory_can_be_trained_on(tiny_published, clips):
    found = features_of(tiny_published, clips).outputs(every_kind(clips), "test")
    assert not found.is_inference() and not found.requires_grad
    tiny_published.embed_audio(found).sum().backward()
    assert tiny_published.audio_trunk.conv.weight.grad is None


def test_the_trunk_is_in_evaluation_mode(tiny_published, clips):
    modes = []
    tiny_published.audio_trunk.train()  # a norm of a trunk in training would see the batch
    tiny_published.audio_trunk.register_forward_pre_hook(lambda trunk, _: modes.append(trunk.training))
    features_of(tiny_published, clips).outputs(every_kind(clips), "test")
    assert modes and not any(modes)


def test_a_store_in_single_precision_changes_no_bit_and_one_in_half_rounds_once(
    tiny_published, clips, tmp_path
):
    items = every_kind(clips)
    rows = np.arange(len(items))
    held = features_of(tiny_published, clips).outputs(items, "test")
    for dtype in (torch.float32, torch.float16):
        for _ in range(2):  # made, then read
            store = FeatureStore(tmp_path / "store", dtype)
            found = features_of(tiny_published, clips, store).outputs(items, "test")[rows]
            assert torch.equal(found, held.to(dtype).float())
    assert not torch.equal(held.half().float(), held)


def test_what_is_kept_does_not_go_through_the_trunk_again(tiny_published, clips, tmp_path):
    items = every_kind(clips)
    trunk, folder = tiny_published.audio_trunk, tmp_path / "store"
    features_of(tiny_published, clips, FeatureStore(folder)).outputs([*items, *items[:4]], "test")
    assert trunk.seen == len(items)
    read = features_of(tiny_published, clips, FeatureStore(folder))
    read.outputs(items[::-1], "test")
    assert trunk.seen == len(items)
    read.outputs([*items, clips["clip_id"].iloc[5]], "test")
    assert trunk.seen == len(items) + 1


def made_again(model, clips, store, items) -> int:
    """How many of the items go through the trunk."""
    before = model.audio_trunk.seen
    features_of(model, clips, store).outputs(items, "test")
    return model.audio_trunk.seen - before


def test_rows_are_known_by_what_they_were_made_of(tiny_published, clips, tmp_path):
    store = FeatureStore(tmp_path / "store")
    row = placed(clips, 1)[0]
    clip = row["clip_i"]
    items = [(row, view) for view in (*VIEWS, "first", "second")] + [clip, Whole(clip)]
    assert made_again(tiny_published, clips, store, items) == 7
    # Neither names nor folders matter.
    shutil.copytree(tmp_path / "clips", tmp_path / "elsewhere")
    moved = clips.assign(
        clip_id="x-" + clips["clip_id"], path=clips["path"].str.replace("/clips/", "/elsewhere/")
    )
    renamed = row | {f"clip_{end}": f"x-{row[f'clip_{end}']}" for end in "ij"} | {"pair_id": "other"}
    same = [(renamed, view) for _, view in items[:5]] + [f"x-{clip}", Whole(f"x-{clip}")]
    assert made_again(tiny_published, moved, store, same) == 0
    # All that is heard does.
    changes = {"gap": 80, "policy": "full", "cut": 5, "start_i": abs(row["start_i"] - 1)}
    changes |= {"length_j": row["length_j"] - 1, "gain_i": row["gain_i"] * 2, "gain_j": row["gain_j"] * 2}
    for name, value in changes.items():
        assert made_again(tiny_published, clips, store, [(row | {name: value}, "forward")]) == 1, name
    backwards = {f"{name}_{end}": row[f"{name}_{other}"] for name in ("clip", "start", "length", "gain")
                 for end, other in ("ij", "ji")}  # fmt: skip
    assert made_again(tiny_published, clips, store, [(row | backwards, "forward")]) == 1
    for end in "ij":
        path = Path(clips.set_index("clip_id").loc[row[f"clip_{end}"], "path"])
        content = path.read_bytes()
        sound, rate = soundfile.read(path)
        soundfile.write(path, 0.9 * sound, rate, subtype="FLOAT")
        assert made_again(tiny_published, clips, store, items[:1]) == 1
        path.write_bytes(content)
    assert made_again(TinyPublished(seed=1), clips, store, items) == 7
    tiny_published.window = 0.25
    assert made_again(tiny_published, clips, store, [clip, Whole(clip)]) == 2


def test_arrangements_are_played_and_known_by_what_is_heard(tiny_published, clips, tmp_path):
    store = FeatureStore(tmp_path / "store", torch.float32)
    reader = ClipAudio(clips, tiny_published.sample_rate)
    first, second = clips["clip_id"].iloc[0], clips["clip_id"].iloc[5]

    def arranged(*ends, seed=(1,), **changes):
        return arrange(*ends, Condition(**changes), reader, tiny_published.window, seed)

    plain = arranged(first, second)
    assert made_again(tiny_published, clips, store, [plain]) == 1
    assert made_again(tiny_published, clips, store, [arranged(first, second)]) == 0
    others = [arranged(second, first), arranged(first, second, boundary=0.3)]
    others += [arranged(first, second, first_db=3), arranged(first, second, near=(True, False))]
    others += [arranged(first, second, snr_db=10), arranged(first, second, snr_db=10, seed=(2,))]
    assert made_again(tiny_published, clips, store, others) == 6
    found = features_of(tiny_published, clips, store).outputs([plain, *others], "test")
    with torch.no_grad():
        expected = [tiny_published.audio_trunk(torch.from_numpy(a.render(reader))[None])[0]
                    for a in (plain, *others)]  # fmt: skip
    torch.testing.assert_close(found[np.arange(7)], torch.stack(expected), atol=1e-5, rtol=0)


def test_waveforms_of_two_lengths_in_a_batch_are_refused(tiny_published, clips):
    rows = placed(clips, 1) + [row | {"window": 3000, "length_j": 1000} for row in placed(clips, 1)]
    with pytest.raises(ValueError, match="same shape"):
        features_of(tiny_published, clips).outputs([(row, "forward") for row in rows], "test")


# The whole path: post-pretraining and evaluation


class Rounded(AudioFeatures):
    """Holds outputs in memory, rounded to half by hand."""

    def outputs(self, items, what) -> Tensor:
        return super().outputs(items, what).half().float()


class RoundedWords:
    def __init__(self, trunk: nn.Module) -> None:
        self.trunk = trunk

    def __call__(self, captions) -> Tokens:
        values, lengths = self.trunk(list(captions))
        return Tokens(values.half().float(), lengths)


def whole_path(clips: pd.DataFrame, name: str, features, text) -> tuple[pd.DataFrame, pd.DataFrame]:
    """History and answers of a variant that is trained and asked on these features."""
    model = features.model
    sizes = {"distinct": variant(name).distinct, "seed": 1}
    pool = make_waveform_pool(features, clips, pairs=12, base_items=10, stage="post", **sizes)
    check = make_waveform_pool(features, clips, pairs=6, base_items=8, stage="validation", **sizes)
    start = model.with_own_heads()
    schedule = Schedule.of("published", 6, 0.01, epoch=3, validate_every=3)
    history = post_pretrain(
        start, variant(name), text, pool, check, schedule, batch=4, replay_batch=3, seed=5
    ).drop(columns="items_per_second")
    pairs = place(draw_pairs(clips, "test", 6, seed=0), features.clip_audio, model.window)
    test = clips[clips["split"] == "test"]
    questions = [
        tasks.build_items(test, pairs, list(LABELS), seed=0),
        tasks.prompt_items(test, list(LABELS)),
    ]
    experiment = SimpleNamespace(
        clips=clips, table=lambda _: pairs, audio_features=lambda _: features, text=text, labels=LABELS
    )
    heard = TestAudio(experiment, model)
    embeddings = RunEmbeddings(experiment, start, heard.names, heard.features)
    return history, tasks.score_items(pd.concat(questions), embeddings)


@pytest.mark.parametrize("name", ["t-clap", "t-clap-distinct", "clap-continued"])
def test_stored_features_give_the_same_losses_and_answers(tiny_published, clips, tmp_path, name):
    model = tiny_published
    held = whole_path(clips, name, features_of(model, clips), model.text_trunk)
    seen = []
    for _ in range(2):  # the second run finds everything there
        before = model.audio_trunk.seen, model.text_trunk.seen
        store = FeatureStore(tmp_path / "store", torch.float32)
        kept = whole_path(clips, name, features_of(model, clips, store), StoredText(model.text_trunk, store))
        seen.append((model.audio_trunk.seen - before[0], model.text_trunk.seen - before[1]))
        for found, expected in zip(kept, held, strict=True):
            pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert min(seen[0]) > 0 and seen[1] == (0, 0)
    history, answers = held
    assert history["loss"].nunique() == 6 and np.isfinite(history["validation_loss"].dropna()).all()
    assert answers["margin"].nunique() > 20


def test_features_in_half_give_what_features_rounded_by_hand_give(tiny_published, clips, tmp_path):
    model, store = tiny_published, FeatureStore(tmp_path / "store", torch.float16)
    kept = whole_path(clips, "t-clap", features_of(model, clips, store), StoredText(model.text_trunk, store))
    by_hand = Rounded(model, clips, ClipAudio(clips, 8000))
    rounded = whole_path(clips, "t-clap", by_hand, RoundedWords(model.text_trunk))
    for found, expected in zip(kept, rounded, strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    exact, _ = whole_path(clips, "t-clap", features_of(model, clips), model.text_trunk)
    difference = (exact["loss"] - kept[0]["loss"]).abs()
    assert 0 < difference.max() < 0.01  # rounded, and no more than that


def test_a_manifest_read_from_disk_has_the_same_keys(tiny_published, clips, tmp_path):
    rows = placed(clips)
    pd.DataFrame(rows).to_parquet(tmp_path / "pairs.parquet")
    read = pd.read_parquet(tmp_path / "pairs.parquet").to_dict("records")
    store = FeatureStore(tmp_path / "store")
    assert made_again(tiny_published, clips, store, [(row, "forward") for row in rows]) == len(rows)
    assert made_again(tiny_published, clips, store, [(row, "forward") for row in read]) == 0
