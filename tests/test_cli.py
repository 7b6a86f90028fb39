"""The command ``tclap`` on toy models."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tones import RATE, write_recordings

import tclap
from tclap import audio, files
from tclap import cli as command_line


@pytest.fixture
def recordings(tmp_path):
    return write_recordings(tmp_path)


def test_the_command_keeps_rows_and_prints_a_table(tiny_model, recordings, project_root, monkeypatch, capsys):
    tiny_model.is_published = True
    monkeypatch.setattr("tclap.models.registry.load_model", lambda name, weights: tiny_model)
    hashed, sha256 = [], files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: hashed.append(path) or sha256(path))
    options = ["--data", "folder", "--root", str(recordings), "--pairs", "6", "--control-pairs", "3"]
    out = project_root / "rows.parquet"
    command_line.main(["evaluate", "--model", "msclap-2022", "--out", str(out), *options])
    assert len(hashed) == len(set(hashed)) == 16  # each test clip's file once
    table = capsys.readouterr().out.splitlines()
    kept = pd.read_parquet(out)
    assert len(table) == 2 + kept["task"].nunique() and table[0].split()[:3] == ["model", "task", "accuracy"]
    (line,) = [line.split() for line in table if line.startswith("msclap-2022  2way_before ")]
    asked = kept[kept["task"] == "2way_before"]
    assert (float(line[2]), line[-1]) == (round(100 * asked["correct"].mean(), 1), "6")
    again = ["--model", "msclap-2022", "--out", str(out)]
    command_line.main(["evaluate", *again, *options, "--suite", "retrieval"])  # of the same it is replaced
    assert pd.read_parquet(out)["task"].str.startswith("retrieval").all()
    content = out.read_bytes()
    (notes := project_root / "notes.txt").write_text("mine")
    for wrong, message in (
        (["--model", "msclap-2022", "--suite", "nope"], "error: suite is ['nope']"),
        (["--model", "msclap-2022", "--pairs", "0"], "error: pairs is 0, expected at least 1"),
        (["--model", "msclap-2022", "--threads", "0"], "error: threads is 0, expected at least 1"),
        ([*again[:3], str(notes)], "notes.txt, expected the name of a .parquet file"),
        ([*again[:3], str(notes / "rows.parquet")], f"error: {notes} cannot be written: "),
    ):
        stopped_with(["evaluate", *options, *wrong], message, capsys)
    for change in (tiny_model.log_scale, None):
        if change is not None:
            with torch.no_grad():
                change.add_(1.0)
        else:
            out.write_text("mine")
        stopped_with(
            ["evaluate", *again, *options], "rows.parquet holds rows of other weights or data", capsys
        )
        out.write_bytes(content)


def test_two_objects_by_the_commands(recordings, project_root, capsys):
    data = ["--data", "folder", "--root", str(recordings), "--pairs", "30"]
    paths = [project_root / f"{name}.parquet" for name in ("Blind", "Perfect", "few")]
    for path in paths[:2]:
        command = ["evaluate", "--model", f"tones:{path.stem}", "--suite", "tasks", "--out", str(path)]
        command_line.main([*command, "--card", str(project_root / "card.md"), "--json", *data])
    printed = json.loads(capsys.readouterr().out.split("\n}\n")[1] + "\n}")
    accuracies = {row["task"]: row["accuracy"] for row in printed["table"]}
    assert accuracies["2way_before"] == 100.0 and printed["questions"].startswith("tclap-zste-1:")
    assert "| 2way_before | 100.0 |" in (project_root / "card.md").read_text()
    command_line.main(["compare", *map(str, paths[:2])])
    (line,) = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("2way_before")
    ]
    assert line[1:4] == ["0.0", "100.0", "100.0"]
    command_line.main(["evaluate", "--model", "tones:Blind", "--out", str(paths[2]), *data[:-1], "6"])
    stopped_with(["compare", *map(str, paths[1:])], "the questions are tclap-zste-1:", capsys)
    stopped_with(["compare", str(paths[0]), str(recordings / "clips.csv")], "clips.csv holds no rows", capsys)
    stopped_with(["evaluate", "--model", "tones:None_", *data], "the module tones has no None_", capsys)
    csv, columns = (
        project_root / "compa.csv",
        ["pair_file,reversed_pair_file,pair_caption,reversed_pair_caption"],
    )
    csv.write_text("\n".join([*columns, "hum 0.wav,beep 0.wav,a hum,a beep", ""]))
    command_line.main(["published", "compa", str(csv), str(recordings), "--model", "tones:Perfect"])
    assert "tones:Perfect  compa attribute: group" in capsys.readouterr().out
    again = [
        "published",
        "compa",
        str(csv),
        str(recordings),
        "--model",
        "tones:Blind",
        "--out",
        str(paths[0]),
    ]
    stopped_with(again, "Blind.parquet holds rows of other weights or data", capsys)
    command_line.main(["evaluate", "--model", "tones:Blind", "--slots", "--suite", "tasks", *data])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "slots  2way_before" in line]
    assert line.split()[4] == "100.0"
    command_line.main(["items", "--out", str(project_root / "items"), *data])
    assert capsys.readouterr().out.split()[0] == printed["questions"]


def test_rows_of_other_recordings_are_kept(tiny_model, recordings, project_root, monkeypatch, capsys):
    tiny_model.is_published = True
    monkeypatch.setattr("tclap.models.registry.load_model", lambda name, weights: tiny_model)
    out = project_root / "rows.parquet"
    command = ["evaluate", "--model", "msclap-2022", "--data", "folder", "--suite", "tasks", "--pairs", "6"]
    command += ["--root", str(recordings), "--out", str(out)]
    command_line.main(command)
    content = out.read_bytes()
    clips = tclap.load_clips("folder", recordings)
    path = clips.loc[clips["split"] == "test", "path"].iloc[0]
    audio.write_wav(path, 0.1 * np.random.default_rng(0).standard_normal(3000), RATE)
    stopped_with(command, "rows.parquet holds rows of other weights or data", capsys)
    assert out.read_bytes() == content


@pytest.mark.parametrize("slots", [[], ["--slots"]])
def test_random_weights_are_said_of_every_table(
    tiny_model, recordings, project_root, monkeypatch, capsys, slots
):
    tiny_model.is_published, tiny_model.origin = True, {"random_weights": True}
    monkeypatch.setattr("tclap.models.registry.load_model", lambda name, weights: tiny_model)
    csv = project_root / "compa.csv"
    csv.write_text("pair_file,reversed_pair_file,pair_caption,reversed_pair_caption\nhum 0,beep 0,hum,beep\n")
    data = ["--data", "folder", "--root", str(recordings), "--suite", "tasks", "--pairs", "6"]
    card = project_root / "card.md"
    for command in (
        ["evaluate", *data],
        ["evaluate", *data, "--json", "--card", str(card)],
        ["published", "compa", str(csv), str(recordings)],
    ):
        command_line.main([*command, "--model", "msclap-2022", *slots])
        assert "RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING" in capsys.readouterr().out
    assert "RANDOM WEIGHTS" in card.read_text()


def test_a_model_that_nothing_has_trained_is_refused(capsys):
    stopped_with(["evaluate", "--model", "compact"], "error: compact is not trained, expected --wei", capsys)


def stopped_with(command, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(command)
    assert stopped.value.code == 1 and message in capsys.readouterr().err


def test_kept_features_are_told_and_deleted_and_nothing_else(project_root, capsys):
    trunk, embedded = (project_root / "data" / name for name in ("features", "embeddings/model/audio"))
    own = [trunk / "features-1.safetensors", embedded / "1.safetensors"]
    killed, note = trunk / ".features-2.ab12cd.safetensors", trunk / "note.safetensors"
    for path in (*own, killed, note):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(200_000))
    for action, done in (("size", "in"), ("clear", "deleted from")):
        command_line.main(["features", action])
        folders = f"{trunk}\n0.2 MB in 1 files {done} {project_root / 'data' / 'embeddings'}\n"
        assert capsys.readouterr().out == f"0.4 MB in 2 files {done} {folders}"
    assert [path for path in project_root.rglob("*") if path.is_file()] == [note]
