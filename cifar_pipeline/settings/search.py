"""A hyperparameter search: what it varies, and how its two stages try it.

Types and their rules; no I/O.
"""

from typing import Annotated, Any, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from cifar_pipeline.settings.base import Count, Seed, Settings
from cifar_pipeline.settings.recipe import Recipe

Number = StrictInt | StrictFloat


class Range(Settings):
    """Numbers from `low` to `high`, both included.

    They are whole numbers if `low`, `high` and `step` are.
    """

    low: Number = Field(description="the smallest number")
    high: Number = Field(description="the largest number")
    step: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="distance between numbers; default: 1, or none if they are not whole"
    )
    log: bool = Field(False, description="draw evenly from the logarithms")

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

    trials: Count = Field(description="number of draws")
    folds: Count = Field(
        description="folds of stratified cross-validation inside the training split; 1 uses the "
        "validation split instead"
    )
    epochs: Count = Field(description="epochs of each training, in place of the recipe's")
    batch_size: Count = Field(description="images in a step, in place of the recipe's")


class Grid(Settings):
    """The second stage: every combination of what the best trials of the first disagree on."""

    best: Annotated[int, Field(ge=2, strict=True)] = Field(
        3, description="how many of the first stage's trials are compared"
    )
    trials: Count = Field(
        description="the largest number of combinations; of more, a seeded choice is tried"
    )
    folds: Count = Field(description="as in the first stage")
    epochs: Count = Field(description="as in the first stage")
    batch_size: Count = Field(description="as in the first stage")


class Search(Settings):
    """Two stages over one recipe; without `grid` it is a plain random search."""

    space: dict[str, Range | Choices] = Field(
        min_length=1,
        description="what is varied: a range or a list of values for each dotted key of the "
        "recipe; places in lists count from 0",
    )
    draws: Draws = Field(description="the first stage")
    grid: Grid | None = Field(None, description="the second stage")
    prune: bool = Field(
        True, description="end a trial that falls behind in its first fold (successive halving)"
    )
    train_per_class: Count | None = Field(
        None, description="use this many training images of each class; default: all of them"
    )
    seed: Seed = Field(description="decides the draws, the folds and the choice of combinations")

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
                f"`{fixed[0]}` in the space; it is the same for all trials, taken from the stages "
                "or from the recipe; remove it"
            )
        return self


def recipe_of_trial(base: Recipe, stage: Draws | Grid, values: dict[str, Any]) -> Recipe:
    """The recipe with a trial's values in place.

    Raises: LookupError, TypeError or ValueError for a key that the recipe does not have, pydantic's
        ValidationError when the result contradicts itself.
    """
    content = base.model_dump(mode="json") | {
        "epochs": stage.epochs,
        "batch_size": stage.batch_size,
    }
    for key, value in values.items():
        *path, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
        place: Any = content
        for part in path:
            place = place[part]
        place[last]  # a new key would be one that is misspelt
        place[last] = value
    return Recipe.model_validate(content)
