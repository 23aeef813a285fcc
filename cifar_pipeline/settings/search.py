"""A hyperparameter search: what it varies, and how its two stages try it. Types and their rules, no I/O."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from cifar_pipeline.settings.base import Count, Settings
from cifar_pipeline.settings.recipe import Recipe


class Range(Settings):
    """Numbers from `low` to `high`, both included; whole ones where all three are."""

    low: int | float
    high: int | float
    step: Annotated[int | float, Field(gt=0)] | None = None
    log: bool = Field(False, description="drawn evenly in their logarithm")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"a range from {self.low} to {self.high}; `low` must be below `high`")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("`log` takes a `low` above zero and no `step`")
        if self.step and self.low + self.step > self.high:
            raise ValueError(
                f"a step of {self.step} from {self.low} to {self.high}; it must fit in"
            )
        return self

    @property
    def of_whole_numbers(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def examples(self) -> tuple[int | float, ...]:
        """Values of each kind that it has."""
        return (self.low, self.high, *([self.low + self.step] if self.step else []))


FIXED = {
    "target",
    "weights",
    "train_per_class",
    "validation_per_class",
    "epochs",
    "batch_size",
    "seed",
    "device",
}
"""Keys of a recipe that no trial may change."""
Choices = Annotated[tuple[Any, ...], Field(min_length=2)]


class Draws(Settings):
    """The first stage: random draws from the space."""

    trials: Count
    folds: Count = Field(
        description="of stratified cross-validation inside the training split; 1 for the validation split instead"
    )
    epochs: Count
    batch_size: Count


class Grid(Settings):
    """The second stage: every combination of what the best of the first disagree on."""

    best: Annotated[int, Field(ge=2)] = Field(3, description="how many of the first stage's trials")
    trials: Count = Field(
        description="at most; a seeded choice of the combinations where there are more"
    )
    folds: Count
    epochs: Count
    batch_size: Count


class Search(Settings):
    """Two stages over one recipe; without `grid` it is a plain random search."""

    space: dict[str, Range | Choices] = Field(
        min_length=1,
        description="by the recipe's dotted key, places in lists counted from 0: a range, or a list of values",
    )
    draws: Draws
    grid: Grid | None = None
    prune: bool = Field(
        True, description="end a trial that falls behind in its first fold (successive halving)"
    )
    train_per_class: Count | None = Field(
        None, description="of the training split; all where absent"
    )
    seed: int

    @property
    def stages(self) -> tuple[Draws | Grid, ...]:
        return (self.draws, self.grid) if self.grid else (self.draws,)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        folds = max(stage.folds for stage in self.stages)
        if self.train_per_class and folds > self.train_per_class:
            raise ValueError(
                f"{folds} folds of {self.train_per_class} images a class; lower `folds`"
            )
        if fixed := sorted({key.split(".")[0] for key in self.space} & FIXED):
            raise ValueError(
                f"`{fixed[0]}` in the space; a search takes it from its stages or from the recipe, as it is for all trials"
            )
        return self


def recipe_of_trial(base: Recipe, stage: Draws | Grid, values: dict[str, Any]) -> Recipe:
    """The recipe with a trial's values in place.

    Raises: KeyError or IndexError for a key that the recipe does not have, pydantic's ValidationError where it contradicts itself.
    """
    content = base.model_dump(mode="json") | {
        "epochs": stage.epochs,
        "batch_size": stage.batch_size,
    }
    for key, value in values.items():
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        place: Any = content
        for part in path:
            place = place[part]
        place[last]  # a new key would be one that is misspelt
        place[last] = value
    return Recipe.model_validate(content)
