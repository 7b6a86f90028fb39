"""Search in a folder of recordings: some to begin with, a box to type into, and when events are found."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from huggingface_hub import try_to_load_from_cache
from matplotlib.figure import Figure
from torch import Tensor

from artifact import made
from artifact.experiment import Experiment, content_of
from artifact.notebook.browser import CARD
from artifact.notebook.slots import marked_captions
from artifact.notebook.sounds import Page, Sound, draw_mel, picture, player, recording
from artifact.order_from_text import readings
from figures.marks import legend_above
from figures.style import TEXT, styled
from tclap import audio, files
from tclap.data.clips import for_stage
from tclap.data.composites import PROMPT, TARGET_RMS
from tclap.models.registry import HUB_ID
from tclap.models.transformers import WEIGHTS
from tclap.models.windows import Windows
from tclap.progress import is_batch, log_reused
from tclap.slots.model import SlotModel

COUNTS = {1: 2, 2: 6, 3: 3}  # what is drawn, by number of events; of several also the inverse order
SECONDS = (3, 40)  # how long the shortest and the longest last
ALWAYS = ("dog", "rain")  # among those of two events, where they are classes
MASS = {"rain", "wind", "fire", "water", "teeth", "laughter"}  # take no article, as do plurals and "...ing"
PARTS = (4, 20)  # a window of event_times is at most the first part of a recording, and at least the second
PLAYED, LEAD = 60.0, 5.0  # seconds of a result that can be heard, and how many before its first event
COLOURS = ("#004488", "#DDAA33", "#BB5566", "#228833", "#66CCEE")  # of a query's events


def synthesise_recordings(run: Experiment, seed: int) -> Path:
    """A folder of twenty recordings with a ``clips.csv`` of ``file,caption``; reused where it is there.

    They are joined from the run's test clips and hold one, two or three events. Each of several events has a
    counterpart with the same classes in the inverse order, of clips and a length of its own.
    """
    clips, rate = for_stage(run.clips, "test"), run.reference.sample_rate
    folder = run.folder / f"seed{seed}" / "recordings"
    fingerprint = files.hash_json([seed, rate, content_of(clips), files.sha256_file(__file__)])
    if made.is_current(folder / "made.json", fingerprint):
        log_reused("recordings")
        return folder
    generator, told = np.random.default_rng(seed), []
    for count, wanted in COUNTS.items():
        known = list(combinations(run.labels, count))
        order = sorted(generator.permutation(len(known)), key=lambda n: known[n] != ALWAYS)
        for labels in (list(generator.permutation(known[n])) for n in order[:wanted]):
            told += [labels, labels[::-1]] if count > 1 else [labels]
    seconds, captions = generator.permutation(np.geomspace(*SECONDS, len(told))), {}
    for number, n in enumerate(generator.permutation(len(told)), 1):
        lengths, parts = generator.uniform(0.7, 1.3, len(told[n])), []
        for label, length in zip(told[n], seconds[n] * lengths / lengths.sum(), strict=True):
            clip = run.audio(generator.choice(clips.loc[clips["label"] == label, "clip_id"]))
            parts.append(audio.scale_to_rms(Windows(rate, length).fitted(clip), TARGET_RMS))
        joined = np.concatenate(parts)
        name = f"recording-{number:02d}.wav"
        audio.write_wav(folder / name, joined / max(1.0, np.abs(joined).max()), rate)
        captions[name] = ", then ".join(map(_named, told[n]))
    with files.replacing(folder / "clips.csv") as temporary:
        pd.Series(captions, name="caption").rename_axis("file").to_csv(temporary)
    made.write(folder / "made.json", fingerprint, [folder / name for name in (*captions, "clips.csv")])
    return folder


def _named(label: str) -> str:
    """A label with its article, if it takes one."""
    if label.endswith("s") or "ing" in label or label.split()[-1] in MASS:
        return label
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


def list_recordings(folder: str | Path) -> pd.DataFrame:
    """The audio files in a folder and below, sorted: ``file, path, caption``.

    A caption is the first of its file in the folder's ``clips.csv``, "" where there is none.
    FileNotFoundError when there is no audio file.
    """
    paths, csv = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in audio.SUFFIXES), "clips.csv"
    if not paths:
        raise FileNotFoundError(f"no audio file in {folder}, expected recordings such as *.wav or *.mp3.")
    table = pd.DataFrame({"file": [p.relative_to(folder).as_posix() for p in paths], "path": paths})
    captions = pd.read_csv(Path(folder, csv), dtype=str) if Path(folder, csv).is_file() else pd.DataFrame()
    captions = captions.reindex(columns=["file", "caption"]).dropna().drop_duplicates("file")
    return table.merge(captions, how="left", on="file").fillna({"caption": ""})


def ranks(similarities: Mapping[str, Tensor], captions: Sequence[str]) -> pd.DataFrame:
    """How well captions find their own recordings, one row per model, and chance.

    ``similarities``: by model, of recordings (rows) with their ``captions`` (columns), ``[N, N]``. A tie is
    no success. "Above inversion" is asked of captions whose inversion (the same events, parted by
    ", then ", in the inverse order) is a caption too: whether the own recording comes before the other's.
    """
    captions, count = list(captions), len(captions)
    inverted = [", then ".join(reversed(caption.split(", then "))) for caption in captions]
    inverse = np.array([captions.index(c) if c in captions else n for n, c in enumerate(inverted)])
    timed = np.flatnonzero(inverse != np.arange(count))
    rows = {}
    for model, found in similarities.items():
        found = found.numpy()
        own = found.diagonal()
        rank, above = (found >= own).sum(0), own[timed] > found[inverse[timed], timed]
        rows[model] = [100 * (rank == 1).mean(), rank.mean(), 100 * above.mean() if len(timed) else np.nan]
    rows["chance"] = [100 / count, (count + 1) / 2, 50.0]
    columns = ["found first (%)", "mean rank", "above inversion (%)"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).round(1)
    table.insert(0, "n", count)
    table.insert(3, "n inverted", len(timed))
    return table


def is_at_hand(name: str) -> bool:
    """Whether a ``ClapModel`` can be loaded without a download: a folder, or an id in the hub's cache."""
    if not HUB_ID.fullmatch(name) or Path(name).is_dir():
        return bool(name) and Path(name).is_dir()
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in WEIGHTS)


def event_times(slots: SlotModel, waveform: np.ndarray, events: Sequence[str]) -> pd.DataFrame:
    """Similarity of each event's words (columns) with windows along a recording, by their middles in seconds.

    ``waveform``: ``[samples]`` at the model's rate. A window lasts as long as the model's own, within
    :data:`PARTS` of the recording, and overlaps the next one by half.
    """
    most, least = (len(waveform) / part for part in PARTS)
    samples = round(max(min(slots.window * slots.sample_rate, most), least))
    count = round(2 * len(waveform) / samples) - 1
    starts = np.linspace(0, len(waveform) - samples, count).round().astype(int)
    windows = [waveform[start : start + samples] for start in starts]
    events = list(dict.fromkeys(events))
    said = slots.base.encode_text([PROMPT.format(event) for event in events])
    found = slots.base.encode_audio(windows, policy="cover") @ said.T
    return pd.DataFrame(found.numpy(), (starts + samples / 2) / slots.sample_rate, events)


def figure_found(sound: Sound, times: pd.DataFrame) -> Figure:
    """A recording's spectrogram and when each event is found below it; dotted: where it is most similar."""
    with styled():
        figure = Figure(figsize=(TEXT, 2.3))
        above, below = figure.subplots(2, 1, sharex=True)
        draw_mel(above, sound)
        above.set_xlabel("")
        for n, event in enumerate(times):
            colour = COLOURS[n % len(COLOURS)]
            below.plot(times[event], marker="o", markersize=2.5, color=colour, label=event)
            for axes, line in ((above, "white"), (below, colour)):
                axes.axvline(times[event].idxmax(), color=line, linestyle=":", linewidth=1)
        below.set(xlabel="time (s)", ylabel="cosine")
        below.grid(True, axis="y")
        legend_above(figure, below.get_legend_handles_labels()[0])
    return figure


class SearchBox:
    """A box to type a query into, and what it finds; the last expression of a cell displays it.

    ``recordings``: rows of :func:`list_recordings`; ``index``: their embeddings ``[N, dim]`` by ``slots``. A
    batch run, and a page that is kept, show what ``query`` finds.
    """

    def __init__(
        self, run: Experiment, slots: SlotModel, recordings: pd.DataFrame, index: np.ndarray, query: str
    ) -> None:
        self.run, self.slots, self.recordings, self.index = run, slots, recordings, index
        self.query = query

    def find(self, query: str, count: int = 3) -> pd.DataFrame:
        """The recordings that are most similar to a query, with their ``similarity``, the best first."""
        similarity = self.index @ self.slots.encode_text([query])[0].numpy()
        best = np.argsort(-similarity, kind="stable")[:count]
        return self.recordings.iloc[best].assign(similarity=similarity[best])

    def page(self, query: str) -> Page:
        """How a query is read, and what it finds: players, and when each of its events is found."""
        (reading,), read = self.slots.read([query]), marked_captions(readings(self.slots, [query]))
        events, cards, lines = [*reading.events, *reading.throughout] or [query], [], [repr(read)]
        for row in self.find(query).itertuples():
            times = event_times(self.slots, audio.read(row.path, self.slots.sample_rate), events)
            when = ", ".join(f"{event} at {second:.1f} s" for event, second in times.idxmax().items())
            lines.append(f"{row.similarity:.3f} {row.file} ({row.caption or 'no caption'}): {when}")
            sound = recording(self.run, row.path, row.file)
            shown = picture(figure_found(sound, times), "events in time")
            cards.append(f"<p>{html.escape(lines[-1])}</p>{_around(sound, times.idxmax().min())}{shown}")
        return Page(f'<div style="max-width:{CARD}px">{read.data}{"".join(cards)}</div>', "\n".join(lines))

    @cached_property
    def _first(self) -> Page:
        return self.page(self.query)

    @cached_property
    def widget(self) -> ipywidgets.Widget:
        """The box, and what its query finds."""
        self.box = ipywidgets.Text(self.query, description="query", continuous_update=False)
        self.results = ipywidgets.HTML(self._first.data)
        self.box.observe(lambda _: self._show(), "value")
        return ipywidgets.VBox([self.box, self.results])

    def _show(self) -> None:
        if self.box.value.strip():
            self.results.value = self.page(self.box.value).data

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        kept = {"text/plain": repr(self._first), "text/html": self._first.data}
        return kept if is_batch() else kept | self.widget._repr_mimebundle_(**options)


def _around(sound: Sound, second: float) -> str:
    """A player; of a long sound, from a little before a second on."""
    latest = max(len(sound.waveform) / sound.sample_rate - PLAYED, 0)
    start = round(min(max(second - LEAD, 0), latest) * sound.sample_rate)
    return player(replace(sound, waveform=sound.waveform[start:][: round(PLAYED * sound.sample_rate)]))
