"""The checks of a GPU: on one where there is one, else a rehearsal on the CPU."""

import json
import math

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_sections import check, measured


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the command on some sections; its exit code, rows and last line."""

    def run(*arguments: str) -> tuple[int, list[dict], str]:
        code = gpu.main([str(tmp_path / "gpu.json"), *arguments])
        return code, json.loads((tmp_path / "gpu.json").read_text())["rows"], capsys.readouterr().out

    return run


def test_all_sections_pass_at_a_tiny_size(run):
    code, rows, printed = run("--tiny")
    assert {row["section"] for row in rows} == {part.__name__ for part in (*gpu.ALONE, *gpu.OF_A_MODEL)}
    assert {row["result"] for row in rows} == {"passed", "measured"}, [row["note"] for row in rows]
    passed = sum(row["result"] == "passed" for row in rows)
    assert code == 0 and printed.splitlines()[-1] == f"{passed} passed, {len(rows) - passed} measured"
    found = {row["what"]: row["value"] for row in rows if row["model"] == "compact"}
    assert found["one window"] == pytest.approx(0.00082, rel=0.01)
    assert all(math.isfinite(value) for value in found.values())


def test_what_fails_is_a_row_and_the_rest_goes_on(run, monkeypatch):
    def broken(setting):
        yield check("right", 0.5, 0.5)
        yield check("wrong", 0.6, 0.5)
        yield check("no number", math.nan, 0.5)
        raise RuntimeError("the device is lost\nwith a long story")

    def goes_on(setting, model, here):
        yield measured("speed", 3.0, "windows/s")

    def made(name: str, tiny: bool):
        if name == "sfx":
            raise ModuleNotFoundError("sfx needs a wheel")
        if name == "clap-model":
            raise RuntimeError("not made")
        return torch.nn.Module()

    monkeypatch.setattr(gpu, "ALONE", (broken,))
    monkeypatch.setattr(gpu, "OF_A_MODEL", (goes_on,))
    monkeypatch.setattr(gpu, "made", made)
    code, rows, printed = run("--tiny", "--models", "sfx", "clap-model", "compact")
    assert code == 1 and "4 failed" in printed
    assert [(row["section"], row["model"], row["result"]) for row in rows] == [
        ("broken", "", "passed"),
        ("broken", "", "failed"),
        ("broken", "", "failed"),
        ("broken", "", "failed"),
        ("all", "sfx", "left out"),
        ("all", "clap-model", "failed"),
        ("goes_on", "compact", "measured"),
    ]
    assert [row["note"] for row in rows[2:6]] == [
        None,
        "RuntimeError: the device is lost",
        "sfx needs a wheel",
        "RuntimeError: not made",
    ]
    assert "in broken" in rows[3]["traceback"] and rows[2]["value"] is None


def test_nothing_is_begun_after_the_time(run, monkeypatch):
    monkeypatch.setattr(gpu, "SECONDS", -1)
    monkeypatch.setattr(gpu, "made", lambda name, tiny: torch.nn.Module())
    code, rows, _ = run("--tiny")
    assert code == 0 and {row["note"] for row in rows} == {"-1 s are over"}


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out.startswith("Left out: torch finds no CUDA device")
