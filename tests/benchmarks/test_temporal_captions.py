import re

import numpy as np
import pandas as pd
import pytest

from artifact.parsers import RegexParser
from benchmarks import temporal_captions as detection
from tclap.slots import Reading
from tclap.slots import captions as learned
from tclap.slots.captions import LabelledCaption, wordings
from tclap.slots.reader import RELATIONS

# Set, text, label and its events, what the stub reads and its events.
CAPTIONS = (
    ("a", "rain", "plain", 0, "plain", 0),
    ("a", "a dog and rain", "plain", 0, "together", 2),
    ("a", "rain, then a dog", "forward", 2, "forward", 2),
    ("a", "rain, then a dog, then a bell", "forward", 3, "forward", 2),
    ("a", "rain after a dog", "backward", 2, "forward", 2),
    ("a", "rain while a dog barks", "together", 2, "plain", 0),
    ("b", "rain as it pours", "together", 2, "together", 2),
    ("b", "a bell", "plain", 0, "plain", 0),
    ("b", "a bell rings", "plain", 0, "start", 1),
)
MEASURES = ("labelled", "found", "precision", "recall", "kept", "relation", "events", "all")


@pytest.fixture
def rows() -> pd.DataFrame:
    columns = ["set", "text", "label", "events", "relation", "read"]
    items = pd.DataFrame(CAPTIONS, columns=columns)
    known = {text: Reading(relation, ("an event",) * count) for _, text, _, _, relation, count in CAPTIONS}
    return detection.detect(lambda texts: [known[text] for text in texts], items)


def test_measures_are_those_counted_by_hand(rows):
    counted = {
        # (correct, n) of the captions of
        "a": ((4, 6), (4, 6), (3, 4), (3, 4), (1, 2), (2, 3), (2, 3), (3, 6)),
        "b": ((1, 3), (2, 3), (1, 2), (1, 1), (1, 2), (1, 1), (1, 1), (2, 3)),
    }
    for name, fractions in counted.items():
        found = detection.measures(rows[rows["set"] == name])
        assert [*found.index] == [*MEASURES] and [*found["n"]] == [n for _, n in fractions]
        assert [*found["value"]] == pytest.approx([100 * right / n for right, n in fractions])


def test_a_fraction_of_nothing_is_no_number(rows):
    found = detection.measures(rows[rows["label"] == "plain"].assign(found="plain"))
    nothing = found.loc["precision"]
    assert nothing["n"] == 0 and np.isnan([nothing["value"], nothing["low"], nothing["high"]]).all()
    assert found.loc["kept", "value"] == 100


@pytest.mark.parametrize(("sample", "counts"), [("first", (150, 150)), ("second", (108, 169))])
def test_labels_and_official_captions_belong_together(sample, counts, audiocaps_root, clotho_root):
    names = detection.SAMPLES[sample]
    try:
        parts = [detection.read_captions(name, audiocaps_root, clotho_root) for name in names]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    items = detection.labelled(pd.concat(parts))
    assert items["set"].value_counts().to_dict() == dict(zip(names, counts, strict=True))
    drawn = []
    for seed, sizes in detection.DRAWS[sample]:
        generator = np.random.default_rng(seed)
        for name, part, size in zip(names, parts, sizes, strict=True):
            part = part.sort_values("clip", kind="stable") if name == "audiocaps val" else part
            drawn.append(detection.draw(part, generator, size))
            assert not drawn[-1].duplicated("clip").any()
    drawn = pd.concat(drawn)
    drawn = drawn[~drawn.duplicated("text")] if sample == "second" else drawn
    assert items[detection.KEYS].to_numpy().tolist() == drawn[detection.KEYS].to_numpy().tolist()
    # Nothing of the clips is learned from, so that the measures are of captions that no reader has met.
    named = {row["id"] for row in learned._roles()}
    learnable = learned.unlabelled_captions(audiocaps_root, clotho_root)
    assert named.isdisjoint(items["id"])
    assert set(learnable).isdisjoint(items["text"][items["set"].str.startswith("clotho")])


def test_labels_are_relations_and_no_caption_has_two():
    labels = detection.read_labels()
    assert set(labels["label"]) <= set(RELATIONS) and not labels.duplicated(detection.KEYS).any()
    captions = pd.DataFrame(
        {"set": ["clotho evaluation"], "id": ["x.wav"], "caption": ["2"], "text": ["rain"]}
    )
    with pytest.raises(ValueError, match="labelled caption.* missing: clotho evaluation"):
        detection.labelled(captions)


def test_wordings_and_families_are_counted_with_their_events():
    rules = RegexParser()
    found = detection.wording_accuracy(rules.read)
    # The rules know "then" with a comma or without, "prior to" and "before", but no verb.
    assert found["{a}, then {b}"] == found["{a} prior to {b}"] == found["before {b}, {a}"] == 1
    assert found["{a} precedes {b}"] == found["{b} follows {a}"] == 0
    asked = [wording for wording in wordings() if wording.family in ("prior_to", "precede")]
    families = detection.family_accuracy(rules.read, asked)
    assert set(families.index) == {"prior_to", "precede"}
    assert 0 < families["precede"] < families["prior_to"] < 1
    usual = detection.family_accuracy(rules.read, detection.usual(), each=10)
    assert list(usual.sort_index().index) == sorted(detection.USUAL)
    # They part a caption in two, so that they read no three events.
    assert all(found == ("{M}" not in wording) for wording, found in usual.items())


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (Reading("forward", ("a siren", "rain falling"), (0, 1)), True),
        (Reading("forward", ("the siren stops", "and rain falling"), (0, 1)), True),
        (Reading("backward", ("a siren", "rain falling"), (0, 1)), False),
        (Reading("forward", ("rain falling", "a siren"), (0, 1)), False),
        (Reading("forward", ("a siren", "rain"), (0, 1)), False),
        (Reading("forward", ("a siren stops and rain", "rain falling"), (0, 1)), False),
        (Reading("forward", ("a siren", "rain", "falling"), (0, 1, 2)), False),
        (Reading("forward", ("a siren", "rain", "falling"), (0, 1, 1)), True),
        (Reading("plain"), False),
    ],
)
def test_a_reading_is_right_if_each_step_has_its_own_events(found, right):
    assert detection.is_right(found, Reading("forward", ("a siren", "rain falling"), (0, 1))) is right


def test_left_out_wordings_have_a_word_that_none_that_is_learned_has():
    learned_from = {word for wording in wordings() for word in words_of(wording.text)}
    asked = detection.left_out()
    assert all(words_of(wording.text) - learned_from for wording in asked)
    assert len({wording.family for wording in asked}) > 50 and all(w.kind != "plain" for w in asked)


def words_of(wording: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"\{[FMLT]\}", "", wording).lower()))


def test_events_that_are_asked_share_no_word():
    for events in detection.EVENTS.values():
        words = [word for event in events for word in event.split() if word not in detection.ARTICLES]
        assert len(set(words)) == len(words) and len(events) == 10


def test_spans_are_compared_word_by_word():
    class Whole:
        def spans(self, captions):
            return [([(0, 4, 1), (6, len(caption), 3)], 1.0) for caption in captions]

    captions = [
        LabelledCaption("hail, then a dog", ((0, 4, 1), (11, 16, 3))),
        LabelledCaption("rain, a dog", ((0, 4, 1), (6, 11, 3))),
        LabelledCaption("rain", ()),
    ]
    # Three of four that are found, and three of four that are labelled.
    assert detection.span_f1(Whole(), captions) == pytest.approx(0.75)


def test_the_command_measures_readers(tmp_path, audiocaps_root, clotho_root, monkeypatch, capsys):
    class AllTogether:
        def read(self, captions):
            return [Reading("together", ("a", "b"), (0, 0)) for _ in captions]

    detection.main(["--audiocaps", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.startswith("Left out: ") and str(tmp_path) in said
    if not (audiocaps_root / "val.csv").is_file() or not next(clotho_root.glob("*development.csv"), None):
        pytest.skip("the second sample's csv files are not there")
    monkeypatch.setattr(detection, "load_reader", lambda *_: AllTogether())
    monkeypatch.setattr(detection, "trained", lambda seed, _: (AllTogether(), {"spans, F1": 0.25}))
    roots = ["--audiocaps", str(audiocaps_root), "--clotho", str(clotho_root)]
    detection.main([*roots, "mine.safetensors", "--seeds", "2"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == [*MEASURES, "unseen", "usual", "families", "spans,", "F1"]
    shown = {line.split("  ")[0]: line for line in lines}
    names = ("regular expressions", "mine.safetensors", "seed 2")
    assert [*shown] == [f"{name}, {of}" for name in names for of in ("first 300", "second 277")]
    assert "100.0 [99, 100]" in shown["mine.safetensors, first 300"]
    assert shown["mine.safetensors, first 300"].split()[-1] == "-"
    assert shown["seed 2, second 277"].split()[-3::2] == ["0.0", "25.0"]
