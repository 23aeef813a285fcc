"""Images that belong to none of the 100 classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cifar_pipeline.dataset.generated import images as generated_images

SIDE = 32
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "1234567890", "sale", "open", "exit")
OUTSIDE = (
    *("brick.png", "cell.png", "chelsea.png", "chessboard_RGB.png", "coins.png", "color.png"),
    *("grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png"),
    *("microaneurysms.png", "moon.png", "page.png", "phantom.png", "retina.jpg", "text.png"),
)
"""Files of scikit-image that show none of the 100 classes, and whose licence lets its wheel have
them. The others show a woman, a man, a cup, a clock, a motorcycle and a rocket."""


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Half of it from pixel to pixel, half of it smooth."""
    fine = rng.integers(0, 256, (n - n // 2, SIDE, SIDE, 3), dtype=np.uint8)
    coarse = rng.integers(0, 256, (n // 2, 5, 5, 3), dtype=np.uint8)
    smooth = [
        np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for image in coarse
    ]
    return np.concatenate([fine, np.stack(smooth)])


def colours(n: int, rng: np.random.Generator) -> np.ndarray:
    """One colour an image."""
    return np.broadcast_to(
        rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8), (n, SIDE, SIDE, 3)
    ).copy()


def text(n: int, rng: np.random.Generator) -> np.ndarray:
    """Lines of words, dark on light or light on dark, drawn large and made small."""
    drawn = []
    for _ in range(n):
        light, dark = rng.integers(160, 256, 3), rng.integers(0, 90, 3)
        paper, ink = (light, dark) if rng.random() < 0.7 else (dark, light)
        image = Image.new("RGB", (256, 256), tuple(paper.tolist()))
        size = int(rng.integers(24, 90))
        font = ImageFont.load_default(size)
        draw = ImageDraw.Draw(image)
        for line in range(256 // size + 1):
            words = " ".join(rng.choice(WORDS, 8).tolist())
            start = (int(rng.integers(-60, 10)), int(line * size * 1.2))
            draw.text(start, words, fill=tuple(ink.tolist()), font=font)
        drawn.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.stack(drawn)


def generated(n: int, rng: np.random.Generator) -> np.ndarray:
    """The stripes that the profile `smoke` trains on."""
    return generated_images(rng.integers(0, 100, n), rng)


def photograph_crops(folder: Path, each: int, rng: np.random.Generator) -> np.ndarray:
    """Random squares of each photograph, one after another, from half of it to all of it."""
    crops = []
    for name in OUTSIDE:
        with Image.open(folder / name) as file:
            image = file.convert("RGB")
        for _ in range(each):
            side = int(min(image.size) * rng.uniform(0.5, 1))
            left = int(rng.integers(0, image.width - side + 1))
            top = int(rng.integers(0, image.height - side + 1))
            square = image.crop((left, top, left + side, top + side))
            small = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            crops.append(np.asarray(small))
    return np.stack(crops)


MADE: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "noise": noise,
    "uniform colours": colours,
    "text": text,
    "generated images": generated,
}
