"""Photographs of every kind become 32×32 pixels; what cannot be read is answered in a sentence."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.photographs import PATIENT, STRICT, read_photograph, read_preview
from tests.serving.hostile import READABLE, REFUSED, encoded, picture

KINDS = (
    "PNG",
    "BMP",
    "TIFF",
    "WEBP",
    "JPEG",
    "GIF",
    "JPEG2000",
    "AVIF",
    "PPM",
    "TGA",
    "ICO",
    "PCX",
)
MODES = (
    *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGBA", "I;16")),
    *((mode, "TIFF") for mode in ("PA", "CMYK", "YCbCr", "I;16", "I", "F")),
    ("CMYK", "JPEG"),
)
LEFT, RIGHT = (200, 40, 40), (30, 90, 220)


def halves(width=60, height=40):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), LEFT)
    image.paste(RIGHT, (width // 2, 0, width, height))
    return image


def corners(content, **options):
    """The colours at the left and at the right edge."""
    pixels = read_photograph(content, **options).pixels
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    return pixels[:, 2].mean(axis=0), pixels[:, -3].mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_picture(kind):
    left, right = corners(encoded(halves(), kind))
    assert np.abs(left - LEFT).max() < 12
    assert np.abs(right - RIGHT).max() < 12


@pytest.mark.parametrize(("mode", "kind"), MODES)
def test_every_mode_keeps_what_is_light_and_what_is_dark(mode, kind):
    grey = np.full((40, 60), 50, np.uint8)
    grey[:, 30:] = 200
    image = Image.fromarray(grey)
    match mode:
        case "I;16":
            image = Image.fromarray(grey.astype(np.uint16) * 257)
        case "I":
            image = Image.fromarray(grey.astype(np.int32) * 257)
        case "F":
            image = Image.fromarray(grey.astype(np.float32) / 255)
        case "PA":
            image = image.convert("P").convert("PA")
        case "1":
            grey[:] = np.where(grey < 128, 0, 255)
            image = Image.fromarray(grey).convert("1")
        case "P" | "LA":
            image = image.convert(mode)
        case _:
            image = image.convert("RGB").convert(mode)
    left, right = corners(encoded(image, kind))
    assert np.abs(left - grey[0, 0]).max() <= 6
    assert np.abs(right - grey[0, -1]).max() <= 6


def test_floating_point_is_scaled_and_what_is_not_finite_does_no_harm():
    values = np.linspace(-3, 500, 2400, dtype=np.float32).reshape(40, 60)
    pixels = read_photograph(encoded(Image.fromarray(values), "TIFF")).pixels
    assert pixels.min() < 5
    assert pixels.max() > 250
    values[0, 0], values[0, 30], values[0, 31] = np.nan, np.inf, -np.inf
    assert read_photograph(encoded(Image.fromarray(values), "TIFF")).pixels.shape == (32, 32, 3)


def test_transparency_is_laid_over_white():
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    palette = Image.new("P", (40, 40), 3)
    palette.putpalette([0] * 768)
    for content in (
        encoded(clear, "PNG"),
        encoded(clear, "WEBP", lossless=True),
        encoded(palette, "PNG", transparency=3),
        encoded(palette, "GIF", transparency=3),
        encoded(Image.new("LA", (40, 40), (0, 0)), "PNG"),
        encoded(Image.new("L", (40, 40), 7), "PNG", transparency=7),
    ):
        assert (read_photograph(content).pixels == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(kind, orientation):
    turn_away = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes each
    stored = halves()
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(turn_away[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, kind, exif=exif)
    left, right = corners(content)
    assert np.abs(left - LEFT).max() < 12
    assert np.abs(right - RIGHT).max() < 12
    photograph = read_photograph(content)
    assert (photograph.width, photograph.height) == (60, 40)
    assert read_preview(content, 30).shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    others = [Image.new("RGB", (60, 40), "black")] * 2
    content = encoded(halves(), kind, save_all=True, append_images=others)
    left, right = corners(content)
    assert np.abs(left - LEFT).max() < 12
    assert np.abs(right - RIGHT).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (33, 200), (640, 481)])
def test_made_small_in_strips_it_is_what_it_is_as_a_whole(size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image, side = Image.fromarray(pixels), min(size)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC))
    assert (read_photograph(encoded(image, "PNG")).pixels == expected).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (33, 32), (3000, 2)])
def test_every_size_is_answered(size):
    photograph = read_photograph(encoded(picture(*size), "PNG"))
    assert photograph.pixels.shape == (32, 32, 3)
    assert (photograph.width, photograph.height) == size


def test_images_of_the_networks_size_pass_as_they_are():
    image = picture(32, 32)
    assert (read_photograph(encoded(image, "PNG")).pixels == np.asarray(image)).all()


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    image = picture(64, 48).resize((1920, 1440), Image.Resampling.BICUBIC)
    content = encoded(image, "JPEG", quality=95)
    whole = read_photograph(encoded(Image.open(io.BytesIO(content)), "BMP"))
    reduced = read_photograph(content)
    assert (reduced.width, reduced.height) == (1920, 1440)
    difference = np.abs(reduced.pixels.astype(int) - whole.pixels)
    assert difference.max() <= 3


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_answered_in_a_sentence(name):
    with pytest.raises(PipelineError) as caught:
        read_photograph(REFUSED[name](), STRICT)
    sentence = str(caught.value)
    assert 10 < len(sentence) < 260
    assert "0x" not in sentence
    assert "\n" not in sentence


def test_a_users_own_icon_cannot_hold_a_bomb_either():
    with pytest.raises(PipelineError):
        read_photograph(REFUSED["bomb.ico"](), PATIENT)


@pytest.mark.parametrize("name", ["exif_loop.jpg", "loop.tif", "script_after.gif", "short.png"])
def test_what_is_odd_but_whole_is_read(name):
    assert read_photograph(READABLE[name](), STRICT).pixels.shape == (32, 32, 3)


COST = """
import json, time
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.photographs import STRICT, read_photograph
from tests.serving.cost import peak_megabytes
from tests.serving.hostile import READABLE, REFUSED

seconds = {}
before = peak_megabytes()
for name, make in (READABLE | REFUSED).items():
    content = make()
    start = time.process_time()
    try:
        read_photograph(content, STRICT)
    except PipelineError:
        pass
    seconds[name] = time.process_time() - start
print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes() - before}))
"""


def test_none_of_them_costs_more_than_two_seconds_or_300_megabytes():
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    assert max(cost["seconds"].values()) < 2, cost
    assert cost["megabytes"] < 300, cost
