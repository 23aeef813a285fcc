"""A network's ONNX graph in a form that onnxruntime computes fast; the answers stay the same.

benchmarks/results/serving.md says what each change brings.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

TO_CHANNELS_FIRST = [0, 3, 1, 2]
HEIGHT_AND_WIDTH = [2, 3]
"""of images (N, C, H, W)"""


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with constants folded, scales merged into convolutions, resizing as
    products of matrices, and the means of squeeze-and-excitation as pooling.

    Nodes that nothing uses any more are left in place.
    """
    folded = onnx.shape_inference.infer_shapes(_folded(model))
    _multiply_instead_of_resizing(folded)
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


def _multiply_instead_of_resizing(model: onnx.ModelProto) -> None:
    """Resize images (N, C, H, W) by a matrix for rows and one for columns.

    onnxruntime resizes floats pixel by pixel, on one core, which takes longer than the
    convolutions of a small network.
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
        down, across = _matrices(node, model, *shapes[image][2:])
        names = [f"{result}/{part}" for part in ("down", "across", "rows")]
        graph.initializer.extend(
            numpy_helper.from_array(matrix, name)
            for matrix, name in zip((down, across.T), names, strict=False)
        )
        nodes.append(helper.make_node("MatMul", [names[0], image], [names[2]]))
        nodes.append(helper.make_node("MatMul", [names[2], names[1]], [result]))
    del graph.node[:]
    graph.node.extend(nodes)


def _matrices(
    resize: onnx.NodeProto, model: onnx.ModelProto, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a node does to rows (h, height) and to columns (w, width), as it does it to stripes."""
    (image, *_), (result,) = resize.input, resize.output
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4)
        for name in (image, result)
    ]
    constants = [c for c in model.graph.initializer if c.name in resize.input]
    graph = helper.make_graph([resize], "resize", values[:1], values[1:], constants)
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = _session(alone, onnxruntime.SessionOptions())
    found = []
    for axis, size in ((2, height), (3, width)):
        stripes = np.zeros((size, 1, height, width), np.float32)
        np.moveaxis(stripes, axis, 1)[np.arange(size), np.arange(size)] = 1
        (resized,) = session.run(None, {image: stripes})
        found.append(np.moveaxis(resized, axis, 1)[:, :, 0, 0].T.copy())
    return found[0], found[1]


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
