"""Test folds in turn: a run's seeds are tested on one fold after another."""

import pandas as pd
import pytest
from tones import write_esc50

from artifact import paths
from artifact.config import load_config
from artifact.preparation import prepare
from artifact.steps import with_folds
from artifact.summary import by_fold, rotations

LABELS, FOLDS = ("dog", "rain", "siren"), (1, 2, 4)
PROFILE = """
dataset: esc50
dataset_options: {classes: [dog, rain, siren]}
rotate: [1, 2, 3, 4]
seeds: [0, 1]
bases:
  compact: {window: 0.4, sample_rate: 8000, n_fft: 256, hop: 160, width: 8, hidden: 4, dim: 8}
test_pairs: 6
validation_pairs: 4
control_pairs: 2
post_pretraining: {steps: 1, lr: 0.001, batch: 2}
variants: [t-clap]
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "configs", lambda: tmp_path / "configs")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "turns.yaml").write_text(PROFILE)
    return write_esc50(tmp_path / "esc50", FOLDS, LABELS)


def test_each_fold_that_is_there_is_tested_in_turn(root):
    config = with_folds(load_config("turns"), root)
    assert config.rotate == [1, 2, 4] and config.seeds == [0, 1, 2, 3, 4, 5]
    assert [config.test_fold(seed) for seed in config.seeds] == [1, 2, 4, 1, 2, 4]
    assert [config.splits(fold) for fold in FOLDS] == [
        {1: "test", 2: "validation"}, {2: "test", 4: "validation"}, {4: "test", 1: "validation"},
    ]  # fmt: skip
    alone = load_config("turns", {"test_fold": 2})
    assert with_folds(alone, root) == alone and alone.seeds == [0, 1] and alone.test_fold(1) is None


def test_a_seed_has_the_clips_pairs_and_items_of_its_fold(root):
    run = prepare("turns", "compact", root)
    seen = []
    for seed, fold in enumerate([1, 2, 4, 1]):
        at = run.at(seed)
        splits = at.clips.groupby("split")["fold"].unique().map(list).to_dict()
        others = {2: [4], 4: [1], 1: [2]}
        assert splits == {"test": [fold], "validation": others[fold], "train": others[others[fold][0]]}
        pairs, items = at.table("data/pairs-test.parquet"), at.table("data/items.parquet")
        assert len(pairs) == 6 and "test_fold" not in pairs
        assert (pairs["pair_id"].str.startswith(f"fold{fold}-")).all()
        assert set(pairs["clip_i"]) | set(pairs["clip_j"]) <= set(
            at.clips[at.clips["fold"] == fold]["clip_id"]
        )
        assert set(items["source_a"]) <= set(at.clips[at.clips["split"] == "test"]["source"])
        seen.append(set(items["item"]))
    assert not seen[0] & seen[1] and seen[0] == seen[3]


def test_the_summary_counts_turns_and_tells_folds_apart():
    rows = pd.DataFrame(
        {
            "seed": [0, 1, 2, 3],
            "query": [7, 7, "dog", "dog"],
            "model": "clap",
            "task": "1",
            "correct": [1.0, 0.0, 0.5, 1.0],
        }
    )
    found = by_fold(rows, [3, 5])
    assert found["seed"].tolist() == [0, 0, 1, 1] and found["fold"].tolist() == [3, 5, 3, 5]
    assert found["query"].tolist() == ["fold3 7", "fold5 7", "fold3 dog", "fold5 dog"]
    assert by_fold(rows, []) is rows
    expected = [(3, 0, 100.0), (3, 1, 50.0), (5, 0, 0.0), (5, 1, 100.0)]
    assert [(row["fold"], row["seed"], row["1"]) for row in rotations(found)] == expected
