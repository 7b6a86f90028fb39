"""What the caption reader learns from: wordings filled with events, and real captions with their labels."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from tclap.data.captions import UNSEEN_ORDERED
from tclap.slots import captions as learned
from tclap.slots.captions import Captions, LabelledCaption, filled, is_held_out, labelled_captions, wordings
from tclap.slots.reader import FIRST, LAST, PLAIN, ROLES, TOGETHER, Span, reading
from tclap.slots.training import captions_for

SHARED = Path(__file__).resolve().parents[3] / "shared"
WORDS = ["lamp", "river"]


def words_of(caption: LabelledCaption) -> list[tuple[str, str]]:
    return [(caption.text[span.start : span.end], ROLES[span.role]) for span in caption.spans]


def test_a_wording_is_filled_by_hand():
    events = iter(["a lamp", "two rivers", "hail"])
    found = filled("{L}, which came after {F} while {T}", lambda: next(events))
    assert found.text == "a lamp, which came after two rivers while hail"
    assert found.spans == (Span(0, 6, LAST), Span(25, 35, FIRST), Span(42, 46, TOGETHER))
    assert filled("{P} and {P}", lambda: "hail") == LabelledCaption("hail and hail", ())


def test_a_choice_in_a_wording_is_one_of_its_words():
    generator = np.random.default_rng(0)
    found = {learned.chosen("[soon|late] {L}, [then|] {F}", generator) for _ in range(100)}
    assert found == {"soon {L}, then {F}", "soon {L},  {F}", "late {L}, then {F}", "late {L},  {F}"}


def test_verbs_are_in_the_frames_of_who_does_it():
    texts = {wording.text for wording in wordings()}
    assert {"{F} leads up to {L}", "{F}, leading up to {L}", "{L} is sparked by {F}"} <= texts
    assert {"{L} outlives {F}", "{F} was outlived by {L}", "{T} playing over {T}"} <= texts
    assert {"{P} that covers {P}"} <= texts
    # One without a passive has none.
    assert not any("ended up as by" in text or "<le" in text or "<been" in text for text in texts)


def test_wordings_say_what_their_placeholders_do():
    known = wordings()
    assert len(known) > 1500 and len({w.text for w in known}) == len(known)
    kinds = {w.text: w.kind for w in known}
    assert kinds["{L} preceded by {F}"] == "ordered" and kinds["{T} while {T}"] == "together"
    assert kinds["{P} and {P}"] == "plain"
    for wording in known:
        assert not re.search(r"[{}]", re.sub(r"\{[FMLTP]\}", "", wording.text)), wording
        caption = filled(wording.text, lambda: "hail")
        relation = reading(caption.text, caption.spans).relation
        allowed = {"ordered": {"forward", "backward"}, "together": {"together", "plain"}}
        assert relation in allowed.get(wording.kind, {"start", "end", "plain"}), wording


def test_labels_of_real_captions_by_hand():
    spans = learned._spans("Rain falls,  then a dog barks.", "first:0-1 last:3-5")
    assert spans == (Span(0, 10, FIRST), Span(18, 29, LAST))


@pytest.mark.parametrize("seed", range(3))
def test_spans_stand_where_their_words_do(seed):
    """Each event is drawn as one of two words, so that the spans must hold exactly those."""
    labelled = LabelledCaption("a river roars before a lamp.", (Span(0, 13, FIRST), Span(21, 27, LAST)))
    captions, generator = Captions(WORDS, [labelled] * 2500), np.random.default_rng(seed)
    captions.event = lambda generator, fits="": WORDS[generator.integers(2)]
    real = 0
    for _ in range(300):
        caption = captions.draw(generator)
        for words, role in words_of(caption):
            assert words.lower() in (*WORDS, "a river roars", "a lamp") and role != ROLES[PLAIN]
        real += " before " in caption.text
    assert real > 30


def test_texts_that_are_not_allowed_are_never_drawn():
    generator = np.random.default_rng(0)
    captions = Captions(WORDS, allowed=lambda text: "then" not in text.lower())
    texts = [captions.draw(generator).text.lower() for _ in range(500)]
    assert not any("then" in text for text in texts)
    assert any("follow" in text for text in texts)


def test_what_the_experiment_asks_is_held_out():
    filled_in = [wording.format(a="hail", b="a gong") for wording in UNSEEN_ORDERED]
    prompted = [f"this is a sound of {text}" for text in filled_in]
    assert all(map(is_held_out, filled_in + prompted))
    assert is_held_out("a Dog growls") and is_held_out("some church music")
    for text in (
        "hail before a gong",
        "a gong after hail",
        "hail followed by a gong",
        "hail is heard earlier",
    ):
        assert not is_held_out(text)
    captions, generator = captions_for(None, None, real=False, held_out=True), np.random.default_rng(1)
    assert not any(is_held_out(captions.draw(generator).text) for _ in range(500))


def test_clauses_of_captions():
    captions = ["A dog barks, then rain falls on a roof", "hail", "Rain falls on a roof."]
    assert Captions([], real=captions).clauses == ["a dog barks", "rain falls on a roof"]
    assert Captions([], real=["Bells ring for a very long time in a city"]).phrases == []


@pytest.mark.parametrize("fits", ["n", "c"])
def test_events_are_named_as_people_do(fits):
    captions, generator = Captions(WORDS, real=["Bells ring, and a dog barks"]), np.random.default_rng(0)
    events = [captions.event(generator, fits) for _ in range(5000)]
    assert {"bells ring", "a dog barks"} <= set(events)
    with_article = [event for event in events if re.match(r"(a|an|the|some) ", event)]
    assert len(with_article) > 0.3 * len(events)
    assert fits == "c" or {"an owl", "a lamp", "the lamp", "lamp"} <= set(events)


def test_every_labelled_caption_is_there():
    roots = [os.environ.get(f"{name.upper()}_ROOT") or SHARED / name for name in ("audiocaps", "clotho")]
    if not all(Path(root).is_dir() for root in roots):
        pytest.skip("no captions of AudioCaps and Clotho; set AUDIOCAPS_ROOT and CLOTHO_ROOT")
    found = labelled_captions(*roots)
    assert len(found) > 1900
    for caption in found:
        ends = [end for span in sorted(caption.spans) for end in (span.start, span.end)]
        assert ends == sorted(ends) and all(words for words, _ in words_of(caption))
    timed = [reading(c.text, c.spans).relation for c in found if c.spans]
    assert 0.3 < len(timed) / len(found) < 0.55 and timed.count("plain") < 5
