"""Slots on a run's models: asked what all are asked, and one thing changed at a time."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from artifact import evaluation, slot_ablation
from artifact.__main__ import main as command
from artifact.embeddings import TestAudio
from artifact.experiment import READER, RememberingReader
from artifact.summary import slot_ablation as slot_ablation_summary
from artifact.training import train_variants
from tclap.data.conditions import waveform_of
from tclap.models.weights import read_checkpoint
from tclap.slots.reader import Reading


def test_the_runs_models_share_a_reader_that_has_not_learned_what_is_asked(experiment):
    train_variants(experiment, 0, ["t-clap"])
    models = evaluation.slot_models(experiment, 0)
    assert set(models) == {"clap-slots", "t-clap-slots"}
    assert (models["clap-slots"].whole, models["t-clap-slots"].whole) == (0, pytest.approx(1 / 3))
    assert models["clap-slots"].reader is models["t-clap-slots"].reader
    config, _ = read_checkpoint(READER, "caption-reader")
    assert config["card"]["held out"] is True
    assert models["clap-slots"].base.fingerprint == experiment.load(0).fingerprint
    # As the library does it, of sounds as they are.
    pairs = experiment.table("data/pairs-test.parquet")
    test = TestAudio(experiment, models["clap-slots"].base)
    name = f"{pairs['pair_id'].iloc[1]}/reversed"
    found = test.embeddings(models["clap-slots"])
    waveform = waveform_of(test.sounds[name], experiment.audio, models["clap-slots"].window)
    expected = models["clap-slots"].encode_audio([waveform])
    torch.testing.assert_close(found.sounds([name]), expected, atol=1e-5, rtol=0)
    captions = ["dog before rain", "rain"]
    expected = models["clap-slots"].encode_text(captions)
    torch.testing.assert_close(found.captions(captions), expected, atol=1e-4, rtol=0)


def test_each_caption_is_read_once(tmp_path):
    asked = []

    class Counting:
        def read(self, captions):
            asked.append(captions)
            return [Reading("plain", (caption,), (0,), confidence=0.1) for caption in captions]

    reader = RememberingReader(Counting(), tmp_path, ["one"])
    assert [r.events for r in reader.read(["b", "a", "b"])] == [("b",), ("a",), ("b",)]
    assert [r.events for r in reader.read(["a", "c"])] == [("a",), ("c",)]
    assert asked == [["a", "b"], ["c"]]
    # In another step too, but not by another reader.
    again = RememberingReader(Counting(), tmp_path, ["one"]).read(["a", "b"])
    assert again == reader.read(["a", "b"]) and len(asked) == 2
    RememberingReader(Counting(), tmp_path, ["another"]).read(["a", "b"])
    assert len(asked) == 3


def test_a_profile_without_slots_is_told_so(experiment):
    experiment.config = experiment.config.model_copy(update={"slots": None})
    with pytest.raises(ValueError, match="configs/smoke.yaml has no slots, expected the key 'slots'"):
        evaluation.slot_models(experiment, 0)


def by_rule(self, captions):
    """Stands for a trained reader: reads "X before Y" and "Y after X"."""
    readings = []
    for caption in captions:
        found = re.fullmatch(r"this is a sound of (.+) (before|after) (.+)", caption)
        ends = found and (found[1], found[3])[:: 1 if found[2] == "before" else -1]
        readings.append(Reading("forward", ends, (0, 1)) if found else Reading("plain"))
    return readings


def test_slots_are_asked_what_all_are_and_turn_round_when_swapped(experiment, monkeypatch):
    monkeypatch.setattr(RememberingReader, "read", by_rule)
    train_variants(experiment, 0, ["t-clap"])
    rows = evaluation.evaluate_slots(experiment, 0)
    kept = experiment.table("seed0/slots-results.parquet")
    assert len(kept) == len(rows) and set(rows["model"]) == {"clap-slots", "t-clap-slots"}
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "TestAudio", lambda *_: pytest.fail("asked again"))
        pd.testing.assert_frame_equal(evaluation.evaluate_slots(experiment, 0), kept)
    asked = [set(experiment.table(f"data/{name}.parquet")["task"]) for name in ("items", "controls")]
    assert set.union(*asked) < set(rows["task"])
    # The margins change sign with the slots.
    of_base = rows[rows["model"] == "clap-slots"].set_index(["task", "item"])["margin"]
    for task, swapped in evaluation.SWAPPED.items():
        one, other = of_base[task], of_base[swapped].loc[of_base[task].index]
        np.testing.assert_allclose(one, -other, atol=1e-5)
        assert one.abs().max() > 1e-4


def test_slots_are_ablated_one_change_at_a_time(experiment, monkeypatch):
    monkeypatch.setattr(RememberingReader, "read", by_rule)
    train_variants(experiment, 0, ["t-clap"])
    kept = experiment.folder / "seed0/slots-ablation.parquet"
    command(["ablate", "--profile", "smoke", "--seed", "0", "--bases"])
    assert experiment.load(0, "clap-single-sounds") is not None and not kept.exists()
    command(["ablate", "--profile", "smoke", "--seed", "0"])
    rows = pd.read_parquet(kept)
    assert rows.groupby("group", sort=False)["change"].unique().map(list).to_dict() == {
        "as it is": [""],
        "parts": ["35 % alone", "50 % alone"],
        "slots": ["three"],
        "whole": ["a third"],
        "source": ["trunk"],
        "reader": ["shipped", "regular expressions", "oracle", "oracle, halves", "oracle, halves, whole"],
        "base": ["clap-single-sounds", "clap-attention", "clap-attention, trunk"],
    }
    margins = rows.set_index(["group", "change", "task", "item"])["margin"].sort_index()
    assert not margins.index.duplicated().any()
    # Task 4 needs seven classes.
    assert set(rows["task"].replace(slot_ablation.POOLED)) == set(slot_ablation.ABLATION_TASKS) - {"4"}
    asked = rows.groupby(["group", "change"])["task"].value_counts().unstack()
    assert (asked == asked.iloc[0]).all(axis=None)
    # Of single sounds all is as before, unless the base model is another one or √(slots + 1) is.
    unchanged = margins["as it is", ""]
    same = [("parts", "35 % alone"), ("source", "trunk"), ("whole", "a third"), ("reader", "oracle")]
    for group, change in same:
        np.testing.assert_allclose(margins[group, change]["1"], unchanged["1"], atol=1e-6)
    np.testing.assert_allclose(2 * margins["slots", "three"]["1"], 3**0.5 * unchanged["1"], atol=1e-5)
    assert not np.allclose(margins["base", "clap-single-sounds"]["1"], unchanged["1"], atol=1e-3)
    part = margins["parts", "35 % alone"]["2way_before"]
    assert not np.allclose(part, unchanged["2way_before"], atol=1e-4)
    # The stand-in of the reader reads "before" and "after" as the oracle does, and has nothing of "while".
    margins_of_oracle = margins["reader", "oracle"]
    np.testing.assert_allclose(margins_of_oracle["2way_before"], unchanged["2way_before"], atol=1e-6)
    assert not np.allclose(margins_of_oracle["overlap"], unchanged["overlap"], atol=1e-4)
    assert [row["n"] for row in slot_ablation.error_sources(rows)] == [20, 20, 20, 8 * 6]
    assert {row["tasks"]["wording: unseen"]["n"] for row in slot_ablation_summary(rows)} == {6}
