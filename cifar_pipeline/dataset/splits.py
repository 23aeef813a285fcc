"""Stratified splits of the table: one row per image, saying where it belongs."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.dataset.table import read_table, save_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import SplitSettings

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def build_splits(table: pa.Table, settings: SplitSettings) -> pa.Table:
    """(row_id, split) for every row of `table` (row_id, upstream_split, fine_label).

    Upstream's test images stay the test split. Of the training images, a seeded share that is
    stratified by fine class becomes the validation split.

    Raises: PipelineError when the share would leave a class without images.
    """
    from sklearn.model_selection import StratifiedShuffleSplit  # a second to import

    row_id = table["row_id"].to_numpy()
    upstream_train = np.asarray(table["upstream_split"].to_pandas() == "train")
    train_rows = np.flatnonzero(upstream_train)
    labels = table["fine_label"].to_numpy()[train_rows]
    splitter = StratifiedShuffleSplit(
        n_splits=1, test_size=settings.validation_fraction, random_state=settings.seed
    )
    try:
        _, held_out = next(splitter.split(train_rows, labels))
    except ValueError as error:
        raise PipelineError(
            f"splits.validation_fraction is {settings.validation_fraction}, which leaves a class "
            f"without images in a split ({error}); correct it in params.yaml"
        ) from None
    code = np.where(upstream_train, 0, 2).astype(np.int8)
    code[train_rows[held_out]] = 1
    metadata = {
        "archive_sha256": archive_of(table),
        "validation_fraction": str(settings.validation_fraction),
        "seed": str(settings.seed),
    }
    schema = pa.schema(
        [("row_id", pa.int32()), ("split", pa.dictionary(pa.int8(), pa.string()))],
        metadata=metadata,
    )
    return pa.table(
        [pa.array(row_id), pa.DictionaryArray.from_arrays(code, list(SPLITS))], schema=schema
    )


def archive_of(table: pa.Table) -> str:
    """The checksum of the archive that a table, or what was derived from it, goes back to."""
    return (table.schema.metadata or {}).get(b"archive_sha256", b"unknown").decode()


def read_splits(path: Path) -> pa.Table:
    """Read what `write_splits` wrote.

    Raises: PipelineError when it is missing or damaged.
    """
    return read_table(path, ["row_id", "split"])


def write_splits(splits: pa.Table, target: Path) -> None:
    """Write Parquet; the same table gives the same bytes."""
    with replacing_file(target) as temporary:
        save_table(splits, temporary)


def split_rows(splits: pa.Table, split: Split) -> np.ndarray:
    """Sorted row ids of one split."""
    return np.sort(splits["row_id"].to_numpy()[np.asarray(splits["split"].to_pandas() == split)])


def stratified_subset(
    rows: np.ndarray, labels: np.ndarray, per_class: int | None, seed: int
) -> np.ndarray:
    """Sorted subset of `rows` with `per_class` images of each class; all rows if that is None.

    Args:
        labels: the class of each of `rows`.

    Raises: PipelineError when a class has fewer images.
    """
    if per_class is None:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    if counts.min() < per_class:
        raise PipelineError(
            f"the recipe asks for {per_class} images a class, class {counts.argmin()} has "
            f"{counts.min()}; lower it"
        )
    starts = np.cumsum(counts) - counts
    chosen = by_class[(starts[:, None] + np.arange(per_class)).ravel()]
    return np.sort(rows[chosen])
