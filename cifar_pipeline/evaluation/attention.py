"""Where a network looked, as its saved predictions have it."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError

COLUMN = "attention"


def read_attention(predictions: Path, rows: np.ndarray) -> np.ndarray:
    """Grad-CAM of the likeliest class, (len(rows), h, h) from 0 to 1, for some rows of a file.

    Raises: PipelineError when an older release wrote the file.
    """
    schema = pq.read_schema(predictions)
    kind = schema.field(COLUMN).type if COLUMN in schema.names else pa.null()
    if not pa.types.is_fixed_size_list(kind):
        raise PipelineError(
            f"{predictions} has no column `{COLUMN}`: an older release wrote it; materialize the "
            "predictions again"
        )
    column = read_table(predictions, [COLUMN])[COLUMN].combine_chunks()
    side = math.isqrt(kind.list_size)
    return column.flatten().to_numpy().reshape(-1, side, side)[rows] / np.float32(255)
