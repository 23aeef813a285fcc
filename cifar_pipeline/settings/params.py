"""The whole of params.yaml, typed, under one profile.

A recipe is written once, under `seed`, as its paper has it; every other profile states what it changes. Unknown keys
are refused with the nearest valid name.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import Fraction, Settings
from cifar_pipeline.settings.data import Source, SplitSettings, SubsetSettings
from cifar_pipeline.settings.evaluation import Ensemble
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Draws, Grid, Range, Search, recipe_of_trial
from cifar_pipeline.settings.validation import nearest, problems, validated

Profile = Literal["smoke", "quick", "laptop", "seed", "best"]


NAME = "[a-z][a-z0-9_]*"


PROFILES: tuple[Profile, ...] = ("smoke", "quick", "laptop", "seed", "best")


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
        recipe = validated(Recipe, content, f"recipes.{name} under profile '{self.profile}'")
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
        search = validated(Search, self._under_profile("search", self.searches, name), where)
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
                    + "\n".join(problems(error, Recipe))
                ) from None
        return search

    def _under_profile(
        self, kind: str, entries: Mapping[str, Mapping[Profile, dict[str, Any]]], name: str
    ) -> dict[str, Any]:
        """An entry that is written once under `seed`, with the active profile's changes."""
        if name not in entries:
            raise PipelineError(
                f"no {kind} '{name}' in params.yaml{nearest(name, entries)}; it has {sorted(entries)}"
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


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged
