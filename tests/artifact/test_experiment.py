"""A run: what preparing it leaves, and what is said when something is missing."""

import pytest

from artifact.clips import content_of, hashed, load_run
from artifact.config import load_config
from artifact.preparation import prepare
from artifact.training import train_variants
from tclap import files
from tclap.data.captions import vocabulary
from tclap.data.clips import load_clips
from tclap.data.datasets import synthetic
from tclap.models import minilm


def test_what_preparing_leaves(experiment, options, monkeypatch):
    config = load_config("smoke", options)
    assert experiment.config == config and experiment.labels == sorted(options["labels"])
    assert experiment.description == "profile smoke, base compact, trained from scratch"
    counts = config.dataset_options["clips_per_class"]
    found = experiment.clips.groupby(["label", "split"]).size().to_dict()
    assert found == {(label, split): counts[split] for label in experiment.labels for split in counts}
    splits = experiment.clips.set_index("clip_id")["split"]
    for stage, count in (("test", config.test_pairs), ("validation", config.validation_pairs)):
        pairs = experiment.table(f"data/pairs-{stage}.parquet")
        assert len(pairs) == count and (pairs["window"] == 64000).all()
        assert set(splits[pairs["clip_i"]]) | set(splits[pairs["clip_j"]]) == {stage}
    assert len(experiment.table("data/items.parquet")) and len(experiment.table("data/controls.parquet"))
    # Every caption has been through MiniLM.
    monkeypatch.setattr(minilm, "load", lambda: pytest.fail("MiniLM was loaded"))
    captions = vocabulary(experiment.labels)
    assert len(experiment.text(captions).values) == len(captions)


def test_preparing_again_changes_nothing(prepared, options, monkeypatch):
    monkeypatch.setenv("TCLAP_ROOT", str(prepared))
    folder = prepared / "runs/smoke/compact/data"
    kept = [*sorted((prepared / "data").rglob("*.wav")), *folder.glob("features-*")]
    before = {path.name: files.sha256_file(path) for path in folder.iterdir()}
    stamps = [path.stat().st_mtime_ns for path in kept]
    prepare("smoke", "compact", dataset_options=options)
    assert {path.name: files.sha256_file(path) for path in folder.iterdir()} == before
    assert [path.stat().st_mtime_ns for path in kept] == stamps


@pytest.mark.parametrize(
    ("asked", "missing", "writer"),
    [
        (lambda run: train_variants(run, 7), "clap/weights.safetensors", "notebook 02_base_model"),
        (lambda run: run.history(7, "t-clap"), "t-clap/history.parquet", "notebook 03_post_pretraining"),
        (lambda run: run.table("seed7/results.parquet"), "results.parquet", "notebook 04_evaluation"),
        (lambda run: run.table("seed7/slots-results.parquet"), "slots-results.parquet", "notebook 05_order"),
        (lambda run: run.table("seed7/slots-ablation.parquet"), "slots-ablation.parquet", "`python -m art"),
    ],
)
def test_of_a_missing_artefact_it_is_said_what_makes_it(experiment, asked, missing, writer):
    settings = "with profile = 'smoke', base = 'compact', seed = 7"
    with pytest.raises(
        FileNotFoundError, match=f"seed7/{missing} is missing: run {writer}.*{settings}"
    ) as error:
        asked(experiment)
    # What IPython shows in place of the frames.
    assert error.value._render_traceback_() == [f"FileNotFoundError: {error.value}"]


def test_two_processes_make_the_sounds_that_one_makes(tmp_path, caplog):
    caplog.set_level("INFO")
    options = {"clips_per_class": {"test": 1}}
    found = load_run("synthetic", tmp_path / "two", options)
    assert "20 synthetic clips" in caplog.messages[-1], "nothing was left to make"
    expected = load_clips("synthetic", tmp_path / "one", **options)
    assert content_of(hashed(found)) == content_of(hashed(expected)) and len(found) == len(synthetic.LABELS)
