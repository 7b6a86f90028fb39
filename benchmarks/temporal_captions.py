"""The gate of the slots on real captions, against labels: ``python -m benchmarks.temporal_captions``.

A reader of captions (:class:`~tclap.slots.model.SlotModel`) decides of each whether it says what comes
when, and how. ``time_labels.csv`` says the same of captions drawn by chance (:func:`draw`): one annotator's
reading, by the rules at its head. The captions themselves come from the official csv files. There are two
samples. The wordings that a reader learns from were revised after its errors on the ``first`` had been read
(AudioCaps' test, Clotho's evaluation part), so that only the ``second`` (AudioCaps' validation, Clotho's
development part) is held out. "Timed" is any relation but ``plain``:

================  ====================================================================
measure           share
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
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from tclap.data.clips import listing
from tclap.data.datasets import audiocaps, clotho
from tclap.slots.event_captions import RELATIONS

LABELS = Path(__file__).with_name("time_labels.csv")
KEYS = ("set", "id", "caption")
FLAGS = ("events", "mixed", "doubtful")
SAMPLES = {
    "first": ("audiocaps test", "clotho evaluation"),
    "second": ("audiocaps val", "clotho development"),
}
# Seeds, and how many captions of either part of the sample. The second's clips of AudioCaps are sorted by id,
# and of equal texts it has the first alone.
DRAWS = {"first": ((20240, (150, 150)),), "second": ((77, (60, 100)), (78, (50, 70)))}
BOTH = "both"
PLAIN = "plain"
MEASURES = ("labelled", "found", "precision", "recall", "kept", "relation", "events")


def read_audiocaps(part: str, root: str | Path | None = None) -> pd.DataFrame:
    """The captions of a part: ``set, id`` (audiocap_id), ``caption`` (""), ``clip, text``; without audio.

    ``part``: train, val or test. ``root`` and errors as of :func:`tclap.data.datasets.audiocaps.load`.
    """
    rows = audiocaps.read_captions(root, part)
    found = {"set": f"audiocaps {part}", "id": rows["number"], "caption": "", "clip": rows["clip_id"]}
    return pd.DataFrame(found | {"text": rows["caption"]})


def read_clotho(part: str, root: str | Path | None = None) -> pd.DataFrame:
    """As :func:`read_audiocaps`; ``id`` is the file's name, ``caption`` 1 to 5.

    ``part``: development, validation or evaluation.
    """
    rows = clotho.read_captions(root, part)
    names = rows["clip_id"] + ".wav"
    found = {"set": f"clotho {part}", "id": names, "caption": rows["number"], "clip": names}
    return pd.DataFrame(found | {"text": rows["caption"]})


def read_sample(
    sample: str, audiocaps_root: str | Path | None = None, clotho_root: str | Path | None = None
) -> pd.DataFrame:
    """All captions that the labelled ones of a sample (``first`` or ``second``) were drawn from."""
    ours, theirs = (name.split()[1] for name in SAMPLES[sample])
    parts = [read_audiocaps(ours, audiocaps_root), read_clotho(theirs, clotho_root)]
    return pd.concat(parts, ignore_index=True)


def draw(captions: pd.DataFrame, generator: np.random.Generator, count: int) -> pd.DataFrame:
    """``count`` captions by chance, of as many clips: the clips first, then one caption of each.

    The labelled ones are those of :data:`DRAWS`: from one generator a seed, AudioCaps' and then Clotho's.
    """
    by_clip = list(captions.groupby("clip", sort=False).indices.values())
    clips = generator.choice(len(by_clip), count, replace=False)
    return captions.iloc[[by_clip[n][generator.integers(len(by_clip[n]))] for n in clips]]


def read_labels(csv: str | Path = LABELS) -> pd.DataFrame:
    """The labels: ``set, id, caption, label, events, mixed, doubtful``.

    Raises:
        ValueError: on a label that is no relation, or a caption that is labelled twice.
    """
    lines = Path(csv).read_text(encoding="utf-8").splitlines(keepends=True)
    rows = "".join(line for line in lines if not line.startswith("#"))
    labels = pd.read_csv(io.StringIO(rows), dtype=str, keep_default_na=False)
    strange = sorted(set(labels["label"]) - set(RELATIONS))
    if strange:
        raise ValueError(f"{csv} has the label(s) {listing(strange)}; expected {', '.join(RELATIONS)}.")
    twice = labels.loc[labels.duplicated(list(KEYS)), "id"].to_list()
    if twice:
        raise ValueError(f"{csv} labels {listing(twice)} twice; expected each caption once.")
    return labels.astype(dict.fromkeys(FLAGS, int))


def labelled(captions: pd.DataFrame, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """The labels of the sets that ``captions`` has, with the captions' ``text``.

    Args:
        captions: of :func:`read_sample`, or of several joined.
        labels: as of :func:`read_labels`, None: those.

    Raises:
        ValueError: when a labelled caption is not among the captions.
    """
    labels = read_labels() if labels is None else labels
    labels = labels[labels["set"].isin(set(captions["set"]))]
    found = labels.merge(captions[[*KEYS, "text"]], on=list(KEYS), how="left", validate="one_to_one")
    missing = found[found["text"].isna()]
    if len(missing):
        names = [" ".join(key).strip() for key in missing[list(KEYS)].itertuples(index=False)]
        raise ValueError(
            f"{len(missing)} labelled caption(s) are not there: {listing(names)}; "
            "expected the csv files of AudioCaps 1.0 and Clotho, whole."
        )
    return found


def evaluate(read: Callable[[Sequence[str]], Sequence], items: pd.DataFrame) -> pd.DataFrame:
    """Let a reader read the labelled captions.

    Args:
        read: captions to one ``(relation, events)`` each: ``SlotModel.read``.
        items: of :func:`labelled`.

    Returns:
        A row a caption: ``set, id, caption, label, found, events, found_events, mixed, doubtful, right``.
        ``right``: the found relation is the labelled one.
    """
    readings = read(items["text"].to_list())
    rows = items[[*KEYS, "label"]].assign(
        found=[relation for relation, _ in readings],
        events=items["events"],
        found_events=[len(events) for _, events in readings],
        mixed=items["mixed"],
        doubtful=items["doubtful"],
    )
    return rows.assign(right=rows["found"] == rows["label"])


def measures(rows: pd.DataFrame) -> pd.DataFrame:
    """The shares above with their 95 % Wilson intervals, in percent, of each set and of all together.

    Args:
        rows: of :func:`evaluate`.

    Returns:
        ``set, captions`` ("all", or "clear" without the doubtful ones), ``measure, value, low, high, n``.
        Where n is 0, NaN.
    """
    groups = dict(list(rows.groupby("set", sort=False)))
    if len(groups) > 1:
        groups[BOTH] = rows
    found = []
    for name, group in groups.items():
        for captions, part in (("all", group), ("clear", group[group["doubtful"] == 0])):
            for measure, right in _by_measure(part).items():
                low, high = (
                    proportion_confint(right.sum(), len(right), method="wilson")
                    if len(right)
                    else (float("nan"), float("nan"))
                )
                found.append(
                    {
                        "set": name,
                        "captions": captions,
                        "measure": measure,
                        "value": 100 * float(right.mean()),
                        "low": 100 * low,
                        "high": 100 * high,
                        "n": len(right),
                    }
                )
    return pd.DataFrame(found)


def _by_measure(rows: pd.DataFrame) -> dict[str, pd.Series]:
    timed, found = rows["label"] != PLAIN, rows["found"] != PLAIN
    both = rows[timed & found]
    right = (timed, found, timed[found], found[timed], ~found[~timed], both["right"])
    return dict(zip(MEASURES, (*right, both["events"] == both["found_events"]), strict=True))


def lines(table: pd.DataFrame) -> list[str]:
    """The measures as lines of text: each share, its interval and its n."""
    cells = [
        "-" if row.n == 0 else f"{row.value:.1f} [{row.low:.0f}, {row.high:.0f}] {row.n:3}"
        for row in table.itertuples()
    ]
    columns = table["set"] + ", " + table["captions"]
    shown = pd.DataFrame({"measure": table["measure"], "column": columns, "cell": cells})
    shown = shown.pivot(index="measure", columns="column", values="cell")
    shown = shown.loc[list(MEASURES), list(dict.fromkeys(columns))].rename_axis(index=None, columns="%")
    return shown.to_string().splitlines()


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
    import tclap

    try:
        items = {sample: labelled(read_sample(sample, chosen.audiocaps, chosen.clotho)) for sample in SAMPLES}
        learnt = read_audiocaps("train", chosen.audiocaps)["text"].to_list() if chosen.clauses else []
        model = tclap.load_model(chosen.model, chosen.weights)
        if chosen.weights and not hasattr(model, "read"):
            raise ValueError(f"{chosen.weights} has no slots; expected what SlotModel.save wrote.")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not chosen.weights:
        model = tclap.add_slots(model, captions=learnt, seed=chosen.seed)
    for sample, rows in items.items():
        shown = lines(measures(evaluate(model.read, rows)))
        sys.stdout.write("\n".join([f"{sample} sample", *shown]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
