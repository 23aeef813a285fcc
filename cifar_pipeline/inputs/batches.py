"""From table, split and recipe to batches, for training, validation and test alike.

It does not know Keras, so that its worker processes start quickly.
"""

import logging
import multiprocessing
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar_pipeline.dataset.splits import (
    Split,
    archive_of,
    read_splits,
    split_rows,
    stratified_subset,
)
from cifar_pipeline.dataset.stored import StoredImages
from cifar_pipeline.dataset.table import CLASSES, read_labels
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.augmentation import Augmenter
from cifar_pipeline.inputs.mixing import mix
from cifar_pipeline.settings.recipe import Recipe, Target
from cifar_pipeline.settings.transforms import Mixing

logging.getLogger("absl").setLevel(logging.ERROR)  # grain warns that there is no JAX to profile
import grain  # noqa: E402


@dataclass(frozen=True)
class Images:
    """Images of one split, in memory."""

    row_id: np.ndarray
    """(N,) int64, into the table"""
    pixels: np.ndarray
    """(N, 32, 32, 3) uint8"""
    label: np.ndarray
    """(N,) int64"""
    target: Target = "fine"
    """what the labels stand for: classes or superclasses"""

    def __len__(self) -> int:
        return len(self.row_id)

    def take(self, rows: np.ndarray) -> "Images":
        """The images at the places `rows`."""
        return Images(self.row_id[rows], self.pixels[rows], self.label[rows], self.target)

    def joined(self, other: "Images") -> "Images":
        """These images followed by the others."""
        pairs = (
            (self.row_id, other.row_id),
            (self.pixels, other.pixels),
            (self.label, other.label),
        )
        row_id, pixels, label = (np.concatenate(pair) for pair in pairs)
        return Images(row_id, pixels, label, self.target)

    def channel_mean(self) -> tuple[float, float, float]:
        """Mean of the pixels per channel, / 255."""
        red, green, blue = self.pixels.mean(axis=(0, 1, 2), dtype=np.float64) / 255
        return float(red), float(green), float(blue)

    def one_hot(self) -> np.ndarray:
        """(N, 100 or 20) float32 labels."""
        return np.eye(CLASSES[self.target], dtype=np.float32)[self.label]


def load_images(
    table: Path,
    splits: Path,
    split: Split,
    target: Target = "fine",
    *,
    per_class: int | None = None,
    seed: int = 0,
) -> Images:
    """Load a split, or a stratified subset with `per_class` images of each of the 100 classes.

    Raises: PipelineError when table and splits do not belong together, or a class has too few
        images.
    """
    rows, labels = labelled_rows(table, splits, split, target, per_class=per_class, seed=seed)
    return Images(rows, StoredImages(table).take(rows), labels, target)


def labelled_rows(
    table: Path,
    splits: Path,
    split: Split,
    target: Target = "fine",
    *,
    per_class: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Row ids and labels, (N,) int64 each, of what `load_images` loads.

    Raises: PipelineError as `load_images` does.
    """
    content, membership = read_labels(table), read_splits(splits)
    if archive_of(membership) != archive_of(content):
        raise PipelineError(
            f"{splits.name} was made from the archive {archive_of(membership):.12}, {table.name} "
            f"from {archive_of(content):.12}; materialize `splits` again"
        )
    rows = split_rows(membership, split)
    rows = stratified_subset(rows, content["fine_label"].to_numpy()[rows], per_class, seed)
    return rows.astype(np.int64), content[f"{target}_label"].to_numpy()[rows].astype(np.int64)


def steps_per_epoch(images: Images, batch_size: int) -> int:
    """The number of whole batches in an epoch. Other images are left over in each epoch.

    Raises: PipelineError when there is none.
    """
    if len(images) < batch_size:
        raise PipelineError(
            f"{len(images)} training images do not fill one batch of {batch_size}; lower the "
            "recipe's `batch_size`"
        )
    return len(images) // batch_size


def training_batches(
    images: Images, recipe: Recipe, *, first_epoch: int = 0, workers: int = 0
) -> grain.IterDataset:
    """The shuffled, augmented batches of a whole training, epoch after epoch.

    A batch is (B, H, W, 3) uint8 and (B, classes) float32. It follows from the recipe's seed and
    the batch's number alone, so it is the same whichever process makes it, and a training that
    resumes at `first_epoch` gets what an uninterrupted one got.

    Args:
        workers: processes besides this one; with 0 a thread makes the batches.
    """
    steps = steps_per_epoch(images, recipe.batch_size)
    batches = (
        grain.MapDataset.range(len(images))
        .seed(recipe.seed)
        .shuffle()
        .batch(recipe.batch_size, drop_remainder=True)
        .repeat(recipe.epochs)
        .random_map(_Prepare(images, recipe))
        # Last, because the random state goes by the number that a batch has before it.
        .slice(slice(first_epoch * steps, recipe.epochs * steps))
    )
    # One thread, because the transforms hold Python's lock and share what is not thread-safe.
    iterator = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=16))
    if workers:
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        return iterator.mp_prefetch(processes, worker_init_fn=_end_with_parent)
    return iterator


def _end_with_parent(worker: int, workers: int) -> None:
    """End a worker with its parent. Grain's would outlive a killed training, with its images."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Prepare(grain.transforms.RandomMap):
    """Makes a batch of rows, with a random generator of the batch's own."""

    def __init__(self, images: Images, recipe: Recipe) -> None:
        self._images, self._labels = images.pixels, images.one_hot()
        resized = recipe.augmentation.order == "resized"
        self._augmenter = Augmenter(
            recipe.augmentation,
            resize=recipe.image_size if resized else None,
            interpolation=recipe.interpolation,
        )
        self._mixing: Mixing | None = recipe.mixing

    def random_map(self, element: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        images = self._augmenter(self._images[element], int(rng.integers(2**32)))
        labels = self._labels[element]
        return mix(images, labels, self._mixing, rng) if self._mixing else (images, labels)
