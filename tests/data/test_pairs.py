import collections
import itertools

import pandas as pd
import pytest

from tclap.data import composites
from tclap.data.composites import VIEWS, draw_pairs, phrases

LABELS = ("dog", "rain", "rooster", "sea waves", "sneezing")


def clips_table(per_class, labels=LABELS, splits=("train", "validation", "test")):
    rows = [
        {"clip_id": f"{s}-{label}-{n}", "label": label, "split": s, "captions": [label]}
        for s, label, n in itertools.product(splits, labels, range(per_class))
    ]
    clips = pd.DataFrame(rows)
    return clips.assign(source="src-" + clips["clip_id"])


def test_captions_and_events_of_the_three_views_by_hand():
    expected = {
        "preceding": ["dog before rain", "rain before dog", "dog while rain"],
        "succeeding": ["rain after dog", "dog after rain", "dog while rain"],
    }
    for sigma, texts in expected.items():
        views = phrases("dog", "rain", sigma)
        assert [views[v].text("{}") for v in VIEWS] == texts
        assert [views[v].text() for v in VIEWS] == [f"this is a sound of {text}" for text in texts]
        assert [views[v].events for v in VIEWS] == ["dog > rain", "rain > dog", "dog & rain"]
        # The reversed view is the forward view of the pair the other way round.
        assert views["reversed"] == phrases("rain", "dog", sigma)["forward"]
        for phrase in views.values():
            assert phrase.inverted.inverted == phrase != phrase.inverted
            assert (phrase.inverted.events == phrase.events) == (phrase.relation == "while")


@pytest.mark.parametrize("enumerable", [composites.ENUMERABLE, 0])
@pytest.mark.parametrize(("stage", "split"), [("base", "train"), ("post", "train"), ("test", "test")])
def test_drawn_pairs(monkeypatch, enumerable, stage, split):
    monkeypatch.setattr(composites, "ENUMERABLE", enumerable)
    clips = clips_table(4)
    pairs = draw_pairs(clips, stage, 250, seed=3)
    assert pairs["pair_id"].is_unique and set(pairs["stage"]) == {stage}
    assert (pairs["label_i"] != pairs["label_j"]).all()
    assert not pairs.duplicated(["clip_i", "clip_j"]).any()
    by_id = clips.set_index("clip_id")
    for end in ("i", "j"):
        chosen = by_id.loc[pairs[f"clip_{end}"]]
        assert set(chosen["split"]) == {split}
        for column in ("label", "source"):
            assert chosen[column].tolist() == pairs[f"{column}_{end}"].tolist()
    pd.testing.assert_frame_equal(pairs, draw_pairs(clips, stage, 250, seed=3))
    assert not pairs.equals(draw_pairs(clips, stage, 250, seed=4))


CAPTIONS = ["A {} sounds.", " the {} again ", "{}... far away..", "{}"]


@pytest.mark.parametrize("distinct", [False, True])
def test_captions_are_drawn_and_do_not_change_which_pairs_are_drawn(distinct):
    one = clips_table(4)
    many = one.assign(captions=[[caption.format(n) for caption in CAPTIONS] for n in one["clip_id"]])
    plain, worded = (draw_pairs(c, "test", 200, seed=3, distinct=distinct) for c in (one, many))
    texts = ["text_i", "text_j"]
    pd.testing.assert_frame_equal(plain.drop(columns=texts), worded.drop(columns=texts))
    assert (plain[texts].to_numpy() == plain[["label_i", "label_j"]].to_numpy()).all()
    for end in ("i", "j"):
        named = zip(worded[f"text_{end}"], worded[f"clip_{end}"], strict=True)
        found = collections.Counter(text.replace(clip, "{}") for text, clip in named)
        # A sentence goes on: no full stop, no blank at either end.
        assert set(found) == {"A {} sounds", "the {} again", "{}... far away", "{}"}
        assert min(found.values()) > 25
    # A clip that is drawn again is named differently, and by another seed too.
    assert worded.groupby("clip_i")["text_i"].nunique().max() > 1


@pytest.mark.parametrize("enumerable", [composites.ENUMERABLE, 0])
def test_every_pair_can_be_drawn_and_not_one_more(monkeypatch, enumerable):
    monkeypatch.setattr(composites, "ENUMERABLE", enumerable)
    clips = pd.concat([clips_table(2, LABELS[:2]), clips_table(3, LABELS[2:3])])
    pairs = draw_pairs(clips, "test", 32, seed=0)
    test = list(clips[clips["split"] == "test"].itertuples())
    expected = {(a.clip_id, b.clip_id) for a in test for b in test if a.label != b.label}
    # 7 * 7 pairs without those of one label, 2 * 2 + 2 * 2 + 3 * 3.
    assert len(expected) == 32 and set(zip(pairs["clip_i"], pairs["clip_j"], strict=True)) == expected
    with pytest.raises(ValueError, match="7 clips make only 32 pairs with different labels; 33"):
        draw_pairs(clips, "test", 33, seed=0)
    with pytest.raises(ValueError, match="only 0 pairs"):
        draw_pairs(clips_table(4, LABELS[:1]), "test", 1, seed=0)


@pytest.mark.parametrize(("count", "distinct"), [(1, False), (7, True), (100, True), (201, False)])
def test_wordings_and_orders_are_balanced(count, distinct):
    pairs = draw_pairs(clips_table(5), "test", count, seed=1, distinct=distinct)
    sigma = pairs["sigma"].value_counts().reindex(["preceding", "succeeding"], fill_value=0)
    assert abs(sigma.iloc[0] - sigma.iloc[1]) <= 1 and sigma.sum() == count
    for _, group in pairs.groupby("sigma"):
        order = group["order"].value_counts().reindex(["forward", "reversed"], fill_value=0)
        assert abs(order.iloc[0] - order.iloc[1]) <= 1 and order.sum() == len(group)
    if count >= 100:  # shuffled over the rows, not dealt out in turn
        assert (pairs["sigma"] == pairs["sigma"].shift()).any()
        assert pairs.groupby("sigma")["order"].agg(lambda o: (o == o.shift()).any()).all()


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_distinct_groups_have_each_class_at_most_once(classes):
    group = classes // 2
    pairs = draw_pairs(clips_table(3, LABELS[:classes]), "post", 60 * group, seed=0, distinct=True)
    for start in range(0, len(pairs), group):
        rows = pairs.iloc[start : start + group]
        assert len({*rows["label_i"], *rows["label_j"]}) == 2 * group
    assert set(pairs["label_i"]) == set(pairs["label_j"]) == set(LABELS[:classes])
    assert pairs["clip_i"].str.startswith("train").all() and pairs["clip_i"].nunique() == 3 * classes
    # The last group may be incomplete.
    assert len(draw_pairs(clips_table(3), "post", 7, seed=0, distinct=True)) == 7
    with pytest.raises(ValueError, match="no group of 3 pairs"):
        draw_pairs(clips_table(3), "post", 7, seed=0, distinct=True, group=3)
