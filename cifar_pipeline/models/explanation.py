"""What a trained classifier can say beside its logits: its features, and where it looked.

Grad-CAM (Selvaraju et al., 2017) weighs each channel of the last feature map by the mean gradient
of the predicted class's logit. After that map our networks have dense layers alone, whose gradient
is written out here, so that it is part of an exported file, which cannot differentiate.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cifar_pipeline.errors import PipelineError


def explained(model: keras.Model) -> keras.Model:
    """The classifier with two more outputs.

    Returns:
        A model from uint8 (N, 32, 32, 3) to `logits` (N, classes), `features` (N, D), which are
        what the last layer sees, and `attention` (N, h, w): Grad-CAM of the likeliest class, from
        0 to 1 where it is not 0 everywhere. It shares its weights with `model`.

    Raises: PipelineError when other layers than dense ones come after the last feature map.
    """
    body, head = split(model)
    feature_map = body.output
    values = [feature_map]
    for layer in head:
        values.append(layer(values[-1], training=False))
    attention = _GradCam(head, name="attention")(values)
    outputs = {"logits": values[-1], "features": values[-2], "attention": attention}
    return keras.Model(body.input, outputs, name="explained")


def split(model: keras.Model) -> tuple[keras.Model, list[keras.Layer]]:
    """The model up to its last feature map (N, h, w, C), and the layers after that, in order."""
    tensor = model.output
    head: list[keras.Layer] = []
    while len(tensor.shape) == 2:
        layer, node, _ = tensor._keras_history
        before = layer._inbound_nodes[node].input_tensors[0]
        if isinstance(layer, keras.Model):
            inner, its_head = split(layer)
            head = [*its_head, *head]
            return keras.Model(model.input, inner(before, training=False)), head
        head.insert(0, layer)
        tensor = before
    return keras.Model(model.input, tensor), head


class _GradCam(keras.Layer):
    """From the values before and after each layer of the head to the map."""

    def __init__(self, head: Sequence[keras.Layer], name: str) -> None:
        super().__init__(name=name, trainable=False)
        self._head = tuple(head)

    def call(self, values: Sequence[Any]) -> Any:
        feature_map, logits = values[0], values[-1]
        # Not `argmax`, whose treatment of -0.0 has no counterpart in ONNX.
        likeliest = ops.cast(logits == ops.max(logits, axis=-1, keepdims=True), "float32")
        gradient = ops.matmul(likeliest, ops.transpose(self._head[-1].kernel))
        layers = list(zip(self._head[:-1], values[1:-1], strict=True))
        for layer, value in reversed(layers):
            gradient = _before(layer, gradient, value, feature_map)
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
        attention = ops.relu(ops.sum(weights * feature_map, axis=-1))
        largest = ops.max(attention, axis=(1, 2), keepdims=True)
        return attention / ops.where(largest > 0, largest, 1.0)

    def compute_output_shape(self, shapes: Sequence[Any]) -> Any:
        return shapes[0][:-1]


def _before(layer: keras.Layer, gradient: Any, value: Any, feature_map: Any) -> Any:
    """The gradient with respect to a layer's input, from that with respect to its output.

    Args:
        value: the layer's output.
    """
    if isinstance(layer, keras.layers.Dropout):
        return gradient
    if isinstance(layer, keras.layers.Flatten):
        return ops.reshape(gradient, ops.shape(feature_map))
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        _, height, width, _ = feature_map.shape
        return gradient[:, None, None, :] / (height * width)
    if isinstance(layer, keras.layers.Dense) and layer.activation.__name__ in ("relu", "linear"):
        if layer.activation.__name__ == "relu":
            gradient = ops.where(value > 0, gradient, 0.0)
        return ops.matmul(gradient, ops.transpose(layer.kernel))
    raise PipelineError(
        f"the layer '{layer.name}' ({type(layer).__name__}) comes after the last feature map, and "
        "Grad-CAM here knows dense, dropout, flattening and average pooling layers only; add its "
        "gradient to cifar_pipeline/models/explanation.py"
    )
