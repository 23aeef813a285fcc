"""params.yaml, typed: profiles, data sources and one recipe per model. The only module that reads the file.

A recipe is written once, under `seed`, as its paper has it; every other profile states what it changes. Unknown keys
are refused with the nearest valid name.
"""

import difflib
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.recipes import Count, Fraction, Recipe, Settings
from cifar_pipeline.search.settings import Draws, Grid, Range, Search, recipe_of_trial

T = TypeVar("T", bound=BaseModel)
Profile = Literal["smoke", "quick", "laptop", "seed", "best"]
NAME = "[a-z][a-z0-9_]*"
PROFILES: tuple[Profile, ...] = ("smoke", "quick", "laptop", "seed", "best")


class Source(Settings):
    """Where the archive comes from, and what its table must look like."""

    kind: Literal["download", "generated"]
    url: str = Field("", description="http(s)://, file:// or a path; `download` only")
    sha256: str = Field("", description="expected checksum of the archive; `download` only")
    seed: int = Field(0, description="`generated` only")
    train_per_class: Count
    test_per_class: Count
    channel_mean: tuple[Fraction, Fraction, Fraction] | None = Field(
        None, description="of train pixels / 255"
    )
    channel_std: tuple[Fraction, Fraction, Fraction] | None = None


class SplitSettings(Settings):
    """How the training images are divided."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: int


class PublishedList(Settings):
    """A file of upstream's indices of test images."""

    path: str
    sha256: str = Field(description="of the file, so that another one does not pass for it")


class SubsetSettings(Settings):
    """Test images to leave out of a second accuracy, besides near-duplicates."""

    lists: dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], PublishedList] = Field({})

    @model_validator(mode="after")
    def _leaves_the_built_in_subset_alone(self) -> Self:
        if "duplicates" in self.lists:
            raise ValueError(
                "`duplicates` is the subset that is found without a list; give the list another name, such as `cifair`"
            )
        return self


class Ensemble(Settings):
    """Predictions put together: the mean of the probabilities of several models, or of images and their mirror images."""

    members: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="recipes")
    mirrored: bool = Field(False, description="each member sees each image and its mirror image")

    @model_validator(mode="after")
    def _puts_something_together(self) -> Self:
        if len(set(self.members)) < len(self.members):
            raise ValueError(
                f"`members: {list(self.members)}` has one of them twice; name each once"
            )
        if len(self.members) == 1 and not self.mirrored:
            raise ValueError(
                f"only '{self.members[0]}', which stands on the leaderboard already; add a member, or `mirrored: true`"
            )
        return self


class ProfileSettings(Settings):
    """What a profile changes apart from the recipes."""

    source: str


class Params(Settings):
    """The whole of params.yaml, under one profile."""

    profile: Profile
    models: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="the recipes that are in the graph"
    )
    search: tuple[str, ...] = Field((), description="the searches that are in the graph")
    sources: dict[str, Source]
    profiles: dict[Profile, ProfileSettings]
    splits: SplitSettings
    test_subsets: SubsetSettings
    floors: dict[Profile, dict[str, Fraction]] = Field(
        description="the top-1 test accuracy that a model must reach, by profile and recipe; `default` for the others"
    )
    groups: dict[str, tuple[str, ...]] = Field(
        {}, description="names for several recipes; each is a job when all of them are in the graph"
    )
    ensembles: dict[str, Ensemble] = Field(
        description="on the leaderboard when all of their members are in the graph"
    )
    recipes: dict[str, dict[Profile, dict[str, Any]]]
    searches: dict[str, dict[Profile, dict[str, Any]]] = Field(
        {}, description="by the recipe that they vary"
    )

    def source(self) -> Source:
        """The data source of the active profile, with `$CIFAR_ARCHIVE` and `$CIFAR_ARCHIVE_SHA256` in place of its own."""
        name = self.profiles[self.profile].source
        if name not in self.sources:
            raise PipelineError(
                f"profile '{self.profile}' names the source '{name}'; params.yaml has {sorted(self.sources)}"
            )
        source = self.sources[name]
        if source.kind == "generated":
            return source
        changes = {
            "url": os.environ.get("CIFAR_ARCHIVE"),
            "sha256": os.environ.get("CIFAR_ARCHIVE_SHA256"),
        }
        return source.model_copy(update={key: value for key, value in changes.items() if value})

    def recipe(self, name: str) -> Recipe:
        """The recipe `name` of the active profile; `$CIFAR_WEIGHTS_<ARCHITECTURE>` replaces the weights of a pretrained one.

        Raises: PipelineError for a recipe that is unknown or does not validate.
        """
        content = self._under_profile("recipe", self.recipes, name)
        recipe = _validated(Recipe, content, f"recipes.{name} under profile '{self.profile}'")
        local = os.environ.get(f"CIFAR_WEIGHTS_{recipe.architecture.name.upper()}")
        return (
            recipe.model_copy(update={"weights": local})
            if local and recipe.weights == "imagenet"
            else recipe
        )

    def search_around(self, name: str) -> Search:
        """The search around recipe `name` under the active profile, every value of its space tried on the recipe.

        Raises: PipelineError for a search that is unknown or does not validate.
        """
        where = f"searches.{name} under profile '{self.profile}'"
        search = _validated(Search, self._under_profile("search", self.searches, name), where)
        recipe = self.recipe(name)
        tried: list[tuple[Draws | Grid, dict[str, Any]]] = [(stage, {}) for stage in search.stages]
        for key, values in search.space.items():
            examples = values.examples if isinstance(values, Range) else values
            tried += [(search.draws, {key: value}) for value in examples]
        for stage, changes in tried:
            key = ", ".join(changes) or "epochs"
            try:
                recipe_of_trial(recipe, stage, changes)
            except (KeyError, IndexError, TypeError):
                raise PipelineError(
                    f"{where}: the recipe has no `{key}`; write a key of it, such as `optimizer.learning_rate`"
                ) from None
            except ValidationError as error:
                value = changes.get(key, stage.epochs)
                raise PipelineError(
                    f"{where}: `{key}: {value}` is not valid:\n"
                    + "\n".join(_problems(error, Recipe))
                ) from None
        return search

    def _under_profile(
        self, kind: str, entries: Mapping[str, Mapping[Profile, dict[str, Any]]], name: str
    ) -> dict[str, Any]:
        """An entry that is written once under `seed`, with the active profile's changes."""
        if name not in entries:
            raise PipelineError(
                f"no {kind} '{name}' in params.yaml{_nearest(name, entries)}; it has {sorted(entries)}"
            )
        profiles = entries[name]
        if missing := sorted({"seed", self.profile} - set(profiles)):
            raise PipelineError(
                f"{kind} '{name}' has no {missing} in params.yaml; write an empty mapping ({{}}) for no change"
            )
        return (
            _merge(profiles["seed"], profiles[self.profile])
            if self.profile != "seed"
            else profiles["seed"]
        )

    def floor(self, name: str) -> float:
        """The top-1 test accuracy that recipe `name` must reach under the active profile."""
        floors = self.floors[self.profile]
        return floors.get(name, floors["default"])

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
        raise PipelineError(
            f"{path} is missing; restore it with `git checkout params.yaml`"
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no settings; restore it with `git checkout params.yaml`")
    params = _validated(Params, content, path.name)
    _check_names(params, path.name)
    for profile in PROFILES:
        other = params.model_copy(update={"profile": profile})
        other.source()
        for name in params.recipes:
            other.recipe(name)
        for name in {*params.searches, *params.search}:
            other.search_around(name)
    return params


def _check_names(params: Params, file: str) -> None:
    """That what is named in one place of the file is there in the other."""
    for name in params.models:
        params.recipe(name)
    for group, members in params.groups.items():
        if (
            group in params.recipes
            or group in {"pipeline", "all_models"}
            or not re.fullmatch(NAME, group)
        ):
            raise PipelineError(
                f"{file}: '{group}' cannot be a group's name: it is another thing's, or has more than a-z, 0-9 and _"
            )
        for name in members:
            params.recipe(name)
    for name, ensemble in params.ensembles.items():
        if name in params.recipes:
            raise PipelineError(f"{file}: '{name}' is a recipe's name; give the ensemble another")
        if len({params.recipe(member).target for member in ensemble.members}) > 1:
            raise PipelineError(
                f"{file}: ensembles.{name} has members of the 100 classes and of the 20 superclasses; keep to one of them"
            )
    for profile in PROFILES:
        if "default" not in params.floors.get(profile, {}):
            raise PipelineError(
                f"{file}: floors.{profile}.default is missing; write 0.0 for no floor"
            )
    for name in {name for floors in params.floors.values() for name in floors}:
        if name not in {"default", *params.recipes}:
            raise PipelineError(
                f"{file}: floors names the recipe '{name}'{_nearest(name, params.recipes)}, which there is not"
            )


def select_profile(path: Path, profile: str) -> bool:
    """Make `profile` the active one, as `dvc exp run -S profile=...` would: in params.yaml. True when it was another.

    params.yaml is the only place that says which profile `data/` holds, so that DVC records what was really run.
    """
    if profile not in PROFILES:
        raise PipelineError(
            f"no profile '{profile}'{_nearest(profile, PROFILES)}; there are {', '.join(PROFILES)}"
        )
    return _rewrite_line(path, "profile", profile)


def select_models(path: Path, models: Sequence[str]) -> bool:
    """Put these recipes, and no others, in the graph, as `dvc exp run -S models=[...]` would; a group stands for its members.

    Returns: True when they were others.
    """
    params = load_params(path)
    names = [member for name in models for member in params.groups.get(name, (name,))]
    for name in names:
        if name not in params.recipes:
            known = [*params.recipes, *params.groups]
            raise PipelineError(
                f"no recipe or group '{name}'{_nearest(name, known)}; there are {', '.join(known)}"
            )
    return _rewrite_line(path, "models", f"[{', '.join(dict.fromkeys(names))}]")


def select_searches(path: Path, names: Sequence[str]) -> bool:
    """Put these searches, and no others, in the graph, as `dvc exp run -S search=[...]` would. True when they were others."""
    searches = load_params(path).searches
    for name in names:
        if name not in searches:
            raise PipelineError(
                f"no search '{name}'{_nearest(name, searches)}; there are {', '.join(searches)}"
            )
    return _rewrite_line(path, "search", f"[{', '.join(names)}]")


def add_recipe(path: Path, name: str, seed: Mapping[str, Any], comment: str) -> None:
    """Write a recipe at the end of params.yaml, whose last section is `recipes`; every profile has it as it is.

    Raises: PipelineError when there is one of that name, or the file would not be valid.
    """
    params = load_params(path)
    if name in params.recipes or name in params.groups or not re.fullmatch(NAME, name):
        raise PipelineError(
            f"'{name}' is taken, or is not a name of lower-case letters, digits and _; choose another"
        )
    profiles: dict[str, Any] = {
        "seed": dict(seed),
        **{profile: {} for profile in PROFILES if profile != "seed"},
    }
    entry = yaml.safe_dump({name: profiles}, sort_keys=False)
    text = path.read_text().rstrip("\n") + f"\n\n  # {comment}\n" + textwrap.indent(entry, "  ")
    with replacing_file(path) as temporary:
        temporary.write_text(text)
        load_params(temporary)


def _rewrite_line(path: Path, key: str, value: str) -> bool:
    # Not through a YAML writer, which would lose the file's comments.
    before = path.read_text()
    after, found = re.subn(rf"(?m)^{key}: *[^#\n]*?(?= *(#|$))", f"{key}: {value}", before, count=1)
    if not found:
        raise PipelineError(f"{path} has no line `{key}: ...`; add `{key}: {value}`")
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
        raise PipelineError(
            f"{where} is not valid:\n" + "\n".join(_problems(error, model))
        ) from None


def _problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    names = _keys(model)
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: no such key{_nearest(str(problem['loc'][-1]), names)}")
        elif problem["type"] == "value_error":  # a rule of ours, which says what it found itself
            lines.append(f"  {where + ': ' if where else ''}{problem['ctx']['error']}")
        else:
            context = problem.get("ctx", {})
            found = context.get("tag", problem["input"])
            allowed = re.findall(
                r"'([^']+)'", str(context.get("expected") or context.get("expected_tags", ""))
            )
            lines.append(
                f"  {where}: {problem['msg']} (found {found!r:.60}){_nearest(str(found), allowed)}"
            )
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
