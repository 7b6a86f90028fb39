"""Search in a folder of recordings: some to begin with, what is found, and when its events are."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from artifact.experiment import Experiment
from artifact.notebook.sounds import cards, picture, recording
from figures.style import TEXT, styled
from tclap import audio
from tclap.data.composites import PROMPT, TARGET_RMS
from tclap.models.windows import Windows
from tclap.slots.model import SlotModel

PAIRS = 10  # of classes that recordings are made of
SECONDS = (2, 20)  # how long an event of theirs lasts
PARTS = (4, 20)  # a window of event_times is at most the first part of a recording, and at least the second
PLAYED, LEAD = 60.0, 5.0  # seconds of a result that can be heard, and how many before its first event


def synthesise_recordings(run: Experiment, seed: int) -> Path:
    """A folder of twenty recordings with a ``clips.csv`` of ``file,caption``, the same for a seed.

    Two of the run's test clips each, one after the other, and the same two in the inverse order.
    """
    rate, folder = run.reference.sample_rate, run.folder / f"seed{seed}" / "recordings"
    pairs = run.table("data/pairs-test.parquet")
    known = pairs[["label_i", "label_j"]].apply(frozenset, axis=1).duplicated()
    generator, captions = np.random.default_rng(seed), {}
    for pair in pairs[~known].head(PAIRS).to_dict("records"):
        parts = {}
        for end in "ij":
            clip, seconds = run.audio(pair[f"clip_{end}"]), generator.uniform(*SECONDS)
            event = audio.scale_to_rms(Windows(rate, seconds).fitted(clip), TARGET_RMS)
            parts[pair[f"label_{end}"]] = event
        for labels in permutations(parts):
            joined = np.concatenate([parts[label] for label in labels])
            name = f"recording-{len(captions) + 1:02d}.wav"
            audio.write_wav(folder / name, joined / max(1.0, np.abs(joined).max()), rate)
            captions[name] = ", then ".join(labels)
    pd.Series(captions, name="caption").rename_axis("file").to_csv(folder / "clips.csv")
    return folder


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


def ranks(similarities: Mapping[str, Tensor]) -> pd.DataFrame:
    """How well captions find their own recordings, one row per model, and chance; a tie is no success.

    ``similarities``: by model, of recordings (rows) with their captions (columns), ``[N, N]``.
    """
    found = {model: (of >= of.diagonal()).sum(0).double() for model, of in similarities.items()}
    rows = {m: [100 * (rank == 1).double().mean().item(), rank.mean().item()] for m, rank in found.items()}
    count = len(next(iter(similarities.values())))
    rows["chance"] = [100 / count, (count + 1) / 2]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found first (%)", "mean rank"]).round(1)


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


def found_page(run: Experiment, slots: SlotModel, found: pd.DataFrame, query: str) -> HTML:
    """Recordings that a query found: players, and when each of its events is found.

    ``found``: rows of :func:`list_recordings` with their ``similarity``.
    """
    (reading,), shown = slots.read([query]), []
    events = [*reading.events, *reading.throughout] or [query]
    for row in found.itertuples():
        sound = recording(run, row.path, f"{row.similarity:.3f} {row.file} ({row.caption or 'no caption'})")
        times = event_times(slots, audio.read(row.path, slots.sample_rate), events)
        when = ", ".join(f"{event} at {second:.1f} s" for event, second in times.idxmax().items())
        latest = max(len(sound.waveform) / sound.sample_rate - PLAYED, 0)
        start = round(min(max(times.idxmax().min() - LEAD, 0), latest) * sound.sample_rate)
        part = sound.waveform[start:][: round(PLAYED * sound.sample_rate)]
        with styled():
            figure = Figure(figsize=(TEXT, 1.5))
            axes = times.plot(ax=figure.subplots(), xlabel="time (s)", ylabel="cosine")
            for text in axes.get_legend().get_texts():
                text.set_parse_math(False)
        shown += [cards([replace(sound, waveform=part)]).data, f"<p>{html.escape(when)}</p>"]
        shown.append(picture(figure, "events in time"))
    return HTML("".join(shown))
