"""Whether an image is like those of the classes at all.

benchmarks/results/none_of_these.md compares this score with others, and says how little any of them
is worth on images that are close to the classes.
"""

import numpy as np

COVERAGE = 0.95
"""The share of images of the classes that the threshold accepts."""


def familiarity(probabilities: np.ndarray) -> np.ndarray:
    """How sure a model is, (N,): the negative entropy of its calibrated answers, in nats.

    Args:
        probabilities: (N, classes).
    """
    numbers = probabilities.astype(np.float64)
    entropy: np.ndarray = -(numbers * np.log(np.maximum(numbers, 1e-30))).sum(axis=1)
    return -entropy


def fit_threshold(probabilities: np.ndarray) -> float:
    """The familiarity below which an image counts as none of the classes.

    Args:
        probabilities: of validation images, (N, classes), calibrated.
    """
    return float(np.quantile(familiarity(probabilities), 1 - COVERAGE))
