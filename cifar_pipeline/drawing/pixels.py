"""Small images for pages: as addresses that need no file, and with what a network looked at."""

import base64
import io
from typing import Literal

import numpy as np
from PIL import Image

SIDE = 256
"""Height and width in pixels of an image with attention laid over it."""
SHADE = 0.2
"""How bright the places stay that a network did not look at."""


def address(pixels: np.ndarray, kind: Literal["png", "jpeg"] = "png") -> str:
    """A data: address of an image, (height, width, 3) uint8; JPEG is smaller for large ones."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def centre_square(pixels: np.ndarray) -> np.ndarray:
    """The middle of an image (height, width, 3), as wide as it is high."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def with_attention(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """An image lit where a network looked, and in the shade elsewhere.

    Light rather than the usual colours of heat, which hide a small image and cannot be told apart
    by everyone.

    Args:
        pixels: (height, width, 3) uint8.
        attention: (h, w) from 0 to 1, of any size.

    Returns: (SIDE, SIDE, 3) uint8.
    """
    size = (SIDE, SIDE)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    wide = Image.fromarray(attention.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    light = SHADE + (1 - SHADE) * np.clip(np.asarray(wide), 0, 1)
    return np.rint(np.asarray(image) * light[..., None]).astype(np.uint8)
