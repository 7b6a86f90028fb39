"""The pool of trunk outputs that post-pretraining draws its batches from.

The trunk is frozen, so each item goes through it once, and all variants share the result.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap.data import batches
from tclap.data.captions import view_captions, view_events
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS, draw_pairs, place, possible_pairs
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.training.features import AudioFeatures

CHUNK = 64
PAIRS, DISTINCT_PAIRS, BASE_ITEMS, SHUFFLE = 10, 11, 12, 13  # RNG streams


@dataclass
class Items:
    """Trunk outputs ``features [P, V, T, D]`` of P items in V views, their captions and canonical events."""

    features: Tensor
    captions: list[list[str]]
    events: list[list[str]]

    def __len__(self) -> int:
        return len(self.captions)


@dataclass
class Pool:
    """What post-pretraining draws from, shared by all variants.

    ``composites`` are in three views, ``base``-type items in one. ``group`` composites are one batch of the
    distinct-class sampler; None: any composites make a batch.
    """

    composites: Items
    base: Items
    group: int | None = None

    def batch_size(self, batch: int) -> int:
        """Composites per step: ``batch``, or a whole group of the distinct-class sampler."""
        return self.group or batch

    def steps_per_epoch(self, batch: int) -> int:
        """Steps in which every composite is used once, but for those of a batch that is not whole."""
        return max(len(self.composites) // self.batch_size(batch), 1)

    @property
    def vocabulary(self) -> set[str]:
        """All captions."""
        return {text for items in (self.composites, self.base) for texts in items.captions for text in texts}


class MelSource:
    """Items composed from mel power; with ``augment`` segments vary and bands are blanked."""

    def __init__(self, model: AudioTextModel, bank: batches.SegmentBank, augment: bool = True) -> None:
        self.clips, self._bank, self._augment = bank.clips, bank, augment
        self._trunk, self._log = model.audio_trunk.from_log_mel, model.audio_trunk.mel.log
        model.eval()

    def composites(self, pairs: pd.DataFrame, seed: list[int]) -> Items:
        """Drawn pairs in their three views."""
        drawn = (
            batches.composite_batch(self._bank, pairs.iloc[chunk], self._log, rng if self._augment else None)
            for chunk, rng in _chunks("composites", len(pairs), seed)
        )
        return self._through_trunk(drawn, len(VIEWS))

    def base(self, count: int, stage: str, seed: list[int]) -> Items:
        """``count`` base-type items; the bank's clips are those of the stage."""
        drawn = (
            batches.base_batch(self._bank, chunk.stop - chunk.start, self._log, rng, self._augment)
            for chunk, rng in _chunks("base items", count, seed)
        )
        return self._through_trunk(drawn, 1)

    def _through_trunk(self, drawn: Iterable[batches.Batch], views: int) -> Items:
        features, captions, events = [], [], []
        for batch in drawn:
            with torch.inference_mode():
                features.append(self._trunk(batch.log_mel).unflatten(0, (views, -1)).transpose(0, 1))
            captions += np.reshape(batch.captions, (views, -1)).T.tolist()
            events += np.reshape(batch.events, (views, -1)).T.tolist()
        # Joined out here, because autograd takes no inference tensors.
        return Items(torch.cat(features), captions, events)


def _chunks(what: str, count: int, seed: list[int]) -> Iterator[tuple[slice, np.random.Generator]]:
    for n in progress(range(0, count, CHUNK), f"{what} through the trunk", quiet=count < 512):
        yield slice(n, min(n + CHUNK, count)), np.random.default_rng([*seed, n])


class WaveformSource:
    """Items rendered as waveforms, for a trunk that takes nothing else; unaugmented."""

    def __init__(self, features: AudioFeatures, clips: pd.DataFrame) -> None:
        self.clips, self._features = clips, features
        self._audio, self._window = features.clip_audio, features.model.window

    def composites(self, pairs: pd.DataFrame, seed: list[int]) -> Items:
        """Drawn pairs in their three views."""
        manifest = place(pairs, self._audio, self._window, seed=seed)
        views = [(row, view) for row in manifest.to_dict("records") for view in VIEWS]
        outputs = self._features.outputs(views, "composites through the trunk")
        captions = view_captions(manifest, np.random.default_rng(seed))
        by_pair = [np.transpose(texts).tolist() for texts in (captions, view_events(manifest))]
        return Items(outputs.unflatten(0, (-1, len(VIEWS))), *by_pair)

    def base(self, count: int, stage: str, seed: list[int]) -> Items:
        """``count`` base-type items of a stage's clips."""
        clips, rng = for_stage(self.clips, stage), np.random.default_rng(seed)
        kinds, first, second = batches.draw_base_items(clips, count, rng)
        ids = clips["clip_id"].to_numpy()
        pairs = pd.DataFrame({"clip_i": ids[first], "clip_j": ids[second]})
        rows = place(pairs, self._audio, self._window, seed=seed).to_dict("records")
        views = [(row, batches.BASE_VIEWS[kind]) for row, kind in zip(rows, kinds, strict=True)]
        outputs = self._features.outputs(views, "base items through the trunk")
        texts = batches.base_captions(clips, kinds, first, second, rng)
        return Items(outputs[:, None], *(np.reshape(column, (-1, 1)).tolist() for column in texts))


def make_pool(
    source: MelSource | WaveformSource,
    *,
    pairs: int,
    base_items: int,
    seed: int,
    distinct: bool = False,
    largest: int | None = None,
    labels: Sequence[str] | None = None,
    stage: str = "post",
    base: Items | None = None,
) -> Pool:
    """Draw composites and base-type items and run them through the frozen audio trunk once.

    Args:
        source: composes the items and computes their outputs.
        pairs, base_items: numbers of composites and of base-type items, drawn from ``seed``.
        distinct: composites in groups in which every class occurs at most once.
        largest: bound on the pairs in such a group; None: half of the classes.
        labels: of the clips that composites are made of; base-type items are of all. None: all.
        stage: whose clips are used; ValueError when it has none, or one label only.
        base: the base-type items, where another pool of the same stage and seed has them already.
    """
    clips, group = source.clips, None
    if labels is not None:
        clips = clips[clips["label"].isin(list(labels))]
        pairs = min(pairs, possible_pairs(for_stage(clips, stage)))
    if distinct:
        most = for_stage(clips, stage)["label"].nunique() // 2
        group = min(most, largest or most)
        pairs = max(pairs // group, 1) * group
    drawn = draw_pairs(clips, stage, pairs, seed=seed, distinct=distinct, group=group)
    composites = source.composites(drawn, [seed, DISTINCT_PAIRS if distinct else PAIRS])
    base = source.base(base_items, stage, [seed, BASE_ITEMS]) if base is None else base
    return Pool(composites, base, group)


def batch_rows(size: int, batch: int, step: int, seed: int, whole: bool = False) -> np.ndarray:
    """Rows of a pool of ``size`` that a step uses: every row once per epoch, in seeded order.

    The last batch of an epoch is filled from the next epoch's order. With ``whole``, consecutive
    groups of ``batch`` rows stay together: the batches of the distinct-class sampler. An epoch's order
    comes from (seed, epoch) alone, so that it is the same however many processes share the batches.
    """
    units, unit = (size // batch, batch) if whole else (size, 1)
    need = batch // unit
    positions = np.arange(step * need, (step + 1) * need)
    orders = {
        e: np.random.default_rng([seed, SHUFFLE, e]).permutation(units) for e in set(positions // units)
    }
    chosen = np.array([orders[p // units][p % units] for p in positions])
    return (chosen[:, None] * unit + np.arange(unit)).ravel()
