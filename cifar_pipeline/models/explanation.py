"""What a trained classifier can say beside its logits: its features, and where it looked.

Grad-CAM (Selvaraju et al., 2017) weighs each channel of the last feature map by the mean gradient
of the predicted class's logit. After that map our networks have pooling and dense layers alone,
whose gradient is written out here, so that it is part of an exported file, which cannot
differentiate.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from cifar_pipeline.errors import PipelineError

MAPS_TO_MAPS = (layers.MaxPooling2D, layers.BatchNormalization, layers.Dropout)
"""Layers through which the gradient of a feature map is known here, so that a larger one, which
comes before them, can be had."""


def explained(model: keras.Model) -> keras.Model:
    """The classifier with two more outputs.

    Returns:
        A model from uint8 (N, 32, 32, 3) to `logits` (N, classes), `features` (N, D), which are
        what the last layer sees, and `attention` (N, h, w): Grad-CAM of the likeliest class, from
        0 to 1 where it is not 0 everywhere. It shares its weights with `model`.

    Raises: PipelineError when layers of other kinds come after the last feature map.
    """
    body, head = split(model)
    values = [body.output]
    for layer in head:
        values.append(layer(values[-1], training=False))
    attention = _GradCam(head, name="attention")(values)
    outputs = {"logits": values[-1], "features": values[-2], "attention": attention}
    return keras.Model(body.input, outputs, name="explained")


def split(model: keras.Model) -> tuple[keras.Model, list[keras.Layer]]:
    """The model up to its last feature map (N, h, w, C), and the layers after that, in order.

    The map is what the last convolution makes, with its activation.
    """
    tensor = model.output
    head: list[keras.Layer] = []
    while True:
        layer, node, _ = tensor._keras_history
        if len(tensor.shape) > 2 and not isinstance(layer, MAPS_TO_MAPS):
            return keras.Model(model.input, tensor), head
        before = layer._inbound_nodes[node].input_tensors[0]
        if isinstance(layer, keras.Model):
            inner, its_head = split(layer)
            return keras.Model(model.input, inner(before, training=False)), [*its_head, *head]
        head.insert(0, layer)
        tensor = before


class _GradCam(keras.Layer):
    """From the values before and after each layer of the head to the map."""

    def __init__(self, head: Sequence[keras.Layer], name: str) -> None:
        super().__init__(name=name, trainable=False)
        for layer in head:
            _check_known(layer)
        self._head = tuple(head)

    def call(self, values: Sequence[Any]) -> Any:
        feature_map, logits = values[0], values[-1]
        # Not `argmax`, whose treatment of -0.0 has no counterpart in ONNX.
        gradient = ops.cast(logits == ops.max(logits, axis=-1, keepdims=True), "float32")
        for place in reversed(range(len(self._head))):
            gradient = _before(self._head[place], gradient, values[place], values[place + 1])
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
        attention = ops.relu(ops.sum(weights * feature_map, axis=-1))
        largest = ops.max(attention, axis=(1, 2), keepdims=True)
        return attention / ops.where(largest > 0, largest, 1.0)


def _check_known(layer: keras.Layer) -> None:
    match layer:
        case layers.Dropout() | layers.Flatten() | layers.Rescaling():
            return
        case layers.GlobalAveragePooling2D() | layers.GlobalMaxPooling2D():
            return
        case layers.BatchNormalization() if layer.scale:
            return
        case layers.Dense() if layer.activation.__name__ in ("relu", "linear"):
            return
        case layers.MaxPooling2D() if layer.pool_size == layer.strides and layer.padding == "valid":
            return
    raise PipelineError(
        f"the layer '{layer.name}' ({type(layer).__name__}) comes after the last feature map, and "
        "its gradient is not written out; add it to cifar_pipeline/models/explanation.py"
    )


def _before(layer: keras.Layer, gradient: Any, given: Any, made: Any) -> Any:
    """The gradient with respect to what a layer was given, from that to what it made."""
    match layer:
        case layers.Dense():
            if layer.activation.__name__ == "relu":
                gradient = ops.where(made > 0, gradient, 0.0)
            return ops.matmul(gradient, ops.transpose(layer.kernel))
        case layers.Flatten():
            return ops.reshape(gradient, ops.shape(given))
        case layers.GlobalAveragePooling2D() | layers.GlobalMaxPooling2D():
            return gradient[:, None, None, :] * _shares(layer, given, made)
        case layers.Rescaling() | layers.BatchNormalization():
            return gradient * _factor(layer)
        case layers.MaxPooling2D():
            return _unpooled(layer.pool_size, gradient, given, made)
        case _:  # dropout, which does nothing to a model that predicts
            return gradient


def _factor(layer: keras.Layer) -> Any:
    if isinstance(layer, layers.Rescaling):
        return layer.scale
    return layer.gamma / ops.sqrt(layer.moving_variance + layer.epsilon)


def _shares(layer: keras.Layer, given: Any, made: Any) -> Any:
    """How much of each pooled value comes from each place, divided among the largest if several
    are."""
    if isinstance(layer, layers.GlobalAveragePooling2D):
        part = ops.ones_like(given)
    else:
        part = ops.cast(given == made[:, None, None, :], "float32")
    return part / ops.sum(part, axis=(1, 2), keepdims=True)


def _unpooled(size: tuple[int, int], gradient: Any, given: Any, made: Any) -> Any:
    """The gradient before pooling, divided among the largest of each window where several are."""
    rest = [before % side for before, side in zip(given.shape[1:3], size, strict=True)]
    pads = [(0, 0), (0, rest[0]), (0, rest[1]), (0, 0)]

    def repeated(pooled: Any) -> Any:
        wide = ops.repeat(ops.repeat(pooled, size[0], axis=1), size[1], axis=2)
        return ops.pad(wide, pads)

    largest = ops.cast(given == repeated(made), "float32")
    share = ops.average_pool(largest, size, size, "valid")  # of each window that is its largest
    windows = ops.where(share > 0, gradient / ops.where(share > 0, share, 1.0), 0.0)
    return largest * repeated(windows / (size[0] * size[1]))
