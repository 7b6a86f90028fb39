"""What a run says it was made with: versions, commit, hashes."""

import hashlib
import subprocess

import pytest

from artifact import paths, provenance


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "T")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")
    folder = (tmp_path / "checkout").resolve()
    (folder / "inside").mkdir(parents=True)

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def found(checkout=folder):
        monkeypatch.setattr(paths, "CHECKOUT", checkout)
        monkeypatch.setattr(provenance, "hash_code", lambda *names: "")
        return provenance.collect(tmp_path, {}, ())["git"]

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "one")
    assert found() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (folder / "new.py").write_text("")
    assert found()["dirty"] is True
    # Neither outside of a checkout, nor in somebody else's, nor without git.
    assert found(folder / "inside") is None and found(tmp_path.resolve()) is None
    monkeypatch.setenv("PATH", "")
    assert found() is None


def test_a_runs_hashes_are_those_of_its_files(tmp_path, monkeypatch):
    names = ("data/clips.parquet", "seed0/clap/weights.safetensors", "seed1/t-clap/weights.safetensors")
    sources = ("tclap/a.py", "tclap/data/b.py", "artifact/d.py", "c.txt")
    for name in (*names, "seed1/t-clap/history.parquet", *sources):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    clips, clap, tclap = (hashlib.sha256(name.encode()).hexdigest() for name in names)
    source = "".join(f"{name}\n{name}" for name in ("tclap/a.py", "tclap/data/b.py", "artifact/d.py"))
    found = provenance.collect(tmp_path, {"seeds": [0]}, ("clips",))
    assert found["data"] == {"clips": clips} and found["config"] == {"seeds": [0]}
    assert found["weights"] == {"seed0/clap": clap, "seed1/t-clap": tclap}
    assert found["source"] == hashlib.sha256(source.encode()).hexdigest()
    assert found["packages"]["torch"][0].isdigit()
    with pytest.raises(FileNotFoundError, match=r"items\.parquet"):
        provenance.collect(tmp_path, {}, ("clips", "items"))
