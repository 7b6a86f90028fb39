"""The one call on toy models: suites, shapes, and what is refused."""

import collections

import numpy as np
import pandas as pd
import pytest
import torch
from tones import RATE, Blind, Perfect, write_recordings

import tclap
from tclap.evaluation.benchmark import SUITES, evaluate
from tclap.evaluation.controls import CONDITIONS
from tclap.evaluation.report import report
from tclap.evaluation.statistics import summarise
from tclap.evaluation.tasks import ROW_COLUMNS, TASKS


@pytest.fixture
def recordings(tmp_path):
    return write_recordings(tmp_path)


@pytest.fixture
def clips(recordings):
    return tclap.load_clips("folder", recordings)


def test_beside_task_4_stands_what_hears_no_order(clips, monkeypatch):
    monkeypatch.setattr("tclap.evaluation.tasks.TASK_4_LABELS", 4)
    monkeypatch.setattr("tclap.evaluation.tasks.TASK_4_CANDIDATES", 10)
    rows = evaluate(Blind(), clips, "tasks", pairs=30).set_index("task")
    assert rows.index.unique().tolist() == [*TASKS, "baseline: order-blind"]
    found, model = rows.loc["baseline: order-blind"], rows.loc["4"]
    # "A before B", "B before A", "A while B" and, where it was drawn, "B while A" tie: the baseline draws.
    assert set(found["correct"]) == {1 / 3, 1 / 4} and not model["correct"].any()
    assert found["item"].tolist() == model["item"].tolist() and (found["chance"] == 1 / 10).all()


@pytest.fixture
def captioned(recordings):
    """The tones with a caption each instead of labels."""
    table = pd.read_csv(recordings / "clips.csv")
    table["caption"] = "a " + table["label"] + ", take " + table.index.astype(str)
    table.drop(columns="label").to_csv(recordings / "captions.csv", index=False)
    return tclap.load_clips("folder", recordings, csv="captions.csv")


def test_captioned_clips_are_asked_for_order_only(captioned):
    rows = evaluate(Perfect(), captioned, "tasks", pairs=30)
    assert set(rows["task"]) == {"3", "3_after", "2way_before", "2way_after", "overlap"}
    # Two takes of one sound are two events here, which this model cannot tell apart.
    asked = rows["answer"].str.removeprefix("this is a sound of ").str.split(" before | after | while ")
    told = rows[asked.map(lambda pair: pair[0].split(",")[0] != pair[1].split(",")[0])]
    assert len(told) and told["correct"].all()


def test_captioned_clips_are_retrieved_by_captions(captioned):
    model = Blind()
    rows = evaluate(model, captioned, "retrieval", pairs=6)
    assert rows["task"].str.split("[:,] ").str[1].unique().tolist() == ["captions", "ordered"]
    assert all(", take " in text for text in model.read)
    assert not any(clip in text for text in model.read for clip in captioned["clip_id"])
    # A caption names the pitch, of which there are four takes: its own is among the first five.
    found = rows[rows["task"] == "retrieval: captions, text to audio, R@5"]
    assert len(found) == 16 and found["correct"].all()


def test_kept_embeddings_are_not_computed_again(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("tclap.evaluation.embeddings.FILE", 20)
    asked = {"pairs": 6, "control_pairs": 3, "keep": tmp_path}
    first = evaluate(Blind(), clips, "tasks", **asked)
    again = Blind()
    pd.testing.assert_frame_equal(evaluate(again, clips, "tasks", **asked), first)
    assert not again.sounds and not again.read
    # Another suite computes what it needs beyond, and a damaged file's embeddings anew.
    evaluate(again, clips, "retrieval", **asked)
    fresh = Blind()
    evaluate(fresh, clips, "retrieval", **{**asked, "keep": None})
    assert 0 < len(again.sounds) < len(fresh.sounds)
    for path in tmp_path.glob("sounds-*/*.safetensors"):
        path.write_bytes(b"damaged")
    pd.testing.assert_frame_equal(evaluate(damaged := Blind(), clips, "tasks", **asked), first)
    assert damaged.sounds and not damaged.read
    # Other code may embed otherwise.
    with monkeypatch.context() as changed:
        changed.setattr("tclap.files.hash_code", lambda *names: "another")
        evaluate(edited := Blind(), clips, "tasks", **asked)
    assert edited.sounds and edited.read
    # Other composites are others' sounds.
    evaluate(other := Blind(), clips, "tasks", **{**asked, "seed": 1})
    assert other.sounds


def test_all_suites_of_any_object(clips):
    model = Blind()
    rows = evaluate(model, clips, "full", pairs=30, control_pairs=10, seed=3, name="blind")
    assert list(rows.columns[: len(ROW_COLUMNS)]) == list(ROW_COLUMNS)
    assert (rows["model"] == "blind").all() and (rows["seed"] == 3).all()
    summary = summarise(rows, resamples=50).set_index("task")
    assert summary.loc["1", "accuracy"] == 100 and summary.loc["2a", "accuracy"] == 100
    # Order is a tie, which counts against it and is said.
    assert summary.loc["2way_before", "accuracy"] == 0
    assert rows[rows["task"] == "2way_before"]["tied"].all()
    assert summary.loc["gap: 25%", "n"] == 10 and summary.loc["2way_before", "n"] == 30
    singles = "retrieval: singles, audio to text, "
    assert summary.loc[singles + "R@1", "accuracy"] == summary.loc[singles + "mAP@10", "accuracy"] == 100
    assert summary.loc[singles + "R@1", "chance"] == 25
    assert summary.loc["retrieval: ordered, text to audio, R@1", "accuracy"] < 50
    # Every sound and caption is encoded once: singles, views, conditions, periodic overlaps, three events
    # and two of one class.
    assert max(collections.Counter(model.read).values()) == 1
    test = clips[clips["split"] == "test"]
    assert len(model.sounds) == len(test) + 3 * 30 + 10 * (len(CONDITIONS) + 3)
    assert all(w.shape == (4000,) and w.dtype == np.float32 for w in model.sounds)
    # A suite alone has the same rows, and encodes less.
    some = evaluate(few := Blind(), clips, "tasks", pairs=30, seed=3, name="blind")
    assert len(few.sounds) < len(test) + 3 * 30 and set(some["task"]) == set(TASKS) - {"4"}
    again = rows[rows["task"].isin(TASKS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.astype({"tied": bool}), some)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_alone_and_two_labels(clips, suite, caplog):
    """Two test labels are the least; what would have no wrong candidate then is left out, which is said."""
    two = clips[clips["label"].isin(["hum", "beep"])]
    rows = evaluate(Perfect(), two, suite, pairs=6, control_pairs=3)
    assert list(rows.columns) == [*ROW_COLUMNS, "model", "seed"] and len(report(rows).splitlines()) > 5
    if suite == "tasks":
        assert set(rows["task"]) == set(TASKS) - {"2a", "2b", "4"} and rows["correct"].all()
        assert "2 classes are too few for the tasks 2a, 2b, 4" in caplog.text
        # Of four prompts two are correct.
        assert rows.loc[rows["task"] == "5", "chance"].tolist() == pytest.approx([1 / 6] * 6)
    if suite == "retrieval":
        assert rows["task"].str.split("[:,] ").str[1].unique().tolist() == ["singles", "ordered"]
        assert "one pair of labels is too few for the gallery of overlaps" in caplog.text


def test_a_clip_that_is_called_as_a_composite_is(clips):
    first = clips.index[clips["split"] == "test"][0]
    named = clips.assign(clip_id=clips["clip_id"].where(clips.index != first, "test-000001/overlap"))
    with pytest.raises(ValueError, match="are both called test-000001/overlap: rename the clip"):
        evaluate(Perfect(), named, pairs=6)


def test_rate_and_window_can_be_given(clips):
    class Bare:
        encode_audio, encode_text = Blind.encode_audio, Blind.encode_text
        sounds, read, window = [], [], 0.5

    assert len(evaluate(Bare(), clips, pairs=12, sample_rate=RATE))
    for options, word in (({}, "sample_rate"), ({"sample_rate": RATE, "window": 0}, "window is 0")):
        with pytest.raises(ValueError, match=word):
            evaluate(Bare(), clips, pairs=12, **options)


@pytest.mark.parametrize(
    ("method", "result", "word"),
    [
        ("encode_audio", lambda n: torch.zeros(n + 1, 4), "audio embeddings have shape"),
        ("encode_audio", lambda n: torch.full((n, 4), torch.nan), "audio embeddings .* finite"),
        ("encode_text", lambda n: torch.zeros(n), "text embeddings have shape"),
        (
            "encode_text",
            lambda n: torch.ones(n, 5),
            r"text embeddings have shape \(\d+, 5\), expected \[\d+, 4\]",
        ),
    ],
)
def test_embeddings_that_cannot_be_right_are_refused(clips, method, result, word):
    model = Blind()
    setattr(model, method, lambda items: result(len(items)))
    with pytest.raises(ValueError, match=word):
        evaluate(model, clips, pairs=12)


@pytest.mark.parametrize("suite", ["everything", [], ["tasks", "control"]])
def test_unknown_suites_are_refused(clips, suite):
    with pytest.raises(ValueError, match="suite"):
        evaluate(Blind(), clips, suite)


def test_the_table_rounds_halves_up():
    rows = pd.DataFrame({"item": range(16), "source_a": range(16), "correct": [1.0] + 15 * [0.0]})
    rows = rows.assign(model="m", seed=0, task="3", chance=0.0625, tied=rows["correct"] == 1)
    (line,) = [line.split() for line in report(rows).splitlines() if line.startswith("m ")]
    assert [line[n] for n in (2, 4, 5)] == 3 * ["6.3"]
