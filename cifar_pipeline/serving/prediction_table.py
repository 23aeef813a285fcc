"""Predictions on photographs as a Parquet file: a row for each image and class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.serving.predictor import COLUMNS

TYPES = {
    "width": pa.int32(),
    "height": pa.int32(),
    "rank": pa.int16(),
    "probability": pa.float32(),
    "none_of_these": pa.bool_(),
}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in COLUMNS])


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows of `Predictor.rows`, replacing the file."""
    with replacing_file(path) as new:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), new)
