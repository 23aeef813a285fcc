"""The architectures a recipe can name, their settings, and the facts that rules about recipes need.

Adding an architecture takes one settings type here and one module in `cifar_pipeline/models/`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cifar_pipeline.settings.base import Count, Fraction, Settings

Part = Literal["stem", "body", "head"]
"""Parts of a network that can have learning rates of their own."""
WHICH = "which architecture"


class ArchitectureSettings(Settings):
    """What every architecture has: a name, dropout before the output layer, and its facts."""

    name: str
    dropout: Fraction = Field(0.0, description="before the output layer")

    module: ClassVar[str]
    """the module in `cifar_pipeline/models/` that builds it"""
    has_pretrained_weights: ClassVar[bool] = False
    freezable_blocks: ClassVar[int] = 0
    """how many of its blocks can be frozen; their layers are named `block1...` and so on"""
    stem_layers: ClassVar[tuple[str, ...]] = ()
    """how the names of its first layers begin, if they can have a learning rate of their own"""
    takes_any_size: ClassVar[bool] = False
    """whether the same weights take images of several sizes, as progressive training needs"""
    largest_image: ClassVar[int | None] = None
    """the largest of those sizes, at which a progressive training ends; None if there is none"""

    @property
    def smallest_image(self) -> int:
        """Pixels a side below which nothing of an image is left."""
        return 1

    @property
    def has_batch_norm(self) -> bool:
        return True

    @property
    def parts(self) -> frozenset[Part]:
        """The parts that can have a learning rate of their own."""
        return frozenset({"stem", "body", "head"} if self.stem_layers else {"body", "head"})

    @property
    def weights_variable(self) -> str:
        """The environment variable that names a file of pretrained weights."""
        return f"CIFAR_WEIGHTS_{self.name.upper()}"


class Cnn9(ArchitectureSettings):
    """Khanna's nine-layer CNN: six convolutions in three blocks, then three dense layers."""

    name: Literal["cnn9"] = Field(description=WHICH)
    filters: tuple[Count, Count, Count] = Field(
        (128, 256, 512), description="filters of the convolutions in each block"
    )
    units: Count = Field(1000, description="units of each of the two dense layers")
    block_dropout: tuple[Fraction, Fraction, Fraction] = Field(
        (0.2, 0.5, 0.5), description="after each block"
    )
    initializer: Literal["glorot_uniform", "he_normal"] = Field(
        "glorot_uniform", description="initial weights of all layers with ReLU"
    )
    dropout: Fraction = Field(0.5, description="after the dense layers")

    module = "cnn9"
    stem_layers = ("conv1a",)
    takes_any_size = True
    largest_image = 32

    @property
    def smallest_image(self) -> int:
        return 8

    @property
    def has_batch_norm(self) -> bool:
        return False


class ConvBlock(Settings):
    """A convolution with ReLU, followed by pooling that halves the image."""

    filters: Count = Field(description="number of filters")
    kernel: Count = Field(3, description="height and width of the kernel in pixels")
    batch_norm: bool = Field(False, description="normalise after the convolution")
    dropout: Fraction = Field(0.0, description="after the pooling")


class Cnn(ArchitectureSettings):
    """A plain CNN: blocks of one convolution, then dense layers."""

    name: Literal["cnn"] = Field(description=WHICH)
    blocks: Annotated[tuple[ConvBlock, ...], Field(min_length=1, max_length=5)] = Field(
        description="convolutions, first to last"
    )
    hidden: tuple[Count, ...] = Field(
        (), description="units of the dense layers before the output layer"
    )
    hidden_dropout: Fraction = Field(0.0, description="between dense layers")

    module = "cnn"

    @property
    def smallest_image(self) -> int:
        return 2 ** len(self.blocks)

    @property
    def has_batch_norm(self) -> bool:
        return any(block.batch_norm for block in self.blocks)


class ResNet9(ArchitectureSettings):
    """ResNet-9 (Page 2018): three blocks that halve the image, the first and third residual."""

    name: Literal["resnet9"] = Field(description=WHICH)
    filters: tuple[Count, Count, Count, Count] = Field(
        (64, 128, 256, 512), description="filters of the first convolution and of each block"
    )

    module = "resnet9"
    stem_layers = ("stem_",)
    takes_any_size = True

    @property
    def smallest_image(self) -> int:
        return 8


class KerasApplication(ArchitectureSettings):
    """A network of Keras Applications. It pools its feature maps, so it takes any size from 32."""

    has_pretrained_weights = True
    takes_any_size = True

    @property
    def smallest_image(self) -> int:
        return 32


Scaling = Annotated[
    Literal["imagenet", "unit"],
    Field(
        description="`imagenet` scales pixels as the weights were trained on, `unit` to 0..1 as "
        "the reports did"
    ),
]


class HeadConvolution(Settings):
    """A convolution with ReLU after a network of Keras Applications."""

    filters: Count = Field(description="number of filters")
    kernel: Count = Field(description="height and width of the kernel in pixels")


class Backbone(KerasApplication):
    """MobileNet or ResNet50, then a convolution and dense layers if the recipe asks for them."""

    name: Literal["mobilenet", "resnet50"] = Field(description=WHICH)
    scaling: Scaling = "imagenet"
    convolution: HeadConvolution | None = Field(
        None, description="a convolution between the network and the pooling"
    )
    hidden: tuple[Count, ...] = Field(
        (), description="units of the dense layers before the output layer"
    )
    hidden_dropout: Fraction = Field(0.0, description="between dense layers")

    module = "backbone"


class EfficientNet(KerasApplication):
    """EfficientNet B0 to B7 (Tan & Le 2019)."""

    name: Literal[
        "efficientnet_b0",
        "efficientnet_b1",
        "efficientnet_b2",
        "efficientnet_b3",
        "efficientnet_b4",
        "efficientnet_b5",
        "efficientnet_b6",
        "efficientnet_b7",
    ] = Field(description=WHICH)
    scaling: Scaling = "imagenet"
    dropout: Fraction = Field(0.5, description="before the output layer")

    module = "efficientnet"
    freezable_blocks = 7
    stem_layers = ("stem_",)


class EfficientNetV2(KerasApplication):
    """EfficientNetV2 B0 to B3 (Tan & Le 2021)."""

    name: Literal[
        "efficientnetv2_b0",
        "efficientnetv2_b1",
        "efficientnetv2_b2",
        "efficientnetv2_b3",
    ] = Field(description=WHICH)
    dropout: Fraction = Field(0.5, description="before the output layer")

    module = "efficientnet"
    freezable_blocks = 6
    stem_layers = ("stem_",)


Architecture = Annotated[
    Cnn9 | Cnn | ResNet9 | Backbone | EfficientNet | EfficientNetV2, Field(discriminator="name")
]
