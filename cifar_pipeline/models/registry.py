"""From a recipe to its model: uint8 images (N, 32, 32, 3) to float32 logits (N, 100 or 20).

Resizing, rescaling and centring are layers of the model, so that what was trained is what is saved
and served. The module of an architecture is imported when its network is built, so that a model
does not depend on the code of other architectures.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import keras

from cifar_pipeline.dataset.table import CLASSES
from cifar_pipeline.models.construction import Construction
from cifar_pipeline.models.environment import configure_keras, require_bfloat16
from cifar_pipeline.settings.architectures import Architecture, Part
from cifar_pipeline.settings.recipe import Phase, Recipe

INPUT_SIZE = 32
RESIZE = "resize"


@dataclass(frozen=True)
class Classifier:
    """One set of weights behind two inputs."""

    model: keras.Model
    """uint8 (N, 32, 32, 3) to logits (N, classes): complete, what is saved and served."""
    trainer: keras.Model
    """What is compiled, so that the optimiser is not saved. It takes images of any size for recipes
    that augment after resizing."""


def build_classifier(recipe: Recipe, channel_mean: tuple[float, float, float]) -> Classifier:
    """Build the recipe's model with its pretrained weights.

    Args:
        channel_mean: mean of the training pixels per channel, / 255.

    Raises: PipelineError when the weights are asked for and cannot be had or do not fit, and for
        half precision where the environment forbids it.
    """
    configure_keras()
    if recipe.float_policy == "mixed_bfloat16":
        require_bfloat16()
    size = None if recipe.progressive else recipe.image_size
    pixels = keras.Input((size, size, 3), name="pixels")
    construction = Construction(size, recipe.weights, channel_mean)
    with _float_policy(recipe.float_policy):
        features = _features(pixels, recipe.architecture, construction)
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
    """Set the image size that the network of a progressive recipe sees, and which layers train.

    Functions traced before keep the old phase and must be traced again.
    """
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
    """All weights and the trainable ones, as papers count them, while nothing is frozen.

    The constants of a Normalization layer (7 in EfficientNet), which Keras keeps as weights, are
    left out.
    """
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


def part_of(variable: str, stem_layers: tuple[str, ...]) -> Part:
    """Which part of the network a variable belongs to, by its path.

    Args:
        stem_layers: how the names of the architecture's first layers begin.
    """
    if variable.startswith("logits/"):
        return "head"
    return "stem" if variable.startswith(stem_layers) else "body"


def _block(layer: str) -> float:
    """The number in the name of a layer of a block, 0.5 for the stem, infinity for what follows."""
    if layer.startswith("stem_"):
        return 0.5
    number = re.match(r"block(\d)", layer)
    return int(number[1]) if number else math.inf


def _features(pixels: Any, architecture: Architecture, construction: Construction) -> Any:
    family = import_module(f"cifar_pipeline.models.{architecture.module}")
    return family.features(pixels, architecture, construction)


def _with_resizing(network: keras.Model, recipe: Recipe, size: int | None) -> keras.Model:
    image = keras.Input((size, size, 3), dtype="uint8", name="image")
    # Of integers, Resizing makes integers when the model is called, but not in a traced function.
    pixels = keras.layers.Rescaling(1.0, name="to_float")(image)
    if size != recipe.image_size or recipe.progressive:
        # `training=False`, because Resizing claims by default that the model is being trained,
        # and every layer after it would believe that when the model is merely called (keras
        # 3.12 to 3.15.1; fixed in PR 23166). `fit` says `training=True` itself, which prevails.
        pixels = keras.layers.Resizing(
            recipe.image_size, recipe.image_size, recipe.interpolation, name=RESIZE
        )(pixels, training=False)
    return keras.Model(image, network(pixels), name="classifier")


@contextmanager
def _float_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
