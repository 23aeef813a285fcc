"""A file in whole numbers is kept only where it surely answers as well."""

import numpy as np
import onnx
import pytest

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.serving.exported import FIGURES, QUANTISED, ExportedModel
from cifar_pipeline.serving.quantisation import Loss, quantised


@pytest.fixture(scope="module")
def smaller(served, exported, tmp_path_factory):
    """The exported file, quantised."""
    path = tmp_path_factory.mktemp("smaller") / "model.onnx"
    seen = load_images(served.table, served.splits, "train", per_class=2)
    made = quantised(onnx.load(exported), seen.pixels)
    again = quantised(onnx.load(exported), seen.pixels)
    assert again.SerializeToString() == made.SerializeToString()
    onnx.helper.set_model_props(made, {p.key: p.value for p in onnx.load(exported).metadata_props})
    onnx.save(made, path)
    return path


def test_convolutions_compute_in_whole_numbers(smaller):
    graph = onnx.load(smaller).graph
    made_by = {value: node.op_type for node in graph.node for value in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    for node in convolutions:
        assert {made_by[name] for name in node.input} == {"DequantizeLinear"}
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    assert made_by[softmax.input[0]] != "DequantizeLinear"


@pytest.mark.numeric
def test_answers_are_nearly_the_same(served, exported, smaller):
    images = load_images(served.table, served.splits, "validation").pixels
    expected, found = (
        np.concatenate([a.probabilities for a in ExportedModel(path).answers(images)])
        for path in (exported, smaller)
    )
    assert 1e-4 < np.abs(found - expected).max() < 0.3
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) > 0.8


def test_a_photograph_of_any_size_can_be_asked(smaller):
    assert ExportedModel(smaller).answer(np.zeros((1, 48, 64, 3), np.uint8)).features.ndim == 2


def test_the_file_is_there_if_the_figures_say_so(served):
    figures = read_json(served.export("cnn9") / FIGURES)
    assert (served.export("cnn9") / QUANTISED).is_file() == figures["int8_kept"]
    assert figures["int8_lost_low"] < figures["int8_lost"] < figures["int8_lost_high"]


def right(n, *, wrong):
    answers = np.ones(n, bool)
    answers[list(wrong)] = False
    return answers


@pytest.mark.parametrize(
    ("n", "wrong", "wrong_then", "small"),
    [
        (2000, range(500), range(500), True),
        (2000, range(500), range(10, 515), True),  # 15 lost, 10 won
        (2000, range(500), range(520), False),  # exactly a point
        (2000, range(500), range(10, 520), False),  # half a point, but it may be more than one
        (100, range(0), range(0), False),  # too few images to tell
        (2000, range(500), range(400), True),  # better than before
    ],
)
def test_a_file_is_kept_if_it_surely_loses_less_than_a_point(n, wrong, wrong_then, small):
    loss = Loss.of(right(n, wrong=wrong), right(n, wrong=wrong_then))
    assert loss.is_small == small
    assert loss.share == pytest.approx((len(wrong_then) - len(wrong)) / n)
    assert loss.low < loss.share < loss.high
