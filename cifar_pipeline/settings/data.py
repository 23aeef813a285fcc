"""Settings of the data: where the archive comes from, how it is split, which test images are left out."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_pipeline.settings.base import Count, Fraction, Settings


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
