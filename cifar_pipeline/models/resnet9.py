"""ResNet-9 (David Page, "How to train your ResNet", 2018), which is made for CIFAR's images.

https://myrtle.ai/learn/how-to-train-your-resnet/
"""

from typing import Any

from keras import layers

from cifar_pipeline.models.construction import Construction
from cifar_pipeline.settings.architectures import ResNet9


def features(x: Any, architecture: ResNet9, construction: Construction) -> Any:
    """Symbolic pixels 0..255 (N, H, W, 3) to features (N, C), with the pixels centred per channel.

    C is the number of filters of the last block. Images are pooled before they are normalised, not
    after the activation: that computes nearly the same on a quarter of the area.
    """
    offset = [-mean for mean in construction.channel_mean]
    x = layers.Rescaling(1 / 255, offset=offset, dtype="float32", name="centre")(x)
    stem, first, second, third = architecture.filters
    x = _convolution(x, stem, "stem")
    x = _residual(_convolution(x, first, "block1", pool=True), first, "block1")
    x = _convolution(x, second, "block2", pool=True)
    x = _residual(_convolution(x, third, "block3", pool=True), third, "block3")
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    # Maxima of sums are large: without this, the first logits are far from equal.
    return layers.Rescaling(1 / 8, name="scale")(x)


def _residual(x: Any, filters: int, name: str) -> Any:
    inner = _convolution(_convolution(x, filters, f"{name}_a"), filters, f"{name}_b")
    return layers.Add(name=f"{name}_add")([x, inner])


def _convolution(x: Any, filters: int, name: str, pool: bool = False) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    if pool:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
