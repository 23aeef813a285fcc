"""Paired comparisons of models on the same images."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Compare two models on the same images.

    Args:
        first: (N,) bool, whether the first model classifies each image correctly.
        second: likewise for the second model.

    Returns:
        The `difference` of their accuracies with its 95% interval (`low`, `high`; Agresti and Min
        2005), the number of images that only one of them classifies correctly (`only_first`,
        `only_second`), and the `p_value` of McNemar's exact test.
    """
    n, only_first, only_second = (
        len(first),
        int((first & ~second).sum()),
        int((second & ~first).sum()),
    )
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    # Adding half an image to each cell keeps the coverage right where there are few.
    b, c, adjusted = only_first + 0.5, only_second + 0.5, n + 2
    half = norm.ppf(0.975) * np.sqrt(b + c - (b - c) ** 2 / adjusted) / adjusted
    centre = (b - c) / adjusted
    return {
        "difference": (only_first - only_second) / n,
        "low": float(centre - half),
        "high": float(centre + half),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(p_value),
    }


def compare_all(correct: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """`compare` for every pair of models, in the order given."""
    rows = [
        {"first": a, "second": b, **compare(correct[a], correct[b])}
        for a, b in itertools.combinations(correct, 2)
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "first",
            "second",
            "difference",
            "low",
            "high",
            "only_first",
            "only_second",
            "p_value",
        ],
    )
