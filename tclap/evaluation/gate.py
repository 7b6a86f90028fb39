"""The gate of the slots on real captions, against labels: ``python -m tclap.evaluation.gate``.

A reader of captions (:class:`~tclap.models.slots.SlotModel`) decides of each whether it says what comes
when, and how. ``time_labels.csv`` says the same of 150 captions each of AudioCaps' test and Clotho's
evaluation part, drawn by chance (:func:`draw`): one annotator's reading, by the rules at its head. The
captions themselves come from the official csv files. "Timed" is any relation but ``plain``:

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
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from tclap.data import audiocaps, clotho, tables
from tclap.data.clips import listing
from tclap.data.event_captions import RELATIONS

LABELS = Path(__file__).with_name("time_labels.csv")
KEYS = ("set", "id", "caption")
FLAGS = ("events", "mixed", "doubtful")
DRAWN = 150  # captions of each set
SEED = 20240
BOTH = "both"
PLAIN = "plain"
MEASURES = ("labelled", "found", "precision", "recall", "kept", "relation", "events")


def read_audiocaps(root: str | Path | None = None) -> pd.DataFrame:
    """The test captions: ``set, id`` (audiocap_id), ``caption`` (""), ``clip, text``; no audio is needed.

    ``root`` and errors as of :func:`tclap.data.audiocaps.load`.
    """
    csv = _csv(audiocaps, root, "AudioCaps", "audiocaps", "test")
    table = tables.read_csv(csv, audiocaps.CSV_COLUMNS)
    clip = table["youtube_id"] + "_" + table["start_time"]
    found = {"set": "audiocaps", "id": table["audiocap_id"], "caption": "", "clip": clip}
    return pd.DataFrame(found | {"text": table["caption"]})


def read_clotho(root: str | Path | None = None) -> pd.DataFrame:
    """The evaluation captions, as :func:`read_audiocaps`; ``id`` is the file's name, ``caption`` 1 to 5."""
    csv = _csv(clotho, root, "Clotho", "clotho", "evaluation")
    table = tables.read_csv(csv, ("file_name", *clotho.CAPTION_COLUMNS))
    names = table["file_name"].repeat(len(clotho.CAPTION_COLUMNS)).to_list()
    numbers = [column.removeprefix("caption_") for column in clotho.CAPTION_COLUMNS] * len(table)
    found = {"set": "clotho", "id": names, "caption": numbers, "clip": names}
    return pd.DataFrame(found | {"text": table[clotho.CAPTION_COLUMNS].to_numpy().ravel()})


def _csv(module: Any, root: str | Path | None, name: str, folder: str, part: str) -> Path:
    place, said = tables.locate(root, name, variable=module.ROOT_VARIABLE, default=folder)
    csv = place / module.CSV_FILES[part]
    if not csv.is_file():
        raise FileNotFoundError(f"{said} has no {csv.name}; expected the csv files of {module.URL}.")
    return csv


def draw(captions: pd.DataFrame, generator: np.random.Generator, count: int = DRAWN) -> pd.DataFrame:
    """``count`` captions by chance, of as many clips: the clips first, then one caption of each.

    The labelled ones are those of AudioCaps and then of Clotho by ``np.random.default_rng(SEED)``.
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
        captions: of :func:`read_audiocaps`, :func:`read_clotho` or both.
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
            "expected AudioCaps 1.0's test.csv and Clotho's clotho_captions_evaluation.csv, whole."
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
    """The shares above with their 95 % Wilson intervals, in percent, of each set and of both together.

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


def _to_learn_from(root: str | None) -> list[str]:
    known = audiocaps.read_captions(root)
    found = known.loc[known["split"] == "train", "caption"].to_list()
    if not found:
        raise FileNotFoundError("AudioCaps' train.csv is not there; expected it beside test.csv.")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measures of a saved reader, or of one that is trained now; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tclap.evaluation.gate", description=main.__doc__)
    parser.add_argument("--audiocaps", help="folder of test.csv (default: AUDIOCAPS_ROOT)")
    parser.add_argument("--clotho", help="folder of clotho_captions_evaluation.csv (default: CLOTHO_ROOT)")
    parser.add_argument("--model", default="compact", help="base model, whose text trunk reads")
    parser.add_argument("--weights", help="of a model with slots that was saved; without it one is trained")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--clauses", action="store_true", help="train on clauses of AudioCaps' train.csv too")
    chosen = parser.parse_args(arguments)
    import tclap

    try:
        captions = pd.concat(
            [read_audiocaps(chosen.audiocaps), read_clotho(chosen.clotho)], ignore_index=True
        )
        items = labelled(captions)
        learnt = _to_learn_from(chosen.audiocaps) if chosen.clauses else []
        model = tclap.load_model(chosen.model, chosen.weights)
        if chosen.weights and not hasattr(model, "read"):
            raise ValueError(f"{chosen.weights} has no slots; expected what SlotModel.save wrote.")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not chosen.weights:
        model = tclap.add_slots(model, captions=learnt, seed=chosen.seed)
    sys.stdout.write("\n".join(lines(measures(evaluate(model.read, items)))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
