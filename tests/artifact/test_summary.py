"""The summary: accuracies, comparisons, retrieval and chance by hand, and what a whole run leaves."""

import itertools
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from artifact import paths
from artifact.config import load_config
from artifact.summary import build_summary, events_named, summarise_run
from paper.tables import DRAFT
from tclap.evaluation.tasks import PROMPT_PREFIX, PROMPTS, TASKS
from tclap.files import write_json
from tclap.models.weights import make_header

# Right or wrong on five items (rows: two seeds), by model and task.
SCORES = {
    "clap": {
        "1": ((1, 1, 1, 1, 0), (1, 1, 1, 0, 0)),
        "3": ((1, 0, 0, 0, 0), (0, 0, 0, 1, 0)),
        PROMPT_PREFIX + "{}": ((1, 0, 0, 0, 0), (1, 1, 0, 0, 0)),
    },
    "t-clap": {
        "1": ((1, 1, 1, 0, 0), (1, 1, 1, 0, 0)),
        "3": ((1, 1, 1, 1, 1), (1, 1, 1, 0, 0)),
        PROMPT_PREFIX + "{}": ((1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    },
    "clap@full": {"3": ((0, 0, 0, 0, 1), (0, 0, 0, 0, 0))},
    "t-clap@full": {"3": ((1, 1, 0, 0, 0), (1, 1, 0, 0, 0))},
    "clap@msclap": {"3": ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))},
    "t-clap@msclap": {"3": ((0, 1, 0, 0, 0), (0, 1, 0, 0, 0))},
    "readout-mean": {"1": ((1, 0, 0, 0, 0), (1, 0, 0, 0, 0)), PROMPT_PREFIX + "{}": ((1,) * 5, (1,) * 5)},
}
CHANCE = {"1": 1 / 4, "3": 1 / 3, PROMPT_PREFIX + "{}": 1 / 4}


def item_rows(scores=SCORES):
    return pd.DataFrame(
        {
            "model": model,
            "seed": seed,
            "task": task,
            "item": f"i{item}",
            "source_a": f"s{item}",
            "source_b": f"s{(item + 1) % 5}" if task == "3" else None,
            "correct": bool(answers[item]),
            "chance": CHANCE[task],
            "margin": np.nan,
            "answer": "",
            "prediction": "",
            "tied": task == "3" and item == 4,
        }
        for model, tasks in scores.items()
        for task, seeds in tasks.items()
        for (seed, answers), item in itertools.product(enumerate(seeds), range(5))
    )


def query_rows():
    ranks = {
        ("clap", "text_to_audio"): ((1, 4, 6), (1, 12, 7)),
        ("clap", "audio_to_text"): ((1, 1, 1, 2), (1, 1, 2, 2)),
        ("t-clap", "text_to_audio"): ((1, 1, 1), (1, 1, 1)),
        ("t-clap", "audio_to_text"): ((2, 2, 2, 2), (2, 2, 2, 2)),
    }
    return pd.DataFrame(
        {
            "model": model,
            "seed": seed,
            "gallery": "singles",
            "direction": direction,
            "query": query,
            "source_a": None if direction == "text_to_audio" else f"s{query}",
            "source_b": None,
            "rank": rank,
            "average_precision": 1 / rank,
            "relevant": (1, 2, 3, 2)[query],
            "gallery_size": 12,
        }
        for (model, direction), seeds in ranks.items()
        for seed, found in enumerate(seeds)
        for query, rank in enumerate(found)
    )


def test_task_5_is_traced_to_the_events_that_are_named():
    named = pd.DataFrame(
        {
            "task": ["5"] * 4 + ["3"],
            "model": ["clap"] * 4 + ["t-clap"],
            "answer": ["1st dog | 2nd rain"] * 5,
            "prediction": [
                "1st dog | 2nd rain",
                "1st cat | 1st dog",
                "1st dog | 2nd cat",
                "1st cat | 2nd rain",
                "",
            ],
        }
    )
    assert events_named(named) == {"clap": {"first": 75.0, "second": 50.0, "independent": 37.5}}


@pytest.fixture(scope="module")
def summary():
    return build_summary(item_rows(), query_rows())


def test_accuracies_by_hand(summary):
    assert list(summary["models"]) == ["clap", "t-clap"]
    clap, tclap = (summary["models"][m]["zste"] for m in ("clap", "t-clap"))
    assert clap["1"]["accuracy"] == pytest.approx(70) and clap["1"]["per_seed"] == pytest.approx([80, 60])
    assert tclap["3"]["accuracy"] == pytest.approx(80) and tclap["3"]["per_seed"] == pytest.approx([100, 60])
    assert (clap["1"]["chance"], clap["3"]["chance"]) == pytest.approx((25, 100 / 3))
    low, high = clap["1"]["ci95"]
    assert 0 <= low < 70 < high <= 100 and clap["1"]["n"] == 5
    # Tasks that were not asked are null.
    assert tuple(clap) == TASKS and [t for t in TASKS if clap[t] is not None] == ["1", "3"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_prompts_go_by_their_wording(summary):
    # As in the paper's Table I.
    assert list(summary["models"]["clap"]["prompts"]) == ["{label}"]
    assert summary["models"]["clap"]["prompts"]["{label}"]["per_seed"] == pytest.approx([20, 40])
    rows = item_rows({"clap": {"1": ((1, 0, 1, 0, 1),)}})
    rows = pd.concat([rows, *(rows.assign(task=PROMPT_PREFIX + p) for p in PROMPTS)], ignore_index=True)
    wordings = list(build_summary(rows, query_rows())["models"]["clap"]["prompts"])
    assert wordings == list(DRAFT["prompts"])


def test_windows_and_readouts_have_places_of_their_own(summary):
    windows = summary["windows"]
    assert set(windows) == {"full", "msclap", "fit"}
    assert windows["full"]["clap"]["3"]["accuracy"] == pytest.approx(10)
    assert windows["msclap"]["t-clap"]["3"]["accuracy"] == pytest.approx(20)
    # The main rows are the fit policy's; only what the other policies were asked is repeated.
    expected = {m: {"3": summary["models"][m]["zste"]["3"]} for m in ("clap", "t-clap")}
    assert windows["fit"] == expected and expected["t-clap"]["3"]["accuracy"] == pytest.approx(80)
    assert list(summary["readouts"]) == ["mean"] and list(summary["readouts"]["mean"]) == ["1"]
    assert summary["readouts"]["mean"]["1"]["accuracy"] == pytest.approx(20)
    alone = build_summary(item_rows({m: SCORES[m] for m in ("clap", "t-clap")}), query_rows())
    assert alone["windows"] == {} and alone["readouts"] == {}


def test_comparisons_are_second_minus_first_of_the_seeds_mean(summary):
    found = {(*c["models"], c["task"]): c for c in summary["comparisons"]}
    assert set(found) == {("clap", "t-clap", "1"), ("clap", "t-clap", "3")}
    order, same = found["clap", "t-clap", "3"], found["clap", "t-clap", "1"]
    assert order["difference"] == pytest.approx(60)
    assert -100 <= order["ci95"][0] < order["ci90"][0] < 60 < order["ci90"][1] <= order["ci95"][1] <= 100
    # Seed 0: four items change, all one way, p = 2 / 2^4; seed 1: three against one, p = 2 (1 + 4) / 2^4,
    # which is the larger. In task 1 one item is lost, and none changes: both p are 1.
    assert order["mcnemar_p"] == pytest.approx(10 / 16)
    assert same["difference"] == pytest.approx(-10) and same["mcnemar_p"] == 1


def test_controls_have_a_place_of_their_own():
    rows = item_rows({name: {"3": ((1, 1, 0, 0, 0),) * 2} for name in ("clap", "t-clap")})
    control = rows[rows["model"] == "t-clap"].assign(task="gap: 25%")
    found = build_summary(pd.concat([rows, control]), query_rows())
    entry = found["controls"]["t-clap"]["gap"]["25%"]
    assert (entry["accuracy"], entry["n"]) == (40, 5)
    assert found["models"]["t-clap"]["zste"]["3"] == entry and "clap" not in found["controls"]


def test_comparisons_are_adjusted_over_the_tasks():
    """Twelve items of two tasks: one that tells the two models apart everywhere, one that does in half."""
    rows = pd.DataFrame(
        {"model": model, "seed": 0, "task": task, "item": f"i{item}", "source_a": f"s{item}",
         "source_b": None, "correct": model == "t-clap" and (task == "3" or item < 6), "tied": False,
         "answer": "", "prediction": "", "chance": 0.5}
        for model, task, item in itertools.product(("clap", "t-clap"), ("1", "3"), range(12))
    )  # fmt: skip
    found = {c["task"]: c for c in build_summary(rows, query_rows())["comparisons"]}
    # Exact two-sided: 2 / 2^12 and 2 / 2^6; Holm: the smaller times two, the other as it is.
    assert found["3"]["mcnemar_p"] == found["3"]["p"] == pytest.approx(2 / 2**12)
    assert found["1"]["mcnemar_p"] == pytest.approx(2 / 2**6)
    assert found["1"]["p"] == found["1"]["holm_p"] < 0.05 and found["1"]["difference"] == 50
    assert found["3"]["holm_p"] == pytest.approx(4 / 2**12)


def test_retrieval_by_hand(summary):
    by_way = summary["models"]["clap"]["retrieval"]["singles"]
    text = by_way["text_to_audio"]
    # Ranks 1, 4, 6 and 1, 12, 7.
    assert [text[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx([100 / 3, 50, 250 / 3])
    assert text["median_rank"] == 5 and text["n"] == 3
    # The best items' 1 / rank stand for average precision.
    assert text["mAP@10"] == pytest.approx(100 * np.mean([1, 1 / 4, 1 / 6, 1, 1 / 12, 1 / 7]))
    # The three text queries have 1, 2 and 3 relevant items of 12.
    assert text["chance"]["R@1"] == pytest.approx(100 * (1 + 2 + 3) / 36)
    assert by_way["audio_to_text"]["R@1"] == pytest.approx(62.5) and by_way["audio_to_text"]["n"] == 4
    # Of four queries that share no clip none has another score.
    bound = 100 * (0.05 / 2) ** (1 / 4)
    assert by_way["audio_to_text"]["R@5"] == 100
    assert by_way["audio_to_text"]["ci95"]["R@5"] == pytest.approx([bound, 100])
    low, high = text["ci95"]["R@5"]
    assert 0 <= low < 50 < high <= 100
    assert summary["models"]["t-clap"]["retrieval"]["singles"]["audio_to_text"]["R@1"] == 0


# A whole run


ORIGIN = {"path": None, "revision": "abc", "sha256": "0" * 64, "random_weights": False}


def held_out_rows(seed):
    """A pair, half right, whose one class was seen in the split of a seed."""
    where = {"item": "p", "source_a": "a", "source_b": "b", "correct": 0.5, "named": True, "seed": seed}
    return pd.DataFrame([where | {"seen": 1, "classes": 4, "fraction": 0.5, "split": seed}])


def write_weights(folder, config, **weights) -> None:
    """The first seed's base model: a checkpoint of a config."""
    weights = {name: torch.from_numpy(value) for name, value in weights.items()}
    path = folder / "seed0/clap/weights.safetensors"
    save_file(weights, path, make_header("compact", config, weights))


@pytest.fixture
def run(project_root):
    """A run's folder as if both seeds of a profile had been evaluated."""
    config = load_config("synthetic").model_dump() | {"slots": None, "seeds": [0, 1]}
    config["hold_out"] |= {"splits": 2}
    folder = paths.run("synthetic", "compact")
    (folder / "data").mkdir(parents=True)
    write_json(folder / "data/config.json", config)
    clips = pd.DataFrame({"clip_id": list("abcdef"), "label": ["x", "y"] * 3, "fold": [1, 1, 2, 2, 3, 3]})
    clips["split"] = ["train", "train", "validation", "validation", "test", "test"]
    for name in ("clips", "pairs-validation", "pairs-test", "items", "controls"):
        clips.to_parquet(folder / f"data/{name}.parquet")
    results, queries = item_rows(), query_rows()
    for seed in (0, 1):
        own = folder / f"seed{seed}"
        own.mkdir()
        results[results["seed"] == seed].to_parquet(own / "results.parquet")
        queries[queries["seed"] == seed].to_parquet(own / "retrieval.parquet")
        pd.DataFrame({"model": ["clap"], "seed": [seed]}).to_parquet(own / "similarity.parquet")
        held_out_rows(seed).to_parquet(own / "hold-out.parquet")
        for model in ("clap", "t-clap", "readout-mean"):
            (own / model).mkdir()
            history = pd.DataFrame({"model": [model] * 2, "seed": seed, "step": [0, 1], "loss": [2.0, 1.0]})
            history.to_parquet(own / model / "history.parquet")
        write_json(own / "evaluation.json", {"results": seed})
    (folder / "example.json").write_text(json.dumps({"receptive_seconds": 0.25}))
    write_weights(folder, {"origin": ORIGIN})
    return folder


def test_a_run_of_two_seeds(run, summary):
    found = summarise_run("synthetic", "compact")
    assert {key: found[key] for key in summary} == summary
    identity = {"profile": "synthetic", "base": "compact", "seeds": [0, 1], "origin": ORIGIN}
    assert {key: found[key] for key in identity} == identity and found["classes"] == 2
    assert found["clips"] == {"base": 2, "post": 2, "validation": 2, "test": 2}
    assert found["folds"] == {"train": [1], "validation": [2], "test": [3]}
    assert found["hold_out"].keys() == {"50%"} and found["hold_out"]["50%"]["splits"] == 2
    one_seen = found["hold_out"]["50%"]["one seen"]
    assert (one_seen["accuracy"], one_seen["n"]) == (50, 2)
    for path in (run / "summary.json", run.parent / "summary.json"):
        written = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert written["models"] == found["models"] and written["comparisons"] == found["comparisons"]
    lengths = {"results": len(item_rows()), "retrieval": len(query_rows()), "similarity": 2, "history": 12}
    for name, length in lengths.items():
        table = pd.read_parquet(run / f"{name}.parquet")
        assert len(table) == length and set(table["seed"]) == {0, 1}
    assert found["model"]["receptive_seconds"] == 0.25
    kept = json.loads((run / "provenance.json").read_text())
    assert kept == json.loads(json.dumps(found["provenance"])) | identity
    assert set(kept["data"]) == {"clips", "pairs-validation", "pairs-test", "items", "controls"}
    assert kept["config"]["seeds"] == [0, 1] and len(kept["source"]) == 64 and kept["packages"]["torch"]


def test_the_weights_of_the_first_seed_are_counted(run):
    shapes = {"audio_head.mlp.weight": (3, 4), "audio_head.mlp.bias": (3,), "logit_scale": ()}
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_weights(run, {"window": 4.0}, **weights)
    found = summarise_run("synthetic", "compact")
    assert found["origin"] is None and found["model"] == {"window": 4.0, "receptive_seconds": 0.25}
    assert found["weights"] == {"clap": {"audio_head": 15, "logit_scale": 1}}


@pytest.mark.parametrize("name", ["results.parquet", "evaluation.json"])
def test_a_seed_that_was_not_evaluated_is_named(run, name):
    (run / "seed0" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"seed0/{name} is missing: run notebook 0[24]_"):
        summarise_run("synthetic", "compact")
    assert not (run / "summary.json").exists()


def test_the_summary_is_reused_while_what_it_gathers_is_the_same(run):
    first = summarise_run("synthetic", "compact")
    path, last = run / "summary.json", run.parent / "summary.json"
    content = path.read_bytes()
    os.utime(path, (1, 1))
    last.unlink()
    assert summarise_run("synthetic", "compact") == json.loads(content) and last.is_file()
    assert path.stat().st_mtime == 1
    path.write_bytes(content[:100])
    assert summarise_run("synthetic", "compact")["models"] == first["models"]
    assert path.read_bytes() == content
    write_json(run / "seed1/evaluation.json", {"results": "of other weights"})
    os.utime(path, (1, 1))
    summarise_run("synthetic", "compact")
    assert path.stat().st_mtime > 1
