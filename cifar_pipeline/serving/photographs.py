"""From an image file of any kind to what the networks were trained on: 32×32 pixels in RGB.

benchmarks/results/photographs.md compares the centre square with other ways.
"""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import SIDE


@dataclass(frozen=True)
class Limits:
    """What a file may cost."""

    bytes: int
    pixels: int
    """width times height, as the file states them"""
    formats: tuple[str, ...] | None = None
    """Pillow's names of what is read; None for all that it reads by itself"""


PATIENT = Limits(bytes=1_000_000_000, pixels=250_000_000)
"""For a user's own files."""
STRICT = Limits(
    bytes=20_000_000,
    pixels=25_000_000,
    formats=("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"),
)
"""For uploads by anyone."""
REDUCED = 16 * SIDE
"""A JPEG is decoded at a half, quarter or eighth of its size, as long as its shorter side keeps so
many pixels. benchmarks/results/reduced_jpegs.md has what that saves and changes."""
SCANS = 100
"""A progressive JPEG has about ten; each costs as much as decoding the image."""
STRIP = 64
"""Rows that are converted to RGB at once."""
OTHER_PROGRAMS = ("EPS", "WMF")
"""What Pillow has another program draw."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, as Pillow has them."""

# For images within images, as in icons, whose size only Pillow sees. It refuses twice as many.
Image.MAX_IMAGE_PIXELS = PATIENT.pixels // 2
# What is worth saying comes as an error.
warnings.filterwarnings("ignore", module=r"PIL\.")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation."""


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
    """Decode an image file, and resize its centre square with Pillow's bicubic filter.

    The photograph is turned upright, its first frame is taken, and transparency is laid over white.
    16 bits become 8 by their range. Floating-point values, and integers of 32 bits, reach from 0 to
    1, 255 or 65,535, whichever holds all of them, and else from the smallest to the largest.
    Colour profiles are not applied.

    Raises: PipelineError when it is too large, is no image, or is damaged.
    """
    upright, size, kind = _decoded(source, limits)
    # Whole pixels, as the exported model cuts; ImageOps.fit would cut through the middle of some.
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = (left, top, left + side, top + side)
    # Pillow, too, resizes across first, so that each strip can be made narrow by itself: a copy of
    # a large photograph would have hundreds of megabytes.
    narrow = Image.new("RGB", (SIDE, side))
    for strip, row in _rgb_strips(upright, square):
        narrow.paste(strip.resize((SIDE, strip.height), Image.Resampling.BICUBIC), (0, row))
    small = narrow.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Photograph(np.asarray(small), *size, kind)


def read_preview(source: Path | bytes, side: int, limits: Limits = PATIENT) -> np.ndarray:
    """The upright photograph in RGB, (H, W, 3) uint8, neither side longer than `side` pixels.

    Raises: PipelineError as `read_photograph` does.
    """
    upright, _, _ = _decoded(source, limits)
    upright = _in_rgb(upright)
    upright.thumbnail((side, side), Image.Resampling.BICUBIC)
    return np.asarray(upright)


def _decoded(source: Path | bytes, limits: Limits) -> tuple[Image.Image, tuple[int, int], str]:
    """The upright image, perhaps of a reduced size; its full size; and the file's format."""
    content = source if isinstance(source, bytes) else read_content(source, limits)
    if len(content) > limits.bytes:
        raise _too_long(len(content), limits)
    try:
        image = Image.open(io.BytesIO(content), formats=limits.formats)
        _check_cost(image, content, limits)
        return _upright(image)
    except PipelineError:
        raise
    except UnidentifiedImageError:
        raise PipelineError(_what_it_is(content)) from None
    except Exception as error:  # Pillow's decoders raise what they like for damaged files
        raise PipelineError(
            f"the image is damaged ({error!s:.200}); copy it again, or save it anew"
        ) from None


def read_content(path: Path, limits: Limits = PATIENT) -> bytes:
    """The bytes of a file.

    Raises: PipelineError when it cannot be read, or is too long.
    """
    try:
        if path.exists() and not path.is_file():
            raise PipelineError("this is no file; photographs can be piped in as `-`")
        if (size := path.stat().st_size) > limits.bytes:
            raise _too_long(size, limits)
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError("there is no such file") from None
    except OSError as error:
        raise PipelineError(f"the file cannot be read: {error.strerror}") from None


def _too_long(size: int, limits: Limits) -> PipelineError:
    return PipelineError(f"the file has {size:,} bytes, and at most {limits.bytes:,} are read")


def _check_cost(image: ImageFile.ImageFile, content: bytes, limits: Limits) -> None:
    if image.format in OTHER_PROGRAMS:
        raise PipelineError(f"{image.format} is a drawing for printers; save it as PNG")
    if image.width * image.height > limits.pixels:
        raise PipelineError(
            f"the image has {image.width:,}×{image.height:,} pixels, and at most "
            f"{limits.pixels:,} are decoded"
        )
    if image.format == "JPEG" and content.count(b"\xff\xda") > SCANS:
        raise PipelineError(f"the JPEG has more than {SCANS} scans, as no camera writes it")


def _upright(image: ImageFile.ImageFile) -> tuple[Image.Image, tuple[int, int], str]:
    width, height = image.size
    shorter = min(image.size)
    if image.format == "JPEG" and shorter > REDUCED:
        image.draft(None, (width * REDUCED // shorter, height * REDUCED // shorter))
    image.load()  # a TIFF is upright after this, and says so
    orientation = _orientation(image)
    if orientation not in _UPRIGHT:
        size = (width, height) if image.format != "TIFF" else image.size
        return image, size, image.format or ""
    turned = (height, width) if orientation > 4 else (width, height)
    return image.transpose(_UPRIGHT[orientation]), turned, image.format or ""


def _orientation(image: Image.Image) -> int:
    try:
        stated: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF that cannot be read states none
        return 1
    return stated if isinstance(stated, int) else 1


def _in_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel.

    Strip by strip, so that what a conversion needs in between stays small.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rgb = Image.new("RGB", image.size)
    for strip, row in _rgb_strips(image, (0, 0, *image.size)):
        rgb.paste(strip, (0, row))
    return rgb


def _rgb_strips(image: Image.Image, box: Box) -> Iterator[tuple[Image.Image, int]]:
    """A part of an image in RGB, from the top: strips, and the row at which each begins."""
    span = _span(image, box) if image.mode in ("I", "F") else None
    for strip in _strips(box):
        yield _strip_in_rgb(image.crop(strip), span), strip[1] - box[1]


def _strips(box: Box) -> Iterator[Box]:
    left, top, right, bottom = box
    for row in range(top, bottom, STRIP):
        yield left, row, right, min(row + STRIP, bottom)


def _strip_in_rgb(strip: Image.Image, span: tuple[float, float] | None) -> Image.Image:
    if strip.mode.startswith("I;16"):
        strip = Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))
    elif span:
        low, high = span
        scaled = (_finite(strip) - low) / (high - low or 1.0)
        strip = Image.fromarray(np.rint(255 * scaled).astype(np.uint8))
    elif strip.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(strip, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if strip.has_transparency_data:
        opaque = strip if strip.mode == "RGBA" else strip.convert("RGBA")
        white = Image.new("RGB", strip.size, "white")
        white.paste(opaque, mask=opaque.getchannel("A"))
        return white
    return strip if strip.mode == "RGB" else strip.convert("RGB")


def _span(image: Image.Image, box: Box) -> tuple[float, float]:
    """The values that become black and white."""
    ends = [(values.min(), values.max()) for values in map(_finite, map(image.crop, _strips(box)))]
    low, high = float(min(end[0] for end in ends)), float(max(end[1] for end in ends))
    ranges = [(0.0, top) for top in (1.0, 255.0, 65_535.0) if low >= 0 and high <= top]
    return (ranges or [(low, high)])[0]


def _finite(strip: Image.Image) -> np.ndarray:
    """Its values; infinities become the largest numbers there are."""
    return np.nan_to_num(np.asarray(strip, np.float32), nan=0.0).astype(np.float64)


def _what_it_is(content: bytes) -> str:
    """Why Pillow does not know a file, and how to repair it."""
    if not content:
        return "the file is empty"
    start = content[:1024].lower()
    if b"<svg" in start:
        return "this is an SVG drawing, and only images made of pixels are read; save it as PNG"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "this is a HEIC photograph, which is not read; save it as JPEG"
    return "this is no image of a kind that is read, such as JPEG, PNG, WebP, GIF, TIFF or BMP"
