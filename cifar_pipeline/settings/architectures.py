"""The architectures a recipe can name, and their settings."""

from typing import Annotated, Literal

from pydantic import Field

from cifar_pipeline.settings.base import Count, Fraction, Settings


class Cnn9(Settings):
    """The nine-layer CNN of K1."""

    name: Literal["cnn9"]
    filters: tuple[Count, Count, Count] = (128, 256, 512)
    units: Count = 1000
    block_dropout: tuple[Fraction, Fraction, Fraction] = (0.2, 0.5, 0.5)
    initializer: Literal["glorot_uniform", "he_normal"] = "glorot_uniform"
    dropout: Fraction = Field(0.5, description="after the dense layers")


class ConvBlock(Settings):
    """A convolution with relu, and a halving of the image."""

    filters: Count
    kernel: Count = 3
    batch_norm: bool = False
    dropout: Fraction = 0.0


class Cnn(Settings):
    """A plain CNN: blocks of one convolution, then dense layers."""

    name: Literal["cnn"]
    blocks: Annotated[tuple[ConvBlock, ...], Field(min_length=1, max_length=5)]
    hidden: tuple[Count, ...] = Field(
        (), description="units of the dense layers before the output layer"
    )
    hidden_dropout: Fraction = Field(0.0, description="between dense layers")
    dropout: Fraction = Field(0.0, description="before the output layer")


class HeadConvolution(Settings):
    """A convolution with relu behind a network of Keras Applications."""

    filters: Count
    kernel: Count


class Backbone(Settings):
    """MobileNet or ResNet50 of Keras Applications, then a convolution and dense layers where the recipe asks."""

    name: Literal["mobilenet", "resnet50"]
    scaling: Literal["imagenet", "unit"] = Field(
        "imagenet", description="pixels as the weights were trained on, or as reports did: 0 to 1"
    )
    convolution: HeadConvolution | None = None
    hidden: tuple[Count, ...] = Field(
        (), description="units of the dense layers before the output layer"
    )
    hidden_dropout: Fraction = Field(0.0, description="between dense layers")
    dropout: Fraction = Field(0.0, description="before the output layer")


class EfficientNet(Settings):
    """Of Keras Applications."""

    name: Literal[
        "efficientnet_b0",
        "efficientnet_b1",
        "efficientnet_b2",
        "efficientnet_b3",
        "efficientnet_b4",
        "efficientnet_b5",
        "efficientnet_b6",
        "efficientnet_b7",
        "efficientnetv2_b0",
        "efficientnetv2_b1",
        "efficientnetv2_b2",
        "efficientnetv2_b3",
    ]
    dropout: Fraction = Field(0.5, description="before the output layer")


Architecture = Annotated[Cnn9 | Cnn | Backbone | EfficientNet, Field(discriminator="name")]
