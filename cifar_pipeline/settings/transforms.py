"""How training images and their labels are changed at random. Types and their rules; no I/O."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_pipeline.settings.base import Fraction, Positive, Settings


class Augmentation(Settings):
    """Random transforms of training images: probabilities, or ranges as fractions of the image
    size unless another unit is given."""

    order: Literal["native", "resized"] = Field(
        "native", description="augment before or after resizing the image"
    )
    horizontal_flip: Fraction = Field(0.0, description="probability of a mirror image")
    vertical_flip: Fraction = Field(0.0, description="probability of an image upside down")
    grid_distortion: Fraction = Field(0.0, description="probability of a distorted grid")
    elastic: Fraction = Field(0.0, description="probability of an elastic deformation")
    rotate: Annotated[float, Field(ge=0, le=180, strict=True)] = Field(
        0.0, description="largest angle in degrees, in both directions"
    )
    shear: Annotated[float, Field(ge=0, le=90, strict=True)] = Field(
        0.0, description="largest angle in degrees, in both directions"
    )
    zoom: Fraction = Field(0.0, description="largest change of scale, in both directions")
    shift_x: Fraction = Field(0.0, description="largest horizontal shift, in both directions")
    shift_y: Fraction = Field(0.0, description="largest vertical shift, in both directions")
    color: Fraction = Field(
        0.0, description="largest change of brightness, contrast and saturation"
    )
    erase: Fraction = Field(
        0.0,
        description="probability of a grey rectangle whose sides are a quarter to half of the "
        "image's (cutout)",
    )


class Mixing(Settings):
    """Blend the images of a batch in pairs, and their labels, by mixup (Zhang 2018), CutMix
    (Yun 2019), or either with equal probability when both are set."""

    probability: Fraction = Field(description="share of the batches")
    mixup: Positive | None = Field(None, description="alpha of the Beta distribution")
    cutmix: Positive | None = Field(None, description="alpha of the Beta distribution")

    @model_validator(mode="after")
    def _has_a_kind(self) -> Self:
        if not (self.mixup or self.cutmix):
            raise ValueError("set `mixup` or `cutmix` to an alpha, or `mixing: null`")
        return self
