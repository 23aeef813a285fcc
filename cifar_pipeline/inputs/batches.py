"""Table + split + recipe to batches, for training, validation and test alike."""

import math
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cifar_pipeline.dataset.splits import Split, archive_of, split_rows, stratified_subset
from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.augmentation import Augmenter


@dataclass(frozen=True)
class Images:
    """Images of one split, in memory."""

    row_id: np.ndarray
    """(N,) int64, into the table"""
    pixels: np.ndarray
    """(N, 32, 32, 3) uint8"""
    fine_label: np.ndarray
    """(N,) int64, 0..99"""

    def __len__(self) -> int:
        return len(self.row_id)

    def channel_mean(self) -> tuple[float, float, float]:
        """Mean of the pixels per channel, / 255."""
        red, green, blue = self.pixels.mean(axis=(0, 1, 2), dtype=np.float64) / 255
        return float(red), float(green), float(blue)


def load_images(table: Path, splits: Path, split: Split, *, per_class: int | None = None, seed: int = 0) -> Images:
    """Load a split, or a stratified subset of it with `per_class` images of each class.

    Raises: PipelineError when table and splits do not belong together, or a class has too few images.
    """
    content, membership = read_table(table, ["fine_label", "image"]), read_table(splits)
    if archive_of(membership) != archive_of(content):
        raise PipelineError(
            f"{splits.name} was made from the archive {archive_of(membership):.12}, {table.name} from {archive_of(content):.12}; "
            "materialize `splits` again"
        )
    rows = split_rows(membership, split)
    labels = content["fine_label"].to_numpy().astype(np.int64)
    rows = stratified_subset(rows, labels[rows], per_class, seed)
    return Images(rows.astype(np.int64), pixels(content)[rows], labels[rows])


class Batches(keras.utils.PyDataset):
    """Batches (uint8 images, labels) of a split, for `fit` and `predict`.

    Order and augmentation follow from (seed, epoch, batch) alone, not from which worker makes a batch or when.

    Args:
        augmenter: makes training batches; without one the images come in order, as they are.
        one_hot: labels as (N, classes) float32 rather than (N,) integers.
        first_epoch: where a resumed training goes on.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        augmenter: Augmenter | None = None,
        seed: int = 0,
        one_hot: int | None = None,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._images, self._batch_size, self._augmenter, self._seed = images, batch_size, augmenter, seed
        self._one_hot, self._epoch = one_hot, first_epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self._images) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch, labels = self._images.pixels[rows], self._images.fine_label[rows]
        if self._augmenter:
            batch = self._augmenter(batch, int(np.random.default_rng((self._seed, self._epoch, index)).integers(2**32)))
        if self._one_hot:
            return batch, np.eye(self._one_hot, dtype=np.float32)[labels]
        return batch, labels

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        if not self._augmenter:
            return np.arange(len(self._images))
        return np.random.default_rng((self._seed, self._epoch)).permutation(len(self._images))
