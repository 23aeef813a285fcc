"""What the files of a report are called. Read by processes that must not import what draws."""

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_pipeline.artifacts import read_csv

if TYPE_CHECKING:
    import pandas as pd

PAGE = "index.html"
CARD = "README.md"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
HISTORY = "history.csv"
CONFUSIONS = "confusions.csv"
TABLES = "tables"
PLOTS = "plots"
PARTS = (PAGE, CARD, METRICS, PROVENANCE, HISTORY, CONFUSIONS, TABLES, PLOTS)
"""Files and folders of a report; each is an output of its stage."""

HISTORY_COLUMNS = ("epoch", "image_size", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
"""what is drawn of a history"""

DUPLICATES = "duplicates.parquet"
"""of the asset `test_subsets`"""


def read_history(folder: Path) -> "pd.DataFrame":
    """The epochs of a training, a row each, from the folder of its model or its report.

    Raises: PipelineError when the file is missing, damaged, or holds no epoch.
    """
    return read_csv(folder / HISTORY, HISTORY_COLUMNS)
