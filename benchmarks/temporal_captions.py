"""Temporal-caption detection on real captions, against labels: ``python -m benchmarks.temporal_captions``.

A caption reader (:mod:`tclap.slots.reader`) decides whether a caption says what comes when, and how.
``time_labels.csv`` has the same of captions drawn at random (:func:`draw`): one annotator's reading, by the
rules at its head. The captions themselves come from the official csv files. There are two samples. Readers
were calibrated with the ``first`` (AudioCaps' test, Clotho's evaluation part). Of the ``second`` (AudioCaps'
validation, Clotho's development part) no text was read and no clip's caption is learned from; but its
measures were seen while settings were chosen. Beside the given readers
(none: the package's) stands a parser of regular expressions (:mod:`artifact.parsers`). ``--seeds 0 1 2``
trains readers (ten minutes each) and measures each; ``--held-out`` those of the
experiment, with the wordings that they never saw. "Timed" is any relation but ``plain``:

================  ====================================================================
measure           fraction
================  ====================================================================
``labelled``      of the captions that are timed by the label
``found``         of the captions that are timed by the reader
``precision``     of those found timed that are labelled timed
``recall``        of those labelled timed that are found timed
``kept``          of those labelled plain that are found plain: the base model's own
``relation``      of those timed by both whose relation is the labelled one
``events``        of those timed by both whose number of events is the labelled one
``all``           of all captions whose relation is the labelled one
``unseen``        of the evaluation's unseen wordings that are read rightly, relation and events
``usual``         of captions of the usual wordings with two events and with three (:data:`USUAL`) that are
                  read rightly, their events named as people do: the mean over wordings
``families``      of captions of a family of wordings that no reader has learned (``left_out_wordings.yaml``)
                  that are read rightly, their events named as people do: the mean over families. A reader
                  that finds all events and always says ``forward`` has 60 %
================  ====================================================================
"""

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from statsmodels.stats.proportion import proportion_confint

from artifact.parsers import RegexParser
from tclap.data.captions import UNSEEN_ORDERED
from tclap.data.clips import listing
from tclap.data.datasets import audiocaps, clotho
from tclap.slots import Reader, Reading, load_reader
from tclap.slots.captions import LabelledCaption, Wording, chosen, filled, labelled_captions, wordings
from tclap.slots.reader import reading
from tclap.slots.training import captions_for, train_reader

LABELS = Path(__file__).with_name("time_labels.csv")
KEYS = ["set", "id", "caption"]
SAMPLES = {
    "first": ("audiocaps test", "clotho evaluation"),
    "second": ("audiocaps val", "clotho development"),
}
# Seeds, and how many captions of either part of the sample. The second's clips of AudioCaps are sorted by id,
# and of equal texts it has the first alone.
DRAWS = {"first": ((20240, (150, 150)),), "second": ((77, (60, 100)), (78, (50, 70)))}
PLAIN = "plain"
LEFT_OUT = Path(__file__).with_name("left_out_wordings.yaml")
FAMILIES = 51  # seed
# Of no two a word is the same but an article.
EVENTS = {
    "n": (
        "a dog", "rain", "church bells", "a crying baby", "car horns", "sea waves", "door knocks", "a siren",
        "mouse clicks", "the clock",
    ),
    "gerund": (
        "a dog barking", "rain falling", "bells ringing", "a baby crying", "cars honking", "waves crashing",
        "someone knocking", "the siren wailing", "a woman laughing", "clocks ticking",
    ),
    "c": (
        "a dog barks", "rain falls", "bells ring", "a baby cries", "cars honk", "waves crash",
        "someone knocks", "the siren wails", "a woman laughs", "clocks tick",
    ),
}  # fmt: skip
ARTICLES = {"a", "the"}
USUAL = (
    "{F} before {L}", "{L} after {F}", "{F} then {L}", "{F} followed by {L}", "first {F}, then {L}",
    "{F} before {M} before {L}", "{L} after {M} after {F}", "{F}, then {M}, then {L}",
    "{F} followed by {M} followed by {L}", "{F}, {M}, and finally {L}",
)  # fmt: skip
LABELS_ASKED = (
    "dog", "rain", "church bells", "crying baby", "car horn", "sea waves", "door wood knock", "siren",
    "mouse click", "clock tick",
)  # fmt: skip


def read_captions(
    name: str, audiocaps_root: str | Path | None = None, clotho_root: str | Path | None = None
) -> pd.DataFrame:
    """The captions of a part, such as ``audiocaps test``: ``set, id, caption, clip, text``, without audio.

    AudioCaps' ``id`` is the audiocap_id, ``caption`` empty; Clotho's the file's name, ``caption`` 1 to 5.
    Errors as of the data sets' ``read_captions``.
    """
    data_set, part = name.split()
    if data_set == "audiocaps":
        rows = audiocaps.read_captions(audiocaps_root, part)
        keys = {"id": rows["number"], "caption": "", "clip": rows["clip_id"]}
    else:
        rows = clotho.read_captions(clotho_root, part)
        keys = {"id": rows["clip_id"] + ".wav", "caption": rows["number"], "clip": rows["clip_id"] + ".wav"}
    return pd.DataFrame({"set": name} | keys | {"text": rows["caption"]})


def draw(captions: pd.DataFrame, generator: np.random.Generator, count: int) -> pd.DataFrame:
    """``count`` captions at random, of as many clips: the clips first, then one caption of each.

    The labelled ones are those of :data:`DRAWS`: from one generator per seed, AudioCaps' and then Clotho's.
    """
    by_clip = list(captions.groupby("clip", sort=False).indices.values())
    clips = generator.choice(len(by_clip), count, replace=False)
    return captions.iloc[[by_clip[n][generator.integers(len(by_clip[n]))] for n in clips]]


def read_labels() -> pd.DataFrame:
    """The labels: ``set, id, caption, label, events, mixed, doubtful``."""
    rules = sum(line.startswith("#") for line in LABELS.read_text(encoding="utf-8").splitlines())
    labels = pd.read_csv(LABELS, skiprows=rules, dtype=str, keep_default_na=False)
    return labels.astype(dict.fromkeys(("events", "mixed", "doubtful"), int))


def labelled(captions: pd.DataFrame) -> pd.DataFrame:
    """The labels of the sets of ``captions``, with the captions' ``text``.

    Raises:
        ValueError: when a labelled caption is not among the captions.
    """
    labels = read_labels()
    labels = labels[labels["set"].isin(set(captions["set"]))]
    found = labels.merge(captions[[*KEYS, "text"]], on=KEYS, how="left", validate="one_to_one")
    missing = found[found["text"].isna()]
    if len(missing):
        names = [" ".join(key).strip() for key in missing[KEYS].itertuples(index=False)]
        raise ValueError(
            f"{len(missing)} labelled caption(s) are missing: {listing(names)}; "
            "expected the csv files of AudioCaps 1.0 and Clotho, whole."
        )
    return found


def detect(read: Callable[[Sequence[str]], Sequence], items: pd.DataFrame) -> pd.DataFrame:
    """The labelled captions (:func:`labelled`) with a reader's ``found`` relation and ``found_events``.

    ``read``: captions to one :class:`~tclap.slots.Reading` each, such as ``Reader.read``.
    """
    readings = read(items["text"].to_list())
    events = [len(reading.events) + len(reading.throughout) for reading in readings]
    return items.assign(found=[reading.relation for reading in readings], found_events=events)


def measures(rows: pd.DataFrame) -> pd.DataFrame:
    """The fractions above, but for ``unseen``, of :func:`detect`'s rows.

    Returns:
        By measure ``value, low, high`` in percent, and ``n``; NaN where n is 0.
    """
    timed, read = rows["label"] != PLAIN, rows["found"] != PLAIN
    both = rows[timed & read]
    right = {
        "labelled": timed,
        "found": read,
        "precision": timed[read],
        "recall": read[timed],
        "kept": ~read[~timed],
        "relation": both["found"] == both["label"],
        "events": both["found_events"] == both["events"],
        "all": rows["found"] == rows["label"],
    }
    found = {}
    for measure, of in right.items():
        low, high = proportion_confint(of.sum(), len(of), method="wilson") if len(of) else (np.nan, np.nan)
        found[measure] = (100 * of.mean(), 100 * low, 100 * high, len(of))
    return pd.DataFrame.from_dict(found, orient="index", columns=["value", "low", "high", "n"])


def family_accuracy(
    read: Callable[[Sequence[str]], Sequence[Reading]], known: Sequence[Wording], each: int = 6
) -> pd.Series:
    """The fraction of each family's captions, ``each`` a wording, that is read rightly (:func:`is_right`)."""
    generator, asked = np.random.default_rng(FAMILIES), []
    for wording in known:
        for n in range(each):
            kind = wording.fits or ("n", "gerund")[n % 2]
            events = iter(generator.permutation(EVENTS[kind])).__next__
            asked.append((wording.family, filled(chosen(wording.text, generator), events)))
    readings = read([caption.text for _, caption in asked])
    expected = (reading(caption.text, caption.spans) for _, caption in asked)
    right = [is_right(*pair) for pair in zip(readings, expected, strict=True)]
    return pd.Series(right).groupby([family for family, _ in asked]).mean()


def left_out() -> list[Wording]:
    """The wordings that no reader has learned."""
    return wordings(yaml.safe_load(LEFT_OUT.read_text(encoding="utf-8")))


def usual() -> list[Wording]:
    """The usual wordings, each a family."""
    return wordings({text: [text] for text in USUAL})


def is_right(found: Reading, expected: Reading) -> bool:
    """Whether the relation is the expected one, and each step has its own events' words and no other event's.

    What joins events or belongs to the wording, such as "and" or "stops", may stand with them.
    """
    steps = [_words_by_step(of) for of in (found, expected)]
    named = set().union(*steps[1])
    if found.relation != expected.relation or len(steps[0]) != len(steps[1]):
        return False
    return all(mine & named == own for mine, own in zip(*steps, strict=True))


def _words_by_step(of: Reading) -> list[set[str]]:
    found: dict[int, set[str]] = {}
    for event, step in zip(of.events, of.steps, strict=True):
        found.setdefault(step, set()).update(re.findall(r"\w+", event.lower()))
    return [found[step] - ARTICLES for step in sorted(found)]


def wording_accuracy(read: Callable[[Sequence[str]], Sequence[Reading]]) -> pd.Series:
    """The fraction that is read rightly of each unseen wording of the evaluation, with pairs of labels."""
    found = {}
    for wording in UNSEEN_ORDERED:
        relation = "forward" if wording.index("{a}") < wording.index("{b}") else "backward"
        pairs = list(permutations(LABELS_ASKED, 2))
        readings = read([wording.format(a=a, b=b) for a, b in pairs])
        right = [(r.relation, r.events) == (relation, pair) for r, pair in zip(readings, pairs, strict=True)]
        found[wording] = np.mean(right)
    return pd.Series(found)


def span_f1(reader: Reader, captions: Sequence[LabelledCaption]) -> float:
    """F1 of events' words, first to last exactly, on labelled captions that say something about time."""
    timed = [caption for caption in captions if caption.spans]
    both = found = labelled = 0
    for caption, (spans, _) in zip(timed, reader.spans([c.text for c in timed]), strict=True):
        ends, expected = ({span[:2] for span in of} for of in (spans, caption.spans))
        both, found, labelled = both + len(ends & expected), found + len(ends), labelled + len(expected)
    return 2 * both / max(found + labelled, 1)


def trained(seed: int, chosen: argparse.Namespace) -> tuple[Reader, dict[str, float]]:
    """A reader of a seed, and its measure on labelled captions that it did not learn from."""
    captions = captions_for(chosen.audiocaps, chosen.clotho, held_out=chosen.held_out)
    reader, _ = train_reader(captions, seed=seed, bf16=chosen.bf16)
    reader.merge()
    kept = {caption.text for caption in captions.labelled}
    others = [c for c in labelled_captions(chosen.audiocaps, chosen.clotho) if c.text not in kept]
    return reader, {"spans, F1": span_f1(reader, others)} if others else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measures of caption readers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.temporal_captions", description=main.__doc__)
    parser.add_argument("readers", nargs="*", help="files of tclap.slots.training (default: the package's)")
    parser.add_argument("--audiocaps", help="folder of its csv files (default: AUDIOCAPS_ROOT)")
    parser.add_argument("--clotho", help="folder of its csv files (default: CLOTHO_ROOT)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="of readers that are trained now")
    parser.add_argument("--held-out", action="store_true", help="train as the experiment's reader was")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    chosen = parser.parse_args(arguments)
    roots = (chosen.audiocaps, chosen.clotho)
    try:
        items = {
            sample: labelled(pd.concat([read_captions(name, *roots) for name in names]))
            for sample, names in SAMPLES.items()
        }
        files = chosen.readers or ([] if chosen.seeds else [None])
        readers = {str(path) if path else "the package's": (load_reader(path), {}) for path in files}
    except (FileNotFoundError, ValueError) as error:
        print(f"Left out: {error}")
        return
    readers = {"regular expressions": (RegexParser(), {})} | readers
    readers |= {f"seed {seed}": trained(seed, chosen) for seed in chosen.seeds}
    rows = {}
    for name, (reader, others) in readers.items():
        made_up = {
            "unseen": wording_accuracy(reader.read),
            "usual": family_accuracy(reader.read, usual(), each=100),
            "families": family_accuracy(reader.read, left_out()),
        }
        others = {measure: found.mean() for measure, found in made_up.items()} | others
        percent = {measure: f"{100 * fraction:.1f}" for measure, fraction in others.items()}
        for sample, asked in items.items():
            found = measures(detect(reader.read, asked))
            cells = [f"{row.value:.1f} [{row.low:.0f}, {row.high:.0f}]" for row in found.itertuples()]
            rows[f"{name}, {sample} {len(asked)}"] = dict(zip(found.index, cells, strict=True)) | percent
    print(pd.DataFrame(rows).T.fillna("-").to_string())


if __name__ == "__main__":
    main()
