from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from artifact import paths
from tclap import files


def test_everything_made_lies_under_the_root(project_root):
    assert paths.root() == project_root.resolve()
    assert paths.data() == project_root / "data"
    assert paths.features() == project_root / "data/features"
    assert paths.figures() == project_root / "figures"
    assert paths.paper() == project_root / "paper"
    assert paths.run("smoke") == project_root / "runs/smoke"
    assert paths.run("smoke", "compact") == project_root / "runs/smoke/compact"
    assert paths.run("smoke", "compact", 0) == project_root / "runs/smoke/compact/seed0"
    assert paths.run("smoke", "compact", 2, "t-clap") == project_root / "runs/smoke/compact/seed2/t-clap"


def test_profiles_are_part_of_the_checkout(project_root):
    assert paths.configs() == Path(__file__).resolve().parents[2] / "configs"
    assert paths.configs().is_dir()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_root_the_checkout_is_it(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("TCLAP_ROOT", raising=False)
    else:
        monkeypatch.setenv("TCLAP_ROOT", value)
    assert paths.root() == Path(__file__).resolve().parents[2]


def test_a_relative_root_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCLAP_ROOT", "out")
    assert paths.root() == tmp_path.resolve() / "out"


def test_replacing_writes_the_file_and_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "table.parquet"
    with files.replacing(path) as temporary:
        assert temporary.parent == path.parent  # one file system: the replacement is atomic
        assert temporary.suffix == ".parquet"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["table.parquet"]


def test_replacing_keeps_the_old_until_the_end(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with files.replacing(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_crash_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as temporary:
        temporary.write_text("half of it")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_crash_without_an_old_file_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), files.replacing(tmp_path / "x.json"):
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_writers_that_replace_the_temporary_file_themselves(tmp_path):
    with files.replacing(tmp_path / "x.txt") as temporary:
        temporary.unlink()
        temporary.write_text("new")
    assert (tmp_path / "x.txt").read_text() == "new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.replacing(tmp_path / "x.json") as temporary:
            temporary.write_text("{}")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == mode
