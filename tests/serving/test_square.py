"""The preprocessing inside an exported file is that of photographs, but for roundings."""

import io

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from PIL import Image

from cifar_pipeline.serving.conversion import SQUARE
from cifar_pipeline.serving.photographs import read_photograph


@pytest.fixture(scope="module")
def to_square():
    content = onnx.parser.parse_model(SQUARE).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image[None]})[0][0]


def image_of(height, width, kind):
    rng = np.random.default_rng(height * width)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "edges":  # where a cubic overshoots
        return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([across, down, (across + down) / 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "edges", "slope"])
@pytest.mark.parametrize(
    ("height", "width"),
    [
        *((1, 1), (2, 3), (9, 9), (31, 31), (32, 32), (33, 33), (64, 64)),
        *((32, 33), (33, 32), (40, 100), (100, 41), (427, 640), (640, 427), (1201, 1600)),
    ],
)
def test_the_graph_resizes_as_pillow_does(to_square, height, width, kind):
    image = image_of(height, width, kind)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    expected = read_photograph(file.getvalue()).pixels.astype(int)
    differences = np.abs(to_square(image) - expected)
    assert differences.max() <= 1
    assert np.count_nonzero(differences) <= 3  # of 3,072; a slope can lie on the edges of rounding


def test_images_of_the_networks_own_size_pass_as_they_are(to_square):
    image = image_of(32, 32, "noise")
    assert np.array_equal(to_square(image), image)
