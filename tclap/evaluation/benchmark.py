"""One call that asks any audio-language model the questions of the temporal benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tclap.data.clips import for_stage, has_labels, listing
from tclap.data.composites import VIEWS, ClipAudio, draw_pairs, place, possible_pairs, render, render_single
from tclap.evaluation import controls
from tclap.evaluation import tasks as zste
from tclap.evaluation.embedded import Embedded
from tclap.evaluation.galleries import hit_rows, retrieval_rows
from tclap.progress import progress

SUITES = ("tasks", "controls", "retrieval")
BLOCK = 16


class Called(Embedded):
    """Embeddings by an object's ``encode_audio`` and ``encode_text``, checked and L2-normalised."""

    def __init__(self, model: Any, sounds: dict[str, Callable[[], np.ndarray]]) -> None:
        self._model = model
        names = list(sounds)
        blocks = [names[n : n + BLOCK] for n in range(0, len(names), BLOCK)]
        parts = [
            checked(model.encode_audio([sounds[name]() for name in block]), len(block), "encode_audio")
            for block in progress(blocks, "test audio", quiet=len(blocks) < 4)
        ]
        super().__init__({name: n for n, name in enumerate(names)}, torch.cat(parts))

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings ``[N, d]``, on the CPU."""
        found = checked(self._model.encode_text(list(captions)), len(captions), "encode_text")
        if found.shape[1] != self.audio.shape[1]:
            raise ValueError(
                f"encode_text gave {found.shape[1]} dimensions and encode_audio {self.audio.shape[1]}; "
                "expected one space."
            )
        return found


def checked(embeddings: Any, count: int, method: str) -> Tensor:
    """What a model's method gave for ``count`` items, as L2-normalised float32 ``[count, d]`` on the CPU.

    Raises:
        ValueError: on another shape or values that are not finite.
    """
    found = torch.as_tensor(embeddings).detach().cpu().float()
    if found.ndim != 2 or len(found) != count:
        raise ValueError(f"{method} gave {tuple(found.shape)} for {count} items, expected [{count}, d].")
    if not found.isfinite().all():
        raise ValueError(f"{method} gave values that are not finite.")
    return normalize(found, dim=-1)


def evaluate(
    model: Any,
    clips: pd.DataFrame,
    suite: str | Sequence[str] = "tasks",
    *,
    pairs: int = 400,
    control_pairs: int = 200,
    seed: int = 0,
    name: str = "model",
    sample_rate: int | None = None,
    window: float | None = None,
) -> pd.DataFrame:
    """Answer the temporal benchmark on the test clips; each distinct sound and caption is encoded once.

    The suites are ``tasks`` (:mod:`tclap.evaluation.tasks`), ``controls``
    (:mod:`tclap.evaluation.controls`) and ``retrieval`` (:mod:`tclap.evaluation.galleries`). Clips
    without labels (each its own event) are asked for order alone: tasks 3, 2-way and overlap, and the
    controls of two events. :func:`tclap.evaluation.statistics.summarise` makes accuracies with
    intervals of the rows.

    Args:
        model: any object with ``encode_audio(list of [samples] float32 waveforms) -> [N, d]`` and
            ``encode_text(list of captions) -> [N, d]``, such as an
            :class:`~tclap.models.base.AudioTextModel`.
        clips: the clips table; its test split is used.
        suite: one suite's name, several, or ``full`` for all.
        pairs: number of composites, at most as many as the clips make.
        control_pairs: of how many of these the controls ask.
        seed: of the composites and candidates.
        name: of the model, in the rows.
        sample_rate, window: in Hz and seconds, of the waveforms that the model takes; None: its
            attributes of these names.

    Returns:
        A tidy row an item, with the columns of :func:`tclap.evaluation.tasks.score_items`, ``model``
        and ``seed``; with ``retrieval`` also those of :func:`tclap.evaluation.galleries.hit_rows`, and
        ``correct`` is a number, since an average precision lies between 0 and 1.

    Raises:
        ValueError: on an unknown suite, when the test clips make no pair of different label, when the
            rate or window is unknown, or on embeddings of a wrong shape or that are not finite.
    """
    wanted = _suites(suite)
    rate = _fact(model, "sample_rate", sample_rate)
    seconds = _fact(model, "window", window)
    test = for_stage(clips, "test")
    if possible_pairs(test) == 0:
        raise ValueError(
            f"the {len(test)} test clip(s) make no pair of different label, expected two labels at least."
        )
    audio = ClipAudio(test, rate)
    drawn = draw_pairs(test, "test", min(pairs, possible_pairs(test)), seed=seed)
    manifest = place(drawn, audio, seconds)
    asked = manifest.head(control_pairs)
    items = questions(test, manifest, asked, wanted, seed)
    played = _sounds(test, manifest, asked, wanted, audio, seconds, seed)
    heard = {sound for table in items.values() for sound in table["audio"]}
    if "controls" in wanted:
        heard |= {f"{pair}/{order}" for pair, order in zip(asked["pair_id"], asked["order"], strict=True)}
    if "retrieval" in wanted:
        heard |= set(test["clip_id"]) | {f"{pair}/{v}" for pair in manifest["pair_id"] for v in VIEWS}
    embedded = Called(model, {sound: make for sound, make in played.items() if sound in heard})
    parts = []
    if "tasks" in wanted:
        parts.append(embedded.answers(items["tasks"]))
    if "controls" in wanted:
        parts.append(controls.control_rows(embedded, items["controls"], asked))
    if "retrieval" in wanted:
        parts.append(hit_rows(retrieval_rows(embedded, test, manifest)))
    rows = pd.concat(parts, ignore_index=True).assign(model=name, seed=seed)
    # Retrieval's rows have neither ties nor margins, and average precisions are no booleans.
    return rows.astype({"correct": float, "tied": "boolean"}) if "retrieval" in wanted else rows


def questions(
    test: pd.DataFrame, manifest: pd.DataFrame, asked: pd.DataFrame, suites: Sequence[str], seed: int
) -> dict[str, pd.DataFrame]:
    """The items of the suites ``tasks`` and ``controls``, by suite."""
    items = {}
    if "tasks" in suites:
        labels = sorted(test["label"].unique())
        items["tasks"] = (
            zste.build_items(test, manifest, labels, seed=seed)
            if has_labels(test)
            else zste.order_items(manifest)
        )
    if "controls" in suites:
        items["controls"] = controls.build_items(test, asked, seed=seed)
    return items


def _sounds(
    test: pd.DataFrame,
    manifest: pd.DataFrame,
    asked: pd.DataFrame,
    suites: Sequence[str],
    audio: ClipAudio,
    window: float,
    seed: int,
) -> dict[str, Callable[[], np.ndarray]]:
    """What makes the waveform of each sound that can be asked about, by name."""

    def single(clip_id: str) -> Callable[[], np.ndarray]:
        return lambda: render_single(audio(clip_id), window, audio.sample_rate)

    def composite(row: dict, view: str) -> Callable[[], np.ndarray]:
        return lambda: render(row, view, audio)

    sounds = {clip_id: single(clip_id) for clip_id in test["clip_id"]}
    for row in manifest.to_dict("records"):
        sounds |= {f"{row['pair_id']}/{view}": composite(row, view) for view in VIEWS}
    if "controls" in suites:
        arranged = controls.arrangements(test, asked, audio, window, seed=seed)
        sounds |= {name: (lambda a=found: a.render(audio)) for name, found in arranged.items()}
    return sounds


def _suites(suite: str | Sequence[str]) -> tuple[str, ...]:
    names = (suite,) if isinstance(suite, str) else tuple(suite)
    unknown = [name for name in names if name not in (*SUITES, "full")]
    if unknown or not names:
        raise ValueError(f"suite is {suite!r}, expected among {listing((*SUITES, 'full'))}.")
    return SUITES if "full" in names else names


def _fact(model: Any, name: str, given: float | None) -> Any:
    value = getattr(model, name, None) if given is None else given
    if value is None:
        raise ValueError(f"{type(model).__name__} has no {name}; expected evaluate(..., {name}=...).")
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected above 0.")
    return value
