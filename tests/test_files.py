"""Files are replaced whole or not at all; hashes are of content."""

import hashlib
import json
import os
import signal
import stat

import numpy as np
import pytest
import torch

from tclap.files import (
    hash_json,
    hash_state,
    read_hashed,
    replacing,
    sha256_file,
    write_hashed,
    write_json,
)


def test_replacing_writes_the_file_and_its_folders_and_keeps_the_old_until_the_end(tmp_path):
    path = tmp_path / "a" / "table.parquet"
    for text, before in (("new", None), ("newer", "new")):
        with replacing(str(path)) as temporary:
            assert temporary.parent.parent == path.parent  # one file system: the replacement is atomic
            assert temporary.name == "table.parquet"
            temporary.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text and os.listdir(path.parent) == ["table.parquet"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_crash_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "x.json").write_text("old")
    for name in ("x.json", "y.json"):
        with pytest.raises(error), replacing(tmp_path / name) as temporary:
            temporary.write_text("half of it")
            raise error
    assert (tmp_path / "x.json").read_text() == "old" and os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("written", ["x.json", ".tmpab12cd"])
def test_what_a_killed_process_leaves_is_removed_by_the_next_that_writes_there(tmp_path, written):
    """Under the file's own name, or under one that the writer itself gave it."""
    (tmp_path / ".aside-elsewhere-1-ab").mkdir()  # of another machine

    def write(last: int) -> None:
        child = os.fork()
        if child == 0:
            with replacing(tmp_path / "x.json") as temporary:
                temporary.write_text("{}")
                temporary.with_name(written).write_text("{}")
                os.kill(os.getpid(), last)
            os._exit(0)
        os.waitpid(child, 0)

    for _ in range(3):
        write(signal.SIGKILL)
        assert len(os.listdir(tmp_path)) == 2
    write(0)
    assert sorted(os.listdir(tmp_path)) == [".aside-elsewhere-1-ab", "x.json"]


def test_hashed_json_reads_back_or_is_refused(tmp_path):
    path, content = tmp_path / "a.json", {"b": [1.5, "τ"], "a": {"c": None}}
    write_hashed(path, content)
    assert read_hashed(path) == content
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        try:
            assert read_hashed(path) == content  # white space that JSON reads as another
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "x.json") as temporary:
            temporary.write_text("{}")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == mode


def test_file_hash(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


def test_json_hash_ignores_the_order_of_keys_only():
    assert hash_json({"b": [1, 2], "a": None}) == hash_json({"a": None, "b": [1, 2]})
    assert hash_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    different = [{"a": [1, 2]}, {"a": [2, 1]}, {"a": "1"}, {"a": 1}, {"a": 1.5}, {"a": True}, {"b": 1}, {}]
    assert len({hash_json(value) for value in different}) == len(different)
    with pytest.raises(ValueError):
        hash_json({"a": float("nan")})


def test_state_hash_by_hand():
    state = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(0.5)}
    half, two = np.float32(0.5).tobytes(), np.array([1, 2], dtype=np.int16).tobytes()
    content = b'["a", "torch.float32", []]' + half + b'["b", "torch.int16", [2]]' + two
    expected = hashlib.sha256(content).hexdigest()
    assert hash_state(state) == hash_state(dict(reversed(state.items()))) == expected
    # Types that numpy does not have, and another layout of the same values.
    transposed = torch.arange(6.0).reshape(2, 3).t()
    assert hash_state({"x": transposed}) == hash_state({"x": transposed.contiguous().requires_grad_()})
    assert hash_state({"x": transposed.bfloat16()}) != hash_state({"x": transposed.half()})


def test_json_is_sorted_and_reads_back(tmp_path):
    path = tmp_path / "new" / "folder" / "summary.json"
    listed = [np.int64(3), np.array([1.0, 2.0]), None, True]
    write_json(path, {"b": np.float32(0.5), "a": listed, "c": tmp_path, "d": "τ"})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [3, [1.0, 2.0], None, True], "b": 0.5, "c": str(tmp_path), "d": "τ"}
    assert text.index('"a"') < text.index('"b"') < text.index('"c"') and text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), np.float64("nan"), np.array([np.inf]), object()])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    error, message = (TypeError, "object") if type(value) is object else (ValueError, "summary.json cannot")
    with pytest.raises(error, match=message):
        write_json(path, {"a": [value]})
    assert json.loads(path.read_text()) == {"a": 1} and os.listdir(tmp_path) == ["summary.json"]
