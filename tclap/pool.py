"""The pool of trunk outputs that post-pretraining draws its batches from.

The trunk is frozen, so each item goes through it once, and all variants share the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tclap.data.batches import SegmentBank, base_batch, composite_batch
from tclap.data.composites import draw_pairs
from tclap.models.base import AudioTextModel
from tclap.progress import progress

CHUNK = 64
PAIRS, DISTINCT_PAIRS, BASE_ITEMS, SHUFFLE = 10, 11, 12, 13  # parts of a draw's seed


@dataclass
class Pool:
    """Trunk outputs of the items that post-pretraining draws from, shared by all variants.

    ``composites [P, 3, T, D]`` with ``captions`` and ``events`` (P lists of 3), ``base [Q, T, D]``
    with its own. ``group`` composites are one batch of the distinct-class sampler; None: any
    composites make a batch.
    """

    composites: Tensor
    captions: list[list[str]]
    events: list[list[str]]
    base: Tensor
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
    augment: bool = True,
    stage: str = "post",
) -> Pool:
    """Draw composites and base-type items and run them through the frozen audio trunk once."""
    to_log, trunk = model.audio_trunk.mel.log, model.audio_trunk.from_log_mel
    group = bank.clips["label"].nunique() // 2 if distinct else None
    if distinct:
        pairs = max(pairs // group, 1) * group
    manifest = draw_pairs(bank.clips, stage, pairs, seed=seed, distinct=distinct)
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


def batch_rows(size: int, batch: int, step: int, seed: int, whole: bool = False) -> np.ndarray:
    """Rows of a pool of ``size`` that a step uses: every row once an epoch, in seeded order.

    The last batch of an epoch is filled from the next epoch's order. With ``whole``, consecutive
    groups of ``batch`` rows stay together.
    """
    units, unit = (size // batch, batch) if whole else (size, 1)
    need = batch // unit
    positions = np.arange(step * need, (step + 1) * need)
    orders = {
        e: np.random.default_rng([seed, SHUFFLE, e]).permutation(units) for e in set(positions // units)
    }
    chosen = np.array([orders[p // units][p % units] for p in positions])
    return (chosen[:, None] * unit + np.arange(unit)).ravel()
