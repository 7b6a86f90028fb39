"""The caption reader: from tags and roles to readings, by hand, and the trained one of the package."""

import pytest
import torch

from tclap.slots import load_reader
from tclap.slots.reader import (
    BEGIN,
    FIRST,
    INSIDE,
    LAST,
    MIDDLE,
    OUTSIDE,
    PLAIN,
    TOGETHER,
    Reader,
    Reading,
    Span,
    events_of,
    reading,
    roles_of,
)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load_reader()


def test_events_from_tags():
    caption = "a dog barks, then hail; rain"
    offsets = [(0, 0), (0, 1), (2, 5), (6, 11), (11, 12), (13, 17), (18, 22), (22, 23), (24, 28), (0, 0)]
    tags = [INSIDE, BEGIN, INSIDE, INSIDE, OUTSIDE, OUTSIDE, BEGIN, OUTSIDE, INSIDE, BEGIN]
    # An inside without a begin begins one; special tokens are passed over.
    expected = [(0, 11, [1, 2, 3]), (18, 22, [6]), (24, 28, [8])]
    assert events_of(caption, tags, offsets) == expected
    # Two events side by side are two when the second begins.
    assert events_of("dog rain", [BEGIN, BEGIN], [(0, 3), (4, 8)]) == [(0, 3, [0]), (4, 8, [1])]
    assert events_of("dog rain", [BEGIN, INSIDE], [(0, 3), (4, 8)]) == [(0, 8, [0, 1])]
    # A word is not cut into its pieces "chai" and "nsa".
    pieces = [(0, 4), (4, 7), (8, 14)]
    assert events_of("chainsa before", [BEGIN, OUTSIDE, OUTSIDE], pieces) == [(0, 7, [0, 1])]
    assert events_of("chainsa before", [OUTSIDE, BEGIN, OUTSIDE], pieces) == []


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ([FIRST, LAST], Reading("forward", ("A", "B"), (0, 1))),
        ([LAST, FIRST], Reading("backward", ("B", "A"), (0, 1))),
        ([TOGETHER, TOGETHER], Reading("together", ("A", "B"), (0, 0))),
        ([FIRST], Reading("start", ("A",), (0,))),
        ([LAST], Reading("end", ("A",), (0,))),
        ([FIRST, MIDDLE, MIDDLE, LAST], Reading("forward", ("A", "B", "C", "D"), (0, 1, 2, 3))),
        ([LAST, MIDDLE, MIDDLE, FIRST], Reading("backward", ("D", "C", "B", "A"), (0, 1, 2, 3))),
        ([FIRST, LAST, LAST], Reading("forward", ("A", "B", "C"), (0, 1, 1))),
        ([TOGETHER, FIRST, LAST], Reading("forward", ("B", "C"), (0, 1), ("A",))),
        # What makes no sense is plain.
        ([TOGETHER], Reading("plain")),
        ([MIDDLE], Reading("plain")),
    ],
)
def test_readings_are_in_the_order_of_time(roles, expected):
    spans = [Span(2 * n, 2 * n + 1, role) for n, role in enumerate(roles)]
    found = reading("A B C D", spans)
    assert found._replace(confidence=0.0) == expected


@pytest.mark.parametrize(
    ("likely", "expected"),
    [
        # Likeliest roles of each event, and what makes sense of them.
        ([{FIRST: 0.9}, {LAST: 0.9}], [FIRST, LAST]),
        ([{TOGETHER: 0.9}, {TOGETHER: 0.6, FIRST: 0.4}], [TOGETHER, TOGETHER]),
        ([{FIRST: 0.6, LAST: 0.4}, {FIRST: 0.9}], [LAST, FIRST]),
        ([{TOGETHER: 0.9}, {FIRST: 0.9}, {LAST: 0.9}], [TOGETHER, FIRST, LAST]),
        ([{FIRST: 0.9}, {MIDDLE: 0.9}, {MIDDLE: 0.6, LAST: 0.4}], [FIRST, MIDDLE, LAST]),
        ([{MIDDLE: 0.5, LAST: 0.4}], [LAST]),
        ([{TOGETHER: 0.5, LAST: 0.4}], [TOGETHER]),
    ],
)
def test_roles_make_sense_together(likely, expected):
    probabilities = torch.full((len(likely), 5), 0.01)
    for n, row in enumerate(likely):
        for role, probability in row.items():
            probabilities[n, role] = probability
    assert roles_of(probabilities.log()) == expected


def test_a_doubtful_caption_is_plain(reader, monkeypatch):
    caption = "hail before thunder"
    count = len(reader.tokenize([caption])[1][0])
    roles = torch.zeros(1, count, 5)
    roles[..., FIRST], roles[..., LAST], roles[..., PLAIN] = 1.0, 0.5, 1.2
    tags = torch.nn.functional.one_hot(torch.tensor([[OUTSIDE, BEGIN, OUTSIDE, BEGIN, OUTSIDE]]), 3).float()
    monkeypatch.setattr(reader, "forward", lambda tokens: (tags, roles))
    timed = roles[0, 0, 1:].exp().sum() / roles[0, 0].exp().sum()
    logit = (timed / (1 - timed)).log()
    for temperature in (1.0, 2.0):
        monkeypatch.setitem(reader.config, "temperature", temperature)
        ((_, confidence),) = reader.spans([caption])
        assert confidence == pytest.approx(torch.sigmoid(logit / temperature).item(), abs=1e-5)
    for threshold, relation in ((confidence - 0.01, "forward"), (confidence + 0.01, "plain")):
        monkeypatch.setitem(reader.config, "threshold", threshold)
        assert reader.read([caption])[0].relation == relation


def test_the_packaged_reader_reads(reader):
    found = {
        "a man speaks, then a dog barks": ("forward", ("a man speaks", "a dog barks")),
        "Rain falls after a door slams.": ("backward", ("a door slams", "Rain falls")),
        "birds sing while water flows": ("together", ("birds sing", "water flows")),
        "a crowd cheers and claps": ("plain", ()),
        "a bell rings precedes a siren": ("forward", ("a bell rings", "a siren")),
        "find a car horn before a crash": ("forward", ("a car horn", "a crash")),
    }
    readings = reader.read(list(found))
    assert [(r.relation, r.events) for r in readings] == list(found.values())
    assert [r.relation for r in reader.read(["", "x", "!?"])] == ["plain"] * 3


def test_punctuation_does_not_turn_events_round_or_drop_them(reader):
    forms = [
        "'{}' before '{}'",
        '"{}" before "{}"',
        "\u201c{}\u201d before \u201c{}\u201d",
        "({}) before ({})",
    ]
    forms += ["{}\u2026 then {}\u2026", "{}\u2014then {}", "{} - then {}", "{}; then {}!", "*{}* before *{}*"]
    forms += ["1. {} before {}", "2) {} before {}", "\u2022 {} before {}", "  {}\n before   {}  "]
    for found in reader.read([form.format("a dog barks", "rain falls") for form in forms]):
        assert (found.relation, found.events) == ("forward", ("a dog barks", "rain falls"))


def test_readings_do_not_depend_on_the_batch(reader):
    captions = ["hail before rain", "a very long caption of hail before rain and more", "a dog"]
    together = reader.spans(captions)
    for caption, (spans, confidence) in zip(captions, together, strict=True):
        ((alone, alone_confidence),) = reader.spans([caption])
        assert alone == spans and alone_confidence == pytest.approx(confidence, abs=1e-4)
    with pytest.raises(TypeError, match="expected a list of captions, got one string"):
        reader.read("a dog")


def test_saved_and_loaded(reader, tmp_path):
    torch.manual_seed(0)
    fresh = Reader(rank=2, temperature=1.5)
    for parameter in fresh.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
            parameter.data = parameter.data.half().float()  # what the file can hold
    fresh.eval().save(tmp_path / "reader.safetensors", seed=3)
    loaded = load_reader(tmp_path / "reader.safetensors")
    tokens, _ = loaded.tokenize(["hail before rain"])
    for found, expected in zip(loaded(tokens), fresh(tokens), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert loaded.config == {"rank": 2, "temperature": 1.5, "threshold": 0.5}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(FileNotFoundError):
        load_reader(tmp_path / "none.safetensors")
