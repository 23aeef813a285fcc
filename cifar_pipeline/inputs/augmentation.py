"""Random transforms of training images; the one module that knows albumentations."""

import os

# Without it, albumentations asks PyPI for a newer version at every import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from cifar_pipeline.settings.transforms import Augmentation

# One thread for each image: at 32 pixels OpenCV's own pool costs more than it gives, and competes
# with the network for cores.
cv2.setNumThreads(1)

INTERPOLATIONS = {
    "bicubic": cv2.INTER_CUBIC,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}


class Augmenter:
    """Applies a recipe's augmentation to batches, each determined by its own seed.

    Args:
        resize: pixels a side to resize to first, for recipes that augment after resizing.
        interpolation: how to resize: `bicubic`, `bilinear` or `nearest`.
    """

    def __init__(
        self, settings: Augmentation, resize: int | None = None, interpolation: str = "bicubic"
    ) -> None:
        transforms: list[A.BasicTransform] = []
        if resize:
            transforms.append(A.Resize(resize, resize, interpolation=INTERPOLATIONS[interpolation]))
        if (
            settings.rotate
            or settings.shear
            or settings.zoom
            or settings.shift_x
            or settings.shift_y
        ):
            transforms.append(
                A.Affine(
                    rotate=(-settings.rotate, settings.rotate),
                    shear={"x": (-settings.shear, settings.shear), "y": (0.0, 0.0)},
                    scale=(1 - settings.zoom, 1 + settings.zoom),
                    translate_percent={
                        "x": (-settings.shift_x, settings.shift_x),
                        "y": (-settings.shift_y, settings.shift_y),
                    },
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=1.0,
                )
            )
        for probability, transform in (
            (settings.horizontal_flip, A.HorizontalFlip),
            (settings.vertical_flip, A.VerticalFlip),
            (settings.grid_distortion, A.GridDistortion),
            (settings.elastic, A.ElasticTransform),
        ):
            if probability:
                transforms.append(transform(p=probability))
        if settings.color:
            spread = (1 - settings.color, 1 + settings.color)
            transforms.append(
                A.ColorJitter(
                    brightness=spread, contrast=spread, saturation=spread, hue=(0.0, 0.0), p=1.0
                )
            )
        if settings.erase:
            half = (0.25, 0.5)
            transforms.append(A.CoarseDropout((1, 1), half, half, fill=128, p=settings.erase))
        self._compose = A.Compose(transforms, seed=0) if transforms else None

    def __call__(self, images: np.ndarray, seed: int) -> np.ndarray:
        """Augment (N, H, W, 3) uint8; the same images and seed give the same result."""
        if self._compose is None:
            return images
        self._compose.set_random_seed(seed)
        return np.stack([self._compose(image=image)["image"] for image in images])
