"""Convolutions of one pixel, on a CPU."""

from typing import Any

import keras


def multiply_pointwise(model: keras.Model) -> None:
    """Compute the 1×1 convolutions of a model as the matrix products that they are.

    They do most of EfficientNet's multiplications, and TensorFlow's own gradient of them is slow on
    a CPU without AVX-512 (benchmarks/steps.py). The layers, their weights and what is saved stay as
    they are.
    """
    for layer in model._flatten_layers():
        if (
            type(layer) is keras.layers.Conv2D
            and layer.kernel_size == layer.strides == (1, 1)
            and layer.groups == 1
        ):
            layer.convolution_op = _product


def _product(images: Any, kernel: Any) -> Any:
    """(N, height, width, channels) and (1, 1, channels, filters) to (N, height, width, filters)."""
    _, height, width, channels = keras.ops.shape(images)
    filters = kernel.shape[-1]
    products = keras.ops.matmul(
        keras.ops.reshape(images, (-1, channels)), keras.ops.reshape(kernel, (channels, filters))
    )
    return keras.ops.reshape(products, (-1, height, width, filters))
