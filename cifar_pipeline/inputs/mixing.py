"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) on batches."""

import numpy as np

from cifar_pipeline.settings.transforms import Mixing


def mix(
    images: np.ndarray, labels: np.ndarray, settings: Mixing, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Blend a batch with itself in reverse order, in `settings.probability` of the calls.

    Batches arrive shuffled, so the pairs are random.

    Args:
        images: (N, H, W, 3) uint8.
        labels: (N, classes) float32.

    Returns: images and labels of the same shapes and types; the inputs are left as they are.
    """
    kinds = [
        (name, alpha)
        for name, alpha in (("mixup", settings.mixup), ("cutmix", settings.cutmix))
        if alpha
    ]
    if rng.random() >= settings.probability:
        return images, labels
    name, alpha = kinds[rng.integers(len(kinds))]
    share = rng.beta(alpha, alpha)
    if name == "mixup":
        blended = share * images.astype(np.float32) + (1 - share) * images[::-1]
        mixed = np.round(blended).astype(np.uint8)
    else:
        height, width = images.shape[1:3]
        rows, columns = (_cut(length, (1 - share) ** 0.5, rng) for length in (height, width))
        mixed = images.copy()
        mixed[:, rows, columns] = images[::-1, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, (np.float32(share) * labels + np.float32(1 - share) * labels[::-1]).astype(
        np.float32
    )


def _cut(length: int, share: float, rng: np.random.Generator) -> slice:
    centre, half = rng.integers(length), share * length / 2
    return slice(max(0, round(centre - half)), min(length, round(centre + half)))
