"""All settings under one profile: params.yaml, and the recipes in recipes/<name>.yaml.

A recipe is written once, under `paper`, as its source has it; each other profile states only what
it changes, and a recipe that `extends` another one states only how it differs from that. One rule
merges them: mappings are merged key by key, and anything else, lists included, is replaced.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.base import Fraction, Name, Settings
from cifar_pipeline.settings.data import Source, SplitSettings, SubsetSettings
from cifar_pipeline.settings.evaluation import Ensemble
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Draws, Grid, Range, Search, recipe_of_trial
from cifar_pipeline.settings.tracking import Tracking
from cifar_pipeline.settings.validation import nearest, problems, validated

Profile = Literal["smoke", "quick", "laptop", "paper", "best"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
Changes = dict[Profile, dict[str, Any]]


class RecipeFile(Settings):
    """The content of recipes/<name>.yaml."""

    extends: Name | None = Field(None, description="the recipe that this one changes")
    paper: dict[str, Any] = Field({}, description="the recipe as its source has it")
    smoke: dict[str, Any] = Field({}, description="changes for tests and CI")
    quick: dict[str, Any] = Field({}, description="changes for a first look within minutes")
    laptop: dict[str, Any] = Field({}, description="changes for an hour on two cores")
    best: dict[str, Any] = Field({}, description="changes for a GPU")
    search: Changes = Field({}, description="a search around this recipe, by profile")

    @property
    def changes(self) -> Changes:
        """What the file states for each profile, `paper` included."""
        return {profile: getattr(self, profile) for profile in PROFILES}


class ProfileSettings(Settings):
    """What a profile changes apart from the recipes."""

    source: Name = Field(description="one of `sources`")


class Params(Settings):
    """Everything that is set, under one profile."""

    profile: Profile = Field(description="the form of the recipes that is active")
    models: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="the recipes that are in the graph"
    )
    searches: tuple[Name, ...] = Field(
        (), description="the searches whose results DVC versions, by the recipe that they vary"
    )
    photographs: tuple[Name, ...] = Field(
        (), description="folders in `data/photographs` whose photographs all models predict"
    )
    sources: dict[Name, Source] = Field(description="where archives come from, by name")
    profiles: dict[Profile, ProfileSettings] = Field(
        description="what each profile changes apart from the recipes"
    )
    splits: SplitSettings = Field(description="how the training images are divided")
    test_subsets: SubsetSettings = Field(
        description="test images to leave out of further accuracies"
    )
    floors: dict[Profile, dict[Name, Fraction]] = Field(
        description="the top-1 test accuracy that a model must reach, by profile and recipe; "
        "`default` for the others"
    )
    groups: dict[Name, tuple[Name, ...]] = Field(
        {}, description="names for several recipes; each is a job when all of them are in the graph"
    )
    ensembles: dict[Name, Ensemble] = Field(
        description="shown on the leaderboard when all of their members are in the graph"
    )
    tracking: Tracking = Field(
        Tracking(), description="where trainings can be followed; decides no artefact"
    )
    recipes: dict[Name, RecipeFile] = Field(description="the files in recipes/, by name")

    def under(self, profile: Profile) -> "Params":
        """The same settings under another profile."""
        return self.model_copy(update={"profile": profile})

    def source(self) -> Source:
        """The active profile's data source, its path absolute.

        `$CIFAR_ARCHIVE` and `$CIFAR_ARCHIVE_SHA256` replace its address and checksum.

        Raises: PipelineError when the profile names a source that does not exist, or the checksum
            cannot be one.
        """
        name = self.profiles[self.profile].source
        if name not in self.sources:
            raise PipelineError(
                f"profile '{self.profile}' names the source '{name}'{nearest(name, self.sources)}; "
                f"params.yaml has {', '.join(self.sources)}"
            )
        return self.sources[name].located(
            os.environ.get("CIFAR_ARCHIVE", ""),
            os.environ.get("CIFAR_ARCHIVE_SHA256", ""),
            Workspace.current(),
        )

    def recipe(self, name: str) -> Recipe:
        """Recipe `name` under the active profile, with the path of its weights absolute.

        `$CIFAR_WEIGHTS_<ARCHITECTURE>` replaces the weights of a recipe that asks for ImageNet's.

        Raises: PipelineError for a recipe that is unknown or does not validate.
        """
        recipe = self.recipe_as_written(name)
        weights = recipe.weights
        if weights == "imagenet":
            weights = os.environ.get(recipe.architecture.weights_variable) or weights
        if weights in ("imagenet", "none"):
            return recipe
        return recipe.model_copy(update={"weights": str(Workspace.current().resolve(weights))})

    def recipe_as_written(self, name: str) -> Recipe:
        """Recipe `name` under the active profile, whatever this machine's environment says.

        Raises: PipelineError for a recipe that is unknown or does not validate.
        """
        changes = self._changes_of(name)
        content = merge(changes["paper"], changes[self.profile])
        where = f"recipes/{name}.yaml under the profile '{self.profile}'"
        return validated(Recipe, content, where)

    def without_seed(self, name: str) -> str:
        """The recipe that `name` repeats with another seed; `name` itself if it repeats none.

        Raises: PipelineError for a recipe that is unknown or does not validate.
        """
        base = self.recipes[name].extends
        if base is None:
            return name
        own, other = (
            self.recipe_as_written(each).model_dump(exclude={"seed"}) for each in (name, base)
        )
        return self.without_seed(base) if own == other else name

    def search_around(self, name: str) -> Search:
        """The search around recipe `name`, every value of its space tried on the recipe.

        Raises: PipelineError for a search that is unknown or does not validate.
        """
        self.require_search(name)
        where = f"`search` of recipes/{name}.yaml under the profile '{self.profile}'"
        written = self.recipes[name].search
        content = merge(written.get("paper", {}), written.get(self.profile, {}))
        search = validated(Search, content, where)
        recipe = self.recipe_as_written(name)
        tried: list[tuple[Draws | Grid, dict[str, Any]]] = [(stage, {}) for stage in search.stages]
        for key, values in search.space.items():
            examples = values.examples if isinstance(values, Range) else values
            tried += [(search.draws, {key: value}) for value in examples]
        for stage, values_tried in tried:
            key = ", ".join(values_tried) or "epochs"
            try:
                recipe_of_trial(recipe, stage, values_tried)
            except ValidationError as error:
                value = values_tried.get(key, stage.epochs)
                raise PipelineError(
                    f"{where}: `{key}: {value}` is not valid:\n"
                    + "\n".join(problems(error, Recipe))
                ) from None
            except (LookupError, TypeError, ValueError):
                raise PipelineError(
                    f"{where}: the recipe has no `{key:.100}`; name one of its keys, such as "
                    "`optimizer.learning_rate`"
                ) from None
        return search

    @property
    def all_searches(self) -> tuple[str, ...]:
        """The recipes that have a search, in or out of the graph."""
        return tuple(name for name, file in self.recipes.items() if file.search)

    def floor(self, name: str) -> float:
        """The top-1 test accuracy that recipe `name` must reach under the active profile."""
        floors = self.floors[self.profile]
        return floors.get(name, floors["default"])

    def expanded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Recipes by name, each once, with the members of a group in its place.

        Raises: PipelineError for a name that is neither a recipe's nor a group's.
        """
        members = [member for name in names for member in self.groups.get(name, (name,))]
        for name in members:
            self.require_recipe(name)
        return tuple(dict.fromkeys(members))

    def require_recipe(self, name: str) -> None:
        """Raises: PipelineError when there is no recipe `name`."""
        if name in self.groups and name not in self.recipes:
            members = ", ".join(self.groups[name])
            raise PipelineError(f"'{name}' is a group of recipes; name one of them: {members}")
        if name not in self.recipes:
            known = [*self.recipes, *self.groups]
            raise PipelineError(
                f"there is no recipe or group '{name}'{nearest(name, known)}; "
                f"there are {', '.join(known)}"
            )

    def require_search(self, name: str) -> None:
        """Raises: PipelineError when there is no search around `name`."""
        if name not in self.all_searches:
            raise PipelineError(
                f"there is no search around '{name}'{nearest(name, self.all_searches)}; "
                f"there are searches around {', '.join(self.all_searches)}"
            )

    def _changes_of(self, name: str, extended_by: tuple[str, ...] = ()) -> Changes:
        """What a recipe and those that it extends state for each profile."""
        self.require_recipe(name)
        if name in extended_by:
            circle = " extends ".join((*extended_by, name))
            raise PipelineError(f"recipes/{name}.yaml extends itself: {circle}")
        file = self.recipes[name]
        if file.extends is None:
            return file.changes
        base = self._changes_of(file.extends, (*extended_by, name))
        return {profile: merge(base[profile], file.changes[profile]) for profile in PROFILES}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: mappings are merged key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged
