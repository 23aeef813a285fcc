"""Between models: paired tests on the same images, and several seeds of a recipe as one entry."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Two models on the same images, from which of them each had right (N,) bool.

    Returns: `difference` of their accuracies with its 95 % interval (`low`, `high`; Agresti and Min 2005), how many images only one of
    them has right, and `p_value` of McNemar's exact test.
    """
    n, only_first, only_second = (
        len(first),
        int((first & ~second).sum()),
        int((second & ~first).sum()),
    )
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    # Half an image more in each cell keeps the interval honest where there are few.
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
