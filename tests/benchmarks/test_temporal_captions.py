from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks import temporal_captions as gate
from tclap.slots.model import Reading

# A caption, its label, how many events; what the stub reads; doubtful.
CAPTIONS = (
    ("a", "rain", "plain", 0, "plain", 0, 0),
    ("a", "a dog and rain", "plain", 0, "together", 2, 0),
    ("a", "rain, then a dog", "forward", 2, "forward", 2, 0),
    ("a", "rain, then a dog, then a bell", "forward", 3, "forward", 2, 0),
    ("a", "rain after a dog", "backward", 2, "forward", 2, 1),
    ("a", "rain while a dog barks", "together", 2, "plain", 0, 0),
    ("b", "rain as it pours", "together", 2, "together", 2, 0),
    ("b", "a bell", "plain", 0, "plain", 0, 0),
    ("b", "a bell rings", "plain", 0, "start", 1, 0),
)


@pytest.fixture
def rows() -> pd.DataFrame:
    items = pd.DataFrame(
        {
            "set": [row[0] for row in CAPTIONS],
            "id": [f"{n}" for n in range(len(CAPTIONS))],
            "caption": "",
            "label": [row[2] for row in CAPTIONS],
            "events": [row[3] for row in CAPTIONS],
            "mixed": 0,
            "doubtful": [row[6] for row in CAPTIONS],
            "text": [row[1] for row in CAPTIONS],
        }
    )
    known = {text: Reading(relation, ("an event",) * count) for _, text, _, _, relation, count, _ in CAPTIONS}
    return gate.evaluate(lambda texts: [known[text] for text in texts], items)


def test_rows_say_what_was_found_and_whether_it_is_right(rows):
    assert list(rows["right"]) == [True, False, True, True, False, False, True, True, False]
    assert list(rows["found_events"]) == [0, 2, 2, 2, 2, 0, 2, 0, 1]
    assert "text" not in rows


def test_measures_are_those_counted_by_hand(rows):
    found = gate.measures(rows).set_index(["set", "captions", "measure"])
    counted = {
        # (right, n) of: all, or without the doubtful one.
        ("a", "all"): ((4, 6), (4, 6), (3, 4), (3, 4), (1, 2), (2, 3), (2, 3)),
        ("a", "clear"): ((3, 5), (3, 5), (2, 3), (2, 3), (1, 2), (2, 2), (1, 2)),
        ("b", "all"): ((1, 3), (2, 3), (1, 2), (1, 1), (1, 2), (1, 1), (1, 1)),
        ("both", "all"): ((5, 9), (6, 9), (4, 6), (4, 5), (2, 4), (3, 4), (3, 4)),
    }
    for (name, captions), shares in counted.items():
        for measure, (right, n) in zip(gate.MEASURES, shares, strict=True):
            row = found.loc[(name, captions, measure)]
            assert (row["value"], row["n"]) == (pytest.approx(100 * right / n), n), (name, captions, measure)


def test_intervals_are_wilsons(rows):
    row = gate.measures(rows).set_index(["set", "captions", "measure"]).loc[("both", "all", "recall")]
    z, n, share = 1.959964, 5, 0.8
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert (row["low"], row["high"]) == pytest.approx(
        (100 * (middle - half), 100 * (middle + half)), abs=1e-3
    )


def test_a_share_of_nothing_is_no_number(rows):
    plain = rows[rows["label"] == "plain"].assign(found="plain")
    found = gate.measures(plain).set_index(["set", "captions", "measure"])
    nothing = found.loc[("both", "all", "precision")]
    assert nothing["n"] == 0 and np.isnan([nothing["value"], nothing["low"], nothing["high"]]).all()
    assert found.loc[("both", "all", "kept"), "value"] == 100


def test_the_printed_table_has_every_share_with_its_n(rows):
    lines = gate.lines(gate.measures(rows))
    shown = {line.split()[0]: line for line in lines}
    assert list(shown) == ["%", *gate.MEASURES]
    assert "both, all" in lines[0]
    assert "80.0 [38, 96]   5" in shown["recall"] and "50.0 [15, 85]   4" in shown["kept"]


@pytest.mark.parametrize(("sample", "counts"), [("first", (150, 150)), ("second", (108, 169))])
def test_labels_and_official_captions_belong_together(sample, counts, audiocaps_root, clotho_root):
    try:
        captions = gate.read_sample(sample, audiocaps_root, clotho_root)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    items = gate.labelled(captions)
    names = gate.SAMPLES[sample]
    assert items["set"].value_counts().to_dict() == dict(zip(names, counts, strict=True))
    drawn = []
    for seed, sizes in gate.DRAWS[sample]:
        generator = np.random.default_rng(seed)
        for name, size in zip(names, sizes, strict=True):
            part = captions[captions["set"] == name]
            part = part.sort_values("clip", kind="stable") if name == "audiocaps val" else part
            drawn.append(gate.draw(part, generator, size))
            assert not drawn[-1].duplicated("clip").any()
    drawn = pd.concat(drawn)
    drawn = drawn[~drawn.duplicated("text")] if sample == "second" else drawn
    keys = list(gate.KEYS)
    assert items[keys].to_numpy().tolist() == drawn[keys].to_numpy().tolist()
    # Labels sit beside the captions that they were given to: no order without a word for it.
    texts = items["text"].str.lower()
    order = texts[items["label"].isin(["forward", "backward"])]
    assert order.str.contains(r"\b(?:then|follow(?:ed|ing)|before|after|until|when|preceded)\b").all()
    alone = texts[(items["label"] == "plain") & (items["doubtful"] == 0)]
    assert not alone.str.contains(r"\b(?:then|followed by|before|after|(?<!a )while)\b").any()


def test_the_labels_are_relations_and_counts():
    labels = gate.read_labels()
    timed = labels["label"] != "plain"
    assert (labels.loc[timed, "events"] >= np.where(labels.loc[timed, "label"] == "end", 1, 2)).all()
    assert (labels.loc[~timed, ["events", "mixed"]] == 0).all(axis=None)
    assert set(labels["mixed"]) == set(labels["doubtful"]) == {0, 1}
    assert (labels.loc[labels["mixed"] == 1, "events"] >= 3).all()


def test_a_caption_that_is_not_there_is_named():
    captions = pd.DataFrame({"set": ["clotho"], "id": ["x.wav"], "caption": ["2"], "text": ["rain"]})
    labels = pd.DataFrame(
        {"set": "clotho", "id": ["x.wav", "y.wav"], "caption": ["2", "5"], "label": "plain"}
    )
    assert gate.labelled(captions, labels[:1])["text"].to_list() == ["rain"]
    with pytest.raises(ValueError, match=r"1 labelled caption\(s\) are not there: clotho y.wav 5; expected"):
        gate.labelled(captions, labels)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("clotho,x.wav,1,sideways,0,0,0\n", "sideways; expected plain, forward"),
        ("clotho,x.wav,1,plain,0,0,0\n" * 2, "labels x.wav twice"),
    ],
)
def test_bad_labels_are_refused(tmp_path, rows, said):
    path = tmp_path / "labels.csv"
    path.write_text("# rules\nset,id,caption,label,events,mixed,doubtful\n" + rows)
    with pytest.raises(ValueError, match=said):
        gate.read_labels(path)


def test_a_folder_without_the_captions_is_one_sentence(tmp_path, capsys):
    assert gate.main(["--audiocaps", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path} has no test csv" in error and error.count("\n") == 1


def test_the_command_reads_with_a_saved_model(audiocaps_root, clotho_root, monkeypatch, capsys):
    import tclap

    class Slots:
        def read(self, captions):
            return [Reading("together", ("a", "b")) for _ in captions]

    if not (audiocaps_root / "val.csv").is_file() or not next(clotho_root.glob("*development.csv"), None):
        pytest.skip("the second sample's csv files are not there")
    asked = []
    monkeypatch.setattr(tclap, "load_model", lambda *given: asked.append(given) or Slots())
    roots = ["--audiocaps", str(audiocaps_root), "--clotho", str(clotho_root)]
    assert gate.main([*roots, "--model", "msclap-2022", "--weights", "slots.safetensors"]) == 0
    assert asked == [("msclap-2022", "slots.safetensors")]
    first, second = capsys.readouterr().out.split("second sample")
    assert first.startswith("first sample")
    shown = {line.split()[0]: line for line in first.splitlines()}
    assert "100.0 [99, 100] 300" in shown["found"] and " 0.0 [0, 6]  60" in shown["kept"]
    assert "100.0 [99, 100] 277" in second
    monkeypatch.setattr(tclap, "load_model", lambda *given: object())
    assert gate.main([*roots, "--weights", "heads.safetensors"]) == 1
    assert capsys.readouterr().err == "heads.safetensors has no slots; expected what SlotModel.save wrote.\n"
