"""Temporal-caption detection on real captions, against labels: ``python -m benchmarks.temporal_captions``.

A reader of captions (:class:`~tclap.slots.model.SlotModel`) decides whether a caption says what comes when,
and how. ``time_labels.csv`` has the same of captions drawn at random (:func:`draw`): one annotator's reading,
by the rules at its head. The captions themselves come from the official csv files. There are two samples. The
wordings that a reader learns from were revised after its errors on the ``first`` had been read (AudioCaps'
test, Clotho's evaluation part), so that only the ``second`` (AudioCaps' validation, Clotho's development
part) is held out. "Timed" is any relation but ``plain``:

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
================  ====================================================================
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

import tclap
from tclap.data.clips import listing
from tclap.data.datasets import audiocaps, clotho
from tclap.slots.event_captions import RELATIONS

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


def read_labels(csv: str | Path = LABELS) -> pd.DataFrame:
    """The labels: ``set, id, caption, label, events, mixed, doubtful``.

    Raises:
        ValueError: on a label that is no relation, or a caption that is labelled twice.
    """
    rules = sum(line.startswith("#") for line in Path(csv).read_text(encoding="utf-8").splitlines())
    labels = pd.read_csv(csv, skiprows=rules, dtype=str, keep_default_na=False)
    unknown = sorted(set(labels["label"]) - set(RELATIONS))
    if unknown:
        raise ValueError(f"{csv} has the label(s) {listing(unknown)}; expected {', '.join(RELATIONS)}.")
    twice = labels.loc[labels.duplicated(KEYS), "id"].to_list()
    if twice:
        raise ValueError(f"{csv} labels {listing(twice)} twice; expected each caption once.")
    return labels.astype(dict.fromkeys(("events", "mixed", "doubtful"), int))


def labelled(captions: pd.DataFrame, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """The labels (None: :func:`read_labels`) of the sets of ``captions``, with the captions' ``text``.

    Raises:
        ValueError: when a labelled caption is not among the captions.
    """
    labels = read_labels() if labels is None else labels
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

    ``read``: captions to one ``(relation, events)`` each, such as ``SlotModel.read``.
    """
    readings = read(items["text"].to_list())
    relations, events = [relation for relation, _ in readings], [len(events) for _, events in readings]
    return items.assign(found=relations, found_events=events)


def measures(rows: pd.DataFrame) -> pd.DataFrame:
    """The fractions above with 95 % Wilson intervals, in percent, of each set and of ``both`` together.

    Args:
        rows: of :func:`detect`.

    Returns:
        ``set, captions`` ("all", or "clear" without the doubtful ones), ``measure, value, low, high, n``; NaN
        where n is 0.
    """
    groups = dict(list(rows.groupby("set", sort=False)))
    groups |= {"both": rows} if len(groups) > 1 else {}
    found = []
    for name, group in groups.items():
        for captions, part in (("all", group), ("clear", group[group["doubtful"] == 0])):
            for measure, right in _by_measure(part).items():
                n = len(right)
                ends = proportion_confint(right.sum(), n, method="wilson") if n else (np.nan, np.nan)
                found.append((name, captions, measure, *(100 * x for x in (right.mean(), *ends)), n))
    return pd.DataFrame(found, columns=["set", "captions", "measure", "value", "low", "high", "n"])


def _by_measure(rows: pd.DataFrame) -> dict[str, pd.Series]:
    timed, found = rows["label"] != PLAIN, rows["found"] != PLAIN
    both = rows[timed & found]
    return {
        "labelled": timed,
        "found": found,
        "precision": timed[found],
        "recall": found[timed],
        "kept": ~found[~timed],
        "relation": both["found"] == both["label"],
        "events": both["found_events"] == both["events"],
    }


def table(found: pd.DataFrame) -> str:
    """The measures as text: one line each, with interval and n."""
    cells = [
        "-" if row.n == 0 else f"{row.value:.1f} [{row.low:.0f}, {row.high:.0f}] {row.n:3}"
        for row in found.itertuples()
    ]
    columns = found["set"] + ", " + found["captions"]
    shown = pd.DataFrame({"measure": found["measure"], "column": columns, "cell": cells})
    shown = shown.pivot(index="measure", columns="column", values="cell")
    shown = shown.loc[found["measure"].unique(), columns.unique()]
    return shown.rename_axis(index=None, columns="%").to_string()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measures of a saved reader, or of one that is trained now; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.temporal_captions", description=main.__doc__)
    parser.add_argument("--audiocaps", help="folder of its csv files (default: AUDIOCAPS_ROOT)")
    parser.add_argument("--clotho", help="folder of its csv files (default: CLOTHO_ROOT)")
    parser.add_argument("--model", default="compact", help="base model, whose text trunk reads")
    parser.add_argument("--weights", help="of a model with slots that was saved; without it one is trained")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--clauses", action="store_true", help="train on clauses of AudioCaps' train.csv too")
    chosen = parser.parse_args(arguments)
    roots = (chosen.audiocaps, chosen.clotho)
    try:
        items = {
            sample: labelled(pd.concat([read_captions(name, *roots) for name in names]))
            for sample, names in SAMPLES.items()
        }
        learnt = list(read_captions("audiocaps train", *roots)["text"]) if chosen.clauses else []
        model = tclap.load_model(chosen.model, chosen.weights)
        if chosen.weights and not hasattr(model, "read"):
            raise ValueError(f"{chosen.weights} has no slots; expected what SlotModel.save wrote.")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not chosen.weights:
        model = tclap.add_slots(model, captions=learnt, seed=chosen.seed)
    for sample, rows in items.items():
        sys.stdout.write(f"{sample} sample\n{table(measures(detect(model.read, rows)))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
