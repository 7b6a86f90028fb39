"""What the notebooks let one hear and see of a run: its clips, its composites, and single questions.

The evaluation's rows say which answer a model gave. :class:`ItemReader` asks an item again, so that it can
be heard and every candidate's similarity looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
import torch

from artifact.evaluation import decibels
from artifact.experiment import Experiment
from artifact.notebook.sounds import Sound
from tclap.data.clips import for_stage
from tclap.data.composites import POLICIES, VIEWS, place, render, render_single
from tclap.models.base import AudioTextModel


@dataclass(frozen=True)
class AskedItem:
    """An item that was asked.

    Attributes:
        sound: what was played.
        candidates: the captions to choose from.
        right: positions of the right ones.
        cosines: of the sound with every candidate, by model.
    """

    sound: Sound
    candidates: list[str]
    right: list[int]
    cosines: dict[str, np.ndarray]

    def chosen(self, model: str) -> list[int]:
        """Positions of the candidates that a model puts on top, as many as are right."""
        top = np.argsort(-self.cosines[model], kind="stable")[: len(self.right)]
        return sorted(int(n) for n in top)


class ItemReader:
    """Asks a seed's models the run's items again, one at a time.

    Args:
        experiment: the run.
        seed: of the models, which are loaded when they are first asked.
    """

    def __init__(self, experiment: Experiment, seed: int) -> None:
        self.experiment, self.seed = experiment, seed
        self._model = lru_cache(maxsize=None)(lambda name: experiment.load(seed, name).eval())

    @cached_property
    def _items(self) -> pd.DataFrame:
        return self.experiment.table("data/items.parquet").set_index(["task", "item"])

    @cached_property
    def _pairs(self) -> dict[str, dict]:
        pairs = self.experiment.table("data/pairs-test.parquet")
        return {row["pair_id"]: row for row in pairs.to_dict("records")}

    def __call__(self, task: str, item: str, models: Sequence[str]) -> AskedItem:
        """The item of a task, asked of ``models``.

        Raises:
            ValueError: when there is no such item, or no model is named.
        """
        if (task, item) not in self._items.index:
            raise ValueError(f"task {task!r} has no item {item!r}.")
        if not models:
            raise ValueError("no model is named, expected at least one.")
        asked = self._items.loc[(task, item)]
        candidates, played = list(asked["candidates"]), self._played(asked["audio"])
        loaded = {name: self._model(name) for name in models}
        first = next(iter(loaded.values()))
        # All models of a seed have one trunk.
        features = self.experiment.audio_features(first).outputs([played], "one sound")[0:1]
        return AskedItem(
            sound=self._sound(first, played),
            candidates=candidates,
            right=[int(n) for n in asked["answers"]],
            cosines={name: self._cosines(model, features, candidates) for name, model in loaded.items()},
        )

    def _played(self, name: str) -> str | tuple[dict, str]:
        """An item's audio as :class:`tclap.training.audio_features.AudioFeatures` takes it."""
        pair, _, view = name.rpartition("/")
        return (self._pairs[pair], view) if view in VIEWS and pair in self._pairs else name

    def _cosines(self, model: AudioTextModel, features: torch.Tensor, candidates: list[str]) -> np.ndarray:
        with torch.inference_mode():
            sound = model.embed_audio(features.to(model.log_scale.device))[0].double().cpu()
            words = model.embed_captions(candidates, self.experiment.text).double().cpu()
        return (words @ sound).numpy()

    def _sound(self, model: AudioTextModel, played: str | tuple[Mapping, str]) -> Sound:
        if isinstance(played, str):
            clip = self.experiment.clips.set_index("clip_id").loc[played]
            return _single(self.experiment, {"clip_id": played}, clip["label"])
        pair, view = played
        return sound_of(model, render(pair, view, self.experiment.audio), *described(pair, view))


def described(pair: Mapping, view: str) -> tuple[str, tuple[float, ...], tuple[str, ...]]:
    """Title, ends and events of a composite, as :class:`artifact.notebook.sounds.Sound` has them."""
    a, b = pair["label_i"], pair["label_j"]
    if view == "overlap":
        return f"{a} and {b} at once", (), ()
    first, second, length = (a, b, "length_i") if view == "forward" else (b, a, "length_j")
    end = (pair[length] + pair["gap"] / 2) / pair["sample_rate"]
    return f"{first}, then {second}", (end,), (first, second)


def sound_of(
    model: AudioTextModel,
    waveform: np.ndarray,
    title: str,
    ends: tuple[float, ...] = (),
    events: tuple[str, ...] = (),
) -> Sound:
    """A waveform at the model's rate as the model hears it."""
    step = model.audio_trunk.hop / model.sample_rate
    return Sound(title, waveform, model.sample_rate, decibels(model, waveform), step, ends, events)


def one_of_each(experiment: Experiment, most: int = 20) -> list[Sound]:
    """A test clip of each class, of ``most`` classes, as the window policy ``fit`` plays it."""
    clips = for_stage(experiment.clips, "test").drop_duplicates("label").sort_values("label").head(most)
    return [_single(experiment, clip, clip["label"]) for clip in clips.to_dict("records")]


def takes(experiment: Experiment, label: str, count: int = 3) -> list[Sound]:
    """Some test clips of one class."""
    clips = for_stage(experiment.clips, "test")
    chosen = clips[clips["label"] == label].head(count)
    return [_single(experiment, clip, clip["clip_id"]) for clip in chosen.to_dict("records")]


def _single(experiment: Experiment, clip: Mapping, title: str) -> Sound:
    model = experiment.reference
    waveform = render_single(experiment.audio(clip["clip_id"]), model.window, model.sample_rate)
    return sound_of(model, waveform, title)


def views(experiment: Experiment, pair: Mapping) -> list[Sound]:
    """A composite, its inversion and its overlap."""
    return [
        sound_of(experiment.reference, render(pair, view, experiment.audio), *described(pair, view))
        for view in VIEWS
    ]


def policies(experiment: Experiment, pair: Mapping, view: str = "forward") -> list[Sound]:
    """One composite under each window policy."""
    model, sounds = experiment.reference, []
    for policy in POLICIES:
        placed = place(
            pd.DataFrame([pair]),
            experiment.audio,
            model.window,
            policy=policy,
            seed=experiment.config.data_seed,
        )
        row = placed.iloc[0].to_dict()
        _, (end,), events = described(row, view)
        begin = max(row["cut"], 0) / row["sample_rate"]
        sounds.append(sound_of(model, render(row, view, experiment.audio), policy, (end - begin,), events))
    return sounds
