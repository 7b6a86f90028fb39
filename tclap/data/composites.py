"""Composites: two clips in a known order, with captions that say which order.

A composite joins two clips *i* and *j* with different labels. It has three views:

============  ===============  =======================================  ========
view          audio            caption                                  events
============  ===============  =======================================  ========
``forward``   ``[a_i ; a_j]``  ``c_i before c_j`` or ``c_j after c_i``  i > j
``reversed``  ``[a_j ; a_i]``  ``c_j before c_i`` or ``c_i after c_j``  j > i
``overlap``   ``a_i + a_j``    ``c_i while c_j``                        i & j
============  ===============  =======================================  ========

*Reversed* is the sequential inversion Π of *forward*: it reorders whole segments and never
plays audio backwards, and Π(Π(x)) = x. *Overlap* is Ω. The caption's canonical events decide
what is a true match: two captions of one order share them.

The **pairs manifest** has one row per composite with everything that was decided for it: the clips,
σ (``preceding``: worded with "before", ``succeeding``: with "after"), the order in which the
evaluation plays it, the gap (negative: a cross-fade), each clip's crop and gain, the window. Lengths and
positions are samples at the row's ``sample_rate``. :func:`render` rebuilds the audio sample for sample.

**Window policy.** A model takes a window of fixed length. ``fit`` crops each clip around its
most energetic part so that the composite fills the window exactly; where the boundary lies is drawn.
A single clip and an overlap are crops of the whole window's length, taken the same way: neither length
nor a repetition tells the views apart. Only a clip that is shorter than its part repeats. ``full`` keeps
whole clips. ``msclap`` is what the msclap package's wrapper does: whole clips, of which a random
window is cut (drawn from the seed here), or which are repeated when they are shorter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from tclap import audio
from tclap.arguments import one_of
from tclap.data.clips import for_stage

Reader = Callable[[str], np.ndarray]  # a clip's id to its waveform
PROMPT = "this is a sound of {}"
SIGMAS = {"preceding": "before", "succeeding": "after"}
VIEWS = ("forward", "reversed", "overlap")
POLICIES = ("fit", "full", "msclap")
TARGET_RMS = 0.05  # 26 dB below full scale: two mixed events stay far from clipping
BOUNDARY = (0.25, 0.75)  # fractions of the events' time between which the boundary is drawn
KEPT = 2**26  # samples of clips in memory, 268 MB: recordings may last hours
TEXTS = 20  # RNG stream id
ENUMERABLE = 4_000_000  # up to here all clip pairs are listed, above they are drawn one by one


@dataclass(frozen=True)
class Phrase:
    """``left relation right``, e.g. "dog before rain"; relation is before, after or while."""

    left: str
    relation: str
    right: str

    def text(self, prompt: str = PROMPT) -> str:
        """The caption, in a prompt with one ``{}``."""
        return prompt.format(f"{self.left} {self.relation} {self.right}")

    @property
    def inverted(self) -> "Phrase":
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


def phrases(first: str, second: str, sigma: str) -> dict[str, Phrase]:
    """The captions of a composite's three views: ``first`` followed by ``second``, worded by σ."""
    named = (first, second) if sigma == "preceding" else (second, first)
    forward = Phrase(named[0], SIGMAS[sigma], named[1])
    return {"forward": forward, "reversed": forward.inverted, "overlap": Phrase(first, "while", second)}


def clip_text(texts: Sequence[str], generator: np.random.Generator) -> str:
    """What a composite's caption calls a clip: a drawn one of its ``texts``, without a full stop."""
    chosen = texts[generator.integers(len(texts))] if len(texts) > 1 else texts[0]
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
    """Draw ``count`` ordered pairs of clips with different labels from the clips of a ``stage``.

    With ``distinct`` they come in consecutive groups of ``group`` pairs (None: ⌊classes / 2⌋, the most
    possible) in which every class occurs at most once, and a pair may be in several; else all pairs differ.

    Returns:
        One row per pair: ``pair_id, stage, clip_i, clip_j, label_i, label_j, source_i, source_j,
        text_i, text_j, sigma, order``; ``order`` says how the evaluation plays the pair.

    Raises:
        ValueError: when the clips have too few labels or make fewer pairs.
    """
    pool = for_stage(clips, stage)
    label = pd.factorize(pool["label"], sort=True)[0]
    generator = np.random.default_rng(seed)
    if distinct:
        first, second = _distinct_pairs(label, count, group, generator)
    else:
        first, second = _different_pairs(label, count, generator)
    pairs = pd.DataFrame({"pair_id": [f"{stage}-{n:06d}" for n in range(count)], "stage": stage})
    for column, name in (("clip_id", "clip"), ("label", "label"), ("source", "source")):
        pairs[f"{name}_i"] = pool[column].to_numpy()[first]
        pairs[f"{name}_j"] = pool[column].to_numpy()[second]
    # From a generator of its own: how many captions a clip has does not change which pairs are drawn.
    words, texts = np.random.default_rng([seed, TEXTS]), pool["captions"].to_numpy()
    pairs["text_i"] = [clip_text(texts[row], words) for row in first]
    pairs["text_j"] = [clip_text(texts[row], words) for row in second]
    # Every combination of wording and order equally often, up to one.
    pairs["sigma"] = generator.permutation(np.resize(list(SIGMAS), count))
    pairs["order"] = ""
    for sigma in SIGMAS:
        chosen = (pairs["sigma"] == sigma).to_numpy()
        pairs.loc[chosen, "order"] = generator.permutation(np.resize(VIEWS[:2], chosen.sum()))
    return pairs


def possible_pairs(clips: pd.DataFrame) -> int:
    """Number of ordered pairs of clips with different labels."""
    counts = clips["label"].value_counts()
    return int(counts.sum() ** 2 - (counts**2).sum())


def _different_pairs(
    label: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    size, available = len(label), possible_pairs(pd.DataFrame({"label": label}))
    if count > available:
        raise ValueError(
            f"{size} clips make only {available} pairs with different labels; {count} are needed."
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


def _distinct_pairs(
    label: np.ndarray, count: int, group: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    members = [np.flatnonzero(label == k) for k in range(label.max() + 1)]
    group = group or len(members) // 2
    if not 1 <= group <= len(members) // 2:
        raise ValueError(f"{len(members)} classes make no group of {group} pairs in which none occurs twice.")
    first: list[int] = []
    second: list[int] = []
    while len(first) < count:
        classes = generator.permutation(len(members))[: 2 * group]
        drawn = [int(generator.choice(members[k])) for k in classes]
        first += drawn[:group]
        second += drawn[group:]
    return np.array(first[:count]), np.array(second[:count])


class ClipAudio:
    """Reads the clips of a clips table at ``sample_rate`` in Hz, and keeps up to ``keep`` samples in memory.

    The silence that a clip was padded with at its ends is left out.
    """

    def __init__(self, clips: pd.DataFrame, sample_rate: int, keep: int = KEPT) -> None:
        self.sample_rate = sample_rate
        self.paths = dict(zip(clips["clip_id"], clips["path"], strict=True))
        self._keep, self._size = keep, 0
        self._kept: dict[str, np.ndarray] = {}  # in the order in which they were asked for

    def __call__(self, clip_id: str) -> np.ndarray:
        """A clip's waveform, float32 ``[samples]``."""
        found = self._kept.pop(clip_id, None)
        if found is None:
            found = self.load(clip_id)
            self._size += len(found)
        self._kept[clip_id] = found
        while self._size > self._keep and len(self._kept) > 1:
            self._size -= len(self._kept.pop(next(iter(self._kept))))
        return found

    def load(self, clip_id: str) -> np.ndarray:
        """Read a clip's waveform from its file."""
        return audio.without_padding(audio.read(self.paths[clip_id], self.sample_rate))


class Event(NamedTuple):
    """A part of a clip: ``length`` samples from ``start`` on, times ``gain``."""

    clip_id: str
    start: int
    length: int
    gain: float
    backwards: bool = False

    def cut(self, clip_audio: Reader) -> np.ndarray:
        """The event's samples, float32 ``[length]``."""
        part = audio.crop(clip_audio(self.clip_id), self.start, self.length) * np.float32(self.gain)
        return part[::-1] if self.backwards else part


def loudest_event(
    clip_id: str, length: int, reader: Reader, gain: float = 1.0, backwards: bool = False
) -> Event:
    """The most energetic ``length`` samples of a clip, with ``gain`` over :data:`TARGET_RMS`."""
    clip = reader(clip_id)
    start = audio.most_energetic_start(clip, length)
    level = audio.rms(audio.crop(clip, start, length))
    return Event(clip_id, start, length, gain * TARGET_RMS / level if level > 0 else gain, backwards)


def place(
    pairs: pd.DataFrame,
    clip_audio: ClipAudio,
    window: float,
    *,
    policy: str = "fit",
    gap_ms: tuple[float, float] = (0.0, 0.0),
    seed: int | Sequence[int] = 0,
) -> pd.DataFrame:
    """Decide crops, gains and gaps of drawn pairs (or of a manifest, anew): the complete manifest.

    ``window`` is the model's, in seconds. Under the policy ``fit`` the clip *i* takes a fraction of the
    events' time that is drawn evenly from :data:`BOUNDARY`. ``gap_ms`` is the range from which each pair's
    silence between the events is drawn, in whole milliseconds; negative for an equal-power cross-fade.
    All is drawn from ``seed`` and the row's position alone.

    Raises:
        ValueError: on an unknown policy, or a gap that leaves no room for events.
    """
    one_of(POLICIES, policy=policy)
    rate = clip_audio.sample_rate
    samples = round(window * rate)
    rows = []
    for index, pair in enumerate(pairs.to_dict("records")):
        generator = np.random.default_rng([*np.atleast_1d(seed), index])
        gap = round(int(generator.integers(round(gap_ms[0]), round(gap_ms[1]), endpoint=True)) * rate / 1000)
        part = generator.uniform(*BOUNDARY)
        if policy == "fit":
            lengths = {"i": round(part * (samples - gap))}
            lengths["j"] = samples - gap - lengths["i"]
        else:
            lengths = {end: len(clip_audio(pair[f"clip_{end}"])) for end in ("i", "j")}
        if min(lengths.values()) <= max(0, -gap):
            raise ValueError(f"gap_ms={gap_ms} leaves no room for two events in {window:g} s.")
        row = dict(pair, gap=gap, policy=policy, window=samples, sample_rate=rate, cut=-1)
        total = sum(lengths.values()) + gap
        for end in lengths:
            for name, length in ((end, lengths[end]), (f"whole_{end}", total)):
                event = loudest_event(pair[f"clip_{end}"], length, clip_audio)
                row |= {f"start_{name}": event.start, f"gain_{name}": event.gain}
            row[f"length_{end}"] = lengths[end]
        if policy == "msclap" and total > samples:
            row["cut"] = int(generator.integers(total - samples, endpoint=True))
        rows.append(row)
    return pd.DataFrame(rows)


def render(row: Mapping, view: str, clip_audio: Reader) -> np.ndarray:
    """The waveform of one view of a manifest row: float32 ``[samples]`` at the row's sample rate.

    Beside ``VIEWS`` there are ``first`` and ``second``, the single events *i* and *j*, and ``periodic``: half
    a window of the overlap, played twice, which a model can tell by its repetition. All are scaled to
    :data:`TARGET_RMS`, so that level gives nothing away; silence stays silence.
    """
    total = row["length_i"] + row["length_j"] + row["gap"]

    def event(end: str, name: str, length: int) -> np.ndarray:
        start, gain = row[f"start_{name}"], row[f"gain_{name}"]
        return Event(row[f"clip_{end}"], start, length, gain).cut(clip_audio)

    if view in ("forward", "reversed"):
        ends = "ij" if view == "forward" else "ji"
        first, second = (event(end, end, row[f"length_{end}"]) for end in ends)
        waveform = audio.concatenate(first, second, row["gap"])
    elif view == "periodic":
        first, second = (_loudest(clip_audio(row[f"clip_{end}"]), total // 2) for end in "ij")
        waveform = audio.repeat_to(first + second, total)
    else:
        ends = {"overlap": "ij", "first": "i", "second": "j"}[view]
        waveform = sum((event(end, f"whole_{end}", total) for end in ends), np.zeros(total, np.float32))
    if row["policy"] == "msclap":
        waveform = audio.crop(waveform, max(row["cut"], 0), row["window"])
    return audio.scale_to_rms(waveform, TARGET_RMS)


def _loudest(clip: np.ndarray, length: int) -> np.ndarray:
    return audio.scale_to_rms(audio.crop(clip, audio.most_energetic_start(clip, length), length), TARGET_RMS)


def render_single(clip: np.ndarray, window: float, sample_rate: int) -> np.ndarray:
    """A single clip as the ``fit`` policy plays it: the most energetic window of it."""
    return _loudest(clip, round(window * sample_rate))
