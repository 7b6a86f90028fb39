from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from tclap.evaluation import tasks as zste
from tclap.evaluation.tasks import ROW_COLUMNS, TASKS, build_items, classification_items, score_items

LABELS = ["chainsaw", "clock tick", "dog", "rain", "rooster", "sea waves", "sneezing", "helicopter"]
K = len(LABELS)
ORDERED_TASKS = ("2a", "3", "3_after", "2way_before", "2way_after")


def make_clips(labels, per_class=2):
    return pd.DataFrame(
        [
            {"clip_id": f"{x}-{n}", "label": x, "source": f"s-{x}-{n}"}
            for x in labels
            for n in range(per_class)
        ]
    )


def make_pairs(labels, copies=1):
    rows = []
    for n, ((a, b), order, _) in enumerate(
        itertools.product(itertools.permutations(labels, 2), ("forward", "reversed"), range(copies))
    ):
        sigma = ("preceding", "succeeding")[n // 2 % 2]
        rows.append({"pair_id": f"p{n}", "label_i": a, "label_j": b, "sigma": sigma, "order": order})
        rows[-1] |= {"source_i": f"s-{a}-0", "source_j": f"s-{b}-1"}
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def items():
    return build_items(make_clips(LABELS), make_pairs(LABELS), LABELS, seed=0)


def meaning(caption):
    """What a caption says: ("single", X), ("order", X, Y), ("both", X, Y) or ("slot", n, X)."""
    if found := re.fullmatch(r"In this concatenated sound, the (first|second) sound is (.+)", caption):
        return ("slot", *found.groups())
    words = re.fullmatch(r"this is a sound of (.+)", caption).group(1)
    found = re.fullmatch(r"(.+) (before|after|while) (.+)", words)
    if not found:
        return ("single", words)
    x, relation, y = found.groups()
    if relation == "while":
        return ("both", *sorted((x, y)))
    return ("order", x, y) if relation == "before" else ("order", y, x)


def heard(items, pairs):
    """What each audio of the items says, with the weight of each statement."""
    said = {}
    for name in items["audio"].unique():
        if "/" not in name:
            said[name] = {("single", name.rsplit("-", 1)[0]): 1.0}
            continue
        pair_id, view = name.split("/")
        a, b = pairs.set_index("pair_id").loc[pair_id, ["label_i", "label_j"]]
        first, second = (a, b) if view == "forward" else (b, a)
        said[name] = {("single", a): 0.5, ("single", b): 0.5}
        if view == "overlap":
            said[name][("both", *sorted((a, b)))] = 1.0
        else:
            said[name] |= {
                ("order", first, second): 1.0,
                ("slot", "first", first): 1,
                ("slot", "second", second): 1,
            }
    return said


def answer(items, said, reads=lambda statement: statement):
    """Score the items in a space with one axis a statement; ``reads`` is how a model takes a statement."""
    captions = sorted({c for candidates in items["candidates"] for c in candidates})
    statements = {reads(meaning(c)) for c in captions} | {reads(s) for x in said.values() for s in x}
    axis = {s: n for n, s in enumerate(sorted(statements))}
    text, audio = torch.zeros(len(captions), len(axis)), torch.zeros(len(said), len(axis))
    for n, caption in enumerate(captions):
        text[n, axis[reads(meaning(caption))]] = 1
    for n, content in enumerate(said.values()):
        for statement, weight in content.items():
            audio[n, axis[reads(statement)]] = weight
    rows = {name: n for n, name in enumerate(said)}
    normalise = torch.nn.functional.normalize
    return score_items(items, rows, normalise(audio), {c: n for n, c in enumerate(captions)}, normalise(text))


def accuracies(rows):
    return rows.groupby("task")["correct"].mean().mul(100).to_dict()


# Items


@pytest.mark.parametrize("count", [3, 7, 8])
def test_chance_by_enumerating_all_answers(count):
    labels = LABELS[:count]
    items = build_items(make_clips(labels), make_pairs(labels), labels, seed=0)
    formulas = {
        "1": 1 / count,
        "2a": 2 / (count * (count - 1)),
        "2b": 2 / (count * (count - 1)),
        "3": 1 / 3,
        "3_after": 1 / 3,
        "2way_before": 1 / 2,
        "2way_after": 1 / 2,
        "overlap": 1 / 3,
        "4": 1 / 50,
        "5": 1 / (count * (2 * count - 1)),
    }
    for task, group in items.groupby("task"):
        first = group.iloc[0]
        guesses = list(itertools.combinations(range(len(first["candidates"])), len(first["answers"])))
        hits = sum(sorted(first["answers"]) == list(guess) for guess in guesses)
        assert group["chance"].unique() == pytest.approx([hits / len(guesses)])
        assert group["chance"].unique() == pytest.approx([formulas[task]])
    assert set(items["task"]) == set(TASKS) - (set() if count >= 7 else {"4"})


def test_items_of_one_pair_by_hand():
    labels = ["dog", "rain", "hen"]
    pairs = make_pairs(labels).query("label_i == 'rain' and label_j == 'dog'")
    for order, right in (("forward", 0), ("reversed", 1)):
        pair = pairs[pairs["order"] == order]
        name = pair["pair_id"].iloc[0]
        items = build_items(make_clips(labels[:0] or labels, 1), pair, labels, seed=0).set_index("task")
        sound = "this is a sound of "
        before = [sound + "rain before dog", sound + "dog before rain", sound + "rain while dog"]
        after = [sound + "dog after rain", sound + "rain after dog", sound + "rain while dog"]
        slots = [
            f"In this concatenated sound, the {n} sound is {x}" for n in ("first", "second") for x in labels
        ]
        expected = {
            "2a": (order, [sound + x for x in labels], [0, 1]),
            "2b": ("overlap", [sound + x for x in labels], [0, 1]),
            "3": (order, before, [right]),
            "3_after": (order, after, [right]),
            "2way_before": (order, before[:2], [right]),
            "2way_after": (order, after[:2], [right]),
            "overlap": ("overlap", before, [2]),
            # The first sound is rain (1), the second is dog (3 + 0), whatever the drawn order.
            "5": ("forward", slots, [1, 3]),
        }
        assert set(items.index) == {"1", *expected}
        for task, (view, candidates, answers) in expected.items():
            row = items.loc[task]
            assert (row["item"], row["audio"]) == (name, f"{name}/{view}")
            assert (row["candidates"], sorted(row["answers"])) == (candidates, answers)
            assert (row["source_a"], row["source_b"]) == ("s-rain-0", "s-dog-1")
        single = items.loc[["1"]]
        assert single["answers"].tolist() == [[0], [1], [2]]
        assert (
            single["source_a"].tolist() == ["s-dog-0", "s-rain-0", "s-hen-0"]
            and single["source_b"].isna().all()
        )
        assert single["candidates"].iloc[0] == [sound + x for x in labels]


@pytest.mark.parametrize("count", [7, 8])
def test_task_4_candidates(count):
    labels = LABELS[:count]
    items = build_items(make_clips(labels), make_pairs(labels), labels, seed=0)
    places, whiles = set(), 0
    for item in items[items["task"] == "4"].itertuples():
        assert item.audio.endswith("/forward")
        assert len(item.candidates) == len(set(item.candidates)) == 50
        words = [
            re.fullmatch(r"this is a sound of (.+) (before|while) (.+)", c).groups() for c in item.candidates
        ]
        assert all(x != y for x, _, y in words)
        assert len({x for w in words for x in (w[0], w[2])}) == 7
        ((a, relation, b),) = [words[k] for k in item.answers]
        assert (item.source_a, item.source_b, relation) == (f"s-{a}-0", f"s-{b}-1", "before")
        assert {(a, "before", b), (b, "before", a), (a, "while", b)} <= set(words)
        whiles += sum(r == "while" for _, r, _ in words)
        places |= {*item.answers}
    # The right answer has no place of its own, and the rest is drawn evenly: 41 of the 81 are "while".
    assert len(places) > 35
    total = 47 * (items["task"] == "4").sum()
    rest = whiles - (items["task"] == "4").sum()
    assert binomtest(int(rest), int(total), 41 / 81).pvalue > 0.001


def test_task_4_needs_seven_classes():
    few = build_items(make_clips(LABELS[:6]), make_pairs(LABELS[:6]), LABELS[:6], seed=0)
    assert set(few["task"]) == set(TASKS) - {"4"}


def test_items_are_the_seeds(items):
    again = build_items(make_clips(LABELS), make_pairs(LABELS), LABELS, seed=0)
    pd.testing.assert_frame_equal(items, again)
    other = build_items(make_clips(LABELS), make_pairs(LABELS), LABELS, seed=1)
    differs = items["candidates"] != other["candidates"]
    assert set(items["task"][differs]) == {"4"} and differs[items["task"] == "4"].mean() > 0.95


def test_items_survive_parquet(items, tmp_path):
    items.to_parquet(tmp_path / "items.parquet", index=False)
    back = pd.read_parquet(tmp_path / "items.parquet")
    said = heard(items, make_pairs(LABELS))
    pd.testing.assert_frame_equal(answer(items, said), answer(back, said))


def test_labels_outside_the_classes_are_refused():
    for clips, pairs in (
        (make_clips([*LABELS, "hen"]), make_pairs(LABELS)),
        (make_clips(LABELS), make_pairs([*LABELS, "hen"])),
    ):
        with pytest.raises(ValueError, match=r"outside the 8 classes: \['hen'\]"):
            build_items(clips, pairs, LABELS, seed=0)


def test_classification_items_take_any_prompt():
    items = classification_items(make_clips(["rain"], 1), ("dog", "rain"), "i can hear {}", "mine")
    assert items[0]["candidates"] == ["i can hear dog", "i can hear rain"]
    assert (items[0]["task"], items[0]["answers"], items[0]["chance"]) == ("mine", [1], 0.5)


# Answers


def test_a_model_that_hears_everything_is_always_right(items):
    rows = answer(items, heard(items, make_pairs(LABELS)))
    assert list(rows.columns) == list(ROW_COLUMNS)
    assert accuracies(rows) == dict.fromkeys(TASKS, 100.0)
    assert rows["answer"].equals(rows["prediction"])
    one = rows["task"].isin(("1", "3", "3_after", "2way_before", "2way_after", "overlap", "4"))
    assert (rows["margin"][one] > 0).all() and rows["margin"][~one].isna().all()


def test_a_model_without_order_is_never_right_where_order_is_asked(items):
    def blind(statement):
        if statement[0] == "order":
            return ("order", *sorted(statement[1:]))
        return ("slot", "any", statement[2]) if statement[0] == "slot" else statement

    scored = accuracies(answer(items, heard(items, make_pairs(LABELS)), blind))
    for task in ("3", "3_after", "2way_before", "2way_after", "4", "5"):
        assert scored[task] == 0
    for task in ("1", "2a", "2b", "overlap"):
        assert scored[task] == 100


def test_a_model_that_hears_the_inverse_is_wrong(items):
    pairs = make_pairs(LABELS)
    swapped = pairs.rename(columns={"label_i": "label_j", "label_j": "label_i"})
    rows = answer(items, heard(items, swapped))
    scored = accuracies(rows)
    assert all(scored[t] == 0 for t in ("3", "3_after", "2way_before", "2way_after", "4", "5"))
    assert all(scored[t] == 100 for t in ("1", "2a", "2b", "overlap"))
    assert (rows["margin"][rows["task"] == "2way_before"] < 0).all()


def test_a_model_that_always_says_while_is_right_on_overlaps_alone(items):
    said = {
        name: {s: w for s, w in content.items() if s[0] != "order"} | {("both", *sorted(x)): 1.0}
        if len(x := [s[1] for s in content if s[0] == "single"]) == 2
        else content
        for name, content in heard(items, make_pairs(LABELS)).items()
    }
    scored = accuracies(answer(items, said))
    assert (scored["overlap"], scored["3"], scored["3_after"], scored["4"], scored["2way_after"]) == (
        100,
        0,
        0,
        0,
        0,
    )


def test_random_embeddings_are_at_chance():
    pairs = make_pairs(LABELS, copies=20)
    items = build_items(make_clips(LABELS, 150), pairs, LABELS, seed=0)
    generator = torch.Generator().manual_seed(0)

    def drawn(names):
        x = torch.randn(len(names), 128, generator=generator)
        return {n: k for k, n in enumerate(names)}, torch.nn.functional.normalize(x, dim=1)

    captions = sorted({c for candidates in items["candidates"] for c in candidates})
    rows = score_items(items, *drawn(items["audio"].unique()), *drawn(captions))
    for task, group in rows.groupby("task"):
        test = binomtest(int(group["correct"].sum()), len(group), group["chance"].iloc[0])
        assert test.pvalue > 0.001, (task, group["correct"].mean())


def test_two_labels_are_right_only_together_and_without_a_tie():
    item = classification_items(make_clips(["a"], 1), ["a", "b", "c", "d"], "{}", "2a")[0]
    item |= {"answers": [0, 2]}
    text = {x: n for n, x in enumerate("abcd")}

    def is_right(*scores):
        row = score_items(pd.DataFrame([item]), {"a-0": 0}, torch.tensor([scores]), text, torch.eye(4)).iloc[
            0
        ]
        return bool(row["correct"]), row["prediction"]

    assert is_right(0.9, 0.1, 0.5, 0.4) == (True, "a | c")
    assert is_right(0.5, 0.1, 0.9, 0.4) == (True, "a | c")
    assert is_right(0.9, 0.1, 0.4, 0.5) == (False, "a | d")
    assert is_right(0.1, 0.9, 0.2, 0.8) == (False, "b | d")
    assert is_right(0.9, 0.1, 0.5, 0.5)[0] is False
    # Closer than single precision can tell.
    assert is_right(0.9, 0.1, 0.5, 0.4999999)[0] is False


def test_scores_against_a_naive_loop(items):
    generator = np.random.default_rng(0)
    names = list(items["audio"].unique())
    captions = sorted({c for candidates in items["candidates"] for c in candidates})
    # Few levels, so that there are ties.
    audio = generator.integers(-2, 3, (len(names), 4)).astype(float)
    text = generator.integers(-2, 3, (len(captions), 4)).astype(float)
    rows = score_items(
        items,
        {n: k for k, n in enumerate(names)},
        torch.from_numpy(audio).float(),
        {c: k for k, c in enumerate(captions)},
        torch.from_numpy(text).float(),
    )
    assert len(rows) == len(items)
    seen = set()
    for item, row in zip(items.itertuples(), rows.itertuples(), strict=True):
        sound = audio[names.index(item.audio)]
        scores = [
            sum(p * q for p, q in zip(sound, text[captions.index(c)], strict=True)) for c in item.candidates
        ]
        right = [scores[k] for k in item.answers]
        wrong = [s for k, s in enumerate(scores) if k not in item.answers]
        assert row.correct == all(r > w for r in right for w in wrong)
        if len(right) == 1:
            assert row.margin == pytest.approx(right[0] - max(wrong))
        else:
            assert np.isnan(row.margin)
        assert row.answer == " | ".join(item.candidates[k] for k in sorted(item.answers))
        best = sorted(scores, reverse=True)[: len(right)]
        # With three or fewer labels no caption occurs twice, so a prediction names its scores.
        predicted = sorted(
            (scores[item.candidates.index(c)] for c in row.prediction.split(" | ")), reverse=True
        )
        assert predicted == best
        assert (row.task, row.item, row.source_a, row.chance) == (
            item.task,
            item.item,
            item.source_a,
            item.chance,
        )
        seen.add((row.task, row.correct))
    assert len(seen) > 15


def test_module_lists_the_tasks_in_order():
    assert zste.TASKS == ("1", "2a", "2b", "3", "3_after", "2way_before", "2way_after", "overlap", "4", "5")
