"""The paper's graph on stand-in weights, and real recordings through papermill."""

import json
import re

import pandas as pd
from notebook_runs import TABLE_FILES, call, graph, run
from safetensors.torch import load_file

from figures.registry import RESULTS


def test_the_papers_graph_on_stand_in_weights(random_weights_2022, esc50_root, tmp_path, monkeypatch):
    """The official architecture from ESC-50 to the paper, where every output says that it means nothing."""
    monkeypatch.setenv("ESC50_ROOT", str(esc50_root))
    for name in ("CLOTHO_ROOT", "AUDIOCAPS_ROOT"):
        monkeypatch.delenv(name, raising=False)
    settings = {"PROFILE": "paper-smoke", "BASE": "msclap-2022", "WEIGHTS": str(random_weights_2022)}
    done = graph(tmp_path, **settings)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search("^evaluation, seed 0: no retrieval on clotho: .*CLOTHO_ROOT", done.stderr, re.M)
    warning = "random weights: these numbers mean nothing"
    assert all((tmp_path / "figures" / f"{name}.pdf").is_file() for name in RESULTS)
    for name in TABLE_FILES:
        assert warning in (tmp_path / "paper" / name).read_text(), name
    made = tmp_path / "runs" / "paper-smoke" / "msclap-2022"
    executed = sorted(path for path in (made / "notebooks").iterdir() if "failed" not in path.name)
    assert len(executed) == 6  # no 07
    for path in executed:
        assert "random weights" in path.read_text().lower(), path.name
    summary = json.loads((made / "summary.json").read_text())
    assert summary["origin"]["random_weights"] and summary["origin"]["path"] == str(random_weights_2022)
    assert set(summary["models"]) == {"clap", "clap-continued", "t-clap", "clap-slots", "t-clap-slots"}
    report = call(tmp_path, "-m", "artifact", "report", "--profile", "paper-smoke", "--base", "msclap-2022")
    assert report.stdout.startswith(warning.upper())
    # The trunks stay where they are published: of every model the heads alone are kept.
    weights = list(made.glob("seed0/*/weights.safetensors"))
    assert len(weights) == 3
    assert not any(
        key.startswith(("audio_trunk.", "text_trunk.")) for file in weights for key in load_file(file)
    )
    again = graph(tmp_path, **settings)
    assert again.returncode == 0 and "Every step is up to date." in again.stderr


def test_real_recordings_through_papermill(esc50_root, tmp_path):
    """Notebook 01 on real clips: ten classes in every fold, composites, questions."""
    done = run(tmp_path, "01", 'profile="esc50"', f"esc50_root={json.dumps(str(esc50_root))}")
    assert done.returncode == 0, done.stderr
    data = tmp_path / "runs" / "esc50" / "compact" / "data"
    clips, pairs = (pd.read_parquet(data / f"{name}.parquet") for name in ("clips", "pairs-test"))
    assert clips["label"].nunique() == 10 and set(clips["split"]) == {"train", "validation", "test"}
    assert clips.groupby("source")["split"].nunique().max() == 1
    assert set(pairs["test_fold"]) == set(clips["fold"])
    fold = clips.set_index("clip_id")["fold"]
    for end in ("clip_i", "clip_j"):
        assert (fold[pairs[end]].to_numpy() == pairs["test_fold"]).all()
