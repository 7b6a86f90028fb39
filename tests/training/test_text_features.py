"""Text trunks' outputs, kept by caption."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import load_file

from tclap.training.store import FeatureStore
from tclap.training.text_features import StoredText, TextFeatures

CAPTIONS = ["a dog before rain", "rain", "rain after a dog", "dog"]


def rows(features: TextFeatures, captions: list[str]) -> list[torch.Tensor]:
    values, lengths = features(captions)
    return [row[:length] for row, length in zip(values, lengths, strict=True)]


def fresh(text_trunk, captions: list[str]) -> list[torch.Tensor]:
    return [text_trunk([caption]).values[0] for caption in captions]


def equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_outputs_are_the_trunks_own_in_the_order_asked(text_trunk):
    features = TextFeatures(text_trunk, CAPTIONS)
    asked = ["rain", "a dog before rain", "rain"]
    values, lengths = features(asked)
    assert values.shape == (3, 4, 384) and lengths.tolist() == [1, 4, 1]
    assert (values[0, 1:] == 0).all()
    assert equal(rows(features, asked), fresh(text_trunk, asked))
    assert features.path is None


def test_each_caption_goes_through_the_trunk_once(text_trunk):
    features = TextFeatures(text_trunk, CAPTIONS + CAPTIONS[:2])
    features(CAPTIONS)
    features(CAPTIONS[::-1])
    assert sorted(sum(text_trunk.asked, [])) == sorted(CAPTIONS)


def test_batches_do_not_show(text_trunk, monkeypatch):
    monkeypatch.setattr(TextFeatures, "BATCH", 3)
    features = TextFeatures(text_trunk, CAPTIONS)
    assert [len(batch) for batch in text_trunk.asked] == [3, 1]
    assert equal(rows(features, CAPTIONS), fresh(text_trunk, CAPTIONS))


def test_what_is_on_disk_is_not_computed_again(text_trunk, tmp_path):
    first = rows(TextFeatures(text_trunk, CAPTIONS, tmp_path), CAPTIONS)
    text_trunk.asked.clear()
    again = TextFeatures(text_trunk, CAPTIONS[::-1], tmp_path)  # the order of the list is no matter
    assert equal(rows(again, CAPTIONS), first)
    assert text_trunk.asked == []
    assert [path.name for path in tmp_path.iterdir()] == [again.path.name]


def test_a_rebuild_gives_the_same_bits(text_trunk, tmp_path):
    files = [
        TextFeatures(text_trunk, c, tmp_path / f).path for f, c in (("a", CAPTIONS), ("b", CAPTIONS[::-1]))
    ]
    assert files[0].name == files[1].name
    one, other = map(load_file, files)
    assert one.keys() == other.keys() == {"values"}
    assert torch.equal(one["values"], other["values"])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_other_captions_or_weights_have_a_file_of_their_own(text_trunk, tmp_path):
    names = [TextFeatures(text_trunk, CAPTIONS, tmp_path).path.name]
    names.append(TextFeatures(text_trunk, CAPTIONS[:3], tmp_path).path.name)
    text_trunk.fingerprint = "other words"
    names.append(TextFeatures(text_trunk, CAPTIONS, tmp_path).path.name)
    assert len(set(names)) == 3


def test_captions_outside_the_list_are_encoded_when_they_come(text_trunk, tmp_path):
    features = TextFeatures(text_trunk, CAPTIONS, tmp_path)
    before = features.path.read_bytes()
    text_trunk.asked.clear()
    asked = ["siren while crow", "dog", "siren while crow"]
    found = rows(features, asked)
    assert text_trunk.asked == [["siren while crow"]]
    features(asked)
    assert text_trunk.asked == [["siren while crow"]]
    assert equal(found, fresh(text_trunk, asked))
    assert features.path.read_bytes() == before


def flip_a_value(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 64]) + content[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_value,
        lambda content: content[:-100],
        lambda content: content[:5],
        lambda content: b"",
        lambda _: b"x" * 99,
    ],
    ids=["flipped", "truncated", "header only", "empty", "something else"],
)
def test_a_damaged_file_is_made_again_with_a_warning(text_trunk, tmp_path, caplog, damage):
    features = TextFeatures(text_trunk, CAPTIONS, tmp_path)
    expected, content = rows(features, CAPTIONS), features.path.read_bytes()
    features.path.write_bytes(damage(content))
    with caplog.at_level(logging.WARNING):
        again = TextFeatures(text_trunk, CAPTIONS, tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{features.path} is damaged; its captions are encoded again"
    ]
    assert equal(rows(again, CAPTIONS), expected)
    text_trunk.asked.clear()
    TextFeatures(text_trunk, CAPTIONS, tmp_path)
    assert text_trunk.asked == []  # the file is sound again


def test_captions_mixed_up_on_disk_are_noticed(text_trunk, tmp_path):
    features = TextFeatures(text_trunk, CAPTIONS, tmp_path)
    content = features.path.read_bytes()
    swapped = content.replace(b"rain after", b"Rain after")
    assert swapped != content
    features.path.write_bytes(swapped)
    again = TextFeatures(text_trunk, CAPTIONS, tmp_path)
    assert equal(rows(again, CAPTIONS), rows(features, CAPTIONS))


def test_no_captions_leave_no_file(text_trunk, tmp_path):
    TextFeatures(text_trunk, [], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_captions_kept_in_half_are_rounded_once_and_returned_in_full(text_trunk, tmp_path, dtype):
    expected = [row.to(dtype).float() for row in fresh(text_trunk, CAPTIONS)]
    made = TextFeatures(text_trunk, CAPTIONS, tmp_path, dtype=dtype)
    read = TextFeatures(text_trunk, CAPTIONS, tmp_path, dtype=dtype)
    for found in (made, read):
        assert found(CAPTIONS).values.dtype == torch.float32
        assert equal(rows(found, CAPTIONS), expected)
    assert made.path != TextFeatures(text_trunk, CAPTIONS, tmp_path).path
    words = sum(len(caption.split()) for caption in CAPTIONS)
    assert load_file(made.path)["values"].nbytes == words * 384 * 2


def test_captions_are_returned_on_the_device_asked_for_and_kept_on_the_cpu(text_trunk):
    found = TextFeatures(text_trunk, CAPTIONS, device="meta")(CAPTIONS)
    assert found.values.device.type == found.lengths.device.type == "meta"
    assert found.values.shape == (4, 4, 384)
    with pytest.raises(ValueError, match="not in torch.float64"):
        TextFeatures(text_trunk, CAPTIONS, dtype=torch.float64)


# Kept in a store


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path, torch.float32)


def stored(text_trunk, store: FeatureStore, captions=()) -> StoredText:
    return StoredText(text_trunk, store, captions, device="cpu")


def test_stored_outputs_are_the_trunks_own_in_the_order_asked(text_trunk, store):
    features = stored(text_trunk, store, CAPTIONS)
    asked = ["rain", "a dog before rain", "rain"]
    values, lengths = features(asked)
    assert values.shape == (3, 4, 384) and lengths.tolist() == [1, 4, 1] and lengths.dtype == torch.int64
    assert (values[0, 1:] == 0).all() and values.dtype == torch.float32
    assert equal(rows(features, asked), fresh(text_trunk, asked))
    assert not values.is_inference()  # heads are trained on them


def test_each_stored_caption_goes_through_the_trunk_once_whoever_asks(text_trunk, store, monkeypatch):
    monkeypatch.setattr(StoredText, "BATCH", 2)
    features = stored(text_trunk, store, CAPTIONS + CAPTIONS[:2])
    # Neighbours in length share a batch.
    assert text_trunk.asked == [["dog", "rain"], ["a dog before rain", "rain after a dog"]]
    text_trunk.asked.clear()
    features(CAPTIONS[::-1])
    again = stored(text_trunk, FeatureStore(store.folder.parent, torch.float32), CAPTIONS[1:])
    again.add(CAPTIONS)
    assert text_trunk.asked == []
    assert equal(rows(again, CAPTIONS), fresh(text_trunk, CAPTIONS))


def test_the_store_is_not_searched_for_captions_that_were_found(text_trunk, store, monkeypatch):
    features = stored(text_trunk, store, CAPTIONS)
    monkeypatch.delattr(FeatureStore, "fetch")
    assert equal(rows(features, CAPTIONS[1:]), fresh(text_trunk, CAPTIONS[1:]))  # a step's captions


def test_captions_that_were_not_announced_are_stored_when_they_come(text_trunk, store):
    features = stored(text_trunk, store)
    assert text_trunk.asked == [] and store.size() == 0
    asked = ["siren while crow", "dog", "siren while crow"]
    found = rows(features, asked)
    assert sorted(sum(text_trunk.asked, [])) == ["dog", "siren while crow"]
    text_trunk.asked.clear()
    assert equal(rows(stored(text_trunk, store), asked), found)
    assert text_trunk.asked == []


def test_another_trunks_captions_are_others(text_trunk, store):
    stored(text_trunk, store, CAPTIONS)
    text_trunk.asked.clear()
    text_trunk.fingerprint = "other words"
    stored(text_trunk, store, CAPTIONS)
    assert sorted(sum(text_trunk.asked, [])) == sorted(CAPTIONS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_captions_are_rounded_once(text_trunk, tmp_path, dtype):
    expected = [row.to(dtype).float() for row in fresh(text_trunk, CAPTIONS)]
    for _ in range(2):
        found = stored(text_trunk, FeatureStore(tmp_path, dtype), CAPTIONS)
        assert equal(rows(found, CAPTIONS), expected)


def test_stored_captions_are_returned_where_the_trunk_is(text_trunk, store):
    text_trunk.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))
    found = StoredText(text_trunk, store, CAPTIONS)(CAPTIONS)
    assert found.values.device.type == found.lengths.device.type == "meta"
    assert stored(text_trunk, store)(CAPTIONS).values.device.type == "cpu"


def test_no_gradient_is_kept_of_stored_captions(text_trunk, store):
    text_trunk.weight = torch.nn.Parameter(torch.ones(()))
    forward = text_trunk.forward
    text_trunk.forward = lambda captions: (out := forward(captions))._replace(
        values=out.values * text_trunk.weight
    )
    values, _ = stored(text_trunk, store)(CAPTIONS)
    assert not values.requires_grad
