"""From an image file of any kind to what the networks were trained on: 32×32 pixels in RGB."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import SIDE


@dataclass(frozen=True)
class Limits:
    """What a file may cost."""

    bytes: int
    pixels: int
    """width times height, as decoded"""


PATIENT = Limits(bytes=1_000_000_000, pixels=250_000_000)
"""For a user's own files."""
STRICT = Limits(bytes=20_000_000, pixels=25_000_000)
"""For uploads by anyone."""


@dataclass(frozen=True)
class Photograph:
    """An image file, decoded."""

    pixels: np.ndarray
    """(32, 32, 3) uint8 RGB, as the networks see it"""
    width: int
    """of the upright image, in pixels"""
    height: int
    kind: str
    """the file's format, such as `JPEG`"""


def read_photograph(source: Path | bytes, limits: Limits = PATIENT) -> Photograph:
    """Decode an image file.

    The photograph is turned upright, its first frame is taken, transparency is laid over white,
    and the centre square is resized with Pillow's bicubic filter.

    Raises: PipelineError when it is too large, is no image, or is damaged.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    if len(content) > limits.bytes:
        raise PipelineError(
            f"the file has {len(content):,} bytes, and at most {limits.bytes:,} are read"
        )
    try:
        with Image.open(io.BytesIO(content)) as image:
            return _photograph(image, limits)
    except PipelineError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like for damaged files
        raise PipelineError(f"this is no image that can be read ({error})") from None


def _photograph(image: Image.Image, limits: Limits) -> Photograph:
    if image.width * image.height > limits.pixels:
        raise PipelineError(
            f"the image has {image.width:,}×{image.height:,} pixels, and at most "
            f"{limits.pixels:,} are decoded"
        )
    upright = ImageOps.exif_transpose(image)
    rgb = upright.convert("RGB")
    # Whole pixels, as the exported model cuts; ImageOps.fit would cut through the middle of some.
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    square = rgb.crop((left, top, left + side, top + side))
    small = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Photograph(np.asarray(small), upright.width, upright.height, image.format or "")
