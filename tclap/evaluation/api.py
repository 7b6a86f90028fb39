"""One call that asks a model the questions of the temporal evaluation."""

from __future__ import annotations

from typing import Protocol

import pandas as pd
import torch
from torch import Tensor

from tclap.data.clips import for_stage
from tclap.data.composites import ClipAudio, draw_pairs, place, render, render_single
from tclap.evaluation import zste
from tclap.progress import progress

BLOCK = 16


class Encoder(Protocol):
    """What :func:`evaluate` needs of a model; every :class:`tclap.models.base.AudioTextModel` has it."""

    sample_rate: int
    window: float

    def encode_audio(self, waveforms) -> Tensor:
        """Waveforms of the window's length to L2-normalised embeddings ``[N, d]``."""

    def encode_text(self, captions) -> Tensor:
        """Captions to L2-normalised embeddings ``[N, d]``."""


def evaluate(
    model: Encoder, clips: pd.DataFrame, *, pairs: int = 400, seed: int = 0, name: str = "model"
) -> pd.DataFrame:
    """Answer the tasks of the zero-shot temporal evaluation on the test clips.

    Clips without labels (each its own event) are asked for order only: tasks 3, 2-way and overlap.
    :func:`tclap.evaluation.statistics.summarise` makes accuracies with intervals of the rows.

    Args:
        model: encodes audio and captions.
        clips: the clips table; its test split is used.
        pairs: number of composites, at most as many as the clips make.
        seed: of the composites and candidates.
        name: of the model, in the rows.

    Returns:
        A tidy row an item, with the columns of :func:`tclap.evaluation.zste.score_items`, ``model``
        and ``seed``.

    Raises:
        ValueError: when the test clips make no pair of different label.
    """
    test = for_stage(clips, "test")
    audio = ClipAudio(test, model.sample_rate)
    if possible_pairs(test) == 0:
        raise ValueError(
            f"the {len(test)} test clip(s) make no pair of different label, expected two labels at least."
        )
    manifest = draw_pairs(test, "test", min(pairs, possible_pairs(test)), seed=seed)
    manifest = place(manifest, audio, model.window)
    labels = sorted(test["label"].unique())
    # Clips without labels are named after one of them.
    if set(test["label"]) <= set(clips["clip_id"]):
        items = zste.order_items(manifest)
    else:
        items = zste.build_items(test, manifest, labels, seed=seed)
    rows = {row["pair_id"]: row for row in manifest.to_dict("records")}

    def waveform(sound: str):
        pair, _, view = sound.rpartition("/")
        if pair in rows:
            return render(rows[pair], view, audio)
        return render_single(audio(sound), model.window, model.sample_rate)

    sounds = list(dict.fromkeys(items["audio"]))
    captions = sorted({caption for candidates in items["candidates"] for caption in candidates})
    embedded = [
        model.encode_audio([waveform(sound) for sound in sounds[n : n + BLOCK]]).cpu()
        for n in progress(range(0, len(sounds), BLOCK), "test audio", quiet=len(sounds) < 64)
    ]
    answers = zste.score_items(
        items,
        {sound: n for n, sound in enumerate(sounds)},
        torch.cat(embedded),
        {caption: n for n, caption in enumerate(captions)},
        model.encode_text(captions).cpu(),
    )
    return answers.assign(model=name, seed=seed)


def possible_pairs(clips: pd.DataFrame) -> int:
    """Number of ordered pairs of clips of different label."""
    counts = clips["label"].value_counts()
    return int(counts.sum() ** 2 - (counts**2).sum())
