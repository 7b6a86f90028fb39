"""The evaluation of a seed: each model by its own trunk, and what is measured beside the tasks."""

import numpy as np
import pandas as pd
import pytest
import torch
from meanings import Meanings

from artifact import evaluation
from artifact.evaluation import SIMILARITY_PAIRS, evaluate_seed, quick_evaluate, similarity_rows
from artifact.training import train_base_models, train_variants
from tclap.data.composites import render
from tclap.data.conditions import Condition, arrange


def rows_of(labels) -> pd.DataFrame:
    """Similarities by a model that knows which event comes first."""
    pairs = [{"pair_id": f"p{n}", "label_i": a, "label_j": b} for n, (a, b) in enumerate(labels)]
    sounds = {f"p{n}/forward": {f"{a} before {b}": 1.0} for n, (a, b) in enumerate(labels)}
    sounds |= {f"p{n}/reversed": {f"{b} before {a}": 1.0} for n, (a, b) in enumerate(labels)}
    model = Meanings(sounds, lambda caption: caption.removeprefix("this is a sound of "))
    return similarity_rows(model, pd.DataFrame(pairs))


def test_similarities_of_a_few_pairs_in_both_orders_side_by_side():
    # The second repeats the first one's labels: three pairs in two orders are left.
    found = rows_of([("dog", "rain"), ("dog", "rain"), ("rain", "dog"), ("waves", "dog")])
    matrix = found.pivot(index="row", columns="column", values="similarity").to_numpy()
    events = found.drop_duplicates("column")["column_event"].tolist()
    assert events == ["dog > rain", "rain > dog", "rain > dog", "dog > rain", "waves > dog", "dog > waves"]
    captions = found.drop_duplicates("row")["row_caption"].tolist()
    assert captions == [e.replace(">", "before") for e in events]
    np.testing.assert_array_equal(matrix, np.equal.outer(events, events).astype(float))
    found = rows_of([(a, b) for a in "dgrw" for b in "dgrw" if a != b])
    assert len(found) == (2 * SIMILARITY_PAIRS) ** 2


def assert_readouts_are_asked_by_distance(experiment, rows):
    model, pair = experiment.load(0, "readout-attention"), experiment.table("data/pairs-test.parquet").iloc[0]
    of_pair = rows[rows["item"] == pair["pair_id"]].set_index("task")["margin"]
    assert set(rows["task"]) > {*evaluation.DISTANCES, "2way_before"} and "plain: before" not in set(
        rows["task"]
    )
    ends = ["i", "j"] if pair["order"] == "forward" else ["j", "i"]
    clips, labels = ([pair[f"{what}_{end}"] for end in ends] for what in ("clip", "label"))
    captions = [f"this is a sound of {a} before {b}" for a, b in (labels, labels[::-1])]
    for task, condition in {
        "gap: 25%": Condition(gap=0.25),
        "near: neither": Condition(near=(False, False)),
    }.items():
        sound = arrange(*clips, condition, experiment.audio, model.window).render(experiment.audio)
        first, second = (model.encode_audio([sound]) @ model.encode_text(captions).T)[0].tolist()
        assert of_pair[task] == pytest.approx(first - second, abs=1e-5)


def test_every_model_is_asked_through_its_own_trunk(experiment):
    names = ["t-clap", "t-clap-text-none"]
    changes = {"variants": names, "readouts": ["attention"], "window_policies": []}
    experiment.config = experiment.config.model_copy(update=changes)
    train_base_models(experiment, 0)
    train_variants(experiment, 0)
    evaluate_seed(experiment, 0)
    rows = experiment.table("seed0/results.parquet")
    assert_readouts_are_asked_by_distance(experiment, rows[rows["model"] == "readout-attention"])
    rows = rows[rows["model"] != "readout-attention"]
    models = ["clap", "clap-no-text-loss", *names]
    assert set(rows["model"]) == set(models) and rows["correct"].dtype == float
    pair = experiment.table("data/pairs-test.parquet").iloc[0]
    sound, labels = render(pair, pair["order"], experiment.audio), [pair["label_i"], pair["label_j"]]
    captions = [f"this is a sound of {a} before {b}" for a, b in (labels, labels[::-1])]
    quick = quick_evaluate(experiment, 0, ["clap", "t-clap"])
    for name in models:
        model = experiment.load(0, name)
        first, second = (model.encode_audio([sound]) @ model.encode_text(captions).T)[0].tolist()
        margin = (first - second) * (1 if pair["order"] == "forward" else -1)
        for found in (rows, quick):
            found = found[(found["model"] == name) & (found["task"] == "2way_before")].set_index("item")
            if len(found):
                assert found.loc[pair["pair_id"], "margin"] == pytest.approx(margin, abs=1e-5)
    # Of the models without the text-only loss the tasks are asked alone.
    controls = rows[rows["task"] == "plain: before"]
    assert set(controls["model"]) == {"clap", "t-clap"} == set(quick["model"])
    assert set(experiment.table("seed0/retrieval.parquet")["model"]) == {"clap", "t-clap"}


def test_the_receptive_field_is_measured():
    class Blocks:
        """Each output is the sum of 200 ms, every 100 ms, with a little of the whole."""

        window, sample_rate, log_scale = 2.0, 1000, torch.zeros(())

        def audio_trunk(self, waveforms):
            return waveforms.unfold(1, 200, 100).sum(2, keepdim=True) + 1e-4 * waveforms.sum(1)[:, None, None]

    assert evaluation.receptive_field(Blocks()) == pytest.approx(0.2, abs=0.03)
