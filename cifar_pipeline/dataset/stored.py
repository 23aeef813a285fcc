"""The images of the table's file, of which one row group at a time is in memory.

A table may be larger than the machine's memory; what it says of an image takes a few bytes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import damaged_artifact
from cifar_pipeline.dataset.table import SHAPE, damage_in_words, pixels


class StoredImages:
    """The column `image` of a Parquet file.

    Iterating gives, row group after row group, the number of the first row and the images, which
    are (rows, 32, 32, 3) uint8. The length is the number of row groups.

    Raises: PipelineError, also while it is read, when the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with damage_in_words(path), pq.ParquetFile(path) as file:
            names, footer = file.schema_arrow.names, file.metadata
        if "image" not in names:
            raise damaged_artifact(path, ValueError("it has no column image"))
        sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return self._read(np.arange(len(self)))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), 32, 32, 3) uint8: the images of some rows, in the order of `rows`."""
        images = np.empty((len(rows), *SHAPE), np.uint8)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._starts)
        wanted = np.flatnonzero(np.diff(bounds))
        for group, (first, block) in zip(wanted, self._read(wanted), strict=True):
            places = order[bounds[group] : bounds[group + 1]]
            images[places] = block[rows[places] - first]
        return images

    def _read(self, groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        # Without `pre_buffer`, which keeps what it has read.
        with damage_in_words(self._path):
            file = pq.ParquetFile(self._path, page_checksum_verification=True, pre_buffer=False)
        with file:
            for group in groups.tolist():
                with damage_in_words(self._path):
                    content: pa.Table = file.read_row_group(group, columns=["image"])
                yield int(self._starts[group]), pixels(content)


def identical_images(images: StoredImages) -> list[np.ndarray]:
    """The rows of images that are equal in every pixel: two or more in a group, in rising order.

    Found by sorting checksums, of which each image has 16 bytes.
    """
    digests = [
        hashlib.blake2b(image, digest_size=16).digest() for _, block in images for image in block
    ]
    keys = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    order = np.lexsort(keys.T)  # stable, so that rows rise within a group
    differs = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    starts = np.flatnonzero(np.append(True, differs))
    ends = np.append(starts[1:], len(order))
    several = ends - starts > 1
    return [order[a:b] for a, b in zip(starts[several], ends[several], strict=True)]
