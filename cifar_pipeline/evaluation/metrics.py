"""Metrics from probabilities and labels. Accuracies are fractions, losses are means over images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import CLASSES, COARSE, read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.recipe import Target


@dataclass(frozen=True)
class Predictions:
    """Predictions of a split, checked when read."""

    row_id: np.ndarray
    true: np.ndarray
    """(N,) labels"""
    probabilities: np.ndarray
    """(N, 100), or of superclasses (N, 20)"""
    mirrored: np.ndarray
    """likewise for the mirror images"""
    archive_sha256: str
    model_sha256: str
    """of the weights that made the predictions"""

    @property
    def target(self) -> Target:
        return "coarse" if self.probabilities.shape[1] == COARSE else "fine"

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    def top(self, k: int) -> np.ndarray:
        """(N, k) labels, likeliest first; of equally likely ones the lower, as in `predicted`."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read the predictions' Parquet file.

        Raises:
            PipelineError: the file is missing, or does not hold a probability for each class.
        """
        table = read_table(path)
        target: Target = "coarse" if "coarse_label" in table.column_names else "fine"
        columns = ["row_id", f"{target}_label", "probabilities", "mirrored"]
        if set(columns) - set(table.column_names):
            raise PipelineError(
                f"{path} has the columns {', '.join(table.column_names)}, expected "
                f"{', '.join(columns)}; materialize the predictions again"
            )
        row_id, true = (table[name].to_numpy() for name in columns[:2])
        probabilities, mirrored = (
            _probabilities(path, table, name, CLASSES[target]) for name in columns[2:]
        )
        origin = {
            key: (table.schema.metadata or {}).get(key.encode(), b"unknown").decode()
            for key in ("archive_sha256", "model_sha256")
        }
        return cls(row_id, true.astype(int), probabilities, mirrored, **origin)


def _probabilities(path: Path, table: pa.Table, column: str, classes: int) -> np.ndarray:
    kind = table.schema.field(column).type
    if not pa.types.is_fixed_size_list(kind) or kind.list_size != classes or not table.num_rows:
        raise PipelineError(
            f"{path} holds {table.num_rows} rows of {kind}, expected lists of {classes} "
            "probabilities; materialize the predictions again"
        )
    probabilities = table[column].combine_chunks().flatten().to_numpy().reshape(-1, classes)
    possible = np.isfinite(probabilities).all() and (probabilities >= 0).all()
    if not possible or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise PipelineError(
            f"{path} holds rows that are not probabilities (NaN, below 0, or a sum other than 1); "
            "materialize the predictions again"
        )
    return probabilities


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927)."""
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def accuracy_with_interval(name: str, correct: np.ndarray) -> dict[str, float]:
    """`name`, `name_low`, `name_high`: the share of correct images with its Wilson interval."""
    low, high = wilson(int(correct.sum()), len(correct))
    return {name: float(correct.mean()), f"{name}_low": low, f"{name}_high": high}


def compute_metrics(predictions: Predictions, classes: Classes) -> dict[str, float]:
    """The metrics of one model's predictions.

    Returns:
        `n` images and `classes`; top-1, top-5, superclass and balanced accuracy with their
        intervals; macro precision, recall and F1; the mean negative log-likelihood (`nll`) with its
        interval; the Brier score. Superclass accuracy comes in two forms: `coarse_top1` takes the
        superclass of the likeliest class, `coarse_summed` the superclass whose classes have the
        largest summed probability.

    Raises:
        PipelineError: a class has no images, so its recall does not exist.
    """
    true, probabilities = predictions.true, predictions.probabilities
    of_true = probabilities[np.arange(len(true)), true]
    # Among equal probabilities the lower label comes first, as with argmax, so that top-1 accuracy
    # is never above top-5 accuracy.
    rank = (probabilities > of_true[:, None]).sum(axis=1)
    rank += (
        (probabilities == of_true[:, None]) & (np.arange(probabilities.shape[1]) < true[:, None])
    ).sum(axis=1)
    coarse_true = classes.coarse_of[true]
    summed = probabilities @ np.eye(len(classes.coarse_names))[classes.coarse_of]
    table = per_class(true, predictions.predicted, classes.names)
    return {
        "n": len(true),
        "classes": probabilities.shape[1],
        **accuracy_with_interval("top1", rank == 0),
        **accuracy_with_interval("top5", rank < 5),
        **accuracy_with_interval(
            "coarse_top1", classes.coarse_of[predictions.predicted] == coarse_true
        ),
        **accuracy_with_interval("coarse_summed", summed.argmax(axis=1) == coarse_true),
        **_balanced_accuracy(table),
        **{f"macro_{name}": float(table[name].mean()) for name in ("precision", "recall", "f1")},
        **_loss_with_interval(probabilities, true),
        "brier": brier_score(probabilities, true),
    }


def negative_log_likelihoods(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(N,) -log p(true class), with the smallest float32 in place of a probability of zero."""
    of_true = probabilities[np.arange(len(true)), true].astype(np.float64)
    return -np.log(np.maximum(of_true, np.finfo(np.float32).tiny))


def brier_score(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the one-hot label: 0 to 2 (Brier 1950)."""
    of_true = probabilities[np.arange(len(true)), true]
    return float(((probabilities**2).sum(axis=1, dtype=np.float64) - 2 * of_true + 1).mean())


def per_class(true: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Precision, recall with its Wilson interval, F1 and n, one row per class.

    Raises:
        PipelineError: a class has no images.
    """
    labels = np.arange(len(names))
    counts = np.bincount(true, minlength=len(names))
    if absent := [names[label] for label in labels if not counts[label]]:
        names_of_some = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise PipelineError(
            f"{len(absent)} classes have no test images ({names_of_some}); "
            "materialize the predictions of the whole test split"
        )
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, labels=labels, zero_division=0
    )
    intervals = np.array(
        [wilson(round(share * n), n) for share, n in zip(recall, counts, strict=True)]
    )
    columns = {
        "precision": precision,
        "recall": recall,
        "recall_low": intervals[:, 0],
        "recall_high": intervals[:, 1],
        "f1": f1,
        "n": counts,
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="class"))


def confusion(true: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Counts, true classes down, predicted classes across."""
    matrix = confusion_matrix(true, predicted, labels=np.arange(len(names)))
    return pd.DataFrame(matrix, index=pd.Index(names, name="true"), columns=names)


def most_confused(counts: pd.DataFrame, pairs: int) -> pd.DataFrame:
    """The pairs of classes that are most often confused: counts in each direction and their sum."""
    matrix = counts.to_numpy()
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[: min(pairs, np.count_nonzero(both))]
    first, second = np.unravel_index(order, both.shape)
    names = np.array(counts.columns)
    columns = {
        "class": names[first],
        "and": names[second],
        "first taken for second": matrix[first, second],
        "second taken for first": matrix[second, first],
        "together": both[first, second],
    }
    return pd.DataFrame(columns)


def _loss_with_interval(probabilities: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The mean negative log-likelihood with the 95% interval of a mean."""
    losses = negative_log_likelihoods(probabilities, true)
    half = 1.96 * losses.std(ddof=1) / np.sqrt(len(losses))
    return {
        "nll": float(losses.mean()),
        "nll_low": float(losses.mean() - half),
        "nll_high": float(losses.mean() + half),
    }


def _balanced_accuracy(table: pd.DataFrame) -> dict[str, float]:
    """Mean recall of the classes, with Wilson's interval at the effective number of images.

    That number is the number of all images where the classes are of one size.
    """
    accuracy = float(table["recall"].mean())
    n = round(len(table) ** 2 / (1 / table["n"]).sum())
    low, high = wilson(round(accuracy * n), n)
    return {
        "balanced_accuracy": accuracy,
        "balanced_accuracy_low": low,
        "balanced_accuracy_high": high,
    }
