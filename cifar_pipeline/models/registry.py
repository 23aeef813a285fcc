"""Architectures by name. A model takes uint8 (N, 32, 32, 3) and gives float32 logits, (N, 100) or of superclasses (N, 20).

Resizing, rescaling and centring are layers of the model: what was trained is what is saved and what is served.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from cifar_pipeline.dataset.table import CLASSES
from cifar_pipeline.models.backbone import backbone_features
from cifar_pipeline.models.cnn import cnn_features
from cifar_pipeline.models.cnn9 import cnn9_features
from cifar_pipeline.models.efficientnet import efficientnet_features
from cifar_pipeline.settings.architectures import Backbone, Cnn, Cnn9
from cifar_pipeline.settings.recipe import Part, Phase, Recipe

INPUT_SIZE = 32
RESIZE = "resize"


@dataclass(frozen=True)
class Classifier:
    """One set of weights behind two inputs."""

    model: keras.Model
    """uint8 (N, 32, 32, 3) to logits (N, classes): complete, what is saved and served."""
    trainer: keras.Model
    """What is compiled, so that the optimiser is not saved; takes images of any size for recipes that augment after resizing."""


def build_classifier(recipe: Recipe, channel_mean: tuple[float, float, float]) -> Classifier:
    """Build the recipe's model, pretrained weights loaded.

    Args:
        channel_mean: mean of the training pixels per channel, / 255; `cnn9` is centred by it.

    Raises: PipelineError when the weights are asked for and cannot be had or do not fit.
    """
    size = None if recipe.progressive else recipe.image_size
    pixels = keras.Input((size, size, 3), name="pixels")
    with _float_policy(recipe.float_policy):
        features = _features(pixels, recipe, channel_mean, size)
        features = keras.layers.Dropout(recipe.architecture.dropout, name="drop_head")(features)
    logits = keras.layers.Dense(CLASSES[recipe.target], dtype="float32", name="logits")(features)
    network = keras.Model(pixels, logits, name=recipe.architecture.name)
    for layer in network._flatten_layers():
        if (
            isinstance(layer, keras.layers.BatchNormalization)
            and recipe.batch_norm_momentum is not None
        ):
            layer.momentum = recipe.batch_norm_momentum
    native = recipe.augmentation.order == "native"
    return Classifier(
        _with_resizing(network, recipe, INPUT_SIZE),
        trainer=_with_resizing(network, recipe, INPUT_SIZE if native else None),
    )


def set_phase(model: keras.Model, phase: Phase) -> None:
    """Set the image size that the network of a progressive recipe sees, and which layers train. Traced functions must be made anew."""
    for layer in model.layers:
        if layer.name == RESIZE:
            layer.height = layer.width = phase.size
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.Model):
            layer.trainable = trains(layer, phase)


def trains(layer: keras.Layer, phase: Phase) -> bool:
    """Whether a layer's weights, if it has some, change in `phase`."""
    is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
    return not (
        _block(layer.name) <= phase.freeze_blocks or (is_batch_norm and phase.freeze_batch_norm)
    )


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """All weights and the trainable ones of a model of which nothing is frozen, as papers count them: without the constants of a
    Normalization layer (7 in EfficientNet), which Keras keeps as weights."""
    constants = {
        id(weight)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
        for weight in layer.weights
    }
    counted = [weight for weight in model.weights if id(weight) not in constants]
    return sum(math.prod(weight.shape) for weight in counted), sum(
        math.prod(weight.shape) for weight in model.trainable_weights
    )


def part_of(variable: str) -> Part:
    """Which part of the network a variable belongs to, by its path."""
    if variable.startswith("logits/"):
        return "head"
    return "stem" if variable.startswith(("stem_", "conv1a/")) else "body"


def _block(layer: str) -> float:
    """The number in an EfficientNet layer's name, 0.5 for the stem, infinity for what comes after the blocks."""
    if layer.startswith("stem_"):
        return 0.5
    number = re.match(r"block(\d)", layer)
    return int(number[1]) if number else math.inf


def _features(
    pixels: Any, recipe: Recipe, channel_mean: tuple[float, float, float], size: int | None
) -> Any:
    if isinstance(recipe.architecture, Cnn9):
        return cnn9_features(pixels, recipe.architecture, channel_mean, any_size=size is None)
    if isinstance(recipe.architecture, Cnn):
        return cnn_features(pixels, recipe.architecture)
    if isinstance(recipe.architecture, Backbone):
        return backbone_features(pixels, recipe.architecture, size, recipe.weights)
    return efficientnet_features(pixels, recipe.architecture.name, size, recipe.weights)


def _with_resizing(network: keras.Model, recipe: Recipe, size: int | None) -> keras.Model:
    image = keras.Input((size, size, 3), dtype="uint8", name="image")
    if size == recipe.image_size and not recipe.progressive:
        pixels = keras.layers.Rescaling(1.0, name="to_float")(image)
    else:
        pixels = keras.layers.Resizing(
            recipe.image_size, recipe.image_size, recipe.interpolation, name=RESIZE
        )(image)
    return keras.Model(image, network(pixels), name="classifier")


@contextmanager
def _float_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
