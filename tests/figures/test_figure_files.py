"""The files of all figures: fonts, sizes, hashes, bytes, and the rows beside them."""

from __future__ import annotations

import hashlib
import re

import made_up
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figures import registry as figures
from figures import style
from figures.scores import MEASURES

RUN = "runs/synthetic/compact"
MEASURED = {*MEASURES, "share", "similarity", "value", "mean", "min", "max"}


@pytest.fixture(scope="module")
def written(tmp_path_factory, parquet):
    """A root with a made-up run and all figures of it."""
    root = tmp_path_factory.mktemp("written")
    made_up.write(root / RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCLAP_ROOT", str(root))
        for name in figures.FIGURES:
            figures.write(name, root / RUN)
    return root


@pytest.mark.parametrize("name", figures.FIGURES)
def test_fonts_are_embedded_and_of_no_type_3(written, name):
    pdf = (written / "figures" / f"{name}.pdf").read_bytes()
    assert not re.search(rb"/Type3\b", pdf)
    descriptors = re.findall(rb"<<[^<>]*/FontDescriptor\b[^<>]*/FontName[^<>]*>>", pdf)
    names = set(re.findall(rb"/BaseFont /([\w+-]+)", pdf))
    assert names and all(re.match(rb"[A-Z]{6}\+STIX", font) for font in names), names
    assert len(descriptors) >= len(names) and all(b"/FontFile2" in d for d in descriptors)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_files_have_the_papers_width_and_name_what_they_are_made_of(written, name):
    pdf = (written / "figures" / f"{name}.pdf").read_bytes()
    (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", pdf)
    assert round(float(width) / 72, 6) in (style.COLUMN, style.TEXT)
    expected = f"source sha256 {figures.digest(name)}"
    if name in figures.RESULTS:
        rows = (written / "figures" / f"{name}.csv").read_bytes()
        expected += f"; data sha256 {hashlib.sha256(rows).hexdigest()}"
    with Image.open(written / "figures" / f"{name}.png") as picture:
        assert picture.width == round(200 * float(width) / 72)
        assert picture.text == {"Source": expected}
    (keywords,) = re.findall(rb"/Keywords \((.*?)\)", pdf)
    assert keywords.decode() == expected
    assert not re.search(rb"/(Creation|Mod)Date", pdf)


@pytest.mark.parametrize("name", ["loss_matrix", "tasks", "composite", "similarity"])
def test_the_same_run_gives_the_same_bytes(written, name, tmp_path, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    again = figures.write(name, written / RUN)
    assert len(again) == (3 if name in figures.RESULTS else 2)
    for path in again:
        assert path.read_bytes() == (written / "figures" / path.name).read_bytes()


def test_other_numbers_and_other_source_give_other_hashes(written, tmp_path, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(tmp_path))
    content = made_up.summary()
    content["models"]["t-clap"]["zste"]["3"]["accuracy"] += 0.1
    figures.write("tasks", made_up.write(tmp_path / "other", content))
    monkeypatch.setattr(figures, "digest", lambda name: "0" * 64)
    figures.write("prompts", written / RUN)
    for name, same in (("tasks", "source"), ("prompts", "data")):
        with (
            Image.open(written / "figures" / f"{name}.png") as old,
            Image.open(tmp_path / "figures" / f"{name}.png") as new,
        ):
            pairs = [dict(h.split(" sha256 ") for h in p.text["Source"].split("; ")) for p in (old, new)]
        assert [what for what in pairs[0] if pairs[0][what] == pairs[1][what]] == [same]


def rows_of(written, name: str) -> pd.DataFrame:
    return pd.read_csv(written / "figures" / f"{name}.csv")


@pytest.mark.parametrize("name", figures.RESULTS)
def test_every_figure_of_a_run_has_rows_with_plain_columns(written, name):
    rows = rows_of(written, name)
    assert len(rows) and all(re.fullmatch(r"[a-z][a-z_]*", column) for column in rows)
    keys = [column for column in rows if column not in MEASURED]
    assert not rows.duplicated(keys).any(), "tidy: a row is known by its keys"


def test_rows_are_what_the_summary_and_the_tables_of_rows_hold(written):
    tasks = rows_of(written, "tasks").set_index(["model", "task"])
    assert list(tasks.loc[("t-clap", "3")]) == [92.2, 90.7, 93.7, 33.3, 500]
    assert len(tasks) == 3 * 10, "the models that the figure shows"
    prompts = rows_of(written, "prompts").set_index(["model", "prompt"])
    assert prompts.loc[("clap", "this is {label}"), "accuracy"] == pytest.approx(93.2 - 3)
    windows = rows_of(written, "windows").set_index(["model", "policy", "task"])
    assert windows.loc[("t-clap", "msclap", "3"), "accuracy"] == 59.4
    readouts = rows_of(written, "readouts").set_index(["readout", "task"])
    assert readouts.loc[("segments", "2way_after"), "accuracy"] == 95.0
    wordings = rows_of(written, "wordings")
    assert wordings["seen"].sum() == 4 * 3

    margins, items = rows_of(written, "margins"), made_up.results()
    chosen = items[(items["model"] == "t-clap") & (items["task"] == "2way_after")]["margin"]
    bins = margins[(margins["model"] == "t-clap") & (margins["task"] == "2way_after")]
    right = bins.loc[bins["left"] > -1e-9, "share"].sum()
    assert right == pytest.approx(100 * (chosen > 0).mean()) and set(bins["n"]) == {len(chosen)}

    curves, history = rows_of(written, "curves"), made_up.history()
    one = curves[(curves["model"] == "clap") & (curves["quantity"] == "cosine_text") & (curves["step"] == 75)]
    found = history[(history["model"] == "clap") & (history["step"] == 75)]["cosine_text"]
    assert one[["mean", "min", "max"]].iloc[0].tolist() == pytest.approx(
        [found.mean(), found.min(), found.max()]
    )
    assert "warm-up" not in set(curves["model"])

    similarity = rows_of(written, "similarity").set_index(["model", "row", "column"])["similarity"]
    source = made_up.similarity().query("seed == 0").set_index(["model", "row", "column"])["similarity"]
    assert similarity["t-clap", 3, 7] == pytest.approx(source["t-clap", 3, 7])


def test_the_composites_rows_are_its_spectrograms_and_cosines(written):
    rows = rows_of(written, "composite")
    levels = rows[(rows["view"] == "reversed") & (rows["quantity"] == "level")]
    with np.load(written / RUN / "example.npz") as arrays:
        mel, step = arrays["reversed_mel"], float(arrays["frame_seconds"])
    matrix = levels.pivot(index="band", columns="second", values="value")
    assert matrix.to_numpy() == pytest.approx(mel, rel=1e-8)
    assert matrix.columns[3] == pytest.approx(3 * step)
    cosines = rows[rows["quantity"] == "cosine"].set_index(["view", "caption", "model"])["value"]
    assert cosines["reversed", "this is a sound of rain before dog bark", "t-clap"] == 0.75
    assert len(cosines) == 2 * 3 * 2
