"""params.yaml, typed: profiles, data sources and one recipe per model. The only module that reads the file.

A recipe is written once, under `seed`, as its paper has it; every other profile states what it changes. Unknown keys
are refused with the nearest valid name.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError

T = TypeVar("T", bound=BaseModel)
Profile = Literal["smoke", "quick", "laptop", "seed", "best"]
PROFILES: tuple[Profile, ...] = ("smoke", "quick", "laptop", "seed", "best")
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of everything read from params.yaml: immutable, and no key is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Settings):
    """Where the archive comes from, and what its table must look like."""

    kind: Literal["download", "generated"]
    url: str = Field("", description="http(s)://, file:// or a path; `download` only")
    sha256: str = Field("", description="expected checksum of the archive; `download` only")
    seed: int = Field(0, description="`generated` only")
    train_per_class: Count
    test_per_class: Count
    channel_mean: tuple[Fraction, Fraction, Fraction] | None = Field(None, description="of train pixels / 255")
    channel_std: tuple[Fraction, Fraction, Fraction] | None = None


class SplitSettings(Settings):
    """How the training images are divided."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: int


class Architecture(Settings):
    """A name of the model registry and its options; all but `dropout` are `cnn9`'s."""

    name: Literal["cnn9", "efficientnet_b0"]
    filters: tuple[Count, Count, Count] = (128, 256, 512)
    units: Count = 1000
    block_dropout: tuple[Fraction, Fraction, Fraction] = (0.2, 0.5, 0.5)
    initializer: Literal["glorot_uniform", "he_normal"] = "glorot_uniform"
    dropout: Fraction = Field(0.5, description="before the output layer")


class Augmentation(Settings):
    """Random transforms of training images; probabilities, or ranges as fractions of the image size."""

    order: Literal["native", "resized"] = Field("native", description="augment before or after resizing the image")
    horizontal_flip: Fraction = 0.0
    vertical_flip: Fraction = 0.0
    grid_distortion: Fraction = 0.0
    elastic: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, le=90)] = Field(0.0, description="degrees")
    zoom: Fraction = 0.0
    shift_x: Fraction = 0.0
    shift_y: Fraction = 0.0


class Optimizer(Settings):
    """A Keras optimiser. Source of the defaults: keras.io."""

    name: Literal["adam", "adamw"]
    learning_rate: Positive
    weight_decay: Fraction = 0.0


class Schedule(Settings):
    """Learning rate over the steps of a training: constant, or one cycle (linear warm-up, then cosine to zero)."""

    name: Literal["constant", "one_cycle"] = "constant"
    warmup: Fraction = Field(0.25, description="share of all steps; `one_cycle` only")


class Plateau(Settings):
    """Multiply the learning rate by `factor` after `patience` epochs without a better mean validation loss."""

    patience: Count
    factor: Annotated[float, Field(gt=0, lt=1)]
    minimum: Positive


class Recipe(Settings):
    """Everything that decides what a training produces, apart from its input data."""

    architecture: Architecture
    image_size: Count = Field(description="height and width in pixels that the network sees")
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    weights: str = Field(description="`imagenet` (fetched by Keras), `none`, or the path of a Keras weights file")
    freeze_batch_norm: bool = False
    batch_norm_momentum: Fraction | None = Field(None, description="of the moving statistics; short trainings need a lower one than Keras'")
    train_per_class: Count | None = Field(None, description="train on this many images a class; all where absent")
    validation_per_class: Count | None = None
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    plateau: Plateau | None = None
    early_stopping: Count | None = Field(None, description="epochs of patience on the mean validation loss")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_size: Count
    epochs: Count
    seed: int
    device: Literal["any", "gpu"] = Field("any", description="`gpu` refuses to train without one")


class ProfileSettings(Settings):
    """What a profile changes apart from the recipes."""

    source: str


class Params(Settings):
    """The whole of params.yaml, under one profile."""

    profile: Profile
    sources: dict[str, Source]
    profiles: dict[Profile, ProfileSettings]
    splits: SplitSettings
    recipes: dict[str, dict[Profile, dict[str, Any]]]

    def source(self) -> Source:
        """The data source of the active profile, with `$CIFAR_ARCHIVE` and `$CIFAR_ARCHIVE_SHA256` in place of its own."""
        name = self.profiles[self.profile].source
        if name not in self.sources:
            raise PipelineError(f"profile '{self.profile}' names the source '{name}'; params.yaml has {sorted(self.sources)}")
        source = self.sources[name]
        if source.kind == "generated":
            return source
        changes = {"url": os.environ.get("CIFAR_ARCHIVE"), "sha256": os.environ.get("CIFAR_ARCHIVE_SHA256")}
        return source.model_copy(update={key: value for key, value in changes.items() if value})

    def recipe(self, name: str) -> Recipe:
        """The recipe `name` of the active profile; `$CIFAR_WEIGHTS_<NAME>` replaces the weights of a pretrained recipe.

        Raises: PipelineError for a recipe that is unknown or does not validate.
        """
        if name not in self.recipes:
            raise PipelineError(f"no recipe '{name}' in params.yaml{_nearest(name, self.recipes)}; it has {sorted(self.recipes)}")
        profiles = self.recipes[name]
        if missing := sorted({"seed", self.profile} - set(profiles)):
            raise PipelineError(f"recipe '{name}' has no {missing} in params.yaml; write an empty mapping ({{}}) for no change")
        changes = profiles[self.profile] if self.profile != "seed" else {}
        recipe = _validated(Recipe, _merge(profiles["seed"], changes), f"recipes.{name} under profile '{self.profile}'")
        local = os.environ.get(f"CIFAR_WEIGHTS_{name.upper()}")
        return recipe.model_copy(update={"weights": local}) if local and recipe.weights == "imagenet" else recipe

    def value(self, key: str) -> Any:
        """The value at a dotted key of params.yaml, in JSON's terms, as DVC records it."""
        content: Any = self.model_dump(mode="json")
        for part in key.split("."):
            content = content[part]
        return content


def load_params(path: Path) -> Params:
    """Read and validate params.yaml, every recipe under every profile included.

    Raises: PipelineError naming the file, the key and what it should be.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; restore it with `git checkout params.yaml`") from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no settings; restore it with `git checkout params.yaml`")
    params = _validated(Params, content, path.name)
    for profile in PROFILES:
        other = params.model_copy(update={"profile": profile})
        other.source()
        for name in params.recipes:
            other.recipe(name)
    return params


def select_profile(path: Path, profile: str) -> bool:
    """Make `profile` the active one, as `dvc exp run -S profile=...` would: in params.yaml. True when it was another.

    params.yaml is the only place that says which profile `data/` holds, so that DVC records what was really run.
    """
    if profile not in PROFILES:
        raise PipelineError(f"no profile '{profile}'{_nearest(profile, PROFILES)}; there are {', '.join(PROFILES)}")
    before = path.read_text()
    after, found = re.subn(r"(?m)^profile: *\w+", f"profile: {profile}", before, count=1)
    if not found:
        raise PipelineError(f"{path} has no line `profile: NAME`; add `profile: {profile}`")
    if after == before:
        return False
    with replacing_file(path) as temporary:
        temporary.write_text(after)
    return True


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _validated(model: type[T], content: Any, where: str) -> T:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"{where} is not valid:\n" + "\n".join(_problems(error, model))) from None


def _problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    names = _keys(model)
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {'.'.join(location)}: no such key{_nearest(location[-1], names)}")
        else:
            lines.append(f"  {'.'.join(location)}: {problem['msg']} (found {problem['input']!r:.60})")
    return lines


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= _keys(kind)
    return keys


def _nearest(name: str, names: Any) -> str:
    matches = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
