"""Convolutions of one pixel as products: same values, same gradients, nothing else changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_pipeline.training.pointwise import multiply_pointwise
from tests.numbers import off

pytestmark = pytest.mark.numeric


def values_and_gradients(layer: keras.layers.Layer, images: np.ndarray) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        pixels = tf.Variable(images)
        output = layer(pixels)
        loss = tf.reduce_sum(output**3)
    return [np.asarray(output), *map(np.asarray, tape.gradient(loss, [pixels, layer.kernel.value]))]


def layer_of(settings: dict, images: np.ndarray) -> keras.layers.Conv2D:
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(4, **settings)
    layer.build(images.shape)
    return layer


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"kernel_size": 1}, True),
        (
            {"kernel_size": 1, "use_bias": True, "activation": "swish", "bias_initializer": "ones"},
            True,
        ),
        ({"kernel_size": 1, "strides": 2}, False),
        ({"kernel_size": 1, "groups": 2}, False),
        ({"kernel_size": (1, 3)}, False),
    ],
)
def test_products_are_convolutions(settings, changed):
    images = np.random.default_rng(0).normal(size=(2, 5, 7, 6)).astype(np.float32)
    layer, own = layer_of(settings, images), layer_of(settings, images)
    multiply_pointwise(keras.Sequential([keras.layers.Input((None, None, 6)), layer]))
    assert ("convolution_op" in vars(layer)) == changed
    for ours, theirs in zip(
        values_and_gradients(layer, images), values_and_gradients(own, images), strict=True
    ):
        assert off(ours, theirs) < 1e-5
    assert layer.get_config() == own.get_config() | {"name": layer.name}
