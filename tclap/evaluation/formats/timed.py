"""Before/after items from recordings whose events are annotated with their times, published in three layouts.

Two events of a recording make an item each for "before" and "after" if one has ended, for the last time, when
the other begins for the first time. Other pairs say nothing certain of order and are left out and counted:
those that begin at once (a tie), that sound at once (an overlap), or of which one comes again after the other
has begun (a repeat).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from tclap.data.composites import Phrase
from tclap.data.datasets import tables
from tclap.evaluation.formats.sounds import json_of, json_table, with_sounds
from tclap.evaluation.items import NOWHERE, item_of

log = logging.getLogger(__name__)
Spans = list[tuple[float, float]]  # onset and offset, in seconds, of each time that an event sounds


def read_audiotime(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """AudioTime's ordering part (Xie et al., arXiv 2407.02857): ``ordering_caption.json``.

    ``{audio_id: {"event": {label: [[onset, offset], …]}, "caption"}}``; sounds are ``<audio_id>.wav``. An
    event is called by the first name of its AudioSet label. https://github.com/zeyuxie29/AudioTime links the
    data and states no licence. Errors as :func:`read_moments`.
    """
    file = Path(file)
    table = json_table(
        file, [{"id": name} | about for name, about in dict(json_of(file)).items()], ("event",)
    )
    found = (
        (f"{row.id}.wav", label.split(",")[0], span)
        for row in table.itertuples()
        for label, spans in row.event.items()
        for span in spans
    )
    return with_sounds(timed_items("audiotime", found, file), file, audio_folder)


def read_tacos(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """TACOS (Primus et al., WASPAA 2025, arXiv 2505.07609): ``annotations_strong.csv``.

    Columns ``filename, text, onset, offset``. https://zenodo.org/records/15379789; the texts are CC BY 4.0,
    each recording has its own Freesound licence. Errors as :func:`read_moments`.
    """
    file = Path(file)
    table = tables.read_csv(file, ("filename", "text", "onset", "offset"))
    for end in ("onset", "offset"):
        seconds = pd.to_numeric(table[end], errors="coerce")
        tables.refuse(file, table, end, seconds.isna(), "seconds")
        table[end] = seconds
    found = ((row.filename, row.text, (row.onset, row.offset)) for row in table.itertuples())
    return with_sounds(timed_items("tacos", found, file), file, audio_folder)


def read_moments(file: str | Path, audio_folder: str | Path) -> pd.DataFrame:
    """Moment retrieval as lighthouse lays it out, such as CASTELLA's ``castella_test_release.jsonl``.

    A line is ``{"qid", "query", "duration", "vid", "relevant_windows": [[onset, offset], …]}``; sounds are
    ``<vid>.wav`` or of another suffix. https://github.com/line/lighthouse (Apache-2.0) has the files of
    CASTELLA (Munakata et al., arXiv 2511.15131), Clotho-Moment, UnAV-100 and TUT 2017; their recordings are
    those data sets' own, CASTELLA's from YouTube.

    Raises:
        ValueError: when the file is none of this layout.
        FileNotFoundError: when it, or all sounds, are missing.
    """
    file = Path(file)
    table = json_table(file, json_of(file, lines=True), ("query", "vid", "relevant_windows"))
    found = (
        (f"{row.vid}.wav", row.query, span) for row in table.itertuples() for span in row.relevant_windows
    )
    return with_sounds(timed_items("moments", found, file), file, audio_folder)


def timed_items(task: str, found: Iterable[tuple[str, str, Sequence[float]]], file: Path) -> list[dict]:
    """Items from each time that an event sounds, ``(sound, event, (onset, offset))``; the rest is logged."""
    recordings: dict[str, dict[str, Spans]] = {}
    for sound, event, (onset, offset) in found:
        recordings.setdefault(sound, {}).setdefault(_called(event), []).append((onset, offset))
    items, left_out = [], Counter()
    for sound, events in recordings.items():
        in_order = sorted(events, key=lambda event: min(events[event]))
        for number, (a, b) in enumerate(combinations(in_order, 2)):
            if why := unordered(events[a], events[b]):
                left_out[why] += 1
                continue
            asked = {"before": ((a, b), (b, a)), "after": ((b, a), (a, b))}
            for word, orders in asked.items():
                captions = [Phrase(left, word, right).text("{}") for left, right in orders]
                item = f"{Path(sound).stem} {number}"
                items.append(
                    item_of(f"{task} {word}", item, [sound], captions, [0, NOWHERE], [(a, b), (b, a)])
                )
    counts = ", ".join(f"{count} for {why}" for why, count in sorted(left_out.items())) or "none"
    log.warning("%s: %d pairs of events have an order, left out: %s", file, len(items) // 2, counts)
    return items


def unordered(first: Spans, second: Spans) -> str | None:
    """Why two events, of which ``first`` begins no later, have no certain order; None where they have."""
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
