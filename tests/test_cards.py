"""The cards, and the pages on reproducibility, say what the code and the reference run say."""

import re

import pytest

import tclap
from artifact import compare, paths
from figures import read
from paper import numbers
from tclap import files
from tclap.data.datasets import synthetic

DOCS = paths.CHECKOUT / "docs"
_, CLAIMED = (DOCS / "reproducibility.md").read_text(encoding="utf-8").split("## Controlled study")
CLAIMS = dict(re.findall(r"^\| .* \| `(.+)` \| (.+) \|$", CLAIMED, re.M))
SECTIONS = "\n".join(path.read_text(encoding="utf-8") for path in (paths.CHECKOUT / "paper").rglob("*.tex"))


def test_each_result_of_the_abstract_is_among_the_claims():
    text = (paths.CHECKOUT / "paper" / "sections" / "abstract.tex").read_text(encoding="utf-8")
    keys = {" ".join(key.split()) for key in re.findall(r"\\res\{([^}]+)\}", text)}
    assert CLAIMS.keys() == {k for k in keys if not re.search(r"chance/|run/|/classes$|/ci95$", k)}


def test_claims_have_the_references_numbers():
    summary = read.summary(compare.reference_path("synthetic", "compact"))
    for key, claimed in CLAIMS.items():
        if key.startswith("esc50: "):
            readme = " ".join((paths.CHECKOUT / "README.md").read_text(encoding="utf-8").split())
            assert claimed.replace(" [", " % [") in readme, key
        else:
            interval = "" if key.endswith("verdict") else f" {numbers.lookup(summary, f'{key}/ci95')}"
            assert claimed == numbers.lookup(summary, key) + interval, key


def test_the_checklist_names_sections_of_the_paper():
    named = re.findall(r"§ ([^,;:|(]+)", (DOCS / "checklist.md").read_text(encoding="utf-8"))
    titles = re.findall(r"section\{(.+?)\}", SECTIONS)
    assert named[1:] and all(any(name.startswith(title) for title in titles) for name in named[1:]), named


def test_the_data_card_has_the_recordings_ranges():
    card = (DOCS / "data_card.md").read_text(encoding="utf-8")
    ranges = re.findall(r"\| `([A-Z_]+)` \| (\S+) \| (\S+) \|", card)
    assert ranges == [(name, *(f"{end:g}" for end in getattr(synthetic, name))) for name, *_ in ranges]
    assert len(ranges) == 7
    assert ", ".join(synthetic.LABELS) in card
    made = synthetic.CLIPS_PER_CLASS
    assert (
        "{base} clips for base training, {post} for post-pretraining, {validation} for".format(**made) in card
    )
    assert f"{len(synthetic.LABELS) * sum(made.values())} clips" in card


@pytest.mark.parametrize("file", ["slots/reader.safetensors", "models/compact.safetensors"])
def test_a_model_card_is_of_the_shipped_file(file):
    path = paths.CHECKOUT / "tclap" / file
    card = (path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert files.sha256_file(path) in card


def test_the_shipped_model_has_the_measures_of_its_card(tmp_path):
    """Those of the reference run's first seed, and on a small set those that it gives here."""
    card = (paths.CHECKOUT / "tclap" / "models" / "MODEL_CARD.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| (\w+) \| (\S+) \[[^]]+\] \| (\S+) \[.+ \| (\S+) \|$", card, re.M)
    models = read.summary(compare.reference_path("synthetic", "compact"))["models"]
    clips = tclap.load_clips("synthetic", tmp_path, labels=synthetic.LABELS[:8], clips_per_class={"test": 5})
    small = tclap.evaluate(tclap.load_model("compact"), clips, pairs=40)
    assert {task for task, *_ in said} == models["t-clap"]["zste"].keys()
    for task, test, slots, here in said:
        run = [models[name]["zste"][task]["per_seed"][0] for name in ("t-clap", "t-clap-slots")]
        assert [test, slots] == [f"{accuracy:.1f}" for accuracy in run], task
        assert f"{100 * small.loc[small['task'] == task, 'correct'].mean():.1f}" == here, task
