"""Grad-CAM is written out; here it is held to a gradient that TensorFlow takes."""

import numpy as np
import pytest
import tensorflow as tf

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.explanation import explained, split
from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.settings.recipe import Recipe
from tests.serving.networks import PLAIN

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
CNN9 = {"name": "cnn9", "filters": [4, 4, 8], "units": 16}
CNN = {"name": "cnn", "blocks": [{"filters": 4, "batch_norm": True}], "hidden": [16]}
RESNET9 = {"name": "resnet9", "filters": [4, 4, 4, 8]}
CASES = {
    "pooled": ({"architecture": CNN9, "image_size": 32}, (8, 8)),
    "normalised": ({"architecture": CNN, "image_size": 32}, (32, 32)),
    "odd": ({"architecture": CNN, "image_size": 21}, (21, 21)),
    "resized": (
        {
            "architecture": CNN9,
            "image_size": 32,
            "progressive": [{"size": 16, "epochs": 1}],
            "epochs": 2,
        },
        (4, 4),
    ),
    "largest": ({"architecture": RESNET9, "image_size": 32}, (4, 4)),
    "averaged": (
        {
            "architecture": {
                "name": "mobilenet",
                "convolution": {"filters": 10, "kernel": 2},
                "hidden": [8, 8],
            },
            "image_size": 64,
        },
        (2, 2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_a_gradient_gives(case):
    recipe, size = CASES[case]
    model = build_classifier(Recipe.model_validate(PLAIN | recipe), (0.5, 0.5, 0.4)).model
    found = explained(model)(IMAGES, training=False)
    body, head = split(model)
    feature_map = body(IMAGES, training=False)
    with tf.GradientTape() as tape:
        tape.watch(feature_map)
        value = feature_map
        for layer in head:
            value = layer(value, training=False)
        likeliest = tf.reduce_max(value, axis=1)
    weights = tf.reduce_mean(tape.gradient(likeliest, feature_map), (1, 2), keepdims=True)
    expected = np.maximum((weights * feature_map).numpy().sum(axis=-1), 0)
    largest = expected.max(axis=(1, 2), keepdims=True)
    expected = expected / np.where(largest > 0, largest, 1)
    assert found["attention"].shape == (len(IMAGES), *size)
    assert expected.any()
    assert np.allclose(found["attention"], expected, atol=1e-5)
    assert np.array_equal(found["logits"], value)


def test_a_layer_whose_gradient_is_not_known_is_named():
    recipe = Recipe.model_validate(PLAIN | CASES["pooled"][0])
    model = build_classifier(recipe, (0.5, 0.5, 0.4)).model
    model.layers[-1].get_layer("dense2").activation = tf.keras.activations.gelu
    with pytest.raises(PipelineError, match=r"'dense2' \(Dense\) .*explanation\.py"):
        explained(model)
