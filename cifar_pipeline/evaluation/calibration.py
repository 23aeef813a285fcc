"""Whether a model's confidence can be trusted: calibration error, and risk against coverage."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

BINS = 15


@dataclass(frozen=True)
class Confidence:
    """For each image, the probability of the predicted class and whether it is the true class."""

    confidence: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, true: np.ndarray) -> "Confidence":
        return cls(probabilities.max(axis=1), probabilities.argmax(axis=1) == true)


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities after the logits are divided by `temperature` (Guo et al., 2017)."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(np.float64))
    return softmax(logits / temperature, axis=1)


def reliability(predicted: Confidence) -> pd.DataFrame:
    """Bins of equal width without the empty ones: low, high, n, mean confidence and accuracy."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(predicted.confidence, edges, right=True) - 1, 0, BINS - 1)
    frame = pd.DataFrame(
        {
            "bin": place,
            "confidence": predicted.confidence.astype(np.float64),
            "accuracy": predicted.correct.astype(float),
        }
    )
    grouped = frame.groupby("bin")
    table = grouped.mean()
    table.insert(0, "n", grouped.size())
    table.insert(0, "high", edges[table.index + 1])
    table.insert(0, "low", edges[table.index])
    return table.reset_index(drop=True)


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Mean distance of confidence from accuracy over the bins of `reliability`, weighted by n.

    Source: Naeini et al., 2015.
    """
    return float(np.average(np.abs(bins["confidence"] - bins["accuracy"]), weights=bins["n"]))


def risk_coverage(predicted: Confidence) -> pd.DataFrame:
    """The share of images decided, most confident first (coverage), and their error rate (risk).

    Images of equal confidence are kept or rejected together.

    Source: Geifman and El-Yaniv, 2017.
    """
    order = np.argsort(-predicted.confidence, kind="stable")
    confidence, errors = predicted.confidence[order], np.cumsum(~predicted.correct[order])
    kept = np.arange(1, len(order) + 1)
    last_of_equals = np.append(confidence[1:] != confidence[:-1], True)
    return pd.DataFrame({"coverage": kept / len(order), "risk": errors / kept})[
        last_of_equals
    ].reset_index(drop=True)


def area_under_risk_coverage(curve: pd.DataFrame) -> float:
    """Mean risk over all coverages, as a sum over the curve's steps."""
    return float((curve["risk"] * np.diff(curve["coverage"], prepend=0)).sum())
