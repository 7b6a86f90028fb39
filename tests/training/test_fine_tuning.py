"""Fine-tuning in one call, on recordings in a folder."""

import copy
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import tclap
from artifact import paths
from tclap import audio, files
from tclap.slots.model import SlotModel
from tclap.training import post_pretraining
from tclap.training.features import FeatureStore

RATE = 8000
PITCHES = {"low hum": 200, "flute": 700, "whistle": 1900}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Ten tones of each of three pitches, with labels and a caption each."""
    folder, rows = tmp_path_factory.mktemp("recordings"), []
    for number, (label, pitch) in enumerate(PITCHES.items()):
        for n in range(10):
            rng = np.random.default_rng([number, n])
            tone = 0.2 * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * np.arange(3000) / RATE)
            audio.write_wav(folder / f"{label} {n}.wav", tone + 0.01 * rng.standard_normal(3000), RATE)
            rows.append({"file": f"{label} {n}.wav", "label": label, "caption": f"A {label}, take {n}."})
    table = pd.DataFrame(rows)
    table.drop(columns="caption").to_csv(folder / "clips.csv", index=False)
    table.drop(columns="label").to_csv(folder / "captions.csv", index=False)
    return folder


@pytest.fixture
def clips(recordings) -> pd.DataFrame:
    return tclap.load_clips("folder", recordings)


def tune(model, clips, **options) -> tuple[str, pd.DataFrame]:
    model = copy.deepcopy(model)
    history = tclap.fine_tune(model, clips, **{"epochs": 2, "batch": 8, "pairs": 20} | options)
    return files.hash_state(model.state_dict()), history


@pytest.mark.parametrize(
    ("preset", "rates"), [("published", (1, 1, 0.95, 0.95)), ("cosine", (1, 1, 0.75, 0.25))]
)
def test_the_schedule_of_fine_tuning(tiny_model, clips, preset, rates):
    _, history = tune(tiny_model, clips, lr=3e-3, preset=preset)
    assert history["step"].tolist() == [0, 1, 2, 3]  # 20 pairs make two whole batches of 8 per epoch
    assert history["lr"].tolist() == pytest.approx([3e-3 * rate for rate in rates])
    assert history["validation_loss"].notna().tolist() == [False, True, False, True]


def test_a_store_changes_nothing_and_makes_nothing_twice(tiny_published, recorded, tmp_path):
    plain = tune(tiny_published, recorded)
    for n in range(2):
        model, store = copy.deepcopy(tiny_published), FeatureStore(tmp_path, torch.float32)
        model.audio_trunk.seen = model.text_trunk.seen = 0
        history = tclap.fine_tune(model, recorded, epochs=2, batch=8, pairs=20, store=store)
        assert (model.audio_trunk.seen == model.text_trunk.seen == 0) == (n == 1)
        pd.testing.assert_frame_equal(history, plain[1], check_exact=True)
        assert files.hash_state(model.state_dict()) == plain[0]


def test_checkpoints_are_of_a_content_wherever_it_lies(tiny_model, recordings, tmp_path, caplog):
    """Ids and lengths are the same in each case: what differs is told apart by what it holds."""
    folder, options = tmp_path / "recordings", {"pairs": 8, "checkpoints": tmp_path / "checkpoints"}
    shutil.copytree(recordings, folder)
    clips = tclap.load_clips("folder", recordings)
    weights, history = tune(tiny_model, clips, **options)
    (newest,) = (path for path in options["checkpoints"].iterdir() if ".before" not in path.name)
    newest.unlink()
    caplog.set_level(logging.INFO)
    again = tune(tiny_model, tclap.load_clips("folder", folder), **options, micro_batch=8)
    assert again[0] == weights and "t-clap: continues after step 1" in caplog.text
    pd.testing.assert_frame_equal(again[1], history)
    assert "starts anew" not in caplog.text

    def changed(column: str, change) -> pd.DataFrame:
        first = clips.index[clips["split"] == "train"][0]
        return clips.assign(**{column: [change(v) if n == first else v for n, v in clips[column].items()]})

    name = clips.loc[clips["split"] == "validation", "clip_id"].iloc[0]
    sound = 0.1 * np.random.default_rng(0).standard_normal(3000)
    audio.write_wav(folder / name, sound, RATE)
    with torch.no_grad():
        (other := copy.deepcopy(tiny_model)).audio_trunk.project.bias.add_(0.1)
    kept = {path: path.read_bytes() for path in options["checkpoints"].iterdir()}
    cases = (
        (tiny_model, tclap.load_clips("folder", folder), {}),
        (tiny_model, changed("captions", lambda captions: [*captions, "a sound"]), {}),
        (tiny_model, changed("label", lambda label: "flute" if label != "flute" else "whistle"), {}),
        (tiny_model, changed("split", lambda split: "post"), {}),
        (tiny_model, changed("split", lambda split: "validation"), {}),
        (other, clips, {}),
        (tiny_model, clips, {"lr": 0.1}),
    )
    for model, table, more in cases:
        caplog.clear()
        expected = tune(model, table, **options | more | {"checkpoints": None})
        found = tune(model, table, **options | more)
        assert found[0] == expected[0]
        pd.testing.assert_frame_equal(found[1], expected[1])
        assert "no training of these settings, weights and clips yet, starts anew" in caplog.text
    assert len({path.name[:16] for path in options["checkpoints"].iterdir()}) == 1 + len(cases)
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_micro_batches_and_chunks_give_the_same_training(tiny_published, recorded):
    """Also with dropout, which the tiny published model has in both heads."""
    _, history = tune(tiny_published, recorded)
    _, pieces = tune(tiny_published, recorded, micro_batch=3, chunk_size=5)
    pd.testing.assert_frame_equal(pieces, history, rtol=1e-3, atol=1e-4)
    assert pieces["loss"].iloc[0] == pytest.approx(history["loss"].iloc[0], abs=1e-5)


@pytest.mark.parametrize("limit", [8, 1])
def test_a_distinct_batch_holds_no_class_twice_nor_more_than_asked_for(
    tiny_model, clips, recordings, monkeypatch, limit
):
    seen = []
    monkeypatch.setattr(
        post_pretraining, "post_pretrain", lambda *args, **options: seen.append(args[3].group)
    )
    tclap.fine_tune(tiny_model, clips, variant="t-clap-distinct", batch=limit, pairs=12)
    many = tclap.load_clips("folder", recordings, csv="captions.csv")  # each clip a class of its own
    tclap.fine_tune(tiny_model, many, variant="t-clap-distinct", batch=limit, pairs=12)
    assert seen == [1, min(limit, len(many[many["split"] == "train"]) // 2)]


def test_captioned_clips_and_few_of_them(tiny_model, recordings):
    clips = tclap.load_clips("folder", recordings, csv="captions.csv")
    assert (clips["label"] == clips["clip_id"]).all()
    _, history = tune(tiny_model, clips, variant="t-clap-no-replay")
    assert np.isfinite(history["loss"]).all()
    few = pd.concat([part.head(2) for _, part in clips.groupby("split")])
    assert len(tune(tiny_model, few, epochs=1, pairs=None)[1]) == 1  # two clips make two pairs: one batch


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"preset": "paper"}, "preset"),
        ({"variant": "t-clop"}, "variant"),
        ({"variant": "t-clap-more-wordings"}, "'t-clap-more-wordings'.* has no text-only loss"),
        ({"variant": "readout-ends"}, r"'readout-ends': fine_tune takes a readout as model.with_readout"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch": -1}, "batch is -1"),
        ({"pairs": 0}, "pairs is 0"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, got 'fp8'"),
        ({"lr": 0.0}, "lr is 0.0, expected a finite number above 0"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(tiny_model, clips, options, word):
    with pytest.raises(ValueError, match=word):
        tclap.fine_tune(tiny_model, clips.assign(path="nowhere"), **options)


def test_one_label_is_refused(tiny_model, clips):
    one = clips.assign(label=clips["label"].where(clips["split"] != "validation", "flute"))
    with pytest.raises(ValueError, match="validation clips have one label only"):
        tclap.fine_tune(tiny_model, one)


def test_the_readmes_lines_run(tiny_model, recordings, monkeypatch, capsys, tmp_path):
    readme = (paths.CHECKOUT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"(?:^    .*\n|^\n)+", readme, re.M) if "fine_tune(" in b]
    assert len(blocks) == 2
    code = re.sub("^    ", "", "".join(blocks), flags=re.M).replace('"recordings"', repr(str(recordings)))
    exported = []
    monkeypatch.setattr(type(tiny_model), "export", lambda self, path: exported.append(path), raising=False)
    monkeypatch.setattr(tclap, "load_model", lambda name: tiny_model, raising=False)
    monkeypatch.setattr(post_pretraining, "PAIRS_PER_CLIP", 1)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "library.md", "exec"), {})
    assert "2way_before" in capsys.readouterr().out
    assert (tmp_path / "mine.safetensors").is_file() and exported == ["mine.pth"]
    assert len({path.name[:16] for path in (tmp_path / "checkpoints").iterdir()}) == 1


def test_what_has_no_heads_is_refused_before_any_work(tiny_model, tiny_clips):
    with pytest.raises(
        TypeError, match="SlotModel cannot be fine-tuned, .* fine-tune its base, then add slots"
    ):
        tclap.fine_tune(SlotModel(tiny_model, reader=None), tiny_clips)
