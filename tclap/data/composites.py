"""Composites: two clips in a known order, with captions that say which order.

A composite joins two clips *i* and *j* of different label. It has three views:

============  ============================  ==========================================  =========
view          audio                         caption                                     means
============  ============================  ==========================================  =========
``forward``   ``[a_i ; a_j]``               ``c_i before c_j`` or ``c_j after c_i``     i > j
``reversed``  ``[a_j ; a_i]``               ``c_j before c_i`` or ``c_i after c_j``     j > i
``overlap``   ``a_i + a_j``                 ``c_i while c_j``                           i & j
============  ============================  ==========================================  =========

*Reversed* is the sequential inversion Π of *forward*: it reorders whole segments and never
plays audio backwards, and Π(Π(x)) = x. *Overlap* is Ω. The last column is the caption's
canonical events, which decide what is a true match: two captions of one order share them.

The **pairs manifest** has a row a composite with everything that was decided for it: the clips,
σ (``preceding``: worded with "before", ``succeeding``: with "after"), the order in which the
evaluation plays it, the gap, each clip's crop and gain, the window. :func:`render` rebuilds the
audio from a row sample for sample; nothing is written to disk unless :func:`export` is called.

**Window policy.** A model hears a window of fixed length. ``fit`` crops each clip around its
most energetic part so that the composite fills the window exactly; a single clip and an overlap
repeat the same crop to the whole window, so that length gives nothing away. ``full`` keeps whole
clips. ``msclap`` is what the msclap package's wrapper does: whole clips, of which a random
window is cut (drawn from the seed here), or which are repeated when they are shorter.

Lengths and positions in the manifest are samples at the row's ``sample_rate``; ``gap`` is
negative for a cross-fade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from tclap import audio
from tclap.data.clips import for_stage

PROMPT = "this is a sound of {}"
SIGMAS = {"preceding": "before", "succeeding": "after"}
VIEWS = ("forward", "reversed", "overlap")
POLICIES = ("fit", "full", "msclap")
TARGET_RMS = 0.05  # -26 dB below full scale: two mixed events stay far from clipping
TEXTS = 20  # part of a draw's seed
ENUMERABLE = 4_000_000  # up to here all clip pairs are listed, above they are drawn one by one


@dataclass(frozen=True)
class Phrase:
    """``left relation right``, e.g. "dog before rain"; relation is before, after or while."""

    left: str
    relation: str
    right: str

    def __post_init__(self) -> None:
        if self.relation not in ("before", "after", "while"):
            raise ValueError(f"relation must be before, after or while, got {self.relation!r}.")

    def text(self, prompt: str = PROMPT) -> str:
        """The caption, in a prompt with one ``{}``."""
        return prompt.format(f"{self.left} {self.relation} {self.right}")

    @property
    def inverted(self) -> Phrase:
        """Π: the two events change places; "while" has no order to invert but is reworded."""
        return Phrase(self.right, self.relation, self.left)

    @property
    def events(self) -> str:
        """Canonical events: equal for captions that mean the same."""
        if self.relation == "before":
            return f"{self.left} > {self.right}"
        if self.relation == "after":
            return f"{self.right} > {self.left}"
        return " & ".join(sorted((self.left, self.right)))


def phrase(first: str, second: str, sigma: str) -> Phrase:
    """The caption of ``first`` followed by ``second``, worded by σ (the paper's section III-A)."""
    if sigma not in SIGMAS:
        raise ValueError(f"sigma must be one of {', '.join(SIGMAS)}, got {sigma!r}.")
    relation = SIGMAS[sigma]
    return Phrase(first, relation, second) if relation == "before" else Phrase(second, relation, first)


def phrases(first: str, second: str, sigma: str) -> dict[str, Phrase]:
    """The captions of a composite's three views."""
    forward = phrase(first, second, sigma)
    return {"forward": forward, "reversed": forward.inverted, "overlap": Phrase(first, "while", second)}


def clip_text(clips: pd.DataFrame, row: int, generator: np.random.Generator) -> str:
    """What a composite's caption calls a clip: its label, or of several captions a drawn one.

    A sentence loses its full stop, because it goes on: "A dog barks before rain falls".
    """
    if "captions" not in clips.columns:
        return clips["label"].iloc[row]
    captions = clips["captions"].iloc[row]
    chosen = captions[generator.integers(len(captions))] if len(captions) > 1 else captions[0]
    return chosen.strip().rstrip(".")


def draw_pairs(
    clips: pd.DataFrame,
    stage: str,
    count: int,
    *,
    seed: int,
    distinct: bool = False,
    group: int | None = None,
) -> pd.DataFrame:
    """Draw ordered pairs of clips of different label from one split.

    Args:
        clips: the clips table.
        stage: ``base``, ``post``, ``validation`` or ``test``.
        count: number of pairs.
        seed: of the draw.
        distinct: draw pairs in consecutive groups in which every class occurs at most once. Then a
            pair may occur in several groups; without it all pairs differ.
        group: pairs in such a group; None: ⌊classes / 2⌋, which is the most there can be.

    Returns:
        One row a pair: ``pair_id, stage, clip_i, clip_j, label_i, label_j, source_i, source_j,
        text_i, text_j, sigma, order``; the texts are what captions call the two clips, and
        ``order`` says whether evaluation plays the pair forward or reversed.

    Raises:
        ValueError: when the split has fewer than two labels or fewer pairs than asked for.
    """
    if count < 1:
        raise ValueError(f"the number of {stage} pairs must be at least 1, got {count}.")
    pool = for_stage(clips, stage).reset_index(drop=True)
    label = pd.factorize(pool["label"], sort=True)[0]
    if label.max() == 0:
        raise ValueError(f"pairs need two labels; the {stage} clips have only {pool['label'].iloc[0]!r}.")
    generator = np.random.default_rng(seed)
    if distinct:
        first, second = _distinct_pairs(label, count, group, generator)
    else:
        first, second = _different_pairs(label, stage, count, generator)
    pairs = pd.DataFrame({"pair_id": [f"{stage}-{n:06d}" for n in range(count)], "stage": stage})
    for column in ("clip_id", "label", "source"):
        for end, index in (("i", first), ("j", second)):
            name = f"{column.removesuffix('_id')}_{end}"
            pairs[name] = pool[column].to_numpy()[index]
    # From a generator of its own: how many captions a clip has does not change which pairs are drawn.
    words = np.random.default_rng([seed, TEXTS])
    for end, index in (("i", first), ("j", second)):
        pairs[f"text_{end}"] = [clip_text(pool, row, words) for row in index]
    # Halves to one, and every combination of wording and order equally often.
    pairs["sigma"] = generator.permutation(np.resize(list(SIGMAS), count))
    pairs["order"] = ""
    for sigma in SIGMAS:
        chosen = (pairs["sigma"] == sigma).to_numpy()
        pairs.loc[chosen, "order"] = generator.permutation(np.resize(VIEWS[:2], chosen.sum()))
    return pairs


def possible_pairs(clips: pd.DataFrame) -> int:
    """Number of ordered pairs of clips of different label."""
    counts = clips["label"].value_counts()
    return int(counts.sum() ** 2 - (counts**2).sum())


def _different_pairs(label: np.ndarray, stage: str, count: int, generator: np.random.Generator):
    size = len(label)
    available = possible_pairs(pd.DataFrame({"label": label}))
    if count > available:
        raise ValueError(
            f"{count} {stage} pairs were asked for, but {size} clips make only {available} "
            "of different label."
        )
    if size * size <= ENUMERABLE:
        candidates = np.flatnonzero((label[:, None] != label[None, :]).ravel())
        return np.divmod(generator.choice(candidates, count, replace=False), size)
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        for code in generator.integers(size * size, size=count):
            i, j = divmod(int(code), size)
            if label[i] != label[j] and len(chosen) < count:
                chosen[int(code)] = None
    return np.divmod(np.fromiter(chosen, dtype=np.int64), size)


def _distinct_pairs(label: np.ndarray, count: int, group: int | None, generator: np.random.Generator):
    members = [np.flatnonzero(label == k) for k in range(label.max() + 1)]
    group = group or len(members) // 2
    if not 1 <= group <= len(members) // 2:
        raise ValueError(f"{len(members)} classes make no group of {group} pairs in which none occurs twice.")
    first, second = [], []
    while len(first) < count:
        classes = generator.permutation(len(members))[: 2 * group]
        drawn = [int(generator.choice(members[k])) for k in classes]
        first += drawn[:group]
        second += drawn[group:]
    return np.array(first[:count]), np.array(second[:count])


class ClipAudio:
    """The clips' waveforms at one sample rate, read when first used and kept while there is room.

    Args:
        clips: the clips table.
        sample_rate: in Hz; other rates are resampled.
        keep: number of decoded clips held in memory.
    """

    def __init__(self, clips: pd.DataFrame, sample_rate: int, keep: int = 1000) -> None:
        self.sample_rate = sample_rate
        self._paths = dict(zip(clips["clip_id"], clips["path"], strict=True))
        self._read = lru_cache(maxsize=keep)(lambda clip_id: audio.read(self._paths[clip_id], sample_rate))

    def __call__(self, clip_id: str) -> np.ndarray:
        """Mono float32 samples of a clip."""
        if clip_id not in self._paths:
            raise ValueError(f"clip {clip_id!r} is not in the clips table.")
        return self._read(clip_id)


def place(
    pairs: pd.DataFrame,
    clip_audio: ClipAudio,
    window: float,
    *,
    policy: str = "fit",
    gap_ms: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> pd.DataFrame:
    """Decide crops, gains and gaps of drawn pairs: the complete manifest.

    Args:
        pairs: from :func:`draw_pairs`, or a manifest to be placed anew.
        clip_audio: reads the clips.
        window: the model's window in seconds.
        policy: ``fit``, ``full`` or ``msclap`` (the module's docstring).
        gap_ms: range from which each pair's silence between the events is drawn, in whole
            milliseconds; negative for an equal-power cross-fade.
        seed: of gaps and of the ``msclap`` cut. A row's draw depends on its position alone.

    Raises:
        ValueError: on an unknown policy, or a gap that leaves no room for the events.
    """
    if policy not in POLICIES:
        raise ValueError(f"window policy must be one of {', '.join(POLICIES)}, got {policy!r}.")
    rate = clip_audio.sample_rate
    window_samples = round(window * rate)
    low, high = round(gap_ms[0]), round(gap_ms[1])
    if low > high:
        raise ValueError(f"gap_ms must be a range (low, high), got {gap_ms}.")
    rows = []
    for index, pair in enumerate(pairs.to_dict("records")):
        generator = np.random.default_rng([seed, index])
        gap = round(int(generator.integers(low, high, endpoint=True)) * rate / 1000)
        first, second = clip_audio(pair["clip_i"]), clip_audio(pair["clip_j"])
        if policy == "fit":
            length = (window_samples - gap) // 2
            if length < 1 or length <= -gap:
                raise ValueError(
                    f"a gap of {1000 * gap / rate:g} ms leaves no room for two events in {window:g} s."
                )
            gap = window_samples - 2 * length
            lengths = (length, length)
        else:
            lengths = (len(first), len(second))
            if min(lengths) <= -gap:
                raise ValueError(
                    f"a gap of {1000 * gap / rate:g} ms leaves no room for two events of "
                    f"{lengths[0] / rate:g} and {lengths[1] / rate:g} s."
                )
        row = dict(pair, gap=gap, policy=policy, window=window_samples, sample_rate=rate, cut=-1)
        for end, clip, length in (("i", first, lengths[0]), ("j", second, lengths[1])):
            start = audio.most_energetic_start(clip, length)
            level = audio.rms(cut_event(clip, start, length))
            row |= {f"start_{end}": start, f"length_{end}": length}
            row[f"gain_{end}"] = TARGET_RMS / level if level > 0 else 1.0
        total = sum(lengths) + gap
        if policy == "msclap" and total > window_samples:
            row["cut"] = int(generator.integers(total - window_samples, endpoint=True))
        rows.append(row)
    return pd.DataFrame(rows)


def cut_event(clip: np.ndarray, start: int, length: int) -> np.ndarray:
    """``length`` samples of a clip from ``start`` on; a shorter clip is repeated."""
    return audio.repeat_to(clip, length) if len(clip) < length else audio.crop(clip, start, length)


def render(row: Mapping, view: str, clip_audio: Callable[[str], np.ndarray]) -> np.ndarray:
    """The waveform of one view of a manifest row: float32 ``[samples]`` at the row's sample rate.

    ``forward``, ``reversed`` and ``overlap`` have both events; ``first`` and ``second`` are the
    single events *i* and *j* alone. Everything is scaled to :data:`TARGET_RMS`, so that level
    gives nothing away; silence stays silence.
    """
    events = [
        cut_event(clip_audio(row[f"clip_{end}"]), row[f"start_{end}"], row[f"length_{end}"])
        * np.float32(row[f"gain_{end}"])
        for end in ("i", "j")
    ]
    gap = row["gap"]
    total = row["window"] if row["policy"] == "fit" else len(events[0]) + len(events[1]) + gap
    if view in ("forward", "reversed"):
        ordered = events if view == "forward" else events[::-1]
        waveform = audio.concatenate(*ordered, gap=max(gap, 0), crossfade=max(-gap, 0))
    elif view == "overlap":
        longest = max(len(event) for event in events)
        mixed = audio.mix(*(audio.repeat_to(event, longest) for event in events))
        waveform = audio.repeat_to(mixed, total)
    elif view in ("first", "second"):
        waveform = audio.repeat_to(events[view == "second"], total)
    else:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, first or second, got {view!r}.")
    if row["policy"] == "msclap":
        if row["cut"] >= 0:
            waveform = audio.crop(waveform, row["cut"], row["window"])
        else:
            waveform = audio.repeat_to(waveform, row["window"])
    return audio.scale_to_rms(waveform, TARGET_RMS)


def render_single(clip: np.ndarray, window: float, sample_rate: int) -> np.ndarray:
    """A single clip as the ``fit`` policy plays it: half a window of it, repeated to the whole."""
    samples = round(window * sample_rate)
    segment = cut_event(clip, audio.most_energetic_start(clip, samples // 2), samples // 2)
    return audio.scale_to_rms(audio.repeat_to(segment, samples), TARGET_RMS)


def invert_audio(waveform: np.ndarray, lengths: tuple[int, int]) -> np.ndarray:
    """Π of a waveform: its first and last ``lengths`` samples change places, the gap stays between."""
    first, last = lengths
    if first < 1 or last < 1 or first + last > len(waveform):
        raise ValueError(f"segments of {first} and {last} samples do not fit in {len(waveform)} samples.")
    tail = len(waveform) - last
    return np.concatenate([waveform[tail:], waveform[first:tail], waveform[:first]])


def for_listening(waveform: np.ndarray) -> np.ndarray:
    """The waveform, turned down where its peak is above full scale: short clicks at one RMS are."""
    peak = np.abs(waveform).max()
    return waveform / peak if peak > 1 else waveform


def export(
    pairs: pd.DataFrame, clip_audio: ClipAudio, folder: str | Path, views: Sequence[str] = VIEWS
) -> list[Path]:
    """Write composites as 32-bit float WAV files for listening: ``<pair_id>-<view>.wav``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for row in pairs.to_dict("records"):
        for view in views:
            path = folder / f"{row['pair_id']}-{view}.wav"
            # Clicks at TARGET_RMS peak beyond full scale, which integer PCM would have to clip.
            audio.write_wav(path, render(row, view, clip_audio), row["sample_rate"], subtype="FLOAT")
            written.append(path)
    return written
