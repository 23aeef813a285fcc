"""The classes of the data set, by name, and the superclasses that they belong to."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cifar_pipeline.dataset.table import COARSE, FINE
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.recipe import Target


@dataclass(frozen=True)
class Classes:
    """What is predicted: names, and the superclass of each. A superclass belongs to itself."""

    names: list[str]
    coarse_names: list[str]
    coarse_of: np.ndarray
    """(100,) or (20,): the coarse label of each label"""

    @classmethod
    def of(cls, table: pa.Table, target: Target) -> "Classes":
        """The classes of a table, from its metadata and its columns of labels.

        Raises: PipelineError for a table of an older release, which wrote the names otherwise.
        """
        coarse_of = np.zeros(FINE, int)
        coarse_of[table["fine_label"].to_numpy()] = table["coarse_label"].to_numpy()
        try:
            names = {
                key: json.loads(table.schema.metadata[key])
                for key in (b"fine_names", b"coarse_names")
            }
        except ValueError:
            raise PipelineError(
                "the table does not name its classes: an older release wrote it; materialize "
                "`table` again (`make run`)"
            ) from None
        if target == "coarse":
            return cls(names[b"coarse_names"], names[b"coarse_names"], np.arange(COARSE))
        return cls(names[b"fine_names"], names[b"coarse_names"], coarse_of)
