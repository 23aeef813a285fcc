"""Architectures by name. A model takes uint8 (N, 32, 32, 3) and gives (N, 100) float32 logits.

Resizing, rescaling and centring are layers of the model: what was trained is what is saved and what is served.
"""

from dataclasses import dataclass
from typing import Any

import keras

from cifar_pipeline.models.cnn9 import cnn9_features
from cifar_pipeline.models.efficientnet import efficientnet_features
from cifar_pipeline.recipes import Recipe

INPUT_SIZE = 32
CLASSES = 100


@dataclass(frozen=True)
class Classifier:
    """One set of weights behind two inputs."""

    model: keras.Model
    """uint8 (N, 32, 32, 3) to logits (N, 100): complete, what is saved and served."""
    trainer: keras.Model
    """The same, or, for recipes that augment after resizing, one that takes images of any size."""


def build_classifier(recipe: Recipe, channel_mean: tuple[float, float, float]) -> Classifier:
    """Build the recipe's model, pretrained weights loaded.

    Args:
        channel_mean: mean of the training pixels per channel, / 255; `cnn9` is centred by it.

    Raises: PipelineError when the weights are asked for and cannot be had or do not fit.
    """
    size = recipe.image_size
    resized = keras.Input((size, size, 3), name="pixels")
    features: Any
    if recipe.architecture.name == "cnn9":
        features = cnn9_features(resized, recipe.architecture, channel_mean)
    else:
        features = efficientnet_features(resized, size, recipe.weights)
    features = keras.layers.Dropout(recipe.architecture.dropout, name="drop_head")(features)
    logits = keras.layers.Dense(CLASSES, dtype="float32", name="logits")(features)
    network = keras.Model(resized, logits, name=recipe.architecture.name)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not recipe.freeze_batch_norm
            layer.momentum = recipe.batch_norm_momentum or layer.momentum

    model = _with_resizing(network, recipe, INPUT_SIZE)
    native = recipe.augmentation.order == "native"
    return Classifier(model, trainer=model if native else _with_resizing(network, recipe, None))


def _with_resizing(network: keras.Model, recipe: Recipe, size: int | None) -> keras.Model:
    image = keras.Input((size, size, 3), dtype="uint8", name="image")
    if size == recipe.image_size:
        pixels = keras.layers.Rescaling(1.0, name="to_float")(image)
    else:
        pixels = keras.layers.Resizing(recipe.image_size, recipe.image_size, recipe.interpolation, name="resize")(image)
    return keras.Model(image, network(pixels), name="classifier")
