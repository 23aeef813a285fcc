"""From a Keras classifier to one ONNX file that needs nothing else.

`model.export(format="onnx")` fails on our networks (bicubic resizing, constants of EfficientNet),
and `tf2onnx.convert.from_function` leaves those constants as inputs. A function whose variables
were frozen first converts.
"""

import json
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.parser

from cifar_pipeline.models.environment import import_keras
from cifar_pipeline.serving.canonical import canonical
from cifar_pipeline.serving.exported import INPUT, OUTPUTS
from cifar_pipeline.serving.simplification import simplified

import_keras()
import keras  # noqa: E402  # quietly, so after the line above
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework.convert_to_constants import (  # noqa: E402
    convert_variables_to_constants_v2,
)
from tf2onnx.tf_loader import tf_optimize  # noqa: E402
from tf2onnx.tfonnx import process_tf_graph  # noqa: E402

from cifar_pipeline.models.explanation import explained  # noqa: E402

OPSET = 18
"""The latest that tf2onnx 1.17 writes; the first whose Resize antialiases."""

SQUARE = f"""
<ir_version: 8, opset_import: ["" : {OPSET}]>
to_square (uint8[n, height, width, 3] {INPUT}) => (uint8[n, 32, 32, 3] square)
<int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[2] sides = {{32, 32}}>
{{
    size = Shape<start = 1, end = 3>({INPUT})
    side = ReduceMin<keepdims = 1>(size, zero)
    margin = Sub(size, side)
    first = Div(margin, two)
    last = Add(first, side)
    axes = Constant<value_ints = [1, 2]>()
    centre = Slice({INPUT}, first, last, axes)
    square = Resize<
        mode = "cubic", cubic_coeff_a = -0.5, antialias = 1, exclude_outside = 1, axes = [1, 2]
    >(centre, , , sides)
}}
"""
"""The centre square at 32×32, as Pillow's bicubic resizing makes it, but for roundings by one level
in few of 10,000 values. Images of 32×32 pass as they are."""


def to_onnx(model: keras.Model, temperature: float) -> onnx.ModelProto:
    """Convert a classifier.

    Returns:
        A model from `image`, uint8 (N, H, W, 3) of any size, to `probabilities` (N, classes),
        calibrated by the temperature; `logits`; `features` and `attention` as `explained` has
        them. The same weights give the same bytes.

    Args:
        model: uint8 (N, 32, 32, 3) to logits.
    """
    converted = simplified(_converted(model, temperature), _resized)
    network = canonical(converted, ["pixels"], OUTPUTS)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    square = onnx.parser.parse_model(SQUARE)
    whole = onnx.compose.merge_models(square, network, io_map=[("square", "pixels")])
    del whole.opset_import[1:]  # merging repeats it
    onnx.checker.check_model(whole, full_check=True)
    return whole


def in_float32(model: keras.Model) -> keras.Model:
    """The same weights in a model that computes in float32; others have few ONNX kernels."""
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers() if layer.weights):
        return model
    config = json.loads(json.dumps(model.get_config()).replace("mixed_bfloat16", "float32"))
    converted = keras.Model.from_config(config)
    converted.set_weights(model.get_weights())
    return converted


def _resized(images: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """As the networks' own layer resizes."""
    interpolation = {"cubic": "bicubic", "linear": "bilinear", "nearest": "nearest"}[mode]
    layer = keras.layers.Resizing(*size, interpolation, dtype="float32")
    return keras.ops.convert_to_numpy(layer(images, training=False))


def _converted(model: keras.Model, temperature: float) -> onnx.ModelProto:
    explaining = explained(in_float32(model))

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="pixels")])
    def answer(images: Any) -> Any:
        found = explaining(images, training=False)
        found["probabilities"] = tf.nn.softmax(found["logits"] / temperature)
        return tuple(found[name] for name in OUTPUTS)

    frozen = convert_variables_to_constants_v2(answer.get_concrete_function())
    inputs, outputs = ([t.name for t in tensors] for tensors in (frozen.inputs, frozen.outputs))
    with tf.Graph().as_default():
        optimized = tf_optimize(inputs, outputs, frozen.graph.as_graph_def())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(optimized, name="")
        # Not `tf2onnx.convert`, whose optimizer makes another graph when sets have another order.
        converted = process_tf_graph(graph, opset=OPSET, input_names=inputs, output_names=outputs)
        return converted.make_model("network")
