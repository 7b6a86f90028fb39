import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

import tclap
from tclap.data.clips import for_stage
from tclap.data.composites import draw_pairs
from tclap.evaluation import item_set
from tclap.evaluation.tasks import build_items

FROZEN = Path(__file__).parents[2] / "docs" / "items"
LABELS = ["crow", "dog", "rain", "siren"]


def drawn(clips, seed=0, pairs=400):
    pairs = draw_pairs(clips, "test", pairs, seed=seed)
    return pairs, build_items(clips, pairs, sorted(clips["label"].unique()), seed=seed)


@pytest.fixture
def clips():
    rows = [(f"{label}-{n}", label, [label], f"s{n}", "test") for label in LABELS for n in range(2)]
    return pd.DataFrame(rows, columns=["clip_id", "label", "captions", "source", "split"])


def test_the_fingerprint_tells_other_questions_apart(clips):
    pairs, items = drawn(clips, pairs=6)
    name = item_set.fingerprint(pairs, items)
    assert name == item_set.fingerprint(*drawn(clips, pairs=6)) and name.startswith("tclap-zste-1:")
    others = [drawn(clips, seed=1, pairs=6), drawn(clips, pairs=5), (pairs.assign(order="reversed"), items)]
    others.append((pairs, items.assign(answers=[[0]] * len(items))))
    assert len({name, *(item_set.fingerprint(*other) for other in others)}) == 5


def test_files_hold_what_was_drawn(tmp_path, clips):
    pairs, items = drawn(clips, pairs=6)
    item_set.write(tmp_path, pairs, items, name="made up", seed=0)
    read = pd.read_csv(tmp_path / "pairs.csv")
    pd.testing.assert_frame_equal(read, pairs[list(item_set.PAIR_COLUMNS)])
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [line["candidates"] for line in lines] == items["candidates"].tolist()
    assert [line["answers"] for line in lines] == items["answers"].tolist()
    about = json.loads((tmp_path / "croissant.json").read_text())
    described = [[field["name"] for field in records["field"]] for records in about["recordSet"]]
    assert described == [list(read), list(lines[0])]
    for file in about["distribution"]:
        assert file["sha256"] == hashlib.sha256((tmp_path / file["contentUrl"]).read_bytes()).hexdigest()


def test_croissant_reads_the_records(tmp_path, clips):
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    pairs, items = drawn(clips, pairs=6)
    item_set.write(tmp_path, pairs, items, name="made up", seed=0)
    dataset = croissant.Dataset(str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    read = list(dataset.records("items"))
    assert [row["items/answers"] for row in read] == items["answers"].tolist()
    assert [row["items/task"].decode() for row in read] == items["task"].tolist()
    assert [row["pairs/clip_i"].decode() for row in dataset.records("pairs")] == pairs["clip_i"].tolist()


@pytest.mark.parametrize("fold", [1, 2, 3, 4])
def test_the_frozen_pairs_of_esc10_are_drawn_again(esc50_root, tmp_path, fold):
    clips = for_stage(tclap.load_clips("esc50", esc50_root, classes="esc10", test_fold=fold), "test")
    pairs, items = drawn(clips)
    item_set.write(tmp_path, pairs, items, name=f"ESC-10, fold {fold}", seed=0)
    frozen = FROZEN / f"esc10-fold{fold}.csv"
    assert (tmp_path / "pairs.csv").read_bytes() == frozen.read_bytes()
    table = (FROZEN / "README.md").read_text()
    assert f"| {fold} | `{item_set.fingerprint(pairs, items)}` |" in table
