"""Trunk outputs of waveforms and captions: what is computed, what is kept, what is made again."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny import TinyPublished
from torch import Tensor

from tclap import audio, files
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, render, render_single
from tclap.data.conditions import Condition, arrange
from tclap.models import weights
from tclap.training import features as module
from tclap.training.distributed import Processes
from tclap.training.features import AudioFeatures, FeatureStore, TextFeatures, Whole

HALF = (torch.float16, torch.bfloat16)


# The store


def make() -> dict[str, Tensor]:
    return {"values": torch.arange(12.0).reshape(6, 2) / 7, "lengths": torch.tensor([1, 2, 3])}


def stored(folder: Path) -> Path:
    """The one file of a store."""
    FeatureStore(folder, torch.float32).fetch(["a"], make, Processes())
    (path,) = folder.iterdir()
    return path


def is_whole(found: dict[str, Tensor]) -> bool:
    return found.keys() == make().keys() and all(torch.equal(found[name], make()[name]) for name in found)


@pytest.mark.parametrize("damage", [0, 5, 60, -1, "a value", "the hash"])
def test_a_damaged_file_is_made_again(tmp_path, caplog, damage):
    """Cut to a length, or one byte of it is another."""
    path = stored(tmp_path)
    whole = path.read_bytes()
    if isinstance(damage, int):
        path.write_bytes(whole[:damage])
    else:
        at = len(whole) - 6 if damage == "a value" else whole.index(b'"tclap":"') + 12
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert is_whole(FeatureStore(tmp_path, torch.float32).fetch(["a"], make, Processes()))
    assert path.read_bytes() == whole
    assert re.search(f"{path} (cannot be loaded|does not match its hash).* made again", caplog.text)


def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(tensors, path, header):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="features-.* could not be written: .*No space left"):
        FeatureStore(tmp_path, torch.float32).fetch(["a"], make, Processes())
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_for_a_dtype():
    with pytest.raises(ValueError, match="70000 is too large"):
        module.rounded(torch.tensor([7e4]), torch.float16)
    assert module.rounded(torch.tensor([7e4, torch.inf]), torch.bfloat16).isinf().tolist() == [False, True]


# Audio


def features_of(model: TinyPublished, clips: pd.DataFrame, store: FeatureStore | None = None):
    return AudioFeatures(model, ClipAudio(clips, model.sample_rate), store)


def placed(clips: pd.DataFrame, count: int = 5) -> list[dict]:
    pairs = draw_pairs(clips, "post", count, seed=0)
    return place(pairs, ClipAudio(clips, 8000), 0.5).to_dict("records")


def every_kind(clips: pd.DataFrame) -> list:
    """Clips as they are played alone, composites in all views, whole clips and arrangements."""
    items = [*clips["clip_id"][:3], *((row, view) for row in placed(clips) for view in (*VIEWS, "first"))]
    ends, reader = clips["clip_id"].iloc[[0, 5]], ClipAudio(clips, 8000)
    arranged = [arrange(*ends, Condition(**c), reader, 0.5, (1,)) for c in ({}, {"snr_db": 10})]
    return [*items, *map(Whole, clips["clip_id"][:6]), *arranged]


def played(item, clips: pd.DataFrame) -> np.ndarray:
    reader = ClipAudio(clips, 8000)
    if isinstance(item, str):
        return render_single(reader(item), 0.5, 8000)
    if isinstance(item, Whole):
        clip = reader(item.clip_id)
        if len(clip) <= 4000:
            return np.tile(clip, 4)[:4000]
        return audio.crop(clip, audio.most_energetic_start(clip, 4000), 4000)
    return render(*item, reader) if isinstance(item, tuple) else item.render(reader)


@pytest.mark.parametrize("dtype", [None, torch.float32, *HALF])
def test_each_row_is_the_trunks_output_of_that_item(tiny_published, recorded, tmp_path, dtype):
    items = every_kind(recorded)
    with torch.no_grad():
        waveforms = [torch.from_numpy(played(item, recorded))[None] for item in items]
        expected = torch.cat([tiny_published.audio_trunk(waveform) for waveform in waveforms])
    assert expected.std(0).mean() > 0.05  # the trunk tells items apart
    held = features_of(tiny_published, recorded).outputs(items, "test")
    torch.testing.assert_close(held, expected, atol=1e-5, rtol=0)
    for _ in range(2):  # made, then read
        store = None if dtype is None else FeatureStore(tmp_path, dtype)
        found = features_of(tiny_published, recorded, store).outputs(items, "test")
        assert found.dtype == (dtype or torch.float32)
        if dtype == torch.bfloat16:  # in which the trunk computes, too
            assert (found.float() - held).abs().mean() < 0.01
        else:
            assert torch.equal(found, held.to(dtype))
    # Heads take it as it is, and it can be trained on.
    assert not found.is_inference() and not found.requires_grad
    tiny_published.embed_features(found[[7, 2, 7]]).sum().backward()
    assert tiny_published.audio_trunk.conv.weight.grad is None


def test_waveforms_of_two_lengths_in_a_batch_are_refused(tiny_published, recorded):
    rows = placed(recorded, 1) + [row | {"window": 3000, "length_j": 1000} for row in placed(recorded, 1)]
    with pytest.raises(ValueError, match="same shape"):
        features_of(tiny_published, recorded).outputs([(row, "forward") for row in rows], "test")


def is_made(model: TinyPublished, clips: pd.DataFrame, folder: Path, items: list) -> bool:
    """Whether a list goes through the trunk, all of it or nothing."""
    model.batch_size, before = 1, model.audio_trunk.seen
    features_of(model, clips, FeatureStore(folder)).outputs(items, "test")
    assert model.audio_trunk.seen - before in (0, len(items))
    return model.audio_trunk.seen > before


def test_lists_are_known_by_what_is_heard_and_by_the_trunk(tiny_published, recorded, tmp_path):
    original = Path(recorded["path"].iloc[0]).parent
    shutil.copytree(original, tmp_path / "clips")
    clips = recorded.assign(path=recorded["path"].str.replace(str(original), str(tmp_path / "clips")))
    model, folder, row = tiny_published, tmp_path / "store", placed(clips, 1)[0]
    clip = row["clip_i"]
    items = [(row, view) for view in (*VIEWS, "first", "second")] + [clip, Whole(clip)]
    assert is_made(model, clips, folder, items) and not is_made(model, clips, folder, items)
    # Neither names nor folders matter, nor a manifest's way to disk and back.
    renamed = row | {f"clip_{end}": f"x-{row[f'clip_{end}']}" for end in "ij"} | {"pair_id": "other"}
    pd.DataFrame([renamed]).to_parquet(tmp_path / "pairs.parquet")
    (renamed,) = pd.read_parquet(tmp_path / "pairs.parquet").to_dict("records")
    same = [(renamed, view) for _, view in items[:5]] + [f"x-{clip}", Whole(f"x-{clip}")]
    assert not is_made(model, recorded.assign(clip_id="x-" + recorded["clip_id"]), folder, same)
    # All that is heard does.
    changes = {"gap": 80, "policy": "full", "cut": 5, "start_i": abs(row["start_i"] - 1)}
    changes |= {"length_j": row["length_j"] - 1, "gain_i": row["gain_i"] * 2, "gain_j": row["gain_j"] * 2}
    changes |= {f"start_whole_{end}": row[f"start_whole_{end}"] + 1 for end in "ij"}
    changes |= {f"gain_whole_{end}": row[f"gain_whole_{end}"] * 2 for end in "ij"}
    for name, value in changes.items():
        assert is_made(model, clips, folder, [(row | {name: value}, "forward")]), name
    assert is_made(model, clips, folder, items[::-1])
    assert is_made(model, clips, folder, [clip]) and is_made(model, clips, folder, [Whole(clip)])
    reader = ClipAudio(clips, 8000)
    for options in ({}, {"boundary": 0.3}, {"first_db": 3}, {"snr_db": 10}):
        arranged = [arrange(clip, row["clip_j"], Condition(**options), reader, 0.5, (1,))]
        assert is_made(model, clips, folder, arranged) and not is_made(model, clips, folder, arranged)
    path = clips.set_index("clip_id").loc[clip, "path"]
    sound, rate = soundfile.read(path)
    soundfile.write(path, 0.9 * sound, rate, subtype="FLOAT")
    assert is_made(model, clips, folder, items)
    assert is_made(TinyPublished(seed=1), clips, folder, items)
    model.window = 0.25
    assert is_made(model, clips, folder, [clip])


def test_a_handful_of_items_is_not_stored(tiny_published, recorded, tmp_path):
    store = FeatureStore(tmp_path / "store")
    features_of(tiny_published, recorded, store).outputs(list(recorded["clip_id"][:3]), "test")
    assert not (tmp_path / "store").exists()


# Captions

CAPTIONS = ["a dog before rain", "rain", "rain after a dog", "dog"]


def rows(features: TextFeatures, captions: list[str]) -> list[Tensor]:
    values, lengths = features(captions)
    return [row[:length] for row, length in zip(values, lengths, strict=True)]


def fresh(text_trunk, captions: list[str]) -> list[Tensor]:
    return [text_trunk([caption]).values[0] for caption in captions]


def equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", [None, torch.float32, *HALF])
def test_outputs_are_the_trunks_own_in_the_order_asked(text_trunk, tmp_path, dtype):
    """Kept in half precision they are rounded once, and returned in full."""
    store = None if dtype is None else FeatureStore(tmp_path, dtype)
    asked = ["rain", "a dog before rain", "rain"]
    for _ in range(2):  # made, then read
        features = TextFeatures(text_trunk, CAPTIONS + CAPTIONS[:2], store)
        values, lengths = features(asked)
        assert values.shape == (3, 4, 384) and lengths.tolist() == [1, 4, 1]
        assert (values[0, 1:] == 0).all() and not values.requires_grad and not values.is_inference()
        expected = [row.to(dtype or torch.float32).float() for row in fresh(text_trunk, asked)]
        assert values.dtype == torch.float32 and equal(rows(features, asked), expected)


def test_each_caption_goes_through_the_trunk_once_neighbours_in_length_together(text_trunk, monkeypatch):
    monkeypatch.setattr(TextFeatures, "BATCH", 2)
    features = TextFeatures(text_trunk, CAPTIONS)
    features(CAPTIONS[::-1])
    features.add(CAPTIONS)
    assert text_trunk.asked == [["dog", "rain"], ["a dog before rain", "rain after a dog"]]


def test_what_is_on_disk_is_not_computed_again(text_trunk, tmp_path):
    store = FeatureStore(tmp_path, torch.float32)
    first = rows(TextFeatures(text_trunk, CAPTIONS, store), CAPTIONS)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    text_trunk.asked.clear()
    again = TextFeatures(text_trunk, CAPTIONS[::-1], store)  # the order of the list is no matter
    assert equal(rows(again, CAPTIONS), first) and text_trunk.asked == []
    path.unlink()
    TextFeatures(text_trunk, CAPTIONS, store)
    assert path.read_bytes() == content  # the same bits
    TextFeatures(text_trunk, CAPTIONS[:3], store)
    text_trunk.fingerprint = "other words"
    TextFeatures(text_trunk, CAPTIONS, store)
    assert len(list(tmp_path.iterdir())) == 3


def test_captions_that_were_not_added_are_encoded_when_they_come(text_trunk, tmp_path):
    features = TextFeatures(text_trunk, [], FeatureStore(tmp_path / "store"))
    asked = ["siren while crow", "dog", "siren while crow"]
    expected = [row.half().float() for row in fresh(text_trunk, asked)]
    text_trunk.asked.clear()
    assert equal(rows(features, asked), expected) and equal(rows(features, asked), expected)
    assert text_trunk.asked == [["dog", "siren while crow"]]
    assert not (tmp_path / "store").exists()


def test_the_code_is_part_of_what_outputs_are_made_of(
    tiny_published, text_trunk, recorded, tmp_path, monkeypatch
):
    store = FeatureStore(tmp_path)
    for code in ("one", "other"):
        monkeypatch.setattr(files, "hash_code", lambda *_, code=code: code)
        features_of(tiny_published, recorded, store).outputs(list(recorded["clip_id"][:4]), "test")
        TextFeatures(text_trunk, CAPTIONS, store)
    assert len(list(tmp_path.iterdir())) == 4
