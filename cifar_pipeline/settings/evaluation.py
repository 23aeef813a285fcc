"""Settings of the evaluation: ensembles of trained models."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from cifar_pipeline.settings.base import Name, Settings


class Ensemble(Settings):
    """The mean of the probabilities of several models, of images and mirror images, or of both."""

    members: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="recipes of models with the same target"
    )
    mirrored: bool = Field(False, description="average over each image and its mirror image")

    @model_validator(mode="after")
    def _puts_something_together(self) -> Self:
        if len(set(self.members)) < len(self.members):
            raise ValueError(
                f"`members: {list(self.members)}` has one of them twice; name each once"
            )
        if len(self.members) == 1 and not self.mirrored:
            raise ValueError(
                f"the only member is '{self.members[0]}', which is on the leaderboard already; add "
                "a member, or `mirrored: true`"
            )
        return self
