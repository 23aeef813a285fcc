"""What an epoch of a recipe costs compared with its others, before it has been trained."""

import math
from collections.abc import Iterator

import keras

from cifar_pipeline.models.registry import trains
from cifar_pipeline.settings.recipe import Phase, Recipe


def epoch_costs(model: keras.Model, recipe: Recipe) -> list[float]:
    """About what each epoch costs, counted in numbers that layers put out for one image.

    Each layer counts once for the way forward, once for the gradient of its inputs if it or a layer
    before it trains, and once for that of its weights if they train. Most layers of an EfficientNet
    wait for memory, not for arithmetic: the phases of EfficientNet-B0 were within a tenth of
    what they took (benchmarks/results/laptop.md). EfficientNetV2-B0's smallest images took more
    than their share.

    Args:
        model: a classifier's, of which nothing is frozen yet.
    """
    phases = [recipe.phase_at(epoch) for epoch in range(recipe.epochs)]
    costs = {phase: _cost(model, phase) for phase in set(phases)}
    return [costs[phase] for phase in phases]


def _cost(model: keras.Model, phase: Phase) -> float:
    (network,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    cost, reached = 0, False
    for layer, shape in _outputs(network, phase.size):
        learns = bool(layer.trainable_weights) and trains(layer, phase)
        reached = reached or learns
        cost += math.prod(shape) * (1 + reached + learns)
    return cost


def _outputs(network: keras.Model, size: int) -> Iterator[tuple[keras.Layer, tuple[int, ...]]]:
    """The layers of a network and of the networks within it, in order, with their output shapes."""
    own = [layer for layer in network.layers if not isinstance(layer, keras.Model)]
    shapes = iter(
        keras.Model(network.inputs, [layer.output for layer in own]).compute_output_shape(
            (1, size, size, 3)
        )
    )
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _outputs(layer, size)
        else:
            yield layer, next(shapes)
