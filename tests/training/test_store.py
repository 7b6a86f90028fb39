"""The store of rows by content: what is kept, what is noticed, what is made again."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from artifact import paths
from tclap import files
from tclap.training import store
from tclap.training.store import FeatureStore, content_key


class Maker:
    """Rows ``[T, 3]`` that follow from the key alone; remembers the positions it was asked for."""

    def __init__(self, keys: list[str], length: int = 2, fails_at: int | None = None) -> None:
        self.keys, self.length, self.fails_at = keys, length, fails_at
        self.asked: list[list[int]] = []

    def row(self, key: str) -> torch.Tensor:
        values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal((self.length, 3))
        return torch.from_numpy(values.astype(np.float32))

    def __call__(self, positions: list[int]) -> torch.Tensor:
        if len(self.asked) == self.fails_at:
            raise RuntimeError("the trunk broke")
        self.asked.append(list(positions))
        return torch.stack([self.row(self.keys[p]) for p in positions])


KEYS = [content_key("trunk", n) for n in range(10)]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def fetched(folder: Path, keys: list[str] = KEYS, **options) -> tuple[torch.Tensor, list[list[int]]]:
    """What a new float32 store gives, and the positions that it had to make."""
    make = Maker(keys)
    return FeatureStore(folder, torch.float32).fetch(keys, make, what="rows", **options)[:], make.asked


def expected_rows(keys: list[str] = KEYS, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.stack([Maker(keys).row(key).to(dtype).float() for key in keys])


def test_a_content_key_is_the_hash_of_the_values_as_json():
    text = '["weights",{"a":[1,2.5],"b":null},"caption"]'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert content_key("weights", {"b": None, "a": [1, 2.5]}, "caption") == expected
    assert content_key("ab", "c") != content_key("a", "bc") != content_key(["a", "bc"])
    with pytest.raises(ValueError):
        content_key(float("nan"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rows_are_what_was_made_rounded_to_the_dtype(tmp_path, dtype):
    for _ in range(2):  # made, then read
        stored = FeatureStore(tmp_path, dtype).fetch(KEYS, Maker(KEYS), what="rows", batch=4)
        assert len(stored) == 10 and stored.dtype == dtype
        assert torch.equal(stored[:], expected_rows(dtype=dtype))
        assert stored[:].dtype == stored.row(0).dtype == torch.float32
    assert {path.parent for path in shards(tmp_path)} == {tmp_path / str(dtype).removeprefix("torch.")}


def test_each_distinct_missing_key_is_made_once_in_order(tmp_path):
    keys = [KEYS[k] for k in (3, 1, 3, 0, 1, 2)]
    store, make = FeatureStore(tmp_path, torch.float32), Maker(keys)
    assert torch.equal(store.fetch(keys, make, what="rows", batch=3)[:], expected_rows(keys))
    assert make.asked == [[0, 1, 3], [5]]
    more = [*KEYS[:5], "other"]
    make = Maker(more)
    assert torch.equal(store.fetch(more, make, what="rows", batch=3)[:], expected_rows(more))
    assert make.asked == [[4, 5]]
    assert fetched(tmp_path, more)[1] == []


def test_rows_are_read_by_list_array_slice_and_one_at_a_time(tmp_path):
    stored = FeatureStore(tmp_path, torch.float32).fetch(KEYS, Maker(KEYS), what="rows")
    every = expected_rows()
    for indices in ([7, 0, 7], np.array([9, -1, 2]), slice(1, 8, 3), slice(None), range(2)):
        assert torch.equal(stored[indices], every[indices])
    assert torch.equal(stored.row(4), every[4]) and torch.equal(stored.row(-1), every[-1])
    assert stored[[]].shape == (0, 2, 3)
    with pytest.raises(IndexError):
        stored[[10]]
    with pytest.raises(TypeError, match="row\\(i\\)"):
        stored[3]
    stored[:].zero_()  # what is returned belongs to the caller
    stored.row(0).zero_()
    assert torch.equal(stored[:], every)


def test_rows_of_different_shapes(tmp_path):
    store = FeatureStore(tmp_path, torch.float32)
    keys = ["one", "two", "three"]
    made = [torch.arange(n * 3.0).reshape(n, 3) for n in (1, 2, 1)]
    for _ in range(2):
        stored = store.fetch(keys, lambda positions: [made[p] for p in positions], what="captions", batch=2)
        assert all(torch.equal(stored.row(n), made[n]) for n in range(3))
        assert torch.equal(stored[[2, 0]], torch.stack([made[2], made[0]]))
        with pytest.raises(ValueError, match=r"got \[\(1, 3\), \(2, 3\)\]"):
            stored[:]


def test_rows_without_a_frame(tmp_path):
    for _ in range(2):
        stored = FeatureStore(tmp_path).fetch(KEYS, lambda p: torch.empty(len(p), 0, 3), what="rows")
        assert stored[:4].shape == (4, 0, 3) and stored.row(1).shape == (0, 3)


def test_nothing_to_fetch(tmp_path):
    assert len(FeatureStore(tmp_path).fetch([], Maker([]), what="rows")) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_buffer_that_make_uses_again_is_copied(tmp_path):
    buffer = torch.empty(1, 1, 1)
    stored = FeatureStore(tmp_path, torch.float32).fetch(
        KEYS, lambda positions: buffer.fill_(positions[0]), what="rows", batch=1
    )
    assert stored[:].flatten().tolist() == list(range(10))


def test_outputs_with_a_gradient_or_strides_are_kept_plain(tmp_path):
    weight = torch.arange(6.0, requires_grad=True).reshape(1, 2, 3)
    stored = FeatureStore(tmp_path, torch.float32).fetch(["a"], lambda _: weight.transpose(1, 2), what="rows")
    assert stored[:].tolist() == [[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]]
    assert not stored[:].requires_grad


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (torch.zeros(2, 4, 5), r"rows: expected 3 rows \[T, D\], got shapes \[\[4, 5\], \[4, 5\]\]"),
        (torch.zeros(3, 4), r"rows: expected 3 rows \[T, D\], got shapes \[\[4\], \[4\], \[4\]\]"),
        (torch.full((3, 1, 1), 7e4), r"a trunk output of 70000 is too large for torch\.float16"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path, made, message):
    store = FeatureStore(tmp_path)
    with pytest.raises(ValueError, match=message):
        store.fetch(KEYS[:3], lambda _: made, what="rows")
    assert shards(tmp_path) == []


def test_options_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="float16, bfloat16, float32, not in torch.int8"):
        FeatureStore(tmp_path, torch.int8)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        FeatureStore(tmp_path).fetch(KEYS, Maker(KEYS), what="rows", batch=0)


def test_shards_are_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureStore, "SHARD_ROWS", 4)
    fetched(tmp_path / "rows", batch=2)
    assert [load_file(path)["values"].numel() for path in shards(tmp_path / "rows")] == [24, 24, 12]
    monkeypatch.setattr(FeatureStore, "SHARD_BYTES", 70)  # a row has 24
    fetched(tmp_path / "bytes", batch=1)
    assert [load_file(path)["values"].numel() for path in shards(tmp_path / "bytes")] == [18, 18, 18, 6]


def test_a_crash_of_the_trunk_keeps_what_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureStore, "SHARD_ROWS", 4)
    store = FeatureStore(tmp_path, torch.float32)
    with pytest.raises(RuntimeError, match="the trunk broke"):
        store.fetch(KEYS, Maker(KEYS, fails_at=3), what="rows", batch=2)
    assert len(shards(tmp_path)) == 2
    values, asked = fetched(tmp_path)
    assert asked == [[6, 7, 8, 9]] and torch.equal(values, expected_rows())


def test_a_killed_process_loses_no_shard(tmp_path):
    code = f"""
import os, torch
from tclap.training.store import FeatureStore
FeatureStore.SHARD_ROWS = 4
def make(positions):
    if positions[0] >= 6:
        os._exit(9)
    return torch.full((2, 1, 1), float(positions[0]))
FeatureStore({str(tmp_path)!r}).fetch([str(n) for n in range(10)], make, what="rows", batch=2)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    stored = FeatureStore(tmp_path).fetch([str(n) for n in range(4)], Maker([]), what="rows")
    assert stored[:].flatten().tolist() == [0, 0, 2, 2]


def test_two_processes_write_the_same_keys_at_once(tmp_path):
    code = f"""
import sys, torch
from tclap.training.store import FeatureStore
FeatureStore.SHARD_ROWS = 5
def make(positions):
    return torch.tensor(positions).float().reshape(-1, 1, 1)
store = FeatureStore({str(tmp_path)!r}, torch.float32)
print("ready", flush=True)
sys.stdin.readline()
for n in range(1, 11):
    rows = store.fetch([str(k) for k in range(20 * n)], make, what="rows", batch=5)
    assert rows[:].flatten().tolist() == list(range(20 * n))
"""
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0 and "damaged" not in errors, errors
    keys = [str(k) for k in range(200)]
    stored = FeatureStore(tmp_path, torch.float32).fetch(keys, Maker([]), what="rows")
    assert stored[:].flatten().tolist() == list(range(200))


def test_what_another_store_writes_is_seen_at_the_next_fetch(tmp_path):
    store = FeatureStore(tmp_path, torch.float32)
    fetched(tmp_path)
    make = Maker(KEYS)
    store.fetch(KEYS, make, what="rows")
    assert make.asked == []


def test_half_written_files_of_other_processes_are_left_alone(tmp_path, caplog):
    with files.replacing(tmp_path / "float32/1.safetensors") as temporary:
        temporary.write_bytes(b"half")
        assert torch.equal(fetched(tmp_path)[0], expected_rows())
        assert temporary.exists() and caplog.records == []
        temporary.write_bytes(shards(tmp_path)[-1].read_bytes())


@pytest.mark.parametrize("moment", ["__init__", "sound"])
def test_a_shard_may_go_between_listing_and_reading(tmp_path, monkeypatch, caplog, moment):
    fetched(tmp_path)
    (gone,) = shards(tmp_path)
    method = getattr(store.RowFile, moment)

    def after_it_went(file, *arguments):
        gone.unlink(missing_ok=True)
        return method(file, *arguments)

    monkeypatch.setattr(store.RowFile, moment, after_it_went)
    values, asked = fetched(tmp_path)
    assert asked == [list(range(10))] and torch.equal(values, expected_rows())
    assert len(caplog.records) == (moment == "sound")  # cleared before it was opened: no damage


def data_start(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


@pytest.mark.parametrize("row", [0, 4, 9])
def test_a_flipped_bit_costs_its_row_only(tmp_path, caplog, row):
    fetched(tmp_path)
    (path,) = shards(tmp_path)
    content = bytearray(path.read_bytes())
    content[data_start(content) + 24 * row + 23] ^= 1  # the sign and exponent are not even touched
    path.write_bytes(content)
    values, asked = fetched(tmp_path)
    assert asked == [[row]] and torch.equal(values, expected_rows())
    assert [r.getMessage() for r in caplog.records] == [f"{path}: 1 of 10 rows are damaged and not used"]
    caplog.clear()
    values, asked = fetched(tmp_path)  # healed: the row is read from its new shard
    assert asked == [] and caplog.records == [] and torch.equal(values, expected_rows())


def test_no_flipped_byte_anywhere_is_returned_or_raised(tmp_path, caplog):
    fetched(tmp_path / "good", KEYS[:2])
    (good,) = shards(tmp_path / "good")
    content, expected = good.read_bytes(), expected_rows(KEYS[:2])
    for position in range(len(content)):
        folder = tmp_path / str(position)
        path = folder / "float32/1.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        caplog.clear()
        values, asked = fetched(folder, KEYS[:2])
        assert torch.equal(values, expected), position
        # Spaces that pad the header carry nothing.
        assert (asked and caplog.records) or content[position : position + 1] == b" ", position


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: data_start(content)],
        lambda content: content[:5],
        lambda content: b"",
        lambda content: content + b"x",
        lambda content: b"x" * 500,
        lambda content: bytes(len(content)),
    ],
    ids=["truncated", "header only", "half a header", "empty", "longer", "garbage", "zeros"],
)
def test_an_unreadable_shard_is_deleted_and_its_rows_made_again(tmp_path, caplog, damage):
    fetched(tmp_path, KEYS[:3])
    (bad,) = shards(tmp_path)
    fetched(tmp_path)
    (other,) = set(shards(tmp_path)) - {bad}
    kept = other.read_bytes()
    bad.write_bytes(damage(bad.read_bytes()))
    values, asked = fetched(tmp_path)
    assert asked == [[0, 1, 2]] and torch.equal(values, expected_rows())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.getMessage().startswith(f"{bad} is damaged")
    assert not bad.exists() and other.read_bytes() == kept
    assert fetched(tmp_path)[1] == []


def test_damage_between_two_fetches_of_one_store_is_noticed(tmp_path):
    fetched(tmp_path)
    store = FeatureStore(tmp_path, torch.float32)
    store.fetch(KEYS, Maker([]), what="rows")  # checked and mapped
    (path,) = shards(tmp_path)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    make = Maker(KEYS)
    assert torch.equal(store.fetch(KEYS, make, what="rows")[:], expected_rows())
    assert make.asked == [[9]]


def test_a_damaged_copy_is_no_matter_where_another_is_sound(tmp_path):
    fetched(tmp_path)
    (path,) = shards(tmp_path)
    content = path.read_bytes()
    path.with_name("9.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # newer
    values, asked = fetched(tmp_path)
    assert asked == [] and torch.equal(values, expected_rows())


def test_rows_of_another_dtype_are_not_mistaken(tmp_path):
    FeatureStore(tmp_path, torch.bfloat16).fetch(KEYS, Maker(KEYS), what="rows")
    (tmp_path / "bfloat16").rename(tmp_path / "float16")
    make = Maker(KEYS)
    stored = FeatureStore(tmp_path, torch.float16).fetch(KEYS, make, what="rows")
    assert sum(make.asked, []) == list(range(10))
    assert torch.equal(stored[:], expected_rows(dtype=torch.float16))


def test_the_file_is_safetensors_with_a_table_of_its_rows(tmp_path):
    fetched(tmp_path)
    (path,) = shards(tmp_path)
    assert torch.equal(load_file(path)["values"], expected_rows().flatten())
    with safe_open(path, "pt") as file:
        text = file.metadata()["rows"]
    table = json.loads(text[8:])
    assert table["keys"] == KEYS and table["shapes"] == [[2, 3]] * 10
    assert table["crc32"][3] == f"{zlib.crc32(expected_rows()[3].numpy().tobytes()):08x}"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_rows_are_mapped_not_loaded(tmp_path):
    keys = [str(n) for n in range(96)]  # of 1 MiB

    def make(positions: list[int]) -> torch.Tensor:
        return torch.tensor(positions).float().reshape(-1, 1, 1).expand(-1, 512, 1024)

    FeatureStore(tmp_path).fetch(keys, make, what="rows", batch=4)
    store = FeatureStore(tmp_path)
    before = resident()
    stored = store.fetch(keys, Maker([]), what="rows")  # checks all of them
    assert stored[[5, 90]][:, 3, 7].tolist() == [5, 90]
    assert resident() - before < 24 * 2**20
    assert sum(float(stored.row(n)[0, 0]) for n in range(96)) == 95 * 96 / 2
    assert {type(file._map) for file, _ in stored._places} == {np.memmap}
    assert len({id(file) for file, _ in stored._places}) == len(shards(tmp_path)) == 2


def test_size_description_and_clearing(tmp_path):
    store, half = FeatureStore(tmp_path, torch.float32), FeatureStore(tmp_path, torch.float16)
    assert store.size() == store.clear() == 0
    stored = store.fetch(KEYS, Maker(KEYS), what="rows")
    half.fetch(KEYS, Maker(KEYS), what="rows")
    (tmp_path / "float32/.left.safetensors").write_bytes(b"12345")  # by a writer that was killed
    size = sum(path.stat().st_size for path in shards(tmp_path / "float32"))
    assert store.size() == size > 240
    assert store.describe() == f"10 rows in 1 files, {size / 1e6:.1f} MB, in {tmp_path}/float32"
    assert store.clear() == size
    assert store.size() == 0 and not (tmp_path / "float32").exists()
    assert torch.equal(stored[:], expected_rows())  # still mapped
    assert half.size() > 0
    make = Maker(KEYS)
    store.fetch(KEYS, make, what="rows")
    assert sum(make.asked, []) == list(range(10))


def test_clearing_leaves_what_others_put_there(tmp_path):
    fetched(tmp_path)
    note = tmp_path / "float32/note.txt"
    note.write_text("mine")
    FeatureStore(tmp_path, torch.float32).clear()
    assert list((tmp_path / "float32").iterdir()) == [note]


def test_a_full_disk_is_told_in_one_sentence_and_harms_nothing(tmp_path, monkeypatch):
    fetched(tmp_path, KEYS[:2])
    before = {path: path.read_bytes() for path in shards(tmp_path)}

    def full(tensors, path, metadata):
        save_file(tensors, path, metadata)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tclap.training.store.save_file", full)
    with pytest.raises(OSError) as caught:
        fetched(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/float32 did not take the 192 bytes needed: [Errno 28] No space left on device"
    )
    assert {path: path.read_bytes() for path in shards(tmp_path)} == before
    monkeypatch.undo()
    assert fetched(tmp_path)[1] == [list(range(2, 10))]


def test_a_limit_of_the_system_is_told_in_the_same_way(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"float16 did not take the 20000 bytes needed: .*File too large"):
            FeatureStore(tmp_path).fetch(["a"], lambda _: torch.zeros(1, 100, 100), what="rows")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shards(tmp_path) == []


def test_the_command_line_tells_and_frees(project_root):
    kept = FeatureStore(paths.features())
    kept.fetch(KEYS, lambda positions: torch.zeros(len(positions), 100, 100), what="rows")
    assert f"10 rows in 1 files, 0.2 MB, in {project_root}/data/features/float16\n" in store.report()
    fetched(paths.features())
    assert store.report(clear=True) == f"0.2 MB freed in {project_root}/data/features\n"
    assert shards(project_root) == []
