"""A network's ONNX graph in a form that onnxruntime computes fast; the answers stay the same.

benchmarks/results/serving.md says what each change brings.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

TO_CHANNELS_FIRST = [0, 3, 1, 2]
HEIGHT_AND_WIDTH = [2, 3]
"""of images (N, C, H, W)"""


Resizing = Callable[[np.ndarray, tuple[int, int], str], np.ndarray]
"""From images (N, H, W, 1), their new height and width, and ONNX's mode, such as `cubic`, to images
(N, height, width, 1)."""


def simplified(model: onnx.ModelProto, resize: Resizing) -> onnx.ModelProto:
    """The same computation with constants folded, scales merged into convolutions, resizing as
    products of matrices, and the means of squeeze-and-excitation as pooling.

    Nodes that nothing uses any more are left in place.

    Args:
        resize: how the network resized when it was trained.
    """
    folded = onnx.shape_inference.infer_shapes(_folded(model))
    _multiply_instead_of_resizing(folded, resize)
    _pool_instead_of_averaging(folded.graph)
    return folded


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime makes of the graph on every machine alike."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options.optimized_model_filepath = str(path)
        _session(model, options)
        return onnx.load(path)


def _multiply_instead_of_resizing(model: onnx.ModelProto, resize: Resizing) -> None:
    """Resize images (N, C, H, W) by a matrix for rows and one for columns.

    onnxruntime resizes floats pixel by pixel, on one core, which takes longer than the
    convolutions of a small network. And it does not resize as TensorFlow does, which looks the
    weights of bicubic resizing up in a table of 1,024 places between two pixels: where no place
    fits, as from 32 to 96 or 160 pixels, probabilities would differ by up to 0.004.
    """
    graph = model.graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    nodes = []
    for node in graph.node:
        if node.op_type != "Resize":
            nodes.append(node)
            continue
        (image, *_), (result,) = node.input, node.output
        mode = _attribute(node, "mode").decode()
        down, across = (
            _matrix(resize, before, after, mode)
            for before, after in zip(shapes[image][2:], shapes[result][2:], strict=True)
        )
        names = [f"{result}/{part}" for part in ("down", "across", "rows")]
        graph.initializer.extend(
            numpy_helper.from_array(matrix, name)
            for matrix, name in zip((down, across.T), names, strict=False)
        )
        nodes.append(helper.make_node("MatMul", [names[0], image], [names[2]]))
        nodes.append(helper.make_node("MatMul", [names[2], names[1]], [result]))
    del graph.node[:]
    graph.node.extend(nodes)


def _matrix(resize: Resizing, before: int, after: int, mode: str) -> np.ndarray:
    """(after, before) float32: what resizing does to a line of pixels, as it does it to each."""
    lines = np.eye(before, dtype=np.float32)[:, :, None, None]
    return resize(lines, (after, 1), mode)[:, :, 0, 0].T.copy()


def _pool_instead_of_averaging(graph: onnx.GraphProto) -> None:
    """Let the means (N, C) that are reshaped to (N, 1, 1, C), and transposed, be pooled to
    (N, C, 1, 1) at once, without reordering what the convolutions before them computed."""
    makers = {value: node for node in graph.node for value in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        reshaped = makers.get(node.input[0]) if node.op_type == "Transpose" else None
        mean = makers.get(reshaped.input[0]) if reshaped and reshaped.op_type == "Reshape" else None
        if (
            mean
            and mean.op_type == "ReduceMean"
            and _axes(mean, constants) == HEIGHT_AND_WIDTH
            and _attribute(node, "perm") == TO_CHANNELS_FIRST
        ):
            pooled = helper.make_node("GlobalAveragePool", mean.input[:1], node.output)
            node.CopyFrom(pooled)


def _axes(mean: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[int]:
    """What it is a mean over; images of 1×1 pixels are averaged where the channels come last."""
    named = constants.get(mean.input[1]) if len(mean.input) > 1 else None
    return numpy_helper.to_array(named).tolist() if named else _attribute(mean, "axes") or []


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _session(
    model: onnx.ModelProto, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
