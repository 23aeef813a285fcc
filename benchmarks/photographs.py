"""Which way from a photograph to a network's input keeps most of its accuracy.

python -m benchmarks.photographs --models efficientnet_b0 cnn9 --photographs skimage/data

Photographs with known classes are made of validation images of CIFAR-100: enlarged eight times,
in wider and higher pictures, with the object off the centre by a bit. Around it is its mirror
image, or another validation image. The test split is not read.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from benchmarks.environment import describe
from cifar_pipeline.evaluation.comparison import compare
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.models.environment import configure_keras
from cifar_pipeline.models.registry import RESIZE
from cifar_pipeline.models.saved import load_model
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import MODEL, SIDE, ExportedModel

Way = Callable[[Image.Image], Image.Image]
PER_CLASS = 20
ENLARGED = 8 * SIDE
SHAPES = ((1.0, 1.0), (4 / 3, 1.0), (3 / 2, 1.0), (1.0, 4 / 3), (1.0, 16 / 9))
"""width and height of a photograph, in its shorter side"""
ROOM = (1.0, 1.3)
"""from and to: a photograph's shorter side, in sides of its object"""
OFF_CENTRE = 0.1
"""at most, in sides of the object, where the picture leaves room"""
KNOWN = {
    "astronaut.png": "woman",
    "camera.png": "man",
    "clock_motion.png": "clock",
    "coffee.png": "cup",
    "motorcycle_left.png": "motorcycle",
    "rocket.jpg": "rocket",
}
"""Photographs that scikit-image ships, and what they show."""
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "Lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def centre(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def letterbox(fill: str) -> Way:
    """The whole picture in a square: the rest black, white, its mean colour or its last pixels."""

    def boxed(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image)
        side = max(image.size)
        missing = [side - size for size in pixels.shape[:2]]
        around = [*((lack // 2, lack - lack // 2) for lack in missing), (0, 0)]
        if fill == "last pixels":
            return Image.fromarray(np.pad(pixels, around, mode="edge"))
        colours = {"black": 0, "white": 255, "mean colour": pixels.mean(axis=(0, 1))}
        square = np.empty((side, side, 3), np.uint8)
        square[:] = colours[fill]
        (top, _), (left, _), _ = around
        square[top : top + image.height, left : left + image.width] = pixels
        return Image.fromarray(square)

    return boxed


GEOMETRIES: dict[str, Way] = {
    "centre square": centre,
    "squashed": lambda image: image,
    **{
        f"letterbox, {fill}": letterbox(fill)
        for fill in ("black", "white", "mean colour", "last pixels")
    },
}


def made_photographs(images: np.ndarray, surround: str) -> list[Image.Image]:
    """A photograph of each image."""
    rng = np.random.default_rng(0)
    made = []
    for number, pixels in enumerate(images):
        across, down = SHAPES[number % len(SHAPES)]
        shorter = int(ENLARGED * rng.uniform(*ROOM))
        width, height = round(across * shorter), round(down * shorter)
        large = Image.fromarray(pixels).resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC)
        left, top = (
            int(np.clip(room / 2 + ENLARGED * rng.uniform(-OFF_CENTRE, OFF_CENTRE), 0, room))
            for room in (width - ENLARGED, height - ENLARGED)
        )
        if surround == "another image":
            other = Image.fromarray(images[rng.integers(len(images))])
            photograph = other.resize((width, height), Image.Resampling.BICUBIC)
            photograph.paste(large, (left, top))
        else:
            around = ((top, height - ENLARGED - top), (left, width - ENLARGED - left), (0, 0))
            photograph = Image.fromarray(np.pad(np.asarray(large), around, mode="symmetric"))
        made.append(photograph)
    return made


def small(made: list[Image.Image], way: Way, resampling: Image.Resampling, side: int) -> np.ndarray:
    return np.stack([np.asarray(way(image).resize((side, side), resampling)) for image in made])


def straight(model: keras.Model) -> tuple[keras.Model, int] | None:
    """The network behind the layer that resizes, and the size that it works at."""
    sizes = [layer.height for layer in model.layers if layer.name == RESIZE]
    return (model.layers[-1], sizes[0]) if sizes else None


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def accuracies(name: str, home: Workspace) -> None:
    """Print the accuracy of each way."""
    model = ExportedModel(home.export(name) / MODEL)
    images = load_images(home.table, home.splits, "validation", per_class=PER_CLASS, seed=0)

    def correct(pixels: np.ndarray) -> Any:
        found = [answer.probabilities.argmax(axis=1) for answer in model.answers(pixels)]
        return np.concatenate(found) == images.label

    behind = straight(load_model(home.model(name)))
    print(f"\n## `{name}` under `{model.provenance['profile']}`\n")
    print(f"{correct(images.pixels).mean():.1%} of {len(images):,} validation images as they are.")
    for surround in ("its mirror image", "another image"):
        made = made_photographs(images.pixels, surround)
        found = {
            (geometry, "bicubic"): correct(small(made, way, FILTERS["bicubic"], SIDE))
            for geometry, way in GEOMETRIES.items()
        }
        reference = found["centre square", "bicubic"]
        for filtered in ("bilinear", "Lanczos", "box"):
            pixels = small(made, centre, FILTERS[filtered], SIDE)
            found["centre square", filtered] = correct(pixels)
        if behind:
            network, size = behind
            pixels = small(made, centre, FILTERS["bicubic"], size).astype(np.float32)
            logits = network.predict(pixels, batch_size=250, verbose=0)
            key = ("centre square", f"bicubic, straight to the network's {size}×{size}")
            found[key] = logits.argmax(axis=1) == images.label
        print(f"\nAround the object: {surround}.\n")
        row("what becomes of the picture", "filter", "accuracy", "difference, points")
        row(*["---"] * 4)
        for (geometry, filtered), right in found.items():
            pair = compare(right, reference)
            cells = [100 * pair[key] for key in ("difference", "low", "high")]
            change = "" if right is reference else "{:+.1f} ({:+.1f} to {:+.1f})".format(*cells)
            row(geometry, filtered, f"{right.mean():.1%}", change)


def known_photographs(name: str, home: Workspace, folder: Path) -> None:
    """Print where the true class of each package photograph is among the answers."""
    model = ExportedModel(home.export(name) / MODEL)
    network, size = straight(load_model(home.model(name))) or (None, 0)
    print(f"\nPhotographs that scikit-image ships, by `{name}`:\n")
    row("photograph", "shows", *GEOMETRIES, f"centre square, straight to {size}×{size}")
    row(*["---"] * (3 + len(GEOMETRIES)))
    for file, label in KNOWN.items():
        place = model.labels.classes.index(label)
        with Image.open(folder / file) as opened:
            image = opened.convert("RGB")
        cells = []
        for way in GEOMETRIES.values():
            pixels = small([image], way, FILTERS["bicubic"], SIDE)
            cells.append(_place(model.answer(pixels).logits[0], place))
        if network:
            pixels = small([image], centre, FILTERS["bicubic"], size).astype(np.float32)
            cells.append(_place(network.predict(pixels, verbose=0)[0], place))
        row(file, label, *cells)


def _place(logits: np.ndarray, place: int) -> str:
    rank = int((logits > logits[place]).sum()) + 1
    return f"rank {rank}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    arguments = parser.parse_args()
    configure_keras()
    home = Workspace.current()
    print("# From a photograph to 32×32 pixels\n")
    print(f"`{(__doc__ or '').splitlines()[2]}`; {describe()}.\n")
    print("Differences are from the centre square with the bicubic filter on the same photographs,")
    print("with their 95% interval.")
    for name in arguments.models:
        accuracies(name, home)
        known_photographs(name, home, arguments.photographs)


if __name__ == "__main__":
    main()
