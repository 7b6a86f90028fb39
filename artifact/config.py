"""Profiles and notebook parameters: plain values in, checked and frozen dataclasses out.

A profile is ``configs/<name>.yaml``. Unknown keys and values of a wrong type are refused with the
file, the key, the value and what was expected.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from artifact import paths
from tclap.data.composites import POLICIES
from tclap.progress import without_traceback
from tclap.training.schedule import PRESETS, Schedule
from tclap.training.variants import READOUTS, VARIANTS, variant

T = TypeVar("T")
RETRIEVAL_SETS = ("clotho", "audiocaps")
PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Phase:
    """One phase of training: number of steps, peak learning rate, items (pairs) a step.

    ``preset`` is a name of :data:`~tclap.training.schedule.PRESETS`, for the rest; an epoch is one of the
    pool. ``precision`` is that of the heads (losses are always float32).
    """

    steps: int
    lr: float
    batch: int
    validate_every: int = 25
    weight_decay: float | None = None  # None: the preset's
    preset: str = "cosine"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a training phase is {getattr(self, name)}, expected above 0.")
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}, expected one of {', '.join(PRESETS)}.")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}, expected fp32 or bf16.")

    def schedule(self, epoch: int = 1) -> Schedule:
        """The preset with this phase's numbers; an ``epoch`` in steps."""
        changes = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        every = epoch if self.preset == "published" else self.validate_every
        return Schedule.of(self.preset, self.steps, self.lr, epoch=epoch, validate_every=every, **changes)


@dataclass(frozen=True)
class PostPretraining(Phase):
    """Post-pretraining: a step takes ``batch`` pairs in three views, and replayed base-type items."""

    replay_batch: int = 64
    text_loss_batch: int = 8  # pairs of captions a step that keep the words for order, without audio
    pool_pairs: int = 3200  # composites whose trunk outputs are kept
    pool_items: int = 6400  # base-type items likewise
    micro_batch: int | None = None  # pairs that go through the heads at a time; None: all of a batch
    chunk_size: int | None = None  # anchors whose logits are held at a time; None: all

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("micro_batch", "chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of a training phase is {value}, expected at least 1.")


@dataclass(frozen=True)
class Slots:
    """Order from text alone: shares of the time that make a slot, and the caption reader's training."""

    parts: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.5])
    steps: int = 600
    pool: int = 4000
    ablation: bool = False  # whether the first seed's slots are taken apart too


@dataclass(frozen=True)
class Config:
    """Everything that a run is a function of, beside its seed, its data and the versions."""

    profile: str
    dataset: str
    seeds: list[int]
    bases: dict[str, dict]
    test_pairs: int
    validation_pairs: int
    post_pretraining: PostPretraining
    variants: list[str]
    warm_up: Phase | None = None  # these two make a base model; a published one has been made
    base_training: Phase | None = None
    dataset_options: dict = field(default_factory=dict)
    control_pairs: int = 0  # the first test pairs, of which the controls ask too
    readouts: list[str] = field(default_factory=list)
    slots: Slots | None = None  # None: notebook 06 has nothing to do
    window_policies: list[str] = field(default_factory=lambda: ["fit"])
    crop_energy: float = 1.0  # of training's segments, see SegmentBank
    gap_ms: list[float] = field(default_factory=lambda: [0.0, 0.0])
    retrieval_sets: list[str] = field(
        default_factory=list
    )  # captioned data sets to search, if they are there
    features: str = "float16"  # what kept trunk outputs of published models are rounded to
    weights: str | None = None  # of a published base model; None: the official ones
    data_seed: int = 0
    threads: int = 1

    def model_options(self, base: str) -> dict:
        """Options of a base model; ValueError when the profile does not have it."""
        if base not in self.bases:
            raise ValueError(
                f"profile {self.profile} has no base {base!r}, expected one of {', '.join(self.bases)}."
            )
        return self.bases[base]

    def check_seed(self, seed: int) -> int:
        """The seed, if it can be one."""
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}.")
        return seed


def profiles() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in paths.configs().glob("*.yaml"))


def load_config(profile: str, dataset_options: Mapping[str, Any] | None = None) -> Config:
    """Read a profile; ``dataset_options`` that are not None replace the profile's own.

    Raises:
        ValueError: on an unknown profile, key, variant or readout, or a value of a wrong type.
    """
    path = paths.configs() / f"{profile}.yaml"
    if profile not in profiles():
        raise ValueError(f"unknown profile {profile!r}, expected one of {', '.join(profiles())}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"configs/{profile}.yaml is no readable YAML: {error}") from error
    if not isinstance(values, dict):
        raise TypeError(f"configs/{profile}.yaml is {values!r}, expected keys and values.")
    given = {key: value for key, value in (dataset_options or {}).items() if value is not None}
    options = values.get("dataset_options") or {}
    values["dataset_options"] = options | given if isinstance(options, dict) else options
    config = build(Config, {"profile": profile} | values, f"configs/{profile}.yaml")
    _check(config, f"configs/{profile}.yaml")
    return config


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from plain values, refusing unknown and missing keys and wrong types.

    ``where`` names the values' origin in the ValueError or TypeError that is raised.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{where} is {values!r}, expected keys and values.")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields), key=str)
    if unknown:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}, expected among {', '.join(fields)}.")
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{where} lacks the key {missing[0]!r}.")
    typed = {key: _typed(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**typed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (hint,) = [a for a in arguments if a is not type(None)]
        return _typed(hint, value, where)
    if origin is list and isinstance(value, list):
        return [_typed(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    plain = origin or hint
    # YAML reads 3e-3 as a string, and True is an int to Python.
    accepted = (int, float) if plain is float else (plain,)
    if plain in (list, dict) and isinstance(value, plain) and not arguments:
        return value
    if origin is not None or isinstance(value, bool) != (plain is bool) or not isinstance(value, accepted):
        raise TypeError(f"{where} is {value!r}, expected {getattr(hint, '__name__', hint)}.")
    return float(value) if plain is float else value


def _check(config: Config, where: str) -> None:
    choices = {
        "variants": (config.variants, VARIANTS),
        "readouts": (config.readouts, READOUTS),
        "window_policies": (config.window_policies, POLICIES),
        "retrieval_sets": (config.retrieval_sets, RETRIEVAL_SETS),
        "features": ([config.features], PRECISIONS),
    }
    for key, (values, known) in choices.items():
        for value in values:
            if value not in known:
                raise ValueError(f"{where}: {key} has {value!r}, expected among {', '.join(known)}.")
    if not 0 <= config.control_pairs <= config.test_pairs:
        raise ValueError(
            f"{where}: control_pairs is {config.control_pairs}, expected 0 to {config.test_pairs}."
        )
    if not config.seeds:
        raise ValueError(f"{where}: seeds is empty, expected at least one number.")
    for seed in config.seeds:
        config.check_seed(seed)
    if not 0 < config.crop_energy <= 1:
        raise ValueError(f"{where}: crop_energy is {config.crop_energy}, expected above 0 and at most 1.")
    if len(config.gap_ms) != 2:
        raise ValueError(f"{where}: gap_ms is {config.gap_ms}, expected two numbers.")


@dataclass(frozen=True)
class DataParameters:
    """Parameters of notebook 01; None leaves a choice to the profile or the data set."""

    profile: str = "synthetic"
    base: str = "compact"
    esc50_root: str | None = None
    test_fold: int | None = None
    validation_fold: int | None = None
    classes: str | None = None
    weights: str | None = None
    download: bool = False

    def dataset_options(self) -> dict[str, Any]:
        """What replaces the profile's own data set options."""
        names = ("test_fold", "validation_fold", "classes")
        return {name: getattr(self, name) for name in names} | {"download": self.download or None}


@dataclass(frozen=True)
class SeedParameters:
    """Parameters of notebook 02."""

    profile: str = "synthetic"
    base: str = "compact"
    seed: int = 0


@dataclass(frozen=True)
class VariantParameters(SeedParameters):
    """Parameters of notebooks 03 and 04; ``variants`` None: all of the profile."""

    variants: list[str] | None = None


@dataclass(frozen=True)
class ReportParameters:
    """Parameters of notebook 05."""

    profile: str = "synthetic"
    base: str = "compact"


_CHECKED = "_tclap_parameters_checked"


def read_parameters(cls: type[T], namespace: dict[str, Any], notebook: str) -> T:
    """The parameters that a notebook's first cells left in its ``globals()``.

    papermill only warns of a parameter that the notebook does not have, and runs it all the same.
    Here every plain value in the fresh namespace has to be a parameter. Later calls in the same
    kernel do not look for unknown names: by then the notebook has variables of its own.

    Raises:
        ValueError, TypeError: naming the parameter, its value and what was expected, or a profile, base,
            seed or variant that there is not; a notebook shows that sentence alone.
    """
    names = [f.name for f in dataclasses.fields(cls)]
    plain = {
        key: value
        for key, value in namespace.items()
        if not key.startswith("_")
        and key not in ("In", "Out")
        and (value is None or isinstance(value, (str, int, float, bool, list, dict, tuple)))
    }
    if namespace.get(_CHECKED):
        plain = {key: value for key, value in plain.items() if key in names}
    try:
        parameters = build(cls, plain, f"notebook {notebook}")
        config = load_config(parameters.profile)
        config.model_options(parameters.base)
        config.check_seed(getattr(parameters, "seed", 0))
        for name in getattr(parameters, "variants", None) or ():
            variant(name)
    except (ValueError, TypeError) as error:
        raise without_traceback(error) from None
    namespace[_CHECKED] = True
    return parameters


def plain_values(config: Config) -> dict[str, Any]:
    """A config as JSON-ready values."""
    return dataclasses.asdict(config)


def from_plain_values(values: Mapping[str, Any], where: str | Path) -> Config:
    """The config that :func:`plain_values` wrote to ``where``."""
    return build(Config, values, str(where))
