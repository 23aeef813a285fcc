"""Metrics from probabilities and labels. Accuracies are fractions, losses means over images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix

from cifar_pipeline.dataset.table import FINE, read_table
from cifar_pipeline.errors import PipelineError


@dataclass(frozen=True)
class Classes:
    """Names, and which superclass a class belongs to."""

    fine_names: list[str]
    coarse_names: list[str]
    coarse_of: np.ndarray
    """(100,) the coarse label of each fine label"""

    @classmethod
    def of(cls, table: pa.Table) -> "Classes":
        """From the table's metadata and its columns `fine_label` and `coarse_label`."""
        coarse_of = np.zeros(FINE, int)
        coarse_of[table["fine_label"].to_numpy()] = table["coarse_label"].to_numpy()
        names = {key: table.schema.metadata[key].decode().split(",") for key in (b"fine_names", b"coarse_names")}
        return cls(names[b"fine_names"], names[b"coarse_names"], coarse_of)


@dataclass(frozen=True)
class Predictions:
    """Predictions of a split, checked when read."""

    row_id: np.ndarray
    true: np.ndarray
    """(N,) fine labels"""
    probabilities: np.ndarray
    """(N, 100)"""

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read the predictions' Parquet file.

        Raises: PipelineError when it is missing, or holds something else than 100 probabilities a row.
        """
        table = read_table(path)
        if {"row_id", "fine_label", "probabilities"} - set(table.column_names):
            raise PipelineError(f"{path} has the columns {table.column_names}, expected row_id, fine_label and probabilities")
        flat = table["probabilities"].combine_chunks().flatten().to_numpy()
        if len(flat) != FINE * table.num_rows:
            raise PipelineError(f"{path} holds {len(flat) / max(table.num_rows, 1):g} probabilities a row, expected {FINE}")
        probabilities = flat.reshape(-1, FINE)
        if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise PipelineError(f"{path} holds rows that are not probabilities (NaN, or a sum other than 1); predict again")
        return cls(table["row_id"].to_numpy(), table["fine_label"].to_numpy().astype(int), probabilities)


def accuracy_with_interval(name: str, correct: np.ndarray) -> dict[str, float]:
    """`name`, `name_low`, `name_high`: the share of true values with its 95 % Wilson interval (Wilson 1927)."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    return {name: float(correct.mean()), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def compute_metrics(predictions: Predictions, classes: Classes) -> dict[str, float]:
    """n, top-1, top-5 and superclass accuracy with intervals, and the mean negative log-likelihood."""
    true, probabilities = predictions.true, predictions.probabilities
    of_true = probabilities[np.arange(len(true)), true]
    # Among equal probabilities the lower label comes first, as argmax has it: top-1 is then never above top-5.
    rank = (probabilities > of_true[:, None]).sum(axis=1)
    rank += ((probabilities == of_true[:, None]) & (np.arange(FINE) < true[:, None])).sum(axis=1)
    return {
        "n": len(true),
        **accuracy_with_interval("top1", rank == 0),
        **accuracy_with_interval("top5", rank < 5),
        **accuracy_with_interval("coarse_top1", classes.coarse_of[predictions.predicted] == classes.coarse_of[true]),
        "loss": float(-np.log(np.maximum(of_true, np.finfo(np.float32).tiny)).mean()),
    }


def report_table(predictions: Predictions, classes: Classes) -> pd.DataFrame:
    """scikit-learn's classification report: precision, recall, F1 and support, a row a class, then the averages."""
    report: Any = classification_report(
        predictions.true,
        predictions.predicted,
        labels=np.arange(FINE),
        target_names=classes.fine_names,
        output_dict=True,
        zero_division=0,
    )
    frame = pd.DataFrame({name: row for name, row in report.items() if isinstance(row, dict)}).T
    frame.insert(0, "superclass", [classes.coarse_names[label] for label in classes.coarse_of] + [""] * (len(frame) - FINE))
    return frame.rename_axis("class")


def confusion(true: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Counts, true classes down, predicted classes across."""
    matrix = confusion_matrix(true, predicted, labels=np.arange(len(names)))
    return pd.DataFrame(matrix, index=pd.Index(names, name="true"), columns=names)
