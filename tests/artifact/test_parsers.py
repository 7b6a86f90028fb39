"""The parsers that the caption reader is compared with: by hand, and by the evaluation's answer keys."""

import pandas as pd
import pytest

from artifact.parsers import OracleParser, RegexParser
from artifact.slot_ablation import CONTROLS, POOLED, TASKS
from tclap.data.captions import FIRST_SLOT, SECOND_SLOT
from tclap.data.composites import draw_pairs
from tclap.evaluation import controls, tasks
from tclap.slots.reader import Reading

LABELS = ["dog", "dog bark", "clock tick", "rain", "sea waves", "hen", "siren"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog barks, then rain falls.", ("forward", ("a dog barks", "rain falls"))),
        ("After a dog barks, it rains", ("forward", ("a dog barks", "it rains"))),
        ("before the rain, a dog", ("backward", ("a dog", "the rain"))),
        ("a man speaks as birds sing", ("together", ("a man speaks", "birds sing"))),
        ("a man speaks with birds in the background", ("together", ("a man speaks", "birds"))),
        ("a man and a dog", ("plain", ())),
    ],
)
def test_the_regular_expressions(caption, expected):
    (found,) = RegexParser().read([caption])
    assert (found.relation, found.events) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("this is a sound of dog bark", Reading("plain")),
        ("this is a sound of dog after dog bark", Reading("backward", ("dog bark", "dog"), (0, 1))),
        ("before rain, clock tick", Reading("backward", ("clock tick", "rain"), (0, 1))),
        ("first rain, then dog, then dog bark", Reading("forward", ("rain", "dog", "dog bark"), (0, 1, 2))),
        ("this is a sound of rain while dog", Reading("together", ("rain", "dog"), (0, 0))),
        (FIRST_SLOT.format(a="dog"), Reading("start", ("dog",), (0,))),
        (SECOND_SLOT.format(a="dog"), Reading("end", ("dog",), (0,))),
    ],
)
def test_the_oracle_parse_by_hand(caption, expected):
    assert OracleParser(LABELS).read([caption]) == [expected]
    plain = expected.relation == "together"
    assert OracleParser(LABELS, simultaneous=False).read([caption]) == [
        Reading("plain") if plain else expected
    ]
    with pytest.raises(ValueError, match="no template of the evaluation makes 'rain preceding dog' of the"):
        OracleParser(LABELS).read(["rain preceding dog"])


def test_the_oracle_parse_of_all_that_is_asked_is_what_the_answers_say():
    rows = [{"clip_id": f"{x}-{n}", "label": x, "captions": [x]} for x in LABELS for n in range(2)]
    clips = pd.DataFrame(rows).assign(split="test", source=[row["clip_id"] for row in rows])
    pairs = draw_pairs(clips, "test", 24, seed=0)
    items = [tasks.build_items(clips, pairs, LABELS, seed=0), controls.build_items(clips, pairs, seed=0)]
    items = pd.concat(items, ignore_index=True)
    items = items[items["task"].isin([*TASKS, *CONTROLS, *POOLED])]
    assert {"4", "three: before", "wording: {b} follows {a}"} <= set(items["task"])
    oracle, by_pair = OracleParser(LABELS), pairs.set_index("pair_id")
    for item in items.itertuples():
        readings = oracle.read(item.candidates)
        found = [(readings[k].relation, readings[k].events) for k in item.answers]
        if item.task in ("1", "three: before"):
            assert {reading.relation for reading in readings} == {"plain" if item.task == "1" else "forward"}
            continue
        a, b, order = by_pair.loc[item.item, ["label_i", "label_j", "order"]]
        expected = {"5": [("start", (a,)), ("end", (b,))], "overlap": [("together", (a, b))]}
        events = (b, a) if item.task != "4" and order == "reversed" else (a, b)
        order = [(relation, events) for relation in ("forward", "backward") if relation == found[0][0]]
        assert found == expected.get(item.task, order)
