"""The command ``tclap`` on toy models."""

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
def data(project_root):
    return ["--data", "folder", "--root", str(write_recordings(project_root)), "--pairs", "6"]


@pytest.fixture
def published(tiny_model, monkeypatch):
    """What ``--model msclap-2022`` loads."""
    tiny_model.is_published = True
    monkeypatch.setattr("tclap.models.registry.load_model", lambda name, weights: tiny_model)
    return tiny_model


@pytest.fixture
def compa(project_root, data):
    """The words that ask for one item of CompA about two of the recordings."""
    csv = project_root / "compa.csv"
    columns = "pair_file,reversed_pair_file,pair_caption,reversed_pair_caption"
    csv.write_text(f"{columns}\nhum 0.wav,beep 0.wav,a hum,a beep\n")
    return ["published", "compa", csv, project_root]


@pytest.fixture
def told(capsys):
    """Runs the command and returns what it prints."""

    def run(*words):
        command_line.main([str(word) for word in words])
        return capsys.readouterr().out

    return run


def starting(text, start):
    """The words of the one line that starts so."""
    (line,) = [line.split() for line in text.splitlines() if line.startswith(start)]
    return line


def stopped_with(message, *words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main([str(word) for word in words])
    assert stopped.value.code == 1 and message in capsys.readouterr().err


def test_the_command_keeps_rows_and_prints_a_table(published, data, project_root, monkeypatch, told, capsys):
    hashed, sha256 = [], files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: hashed.append(path) or sha256(path))
    out = project_root / "rows.parquet"
    command = ["evaluate", "--model", "msclap-2022", "--control-pairs", "3", *data, "--out", out]
    table = told(*command)
    assert len(hashed) == len(set(hashed)) == 16  # each test clip's file once
    kept = pd.read_parquet(out)
    assert len(table.splitlines()) == 2 + kept["task"].nunique()
    assert table.split()[:3] == ["model", "task", "accuracy"]
    line, asked = starting(table, "msclap-2022  2way_before "), kept[kept["task"] == "2way_before"]
    assert (float(line[2]), line[-1]) == (round(100 * asked["correct"].mean(), 1), "6")
    told(*command, "--suite", "retrieval")  # of the same weights and data they are replaced
    assert pd.read_parquet(out)["task"].str.startswith("retrieval").all()


@pytest.mark.parametrize("slots", [[], ["--slots"]])
def test_rows_of_others_are_not_replaced(published, data, project_root, told, capsys, slots):
    out, recording = project_root / "rows.parquet", project_root / "hum 0.wav"
    command = ["evaluate", "--model", "msclap-2022", *slots, "--suite", "tasks", *data, "--out", out]
    told(*command)
    assert list((files.data_folder() / command_line.EMBEDDINGS).glob("*/sounds-*/*"))
    kept, heard = out.read_bytes(), recording.read_bytes()

    def stopped():
        stopped_with("rows.parquet holds rows of other weights or data", *command, capsys=capsys)

    audio.write_wav(recording, 0.1 * np.random.default_rng(0).standard_normal(3000), RATE)
    stopped()
    recording.write_bytes(heard)
    with torch.no_grad():
        published.log_scale.add_(1.0)
    stopped()
    assert out.read_bytes() == kept
    out.write_text("mine")
    stopped()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "nope"], "error: suite is ['nope']"),
        (["--pairs", "0"], "error: pairs is 0, expected at least 1"),
        (["--threads", "0"], "error: threads is 0, expected at least 1"),
        (["--out", "hum 0.wav"], "hum 0.wav, expected the name of a .parquet file"),
        (["--out", "hum 0.wav/rows.parquet"], "error: hum 0.wav cannot be written: "),
        (["--model", "tones:None_"], "tones has no function None_"),
        (["--model", "sfx"], "error: sfx is not trained, expected --weights"),
    ],
)
def test_what_cannot_be_done_is_refused(data, project_root, monkeypatch, words, message, capsys):
    monkeypatch.chdir(project_root)
    stopped_with(message, "evaluate", "--model", "tones:Blind", *data, *words, capsys=capsys)


def test_two_objects_are_compared(data, project_root, told, capsys):
    paths = [project_root / f"{name}.parquet" for name in ("Blind", "Perfect", "few")]
    card, data = project_root / "card.md", [*data, "--pairs", "30"]
    for path in paths[:2]:
        command = ["evaluate", "--model", f"tones:{path.stem}", "--suite", "tasks", "--out", path]
        printed = json.loads(told(*command, "--card", card, "--json", *data))
    accuracies = {row["task"]: row["accuracy"] for row in printed["table"]}
    assert accuracies["2way_before"] == 100.0 and "| 2way_before | 100.0 |" in card.read_text()
    assert f"- questions: {printed['questions']}\n- tclap: {tclap.__version__}\n" in card.read_text()
    assert told("items", "--out", project_root / "items", *data).split()[0] == printed["questions"]
    found = told("compare", *paths[:2])
    assert starting(found, "2way_before")[1:4] == ["0.0", "100.0", "100.0"]
    told("evaluate", "--model", "tones:Blind", "--out", paths[2], *data, "--pairs", "6")
    stopped_with("the questions are tclap-zste-1:", "compare", *paths[1:], capsys=capsys)
    csv = project_root / "clips.csv"
    stopped_with("clips.csv holds no rows", "compare", paths[0], csv, capsys=capsys)
    rows = pd.read_parquet(paths[0])
    rows.loc[0, "correct"] = 1 - rows.loc[0, "correct"]  # as a flipped bit can do
    rows.to_parquet(paths[0])
    stopped_with(f"{paths[0]} does not match its hash", "compare", *paths[:2], capsys=capsys)


def test_published_items(data, compa, project_root, told, capsys):
    out = project_root / "rows.parquet"
    found = told(*compa, "--model", "tones:Perfect", "--out", out)
    assert "tones:Perfect  compa attribute: group" in found
    command = [*compa, "--model", "tones:Blind", "--out", out]
    stopped_with("rows.parquet holds rows of other weights or data", *command, capsys=capsys)
    stopped_with(
        "the format is 'clap', expected one of compa", "published", "clap", *command[2:], capsys=capsys
    )


def test_slots_around_any_object(data, told):
    found = told("evaluate", "--model", "tones:Blind", "--slots", "--suite", "tasks", *data)
    assert starting(found, "tones:Blind + slots  2way_before")[4] == "100.0"


@pytest.mark.parametrize("slots", [[], ["--slots"]])
def test_random_weights_are_said_of_every_table(published, data, compa, project_root, told, slots):
    published.origin = {"random_weights": True}
    card, evaluate = project_root / "card.md", ["evaluate", *data, "--suite", "tasks"]
    for command in (evaluate, [*evaluate, "--json", "--card", card], compa):
        assert "RANDOM WEIGHTS: THESE NUMBERS MEAN NOTHING" in told(
            *command, "--model", "msclap-2022", *slots
        )
    assert "RANDOM WEIGHTS" in card.read_text()


def test_kept_features_are_told_and_deleted_and_nothing_else(project_root, told):
    trunk, embedded = (project_root / "data" / name for name in ("features", "embeddings/model/audio"))
    own = [trunk / "features-1.safetensors", embedded / "1.safetensors"]
    killed, note = trunk / ".aside-here-1-ab12cd" / "features-2.safetensors", trunk / "note.safetensors"
    for path in (*own, killed, note):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(200_000))
    for action, done in (("size", "in"), ("clear", "deleted from")):
        folders = f"{trunk}\n0.2 MB in 1 files {done} {project_root / 'data' / 'embeddings'}\n"
        assert told("features", action) == f"0.4 MB in 2 files {done} {folders}"
    assert [path for path in project_root.rglob("*") if path.is_file()] == [note]
