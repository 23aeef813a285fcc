"""Temperature scaling (Guo et al., 2017).

Logits are divided by one number, which is fitted on validation images alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the search. A model without mistakes would otherwise ask for a temperature of zero."""


@dataclass(frozen=True)
class Calibration:
    """The content of `calibration.json`, which is stored with a model."""

    temperature: float
    n: int
    """number of validation images that it was fitted on"""
    loss_before: float | None
    """their mean negative log-likelihood at temperature 1; None if there are none"""
    loss_after: float | None


UNCALIBRATED = Calibration(1.0, 0, None, None)
"""The calibration of a model that was trained on the validation images too."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """The temperature that makes the labels likeliest under softmax(logits / temperature).

    Args:
        logits: (N, classes).
        labels: (N,) integers.
    """
    logits = np.asarray(logits, np.float64)

    def loss(log_temperature: float) -> float:
        likelihoods = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-likelihoods[np.arange(len(labels)), labels].mean())

    # In 1 / temperature the loss is convex, so in its logarithm there is one minimum.
    found = minimize_scalar(
        loss,
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Calibration(math.exp(found.x), len(labels), loss(0.0), float(found.fun))
