import base64
import io

import numpy as np
import pytest
from PIL import Image

from cifar_pipeline.drawing.pixels import SHADE, SIDE, address, centre_square, with_attention


def test_an_address_holds_the_image():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    kind, content = address(pixels).split(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) == pixels).all()
    assert Image.open(io.BytesIO(base64.b64decode(address(pixels, "jpeg").split(",")[1]))).format


def test_the_centre_square_of_wide_and_high_images():
    wide = np.arange(3 * 6).reshape(3, 6, 1).repeat(3, axis=2)
    assert (centre_square(wide) == wide[:, 1:4]).all()
    assert (centre_square(wide.swapaxes(0, 1)) == wide.swapaxes(0, 1)[1:4]).all()


def test_an_image_is_lit_where_the_network_looked():
    attention = np.array([[1, 0], [0, 0]], np.float32)
    lit = with_attention(np.full((32, 32, 3), 200, np.uint8), attention)
    assert lit.shape == (SIDE, SIDE, 3)
    assert lit[0, 0] == pytest.approx(200, abs=3)
    assert lit[-1, -1] == pytest.approx(200 * SHADE, abs=3)
