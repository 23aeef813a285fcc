"""Exported models of one matrix, whose answers can be told from a photograph's mean colour."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from cifar_pipeline.models.saved import Labels
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.neighbours import NEIGHBOURS, Neighbours

GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
colours (uint8[n, height, width, 3] image) => (
    float[n, classes] probabilities, float[n, classes] logits, float[n, 3] features,
    float[n, height, width] attention
)
<float[1] temperature = {1.5}, float[1] white = {255}>
{
    pixels = Cast<to = 1>(image)
    sides = Constant<value_ints = [1, 2]>()
    features = ReduceMean<keepdims = 0>(pixels, sides)
    logits = MatMul(features, weights)
    scaled = Div(logits, temperature)
    probabilities = Softmax<axis = -1>(scaled)
    channels = Constant<value_ints = [3]>()
    grey = ReduceMean<keepdims = 0>(pixels, channels)
    attention = Div(grey, white)
}
"""
PROVENANCE = {
    "archive_sha256": "abc",
    "code_revision": "0123",
    "finished": "2026-01-01T00:00:00+00:00",
    "generated": True,
    "model_sha256": "weights",
    "profile": "smoke",
}


def write_network(
    path: Path, labels: Labels, colours: dict[int, str], *, threshold: float | None = -3.0
) -> ExportedModel:
    """A model that finds the channels red, green and blue to be these classes.

    It answers "none of these" to what is dark, unless it has no threshold.
    """
    weights = np.zeros((3, len(labels.classes)), np.float32)
    for channel, name in colours.items():
        weights[channel, labels.classes.index(name)] = 0.05
    model = onnx.parser.parse_model(GRAPH)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    facts = {
        "name": path.parent.name,
        "labels": asdict(labels),
        "temperature": 1.5,
        "threshold": threshold,
        "provenance": PROVENANCE,
    }
    onnx.helper.set_model_props(model, {key: json.dumps(fact) for key, fact in facts.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return ExportedModel(path)


def write_neighbours(model: ExportedModel, row_id: np.ndarray, pixels: np.ndarray) -> None:
    Neighbours.of(model, row_id, pixels).write(model.path.with_name(NEIGHBOURS))
