"""What steps depend on is content: stamps, fingerprints of every kind of input, and what cleaning removes."""

import os
import runpy
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import soundfile
from tones import write_esc50

from artifact import made, paths, steps
from artifact.clips import hashed
from artifact.config import load_config, settings
from figures import registry
from tclap.data.datasets import clotho

CONCEPTS = {f"figure-{name}" for name in registry.CONCEPTS}
CLEAN = paths.CHECKOUT / "workflow" / "clean.py"


@pytest.mark.parametrize("change", ["none", "older", "edited", "cut", "deleted", "stamp cut", "fingerprint"])
def test_a_stamp_is_current_while_contents_are_the_same(tmp_path, change):
    products = [tmp_path / "run" / "a.parquet", tmp_path / "figures" / "b.png"]
    for path in products:
        path.parent.mkdir()
        path.write_bytes(b"some content")
    stamp = tmp_path / "run" / "steps" / "one.json"
    subprocess.run(
        [sys.executable, "-m", "artifact.made", stamp, "f1", *products], check=True, cwd=paths.CHECKOUT
    )
    if change == "older":
        os.utime(products[0], (1, 1))
        os.utime(stamp, (2, 2))
    elif change == "edited":
        products[1].write_bytes(b"same length!")
    elif change == "cut":
        products[0].write_bytes(b"some")
    elif change == "deleted":
        products[1].unlink()
    elif change == "stamp cut":
        stamp.write_text(stamp.read_text()[:20])
    expected = change in ("none", "older")
    assert made.is_current(stamp, "f2" if change == "fingerprint" else "f1") is expected


def test_fingerprints_follow_the_captioned_sets_wherever_they_lie(esc50, tmp_path, monkeypatch):
    """Rows removed, the folder gone, and the same data in the default folder."""
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    monkeypatch.delenv("CLOTHO_ROOT", raising=False)
    root, config = esc50
    config = config.model_copy(update={"retrieval_sets": ["clotho"]})
    without = found(config, root)
    own, default = tmp_path / "clotho", tmp_path / "data" / "clotho"
    own.mkdir()
    lines = [",".join(["file_name", *clotho.CAPTIONS]), *(f"{n}.wav,a,b,c,d,e" for n in range(3))]
    (own / "clotho_captions_evaluation.csv").write_text("\n".join(lines))
    for n in range(3):
        soundfile.write(own / f"{n}.wav", [0.1 * n] * 800, 8000)
    monkeypatch.setenv("CLOTHO_ROOT", str(own))
    whole = found(config, root)
    assert {name for name in without if without[name] == whole[name]} == CONCEPTS
    shutil.copytree(own, default)
    (own / "clotho_captions_evaluation.csv").write_text("\n".join(lines[:-1]))
    assert found(config, root)["evaluation-seed0"] not in (
        whole["evaluation-seed0"],
        without["evaluation-seed0"],
    )
    shutil.rmtree(own)
    assert found(config, root) == without
    monkeypatch.delenv("CLOTHO_ROOT")
    assert found(config, root) == whole


@pytest.fixture
def esc50(tmp_path):
    """Twelve clips in ESC-50's layout, and the configuration of a run on them."""
    config = load_config("esc50", {"test_fold": 1, "validation_fold": 2})
    return write_esc50(tmp_path / "a", (1, 2, 3), ("dog", "rain")), config


def found(config, root) -> dict[str, str]:
    return steps.fingerprints(config, "compact", steps.data_content(config, str(root)))


def test_fingerprints_follow_the_content_of_the_data(esc50):
    root, config = esc50
    first = found(config, root)
    shutil.copytree(root, root.parent / "b")
    for path in (root.parent / "b").rglob("*.*"):
        os.utime(path, (1, 1))
    assert found(config, root.parent / "b") == first, "the same content elsewhere, and older"
    audio = next((root / "audio").glob("1-*"))
    samples, rate = soundfile.read(audio)
    soundfile.write(audio, samples[::-1], rate)
    exchanged = found(config, root)
    same = {name for name in first if first[name] == exchanged[name]}
    assert same == CONCEPTS
    table = root / "meta" / "esc50.csv"
    pd.read_csv(table).iloc[:-1].to_csv(table, index=False)
    assert found(config, root)["summary"] != exchanged["summary"], "a row less"


def test_fingerprints_follow_the_configuration_and_only_what_depends_on_it():
    config = load_config("synthetic")
    first = steps.fingerprints(config, "compact", {})
    without = steps.fingerprints(config.model_copy(update={"slots": None}), "compact", {})
    assert first.keys() - without.keys() == {
        *(f"order_from_text-seed{seed}" for seed in (0, 1, 2)), "other_base_models", "slot_ablation"
    }  # fmt: skip
    published = steps.fingerprints(config.model_copy(update={"base_training": None}), "compact", {})
    assert "your_recordings" in first and "your_recordings" not in published
    changed = config.model_copy(update={"test_pairs": config.test_pairs + 1})
    second = steps.fingerprints(changed, "compact", {})
    assert {name for name in first if first[name] == second[name]} == CONCEPTS
    assert steps.fingerprints(config.model_copy(), "compact", {}) == first
    other_weights = steps.fingerprints(config, "compact", {"weights": "abc"})
    assert other_weights["base_model-seed0"] != first["base_model-seed0"]


def test_the_tables_follow_the_run_on_real_recordings_but_not_in_that_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    made_before = [steps.fingerprints(load_config(name), "compact", {}) for name in ("smoke", "esc50")]
    (tmp_path / "runs" / "esc50").mkdir(parents=True)
    (tmp_path / "runs" / "esc50" / "summary.json").write_text("{}")
    made_after = [steps.fingerprints(load_config(name), "compact", {}) for name in ("smoke", "esc50")]
    changed = [
        {step for step in old if old[step] != new[step]}
        for old, new in zip(made_before, made_after, strict=True)
    ]
    assert changed == [{"tables_and_numbers"}, set()]


def test_stale_stamps_are_removed_and_the_others_stay(tmp_path):
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    sounds = tmp_path / "a.wav"
    sounds.write_bytes(b"sound")
    hashed(pd.DataFrame({"path": [str(sounds)]})).to_parquet(run / "data" / "clips.parquet")
    expected = {"data_construction": "d", "base_model-seed0": "m", "summary": "s"}
    for name, fingerprint in expected.items():
        made.write(run / "steps" / f"{name}.json", fingerprint, [run / "data" / "clips.parquet"])
    assert steps.remove_stale(run, expected) == list(expected)
    assert steps.remove_stale(run, expected | {"summary": "other"}) == [
        "data_construction",
        "base_model-seed0",
    ]
    assert not (run / "steps" / "summary.json").exists()
    sounds.unlink()  # such as data/synthetic-..., emptied by hand
    assert steps.remove_stale(run, expected) == ["base_model-seed0"]


def test_settings_take_any_character():
    weights = 'it\'s "my" folder/$w 100%.pth'
    given = {"PROFILE": "esc50", "CLASSES": "a b's", "WEIGHTS": weights, "TEST_FOLD": "4", "DOWNLOAD": "1"}
    found = settings(given | {"BASE": "", "PATH": "x"})
    assert (found.profile, found.base, found.classes, found.test_fold) == ("esc50", "compact", "a b's", 4)
    assert found.weights == os.path.abspath(weights) and found.download and not settings({}).download


def test_make_is_refused_in_another_folder(tmp_path):
    (tmp_path / "runs").mkdir()
    command = ["make", "-f", paths.CHECKOUT / "Makefile", "clean"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "run make in the folder of its Makefile: make -C FOLDER" in done.stderr
    assert (tmp_path / "runs").exists()


def test_cleaning_removes_what_runs_made_and_leaves_the_users_files(tmp_path):
    mine = [
        "figures/mine.png",
        "paper/tables/mine.tex",
        "data/recordings/dog.wav",
        "data/synthetic-of-mine/a.wav",
    ]
    products = ["figures/tasks.png", "paper/tables/table_1.tex", "runs/p/b/summary.json"]
    others = [
        "data/synthetic-0123456789ab/a.wav",
        "data/features/features-0.safetensors",
        "paper/main.pdf",
        "paper/main.aux",
    ]
    for name in [*mine, *products, *others, "outside.png"]:
        path = tmp_path / "root" / name if name != "outside.png" else tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    root = tmp_path / "root"
    stamp = root / "runs" / "p" / "b" / "steps" / "s.json"
    made.write(stamp, "f", [*(root / name for name in products), tmp_path / "outside.png"])
    (stamp.parent / "cut.json").write_text("{")
    runpy.run_path(str(CLEAN))["clean"](root)
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert left == set(mine) and (tmp_path / "outside.png").exists()
