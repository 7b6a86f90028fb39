"""Nothing that is loaded runs code, and names are text wherever they are shown.

Further defences are tested beside what they protect: in ``models`` (weights, code in hub folders),
``data/datasets/test_esc50.py`` (archives), ``artifact/test_browser.py`` and ``test_graph.py`` (HTML, shell).
"""

import json
import pickle
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
import torch

from artifact import paths
from artifact.config import load_config
from docs import prose
from figures import read
from figures.similarities import composite
from paper import numbers, tables
from tclap.data.clips import load_clips
from tclap.evaluation.formats import FORMATS
from tclap.evaluation.report import card
from tclap.models import sfx
from tclap.training import loop

HOSTILE = r"\input{/etc/passwd}&%_#$x_{"


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path):
    """A trap; nobody has stepped into it when the test ends."""
    yield Trap(tmp_path / "touched")
    assert not (tmp_path / "touched").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "touched")))
    assert (tmp_path / "touched").exists(), "the trap works"


def test_a_checkpoint_of_a_training_runs_nothing(tmp_path, trap):
    torch.save({"step": 1, "module": trap}, tmp_path / "state.pt")
    with pytest.raises(OSError, match=r"state\.pt could not be loaded"):
        loop.load(tmp_path / "state.pt")


def test_of_what_aisfx_needs_no_more_is_allowed(tmp_path, trap, monkeypatch):
    path = tmp_path / "checkpoint.pth"
    state = {"embedding_net.a": torch.ones(1)}
    monkeypatch.setattr(sfx.files, "sha256_file", lambda path: sfx.SHA256)
    torch.save((state, {"clips": np.int64(3)}), path)
    assert sfx.read_encoder(path).keys() == {"a"}
    torch.save((state, trap), path)
    with pytest.raises(pickle.UnpicklingError):
        sfx.read_encoder(path)


def test_arrays_of_a_run_run_nothing(run, trap):
    arrays = dict(np.load(run / "example.npz"))
    np.savez(run / "example.npz", **arrays | {"forward_mel": np.array([trap], dtype=object)})
    with pytest.raises(ValueError, match=r"example\.npz is damaged"):
        read.example(run)


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch [{}]", "object/new:pathlib.Path [{}]"])
def test_a_profile_runs_nothing(tmp_path, trap, monkeypatch, tag):
    monkeypatch.setattr(paths, "configs", lambda: tmp_path)
    (tmp_path / "made.yaml").write_text(f"dataset: !!python/{tag.format(trap.path)}\n")
    with pytest.raises(ValueError, match=r"configs/made\.yaml is no readable YAML: could not determine"):
        load_config("made")


# Paths in tables


@pytest.mark.parametrize("name", ["../secret.wav", "sub/../../secret.wav", "../..", "{folder}/secret.wav"])
def test_a_table_names_no_sound_outside_of_its_folder(tmp_path, name):
    folder, name = tmp_path / "folder", name.format(folder=tmp_path)
    folder.mkdir()
    (tmp_path / "secret.wav").touch()
    spans = [[0, 1]], [[2, 3]]
    event = {"event": dict(zip(("dog", "cat"), spans, strict=True))}
    moments = [{"vid": name, "query": q, "relevant_windows": s} for q, s in zip("ab", spans, strict=True)]
    contents = {
        "compa": f"pair_file,pair_caption,reversed_pair_file,reversed_pair_caption\n{name},a,b.wav,b\n",
        "tacos": f"filename,text,onset,offset\n{name},a,0,1\n{name},b,2,3\n",
        "trea": "id,question,audio_path,optionA,optionB,optionC,optionD,correct\n"
        + f"1,q,{name},a,b,c,d,A\n",
        "audiotime": json.dumps({name: event}),
        "moments": "\n".join(map(json.dumps, moments)),
    }
    for kind, content in contents.items():
        (tmp_path / "items").write_text(content)
        with pytest.raises(ValueError, match="items has sounds outside of their folder"):
            FORMATS[kind](tmp_path / "items", folder)
    (folder / "clips.csv").write_text(f"file,label\n{name},dog\n")
    with pytest.raises(ValueError, match=r"clips\.csv has in column file .* expected a path within the fold"):
        load_clips("folder", folder)


# Names as text


def test_latex_does_not_read_names_as_commands(summary):
    for part in ("profile", "base"):
        summary[part] = HOSTILE
    config = {"post_pretraining": {"preset": HOSTILE, "steps": HOSTILE}, "test_pairs": HOSTILE}
    summary["provenance"] = {"git": {"commit": HOSTILE}, "python": HOSTILE, "config": config}
    summary["model"] = summary["clips"] = dict.fromkeys(("dim", "hidden", "test", "base"), HOSTILE)
    summary["slot_ablation"] = [{"group": "reader", "change": HOSTILE, "tasks": {}}]
    asked = summary["controls"]["clap"]["wording"]
    asked[r"\input evil &%_# {a} before {b}"] = next(iter(asked.values())) | {"per_seed": [1.0, 1.0]}
    written = [numbers.numbers_tex(summary), *(tables.build(name, summary) for name in tables.TABLES)]
    assert r"\textbackslash{}input\{/etc/passwd\}\&\%\_\#\$x\_\{" in written[0]
    assert not any(r"\input" in text.replace(r"\textbackslash{}input", "") for text in written)


def test_figures_do_not_read_names_as_formulas(run, tmp_path):
    example = read.example(run)
    example |= {"first": "$x_{", "second": "a $\\frac$ b"}
    for key in ("captions", "captions_reversed"):
        renamed = {f"$\\{caption}$": of for caption, of in example[key].items()}
        example[key] = renamed
    figure, _ = composite(example)
    figure.savefig(tmp_path / "figure.png")
    assert {"$x_{", "a $\\frac$ b"} <= {text.get_text() for axes in figure.axes for text in axes.texts}


def test_the_sites_pages_hold_no_markup_of_names():
    template = (paths.CHECKOUT / "docs" / "_templates" / "run.html").read_text(encoding="utf-8")
    about = dict.fromkeys(("profile", "base", "commit"), "<script>") | {"seeds": ["<script>"]}
    assert "<script" not in (page := jinja2.Template(template).render(about=about))
    assert page.count("&lt;script") == 4
    assert prose.markdown("<script>alert(1)</script>") == r"\<script\>alert(1)\</script\>"


def test_a_card_holds_no_markup_of_names():
    rows = pd.DataFrame({"item": range(4), "source_a": range(4), "correct": 1.0, "tied": False})
    rows = rows.assign(model="m", seed=0, task="3", chance=0.5)
    about = {"model": "<script>x</script>\n| a | [b](c)", "weights": "`d`", "warning": None}
    model, weights = card(rows, about).splitlines()[2:4]
    assert model == r"- model: &lt;script&gt;x&lt;/script&gt; \| a \| \[b\](c)"
    assert weights == r"- weights: \`d\`"
