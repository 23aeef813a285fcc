"""The data set as one Parquet file with a row an image, and the way back to numpy.

Images are fixed-size binary of 3,072 bytes in height, width, channel order: pandas shows them as
bytes, DuckDB as BLOBs, `np.frombuffer` as pixels, and reading all of them is one copy. A
fixed-shape tensor column takes tens of times longer to write and to read, and PNG bytes take longer
still to read (benchmarks/results/table_formats.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import damaged_artifact, missing_artifact
from cifar_pipeline.settings.recipe import Target

SHAPE = (32, 32, 3)

ROW_GROUP = 10_000
"""Images that are written, and can be read, at a time: 31 MB."""


IMAGE_BYTES = 32 * 32 * 3


FINE, COARSE = 100, 20


CLASSES: dict[Target, int] = {"fine": FINE, "coarse": COARSE}


SCHEMA = pa.schema(
    [
        ("row_id", pa.int32()),
        ("upstream_split", pa.dictionary(pa.int8(), pa.string())),
        ("file_name", pa.string()),
        ("fine_label", pa.uint8()),
        ("coarse_label", pa.uint8()),
        ("fine_name", pa.dictionary(pa.int8(), pa.string())),
        ("coarse_name", pa.dictionary(pa.int8(), pa.string())),
        ("image", pa.binary(IMAGE_BYTES)),
    ]
)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read the Parquet file, all columns or some.

    Raises: PipelineError when it is missing or damaged.
    """
    with damage_in_words(path):
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
    if missing := sorted(set(columns or ()) - set(table.column_names)):
        raise damaged_artifact(path, ValueError(f"it has no column {', '.join(missing)}"))
    return table


def read_labels(path: Path) -> pa.Table:
    """Read what the table says of its images: row id, upstream's split and both labels.

    Raises: PipelineError when it is missing or damaged.
    """
    return read_table(path, ["row_id", "upstream_split", "fine_label", "coarse_label"])


@contextmanager
def damage_in_words(path: Path) -> Iterator[None]:
    """Turn what reading a Parquet file raises into a PipelineError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise missing_artifact(path) from None
    except (pa.ArrowException, ValueError, OSError) as error:  # names that are not UTF-8, too
        raise damaged_artifact(path, error) from None


def save_table(table: pa.Table, path: Path, **options: Any) -> None:
    """Write a Parquet file in which `read_table` notices a changed byte.

    Args:
        options: as `pyarrow.parquet.write_table` takes them.
    """
    pq.write_table(table, path, write_page_checksum=True, **options)


def pixels(table: pa.Table) -> np.ndarray:
    """(rows, 32, 32, 3) uint8 view of the column `image`."""
    column = table["image"].combine_chunks()
    buffer = column.buffers()[1]
    rows = np.frombuffer(buffer, np.uint8).reshape(-1, *SHAPE)
    return rows[column.offset : column.offset + len(column)]
