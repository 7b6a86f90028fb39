"""A base model from scratch (notebook 02), and variants of it that ask what slots in time need.

First the text head learns from captions alone what the words for order mean, then both towers learn CLAP's
own loss on sounds whose captions tell no order. A variant (:data:`BASE_VARIANTS`) starts from the same words
and differs in what its training hears, or in its audio trunk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from artifact.model_folder import ModelFolder
from tclap.data.batches import BASE_MIX, SegmentBank
from tclap.models.base import AudioTextModel
from tclap.models.registry import load_model
from tclap.training.batch_embedding import BatchEmbedder
from tclap.training.loop import train_base, warm_up_text
from tclap.training.text_loss import TextOnlyLoss
from tclap.training.variants import BASE

if TYPE_CHECKING:
    from artifact.experiment import Experiment


@dataclass(frozen=True)
class BaseVariant:
    """What a base model that is trained from scratch differs in; the defaults are ``clap``."""

    mix: dict[str, float] = field(default_factory=BASE_MIX.copy)
    options: dict[str, str] = field(default_factory=dict)  # of the model


BASE_VARIANTS: dict[str, BaseVariant] = {
    BASE: BaseVariant(),
    "clap-no-sequences": BaseVariant({"single": 0.5, "overlap": 0.5}),
    "clap-single-sounds": BaseVariant({"single": 1.0}),
    "clap-attention": BaseVariant(options={"context": "attention"}),
}


def base_variant(name: str) -> BaseVariant:
    """A base model that is trained from scratch, by name.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in BASE_VARIANTS:
        raise ValueError(f"unknown base model {name!r}, expected one of {', '.join(BASE_VARIANTS)}.")
    return BASE_VARIANTS[name]


class BaseTraining:
    """Trains a seed's base model and its variants, which share the clips' mel power and the words.

    Raises:
        ValueError: on a seed below 0.
    """

    def __init__(self, experiment: Experiment, seed: int) -> None:
        self.experiment, self.seed = experiment, experiment.config.check_seed(seed)
        self._words: tuple[dict[str, Tensor], pd.DataFrame] | None = None

    def train(self, name: str = BASE) -> AudioTextModel:
        """The base model, or a variant of it, trained unless it is there.

        Raises:
            ValueError: on an unknown variant.
        """
        experiment, config = self.experiment, self.experiment.config
        settings = base_variant(name)
        inputs = {
            "seed": self.seed,
            "warm_up": asdict(config.warm_up),
            "base_training": asdict(config.base_training),
            "crop_energy": config.crop_energy,
            "options": experiment.options | settings.options,
            "mix": settings.mix,
        }
        folder = experiment.model_dir(self.seed, name, inputs)
        if folder.is_made():
            return experiment.load(self.seed, name)
        words, warm_up = self._learn_words(folder)
        model = self._fresh(settings)
        model.text_head.load_state_dict(words)
        base = train_base(
            model,
            experiment.text,
            self._banks["base"],
            self._banks["validation"],
            experiment.table("data/pairs-validation.parquet"),
            config.base_training.schedule(),
            batch=config.base_training.batch,
            seed=self.seed,
            mix=settings.mix,
            embedding=BatchEmbedder(experiment.processes, precision=config.base_training.precision),
            checkpoints=folder.checkpoints("base"),
        )
        history = pd.concat([warm_up.assign(model="warm-up"), base.assign(model=name)], ignore_index=True)
        folder.keep(model, history)
        return model

    def _fresh(self, settings: BaseVariant) -> AudioTextModel:
        torch.manual_seed(self.seed)
        return load_model(self.experiment.base, **self.experiment.options | settings.options)

    def _learn_words(self, folder: ModelFolder) -> tuple[dict[str, Tensor], pd.DataFrame]:
        """The text head's weights after the warm-up, which no variant changes, and its history."""
        if self._words is None:
            experiment, phase = self.experiment, self.experiment.config.warm_up
            model = self._fresh(BaseVariant())
            history = warm_up_text(
                TextOnlyLoss(model, experiment.text, experiment.labels, self.seed),
                phase.schedule(),
                batch=phase.batch,
                checkpoints=folder.checkpoints("warm-up"),
                processes=experiment.processes,
            )
            self._words = (model.text_head.state_dict(), history)
        return self._words

    @cached_property
    def _banks(self) -> dict[str, SegmentBank]:
        model = self._fresh(BaseVariant())
        return {stage: self.experiment.bank(model, stage) for stage in ("base", "validation")}
