"""The pool of trunk outputs that post-pretraining draws its batches from.

The trunk is frozen, so each item goes through it once, and all variants share the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap.data.batches import (
    BASE_VIEWS,
    SegmentBank,
    base_batch,
    base_captions,
    composite_batch,
    draw_base_items,
)
from tclap.data.captions import view_captions, view_events
from tclap.data.clips import for_stage
from tclap.data.composites import VIEWS, draw_pairs, place, possible_pairs
from tclap.models.base import AudioTextModel
from tclap.progress import progress
from tclap.training.audio_features import AudioFeatures, Features

CHUNK = 64
PAIRS, DISTINCT_PAIRS, BASE_ITEMS, SHUFFLE = 10, 11, 12, 13  # parts of a draw's seed


class Views:
    """Kept trunk outputs of composites, three rows a pair, indexed by pair: ``[rows] -> [n, 3, T, D]``."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features) // len(VIEWS)

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        flat = (np.asarray(rows)[:, None] * len(VIEWS) + np.arange(len(VIEWS))).ravel()
        return self._features[flat].unflatten(0, (-1, len(VIEWS)))


@dataclass
class Pool:
    """Trunk outputs of the items that post-pretraining draws from, shared by all variants.

    ``composites [P, 3, T, D]`` with ``captions`` and ``events`` (P lists of 3), ``base [Q, T, D]``
    with its own. ``group`` composites are one batch of the distinct-class sampler; None: any
    composites make a batch.
    """

    composites: Tensor | Views
    captions: list[list[str]]
    events: list[list[str]]
    base: Features
    base_captions: list[str]
    base_events: list[str]
    group: int | None


def make_pool(
    model: AudioTextModel,
    bank: SegmentBank,
    *,
    pairs: int,
    base_items: int,
    seed: int,
    distinct: bool = False,
    largest: int | None = None,
    labels: Sequence[str] | None = None,
    augment: bool = True,
    stage: str = "post",
) -> Pool:
    """Draw composites and base-type items and run them through the frozen audio trunk once.

    Args as of :func:`make_waveform_pool`; ``augment`` says whether segments vary.
    """
    to_log, trunk = model.audio_trunk.mel.log, model.audio_trunk.from_log_mel
    manifest, group = _draw_composites(bank.clips, stage, pairs, seed, distinct, largest, labels)
    pairs = len(manifest)
    pool = Pool([], [], [], [], [], [], group)
    model.eval()

    def draws(part: int, start: int) -> np.random.Generator:
        return np.random.default_rng([seed, part, start])

    with torch.inference_mode():
        part = DISTINCT_PAIRS if distinct else PAIRS
        for n in progress(range(0, pairs, CHUNK), "composites through the trunk", quiet=pairs < 512):
            rows = manifest.iloc[n : n + CHUNK]
            items = composite_batch(bank, rows, to_log, draws(part, n) if augment else None)
            pool.composites.append(trunk(items.log_mel).unflatten(0, (3, -1)).transpose(0, 1))
            pool.captions += [items.captions[k :: len(rows)] for k in range(len(rows))]
            pool.events += [items.events[k :: len(rows)] for k in range(len(rows))]
        for n in progress(
            range(0, base_items, CHUNK), "base items through the trunk", quiet=base_items < 512
        ):
            items = base_batch(bank, min(CHUNK, base_items - n), to_log, draws(BASE_ITEMS, n), augment)
            pool.base.append(trunk(items.log_mel))
            pool.base_captions += items.captions
            pool.base_events += items.events
    # Joined out here, because autograd takes no inference tensors.
    pool.composites, pool.base = torch.cat(pool.composites), torch.cat(pool.base)
    return pool


def make_waveform_pool(
    features: AudioFeatures,
    clips: pd.DataFrame,
    *,
    pairs: int,
    base_items: int,
    seed: int,
    distinct: bool = False,
    largest: int | None = None,
    labels: Sequence[str] | None = None,
    stage: str = "post",
) -> Pool:
    """A pool of rendered waveforms' trunk outputs, for a trunk that takes nothing else; unaugmented.

    Args:
        features: computes and keeps the outputs.
        clips: the clips table.
        pairs, base_items: numbers of composites and of base-type items.
        seed: of the draws.
        distinct: composites in groups in which every class occurs at most once.
        largest: bound on the pairs in such a group; None: half of the classes.
        labels: of the clips that composites are made of; base-type items are of all. None: all.
        stage: whose clips are used.
    """
    manifest, group = _draw_composites(clips, stage, pairs, seed, distinct, largest, labels)
    window, clip_audio = features.model.window, features.clip_audio
    manifest = place(manifest, clip_audio, window)
    part = DISTINCT_PAIRS if distinct else PAIRS
    captions = view_captions(manifest, np.random.default_rng([seed, part]))
    views = [(row, view) for row in manifest.to_dict("records") for view in VIEWS]
    composites = features.outputs(views, "composites through the trunk")

    generator = np.random.default_rng([seed, BASE_ITEMS])
    rows = for_stage(clips, stage)
    kinds, first, second = draw_base_items(rows, base_items, generator)
    items = pd.DataFrame(
        {"clip_i": rows["clip_id"].to_numpy()[first], "clip_j": rows["clip_id"].to_numpy()[second]}
    )
    placed = place(items, clip_audio, window).to_dict("records")
    views = [(row, BASE_VIEWS[kind]) for row, kind in zip(placed, kinds, strict=True)]
    base = features.outputs(views, "base items through the trunk")
    base_texts, base_events = base_captions(rows, kinds, first, second, generator)
    events = view_events(manifest)
    return Pool(
        Views(composites),
        [list(row) for row in zip(*captions, strict=True)],
        [list(row) for row in zip(*events, strict=True)],
        base,
        base_texts,
        base_events,
        group,
    )


def _draw_composites(
    clips: pd.DataFrame,
    stage: str,
    pairs: int,
    seed: int,
    distinct: bool,
    largest: int | None,
    labels: Sequence[str] | None,
) -> tuple[pd.DataFrame, int | None]:
    group = None
    if labels is not None:
        clips = clips[clips["label"].isin(list(labels))]
        pairs = min(pairs, possible_pairs(for_stage(clips, stage)))
    if distinct:
        most = for_stage(clips, stage)["label"].nunique() // 2
        group = min(most, largest or most)
        pairs = max(pairs // group, 1) * group
    return draw_pairs(clips, stage, pairs, seed=seed, distinct=distinct, group=group), group


def batch_rows(size: int, batch: int, step: int, seed: int, whole: bool = False) -> np.ndarray:
    """Rows of a pool of ``size`` that a step uses: every row once an epoch, in seeded order.

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
