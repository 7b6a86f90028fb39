"""Readers of the files of public order benchmarks, by name: ``FORMATS[name](file, audio_folder)``.

Each gives the items of :func:`tclap.evaluation.items.evaluate_items` and says where its files come from and
under which licence. Nothing is downloaded. Items whose sounds are not in the folder are left out, which is
logged, as is whatever else of a file makes no item. All raise ValueError for a file of another layout, and
FileNotFoundError when it, or all sounds, are missing.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from tclap.arguments import is_number
from tclap.data.clips import listing
from tclap.data.composites import Phrase
from tclap.data.datasets import tables
from tclap.evaluation.items import ITEM_COLUMNS, NOWHERE, item_of

log = logging.getLogger(__name__)
KINDS = ("pair", "reversed_pair", "triplet")  # of CompA's sounds
NONE = ("", "-")  # what stands for no triplet there
# How the names of Dissecting's changed files end; SynCaps writes "replaced", Clotho ends with its captions.
CHANGES = {"reversed": ("_reverse",), "replaced": ("_replace", "_replaced")}
CLOTHO = "_5captions"
OPTIONS = tuple("ABCD")  # of TREA
Spans = list[tuple[float, float]]  # onset and offset, in seconds, of each time that an event sounds
Read = Callable[[str | Path, str | Path], pd.DataFrame]
MOST_CAPTIONS = 100  # of a sound, in Dissecting


def _reader(read: Read) -> Read:
    """A reader of files that may hold anything: where values are of another kind it is a ValueError."""

    @wraps(read)
    def checked(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
        try:
            return read(file, audio_folder)
        except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
            if type(error) is ValueError and Path(file).stem in str(error):  # a sentence of this module
                raise
            raise ValueError(f"{file} has another layout than {read.__name__} says.") from error

    return checked


@_reader
def read_compa(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """CompA-order and CompA-attribute (Ghosh et al., ICLR 2024, arXiv 2310.08753).

    Sounds and captions of the same words that differ in composition: two of both, in a third of CompA-order
    three. https://github.com/Sreyan88/CompA links ``CompA_order_benchmark.csv`` and ``Compa-Attribute.csv``,
    each with a folder of sounds, many of them from AudioSet, and states no licence.

    Columns: ``pair_file, pair_caption, reversed_pair_file, reversed_pair_caption``, for CompA-order
    ``triplet_file, triplet_caption``, which are "-" where there are but two. CompA-attribute names the files
    of its folder in ``pair_file.1`` and ``reversed_pair_file.1``; those without ".1" are AudioSet's.
    """
    file = Path(file)
    table = tables.read_csv(file, [f"{kind}_caption" for kind in KINDS[:2]])
    task = "compa order" if "triplet_file" in table else "compa attribute"
    for kind in KINDS:
        table[f"{kind}_file"] = table.get(f"{kind}_file.1", table.get(f"{kind}_file", ""))
    table["triplet_caption"] = table.get("triplet_caption", "")
    for kind in KINDS[:2]:
        tables.refuse(file, table, f"{kind}_file", table[f"{kind}_file"].isin(NONE), "a file")
    alone = table["triplet_file"].isin(NONE) != table["triplet_caption"].isin(NONE)
    tables.refuse(file, table, "triplet_caption", alone, "a caption iff a file")
    items = []
    for number, row in enumerate(table.to_dict("records")):
        kinds = [kind for kind in KINDS if row[f"{kind}_file"] not in NONE]
        sounds, captions = ([row[f"{kind}_{part}"] for kind in kinds] for part in ("file", "caption"))
        items.append(item_of(task, f"{number}", sounds, captions, list(range(len(kinds)))))
    return _with_sounds(items, file, audio_folder)


@_reader
def read_dissecting(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """The captions of "Dissecting temporal understanding in text-to-audio retrieval" (Oncescu et al., 2024).

    Those with a temporal word, of AudioCaps, Clotho and the authors' SynCaps (pairs of ESC-50's sounds),
    against themselves with the events in the other order, and with the opposite temporal word. ACM Multimedia
    2024, arXiv 2409.00851; https://github.com/oncescuandreea/DTU_text_audio, ``retrieval/data/*/json_files``,
    CC BY-NC 4.0; the sounds come with AudioCaps, Clotho and ESC-50.

    ``file`` has the captions as they are, such as ``test_audioset_5_future_past.json``; those beside it whose
    names add ``_reverse``, ``_replace`` or ``_replaced`` have the changed ones in the same order. A file is
    ``{"num_captions_per_audio": 5, "data": [{"audio", "caption_1" … "caption_5"}]}``, or of one ``caption``;
    of ``audio`` the file's name counts. A caption that did not change is no item: of AudioCaps' 2,960 there
    are 1,563 reversed and 1,566 replaced.
    """
    file, items = Path(file), []
    stem = file.stem.removesuffix(CLOTHO)
    rest = file.stem.removeprefix(stem) + file.suffix
    own = _dissecting_captions(file)
    for change, endings in CHANGES.items():
        paths = [path for ending in endings if (path := file.with_name(stem + ending + rest)).is_file()]
        for path in paths:
            changed = _dissecting_captions(path)
            if changed["sound"].tolist() != own["sound"].tolist():
                raise ValueError(f"{path} has other sounds than {file}, expected the same in the same order.")
            asked = own.assign(other=changed["caption"])[own["caption"] != changed["caption"]]
            log.warning("%s: %d of %d captions differ, the others are no items", path, len(asked), len(own))
            items += [
                item_of(
                    f"dissecting {change}",
                    f"{row.Index}",
                    [row.sound],
                    [row.caption, row.other],
                    [0, NOWHERE],
                )
                for row in asked.itertuples()
            ]
    if not items:
        raise FileNotFoundError(f"{file} has no changed captions beside it, expected {stem}_reverse{rest}.")
    return _with_sounds(items, file, audio_folder)


def _dissecting_captions(file: Path) -> pd.DataFrame:
    """``sound, caption``, a row each."""
    content = _json(file)
    if not isinstance(content, dict) or not {"num_captions_per_audio", "data"} <= content.keys():
        raise ValueError(f"{file} has no num_captions_per_audio and data, expected both.")
    count = content["num_captions_per_audio"]
    if not is_number(count, whole=True) or not 1 <= count <= MOST_CAPTIONS:
        raise ValueError(f"{file} has num_captions_per_audio {count!r}, expected 1 to {MOST_CAPTIONS}.")
    columns = ["caption"] if count == 1 else [f"caption_{n}" for n in range(1, count + 1)]
    table = _json_table(file, content["data"], ["audio", *columns])
    names = table["audio"].map(lambda path: PurePosixPath(path).name).repeat(count).to_numpy()
    return pd.DataFrame({"sound": names, "caption": table[columns].to_numpy().ravel()})


@_reader
def read_audiotime(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """AudioTime's ordering part (Xie et al., arXiv 2407.02857), ``ordering_caption.json``.

    ``{audio_id: {"event": {label: [[onset, offset], …]}, "caption"}}``; sounds are ``<audio_id>.wav``. An
    event is called by the first name of its AudioSet label. https://github.com/zeyuxie29/AudioTime links the
    data and states no licence.
    """
    file = Path(file)
    records = [{"id": name} | about for name, about in dict(_json(file)).items()]
    found = (
        (f"{row.id}.wav", label.split(",")[0], span)
        for row in _json_table(file, records, ("event",)).itertuples()
        for label, spans in row.event.items()
        for span in spans
    )
    return _with_sounds(timed_items("audiotime", found, file), file, audio_folder)


@_reader
def read_tacos(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """TACOS (Primus et al., WASPAA 2025, arXiv 2505.07609), ``annotations_strong.csv``.

    Columns ``filename, text, onset, offset``. https://zenodo.org/records/15379789; the texts are CC BY 4.0,
    each recording has its own Freesound licence.
    """
    file = Path(file)
    table = tables.read_csv(file, ("filename", "text", "onset", "offset"))
    for end in ("onset", "offset"):
        seconds = pd.to_numeric(table[end], errors="coerce")
        tables.refuse(file, table, end, seconds.isna(), "seconds")
        table[end] = seconds
    found = ((row.filename, row.text, (row.onset, row.offset)) for row in table.itertuples())
    return _with_sounds(timed_items("tacos", found, file), file, audio_folder)


@_reader
def read_moments(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """Moment retrieval in lighthouse's layout, such as ``castella_test_release.jsonl``.

    A line is ``{"qid", "query", "duration", "vid", "relevant_windows": [[onset, offset], …]}``; sounds are
    ``<vid>.wav`` or of another suffix. https://github.com/line/lighthouse (Apache-2.0) has the files of
    CASTELLA (Munakata et al., arXiv 2511.15131), Clotho-Moment, UnAV-100 and TUT 2017; the recordings are
    those data sets' own, CASTELLA's from YouTube.
    """
    file = Path(file)
    table = _json_table(file, _json(file, lines=True), ("query", "vid", "relevant_windows"))
    found = (
        (f"{row.vid}.wav", row.query, span) for row in table.itertuples() for span in row.relevant_windows
    )
    return _with_sounds(timed_items("moments", found, file), file, audio_folder)


def timed_items(task: str, found: Iterable[tuple[str, str, Sequence[float]]], file: Path) -> list[dict]:
    """Before/after items from each time that an event sounds: ``(sound, event, (onset, offset))``.

    Two events of a recording make an item each for "before" and "after" if one has ended, for the last time,
    when the other begins for the first time. Other pairs are left out and counted, see :func:`unordered`.
    """
    recordings: dict[str, dict[str, Spans]] = {}
    for sound, event, (onset, offset) in found:
        if not is_number(onset) or not is_number(offset):
            raise ValueError(f"{file} has {event!r} of {sound} at [{onset!r}, {offset!r}], expected seconds.")
        recordings.setdefault(sound, {}).setdefault(_called(event), []).append((onset, offset))
    items = []
    left_out: Counter[str] = Counter()
    for sound, events in recordings.items():
        in_order = sorted(events, key=lambda event: min(events[event]))
        for number, (a, b) in enumerate(combinations(in_order, 2)):
            if why := unordered(events[a], events[b]):
                left_out[why] += 1
                continue
            for word, orders in (("before", ((a, b), (b, a))), ("after", ((b, a), (a, b)))):
                captions = [Phrase(left, word, right).text("{}") for left, right in orders]
                about = (f"{task} {word}", f"{Path(sound).stem} {number}", [sound], captions)
                items.append(item_of(*about, [0, NOWHERE], [(a, b), (b, a)]))
    counts = ", ".join(f"{count} for {why}" for why, count in sorted(left_out.items())) or "none"
    log.warning("%s: %d pairs of events have an order, left out: %s", file, len(items) // 2, counts)
    return items


def unordered(first: Spans, second: Spans) -> str | None:
    """Why two events, of which ``first`` begins no later, have no certain order; None where they have.

    They begin at once, sound at once, or the first comes again after the second has begun.
    """
    begins = min(onset for onset, _ in second)
    if begins == min(onset for onset, _ in first):
        return "a tie in onset"
    if max(offset for _, offset in first) <= begins:
        return None
    at_once = any(a < d and c < b for a, b in first for c, d in second)
    return "an overlap" if at_once else "a repeat"


def _called(event: str) -> str:
    """An event's words within a caption: without a full stop and, unless an acronym, a capital."""
    event = event.strip().rstrip(".")
    return event if event[1:2].isupper() else event[:1].lower() + event[1:]


@_reader
def read_trea(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """TREA, temporal reasoning evaluation of audio (Bhattacharya et al., Interspeech 2025, arXiv 2505.13115).

    Questions about sequences of ESC-50's sounds; the four captions are the question and an option each, as
    they are written, and an option is its caption's only event.
    https://github.com/iiscleap/Audio-LLM-benchmarking-uncertainty has ``TREA_dataset/``, of which ``order``,
    ``count`` and ``duration`` each have a csv and ``audios/``, and states no licence; ESC-50 is CC BY-NC 3.0.

    Columns: ``id, question, audio_path, optionA … optionD, correct`` (a letter); ``audio_path`` is relative
    to ``audio_folder``, that of the csv.

    Known leaks: ``order.csv`` writes its correct options as ESC-50's labels (``water_drops``), in lower case,
    and the others with a capital, which is counted and logged; and few of its wrong options sound in the
    recording at all, so that the order-blind baseline answers it.
    """
    file = Path(file)
    columns = [f"option{letter}" for letter in OPTIONS]
    table = tables.read_csv(file, ["id", "question", "audio_path", *columns, "correct"])
    tables.refuse(file, table, "correct", ~table["correct"].isin(OPTIONS), "a letter from A to D")
    items, told = [], 0
    for row in table.to_dict("records"):
        options = [row[column] for column in columns]
        belongs = [0 if letter == row["correct"] else NOWHERE for letter in OPTIONS]
        told += [option == option.lower() for option in options] == [sound == 0 for sound in belongs]
        captions = [f"{row['question']} {option}" for option in options]
        events = [(option.replace("_", " ").lower(),) for option in options]
        items.append(item_of(f"trea {file.stem}", row["id"], [row["audio_path"]], captions, belongs, events))
    if told:
        log.warning("%s: of %d items the correct option alone is in lower case in %d", file, len(items), told)
    return _with_sounds(items, file, audio_folder)


def _with_sounds(items: list[dict[str, Any]], file: Path, audio_folder: str | Path) -> pd.DataFrame:
    """The items whose sounds are all in the folder, by path, or anywhere by name without suffix."""
    table, folder = pd.DataFrame(items, columns=list(ITEM_COLUMNS)), Path(audio_folder)
    by_stem = tables.audio_files(folder)
    names = table["sounds"].explode().unique()
    if table.empty or table.duplicated(["task", "item"]).any():
        raise ValueError(f"{file} makes {len(items)} items, expected at least one and none twice.")
    if outside := [name for name in names if tables.leaves_folder(name)]:
        raise ValueError(f"{file} has sounds outside of their folder, {listing(outside)}; expected within.")
    paths = {name: folder / name for name in names}
    paths = {n: path if path.is_file() else by_stem.get(path.stem) for n, path in paths.items()}
    missing = [name for name, path in paths.items() if path is None]
    there = [all(paths[name] for name in sounds) for sounds in table["sounds"]]
    if not any(there):
        asked = f"the sounds of none of the {len(items)} items of {file}"
        raise FileNotFoundError(f"{folder} has {asked}: {listing(missing)}.")
    if missing:
        counts = (file, len(items) - sum(there), len(items), listing(missing))
        log.warning("%s: %d of %d items are left out, whose sounds are not there: %s", *counts)
    table["sounds"] = [[str(paths[name]) for name in sounds] for sounds in table["sounds"]]
    return table[there].reset_index(drop=True)


def _json(file: Path, lines: bool = False) -> Any:
    """What a JSON file holds; with ``lines`` a list of what its lines do."""
    try:
        text = file.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is no JSON{' Lines' if lines else ''}: {error}.") from error


def _json_table(file: Path, records: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(records)
    lacking = [column for column in columns if column not in table or table[column].isna().any()]
    if lacking:
        raise ValueError(f"{file} has records without {listing(lacking)}, expected {listing(columns)}.")
    return table


FORMATS = {
    "compa": read_compa,
    "dissecting": read_dissecting,
    "audiotime": read_audiotime,
    "tacos": read_tacos,
    "moments": read_moments,
    "trea": read_trea,
}
