"""Profiles and notebook parameters: plain values in, checked and frozen models out.

A profile is ``configs/<name>.yaml``. Types are strict, unknown keys are refused, and an error is one sentence
with the file, the key, the value and what was expected.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

import pydantic
import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from artifact import paths
from tclap.data.clips import DATASETS, dataset_options
from tclap.data.composites import POLICIES
from tclap.training.schedule import PRESETS, Schedule
from tclap.training.variants import BASE, READOUT_PREFIX, READOUTS, VARIANTS


def without_traceback(error: Exception) -> Exception:
    """The error, of which a notebook then shows one sentence and no frames."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: {error}"]
    return error


class Loader(yaml.SafeLoader):
    """Builds plain values alone, and refuses a key that occurs twice, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for n, key in enumerate(keys) if key in keys[:n]]:
            raise yaml.YAMLError(f"the key {twice[0]!r} occurs twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _distinct(values: list) -> list:
    if any(value in values[:n] for n, value in enumerate(values)):
        raise ValueError("should have each value once")
    return values


Distinct = pydantic.AfterValidator(_distinct)
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # of a folder


class Settings(pydantic.BaseModel):
    """Checked values: frozen, strictly typed (an int may stand for a float), without unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Phase(Settings):
    """One phase of training: steps, peak learning rate, items (pairs) per step, and a preset for the rest."""

    steps: PositiveInt
    lr: PositiveFloat
    batch: PositiveInt
    validate_every: PositiveInt = 25
    weight_decay: NonNegativeFloat | None = None  # None: the preset's
    preset: Literal[*PRESETS] = "cosine"

    def schedule(self, epoch: int = 1) -> Schedule:
        """The preset with this phase's numbers; an ``epoch`` (of the pool) in steps."""
        changes = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        every = epoch if self.preset == "published" else self.validate_every
        return Schedule.of(self.preset, self.steps, self.lr, epoch=epoch, validate_every=every, **changes)


class PostPretraining(Phase):
    """A step takes ``batch`` pairs in three views, and replayed base-type items."""

    replay_batch: NonNegativeInt = 64
    text_loss_batch: NonNegativeInt = 8  # pairs of captions per step of the text-only auxiliary loss
    pool_pairs: PositiveInt = 3200  # composites whose trunk outputs are kept
    pool_items: PositiveInt = 6400  # base-type items likewise


class Slots(Settings):
    """Order from text alone: fractions of the time that make a slot, and what is cut."""

    parts: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = [0.35, 0.5]
    source: Literal["waveform", "trunk"] = "waveform"
    ablation: bool = False  # of the first seed's slots


class HoldOut(Settings):
    """T-CLAP on composites of some of the classes, see :mod:`artifact.hold_out`."""

    # Of the classes.
    fractions: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1), Distinct] = [
        0.2, 0.4, 0.6, 0.8,
    ]  # fmt: skip
    splits: PositiveInt = 5  # of the classes at each fraction
    steps: PositiveInt  # of each of these post-pretrainings, which are shorter than the others
    pool_pairs: PositiveInt
    pool_items: PositiveInt


class Config(Settings):
    """Everything that a run is a function of, beside its seed, its data and the versions."""

    profile: str
    dataset: Literal[*DATASETS]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1), Distinct]
    rotate: Annotated[list[PositiveInt], Distinct] = []  # test folds, a seed each in turn
    bases: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    test_pairs: PositiveInt
    validation_pairs: PositiveInt
    post_pretraining: PostPretraining
    variants: Annotated[list[Literal[*VARIANTS]], Distinct]
    warm_up: Phase | None = None  # these two train a base model; a published one needs neither
    base_training: Phase | None = None
    dataset_options: dict[str, Any] = {}
    control_pairs: NonNegativeInt = 0  # the first test pairs, which the controls ask about too
    readouts: Annotated[list[Literal[*READOUTS]], Distinct] = []
    slots: Slots | None = None  # None: notebook 05 has nothing to do
    hold_out: HoldOut | None = None  # None: no classes are held out
    window_policies: Annotated[list[Literal[*POLICIES]], Field(min_length=1), Distinct] = ["fit"]
    crop_energy: Annotated[float, Field(gt=0, le=1)] = 1.0  # of training's segments, see SegmentBank
    retrieval_sets: Annotated[
        list[Literal["clotho", "audiocaps"]], Distinct
    ] = []  # searched where they are there
    features: Literal["float32", "float16", "bfloat16"] = "float16"  # of published models' kept trunk outputs
    weights: str | None = None  # of a published base model; None: the official ones

    @model_validator(mode="after")
    def _options_are_the_data_sets(self) -> Self:
        accepted = dataset_options(self.dataset)
        unknown = sorted(self.dataset_options.keys() - accepted)
        if unknown:
            expected = f"expected among {', '.join(sorted(accepted))}"
            raise ValueError(f"the data set {self.dataset} has no option {unknown[0]!r}, {expected}.")
        if self.rotate and (len(self.rotate) < 3 or "test_fold" not in accepted):
            raise ValueError(
                f"rotate is {self.rotate}, expected three folds or more of a data set with folds."
            )
        return self

    def test_fold(self, seed: int) -> int | None:
        """The fold that a seed is tested on; None: that of the data set's options."""
        return self.rotate[seed % len(self.rotate)] if self.rotate else None

    def splits(self, fold: int) -> dict[int, str]:
        """The splits of the other folds than training's where ``fold`` is the test fold."""
        following = self.rotate[(self.rotate.index(fold) + 1) % len(self.rotate)]
        return {fold: "test", following: "validation"}

    def with_folds(self, present: Iterable[int]) -> Self:
        """These settings with the test folds there are, each with as many seeds as are given."""
        rotate = sorted(set(self.rotate) & set(present))
        seeds = list(range(len(self.seeds) * len(rotate)))
        return self.model_copy(update={"rotate": rotate, "seeds": seeds}) if rotate else self

    @property
    def starts(self) -> list[str]:
        """The base models that the variants start from."""
        return sorted({BASE, *(VARIANTS[name].base for name in self.variants)})

    def variant_names(self, seed: int) -> list[str]:
        """The variants that are trained in a seed; in the first also the readouts."""
        readouts = self.readouts if seed == self.seeds[0] else []
        return [*self.variants, *(READOUT_PREFIX + name for name in readouts)]

    @property
    def held_out_seeds(self) -> list[int]:
        """The seeds that train splits of the class hold-out."""
        return self.seeds[: self.hold_out.splits] if self.hold_out else []

    def model_options(self, base: str) -> dict[str, Any]:
        """Options of a base model; ValueError when the profile does not have it."""
        if base not in self.bases:
            known = ", ".join(self.bases)
            raise ValueError(f"profile {self.profile} has no base {base!r}, expected one of {known}.")
        return self.bases[base]


S = TypeVar("S", bound=Settings)


def validate(cls: type[S], values: Any, where: str, *, strict: bool = True) -> S:
    """Settings from plain values, or where not ``strict`` from their texts.

    Raises:
        ValueError: a sentence with ``where`` the values come from, the key, its value and what was expected.
    """
    try:
        return cls.model_validate(values, strict=strict)
    except pydantic.ValidationError as error:
        raise ValueError(f"{where}{_sentence(cls, error.errors()[0])}") from None


def _sentence(cls: type[Settings], error: Mapping[str, Any]) -> str:
    kind, key = error["type"], ".".join(map(str, error["loc"]))
    if kind == "value_error" and key:
        return f": {key} is {error['input']!r}, but {error['ctx']['error']}."
    if kind == "value_error":
        return f": {error['ctx']['error']}"
    if kind == "missing":
        return f" lacks the key {key!r}."
    if kind == "extra_forbidden":
        known = f", expected among {', '.join(cls.model_fields)}" if len(error["loc"]) == 1 else ""
        return f" has the unknown key {key!r}{known}."
    subject = f": {key} is" if key else " is"
    return f"{subject} {error['input']!r}, but should {error['msg'].partition(' should ')[2]}."


def profiles() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in paths.configs().glob("*.yaml"))


def load_config(profile: str, dataset_options: Mapping[str, Any] | None = None) -> Config:
    """Read a profile; ``dataset_options`` that are not None replace the profile's own.

    A test fold that is given is the only one.

    Raises:
        ValueError: on an unknown profile or key, or a value that is not as expected.
    """
    where = f"configs/{profile}.yaml"
    if profile not in profiles():
        raise ValueError(f"unknown profile {profile!r}, expected one of {', '.join(profiles())}.")
    try:
        values = yaml.load((paths.configs() / f"{profile}.yaml").read_bytes(), Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where} is no readable YAML: {' '.join(str(error).split())}") from error
    given = {key: value for key, value in (dataset_options or {}).items() if value is not None}
    if isinstance(values, dict):
        options = values.get("dataset_options", {})
        options = options | given if isinstance(options, dict) else options
        values = values | {"profile": profile, "dataset_options": options}
        if "test_fold" in given:
            values["rotate"] = []
    return validate(Config, values, f"{where} with {given}" if given else where)


class ReportParameters(Settings):
    """Parameters of notebook 06: a profile, and a base model of it."""

    profile: str = "synthetic"
    base: str = "compact"

    @model_validator(mode="after")
    def _profile_and_base_exist(self) -> Self:
        load_config(self.profile).model_options(self.base)
        return self


class DataParameters(ReportParameters):
    """Parameters of notebook 01; None leaves a choice to the profile or the data set."""

    esc50_root: str | None = None
    test_fold: int | None = None
    validation_fold: int | None = None
    classes: str | None = None
    weights: str | None = None
    download: bool = False

    def dataset_options(self) -> dict[str, Any]:
        """What replaces the profile's own data set options."""
        options = self.model_dump(include={"test_fold", "validation_fold", "classes"})
        return options | {"download": self.download or None}


SETTINGS = {
    "PROFILE": "profile", "BASE": "base", "TEST_FOLD": "test_fold", "VAL_FOLD": "validation_fold",
    "CLASSES": "classes", "WEIGHTS": "weights", "DOWNLOAD": "download",
}  # fmt: skip


def settings(environ: Mapping[str, str]) -> DataParameters:
    """The parameters of notebook 01 from the Makefile's settings; an empty one counts as none, but PROFILE.

    Raises:
        ValueError: as :func:`validate`.
    """
    given = {name: environ[variable] for variable, name in SETTINGS.items() if environ.get(variable)}
    given["profile"] = environ.get("PROFILE", "synthetic")
    if "weights" in given:  # notebooks run in their own folder
        given["weights"] = os.path.abspath(given["weights"])
    return validate(DataParameters, given, "the command line", strict=False)


class SeedParameters(ReportParameters):
    """Parameters of notebooks 02 and 05."""

    seed: NonNegativeInt = 0


class RecordingsParameters(SeedParameters):
    """Parameters of notebook 07: a folder of recordings ("": some are made), a published model ("": none)."""

    recordings: str = ""
    published: str = ""


class VariantParameters(SeedParameters):
    """Parameters of notebooks 03 and 04; ``variants`` None: all of the profile."""

    variants: list[Literal[*VARIANTS, *(READOUT_PREFIX + name for name in READOUTS)]] | None = None


_CHECKED = "_tclap_parameters_checked"
PLAIN = (str, int, float, list, dict, tuple, type(None))  # types of what papermill writes


def read_parameters(cls: type[S], namespace: dict[str, Any], notebook: str) -> S:
    """The parameters that a notebook's first cells left in its ``globals()``.

    papermill only warns of a parameter that the notebook does not have. Here every plain value in the fresh
    namespace has to be one. Later calls in the same kernel do not look for unknown names: by then the
    notebook has variables of its own.

    Raises:
        ValueError: as :func:`validate`; a notebook shows the sentence alone.
    """
    fresh = {
        key: value
        for key, value in namespace.items()
        if isinstance(value, PLAIN) and not key.startswith("_") and key not in ("In", "Out")
    }
    known = {key: namespace[key] for key in cls.model_fields if key in namespace}
    plain = known if namespace.get(_CHECKED) else fresh | known
    try:
        parameters = validate(cls, plain, f"notebook {notebook}")
    except ValueError as error:
        raise without_traceback(error) from None
    namespace[_CHECKED] = True
    return parameters
