from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from artifact import paths, provenance
from artifact.provenance import collect, hash_run
from tclap.files import hash_json, hash_state, sha256_file, write_json


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of one commit in the place of the project's own."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = (tmp_path / "checkout").resolve()
    folder.mkdir()
    (folder / "file.txt").write_text("one")

    def git(*arguments):
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(paths, "CHECKOUT", folder)
    return folder, git("rev-parse", "HEAD")


def test_record_holds_versions_config_and_extras():
    config = {"seed": 1, "lr": 1e-3}
    record = collect(config, data_sha256="abc")
    assert record["python"] == platform.python_version()
    assert record["packages"]["numpy"] == np.__version__
    assert record["config"] == config
    assert record["config_sha256"] == hash_json(config)
    assert record["data_sha256"] == "abc"
    assert record["threads"] == torch.get_num_threads()
    json.dumps(record, allow_nan=False)


def test_an_absent_package_is_none(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert collect({})["packages"] == {"numpy": np.__version__, "no-such-package-at-all": None}


def test_an_extra_must_not_replace_an_entry():
    with pytest.raises(ValueError, match="already has git, python"):
        collect({}, python="2", git=None)


def test_clean_and_dirty_checkout(checkout):
    folder, commit = checkout
    assert collect({})["git"] == {"commit": commit, "dirty": False}
    (folder / "file.txt").write_text("two")
    assert collect({})["git"] == {"commit": commit, "dirty": True}


def test_an_untracked_file_is_dirty(checkout):
    folder, commit = checkout
    (folder / "new.py").write_text("")
    assert collect({})["git"] == {"commit": commit, "dirty": True}


def test_no_git_outside_a_checkout_nor_in_somebody_elses(checkout, tmp_path, monkeypatch):
    inner = checkout[0] / "site-packages"
    inner.mkdir()
    for folder in (inner, tmp_path):
        monkeypatch.setattr(paths, "CHECKOUT", folder.resolve())
        assert collect({})["git"] is None


def test_no_git_program(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert collect({})["git"] is None


def test_torch_is_not_imported():
    code = "import sys; from artifact.provenance import collect; print('threads' in collect({}))"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_file_hash(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_runs_hashes_are_those_of_its_files(tmp_path, monkeypatch):
    for name in ("data/clips.parquet", "seed0/clap/weights.safetensors", "seed1/t-clap/weights.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "seed1/t-clap/history.parquet").touch()
    found = hash_run(tmp_path, ("clips",))

    def expected(name):
        return hashlib.sha256(name.encode()).hexdigest()

    assert found["data"] == {"clips": expected("data/clips.parquet")}
    assert found["weights"] == {
        name: expected(f"{name}/weights.safetensors") for name in ("seed0/clap", "seed1/t-clap")
    }
    assert collect({}, **found)["source"] == found["source"] != hashlib.sha256().hexdigest()
    with pytest.raises(FileNotFoundError, match=r"items\.parquet"):
        hash_run(tmp_path, ("clips", "items"))


def test_the_source_is_every_module_of_the_checkout(tmp_path, monkeypatch):
    for name, text in (("tclap/a.py", "1"), ("tclap/data/b.py", "2"), ("artifact/d.py", "3"), ("c.txt", "4")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    expected = hashlib.sha256(b"tclap/a.py\n1tclap/data/b.py\n2artifact/d.py\n3").hexdigest()
    assert hash_run(tmp_path, ())["source"] == expected


def test_json_hash_ignores_the_order_of_keys_only():
    assert hash_json({"b": [1, 2], "a": None}) == hash_json({"a": None, "b": [1, 2]})
    assert hash_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    different = [{"a": [1, 2]}, {"a": [2, 1]}, {"a": "1"}, {"a": 1}, {"a": 1.5}, {"a": True}, {"b": 1}, {}]
    assert len({hash_json(value) for value in different}) == len(different)
    with pytest.raises(ValueError):
        hash_json({"a": float("nan")})


def test_state_hash_by_hand():
    state = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(0.5)}
    expected = hashlib.sha256(
        b'["a", "torch.float32", []]'
        + np.float32(0.5).tobytes()
        + b'["b", "torch.int16", [2]]'
        + np.array([1, 2], dtype=np.int16).tobytes()
    ).hexdigest()
    assert hash_state(state) == expected
    assert hash_state(dict(reversed(state.items()))) == expected


def test_state_hash_tells_name_type_shape_and_value_but_not_layout():
    x = torch.arange(6.0).reshape(2, 3)
    different = [
        {"x": x},
        {"y": x},
        {"x": x.double()},
        {"x": x.reshape(3, 2)},
        {"x": x.t()},
        {"x": x + 1e-6},
        {"x": x, "empty": torch.empty(0, 2)},
        {"x": x.bfloat16()},
        {"x": x > 2},
        {},
    ]
    assert len({hash_state(state) for state in different}) == len(different)
    transposed = x.t().contiguous().t()
    assert not transposed.is_contiguous()
    assert hash_state({"x": transposed}) == hash_state({"x": x.clone().requires_grad_()})


def test_json_is_sorted_and_reads_back(tmp_path):
    path = tmp_path / "new" / "folder" / "summary.json"
    obj = {
        "b": np.float32(0.5),
        "a": [np.int64(3), np.array([1.0, 2.0]), None, True],
        "c": tmp_path,
        "d": "τ",
    }
    write_json(path, obj)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [3, [1.0, 2.0], None, True], "b": 0.5, "c": str(tmp_path), "d": "τ"}
    assert text.index('"a"') < text.index('"b"') < text.index('"c"')
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (np.float64("nan"), ValueError),
        (np.array([np.inf]), ValueError),
        (object(), TypeError),
    ],
)
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value, error):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(error):
        write_json(path, {"a": [value]})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_refused_number_names_the_file(tmp_path):
    with pytest.raises(ValueError, match="summary.json cannot be written"):
        write_json(tmp_path / "summary.json", {"a": float("nan")})
